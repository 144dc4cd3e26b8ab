//! The caller's side of the control socket.

use crate::source::http_client;
use bytes::{Bytes, BytesMut};
use http_body_util::Full;
use hyper::header::HeaderValue;
use hyper_util::rt::TokioIo;
use model::api::{BY, LONGEST_BY, SOCKET};
use model::error::{Error, Exit, Result};
use model::event::{Event, Outcome};
use model::reason::Reason;
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::error::Error as StdError;
use std::io::{self, ErrorKind, IoSlice};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};
use tokio::net::UnixStream;

/// The longest line or document that a response may have; bytes.
const LONGEST: usize = 16 << 20;
/// How long deployd may take to start again, and the pause between two requests meanwhile.
const AGAIN: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(250);

/// A client of `deployd`.
pub struct Client {
    http: reqwest::Client,
    /// The person or job that root acts for.
    by: Option<HeaderValue>,
}

/// The events of a job, as they come.
pub struct Following {
    response: Response,
    rest: BytesMut,
}

fn unreachable(cause: impl StdError + Send + Sync + 'static) -> Error {
    let help = match refusal_of_socket(&cause) {
        Some(ErrorKind::PermissionDenied) => "run it with sudo, or join the group deploy",
        Some(ErrorKind::NotFound) => {
            "install the package, or `systemctl enable --now deployd.socket`"
        }
        _ => "see `systemctl status deployd.socket deployd`",
    };
    Error::new(Exit::NoAgent, format!("ask deployd at {SOCKET}"))
        .because(innermost(&cause))
        .help(help)
}

/// Returns why the socket could not be connected to.
fn refusal_of_socket(error: &(dyn StdError + 'static)) -> Option<ErrorKind> {
    let own = error.downcast_ref::<io::Error>().map(io::Error::kind);
    let known = own.filter(|kind| *kind != ErrorKind::Other);
    known.or_else(|| refusal_of_socket(error.source()?))
}

/// The layers above it only say that a request failed.
fn innermost(error: &dyn StdError) -> String {
    error.source().map_or_else(|| error.to_string(), innermost)
}

impl Client {
    pub fn new() -> Result<Self> {
        Client::of(None)
    }

    /// Creates a client for the person or job that root acts for.
    pub fn of(by: Option<String>) -> Result<Self> {
        let by = by.as_deref().map(name).transpose()?;
        // It never speaks TLS, and so need not read the machine's roots.
        let client = http_client().unix_socket(SOCKET).no_proxy().tls_certs_only([]);
        client.build().map(|http| Client { http, by }).map_err(unreachable)
    }

    /// Asks for one document.
    pub async fn get<T: DeserializeOwned>(&self, path: &str, query: &impl Serialize) -> Result<T> {
        document(send(self.request(Method::GET, path).query(query)).await?).await
    }

    /// Asks for one document that is text.
    pub async fn get_text(&self, path: &str) -> Result<String> {
        let response = send(self.request(Method::GET, path)).await?;
        if !response.status().is_success() {
            return Err(refusal(response).await);
        }
        String::from_utf8(collect(response).await?.to_vec()).map_err(unreachable)
    }

    /// Asks for an action whose result is one document.
    pub async fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T> {
        patiently(async || document(send(self.request(Method::POST, path).json(body)).await?).await)
            .await
    }

    /// Asks for a job whose events are then read.
    pub async fn follow(&self, path: &str, body: &impl Serialize) -> Result<Following> {
        patiently(async || {
            following(send(self.request(Method::POST, path).json(body)).await?).await
        })
        .await
    }

    /// Follows a job that was asked for before.
    pub async fn attach(&self, query: &impl Serialize) -> Result<Following> {
        following(send(self.request(Method::GET, "/v1/attach").query(query)).await?).await
    }

    /// Follows a one-off command again that this process has begun; none while deployd does not
    /// answer.
    pub async fn follow_again(&self, query: &impl Serialize) -> Result<Option<Following>> {
        match self.request(Method::GET, "/v1/exec").query(query).send().await {
            // Too many connections at this moment, or systemd does not answer.
            Ok(response)
                if matches!(
                    response.status(),
                    StatusCode::SERVICE_UNAVAILABLE | StatusCode::CONFLICT
                ) =>
            {
                Ok(None)
            }
            Ok(response) => following(response).await.map(Some),
            Err(_) => Ok(None),
        }
    }

    /// Asks over a connection of its own, which also carries these file descriptors.
    pub async fn follow_with(
        path: &str,
        body: &impl Serialize,
        fds: &[OwnedFd],
    ) -> Result<Following> {
        let stream = handing_over(fds).map_err(unreachable)?;
        let stream = UnixStream::from_std(stream).map_err(unreachable)?;
        let io = TokioIo::new(stream);
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(io).await.map_err(unreachable)?;
        tokio::spawn(connection);
        let body = serde_json::to_vec(body).map_err(unreachable)?;
        let request = hyper::Request::post(path)
            .header("host", "deployd")
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from(body)))
            .map_err(unreachable)?;
        let response = sender.send_request(request).await.map_err(unreachable)?;
        following(Response::from(response.map(reqwest::Body::wrap))).await
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.http.request(method, format!("http://deployd{path}"));
        match &self.by {
            Some(by) => request.header(BY, by),
            None => request,
        }
    }
}

/// Returns the name of a person or job for a header.
fn name(by: &str) -> Result<HeaderValue> {
    let name = model::text::line(by.trim(), LONGEST_BY);
    let header = HeaderValue::from_bytes(name.as_bytes()).ok().filter(|name| !name.is_empty());
    header.ok_or_else(|| {
        let error = Error::usage(format!("act for {}", model::text::quoted(by)));
        error.because("that is no name").help("give the name of a person or job: --by NAME")
    })
}

/// Asks again while deployd starts again before it does what is asked.
async fn patiently<T>(ask: impl AsyncFn() -> Result<T>) -> Result<T> {
    let deadline = Instant::now() + AGAIN;
    loop {
        match ask().await {
            Err(error) if error.reason() == Reason::Interrupted && Instant::now() < deadline => {
                tokio::time::sleep(PAUSE).await;
            }
            asked => return asked,
        }
    }
}

/// Connects, and passes file descriptors with the empty line that may precede a request;
/// RFC 9112, section 2.2.
fn handing_over(fds: &[OwnedFd]) -> io::Result<std::os::unix::net::UnixStream> {
    let stream = std::os::unix::net::UnixStream::connect(SOCKET)?;
    let raw: Vec<_> = fds.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&raw)];
    let line = [IoSlice::new(b"\r\n")];
    sendmsg::<()>(stream.as_raw_fd(), &line, &rights, MsgFlags::MSG_NOSIGNAL, None)?;
    stream.set_nonblocking(true)?;
    Ok(stream)
}

async fn send(request: RequestBuilder) -> Result<Response> {
    request.send().await.map_err(|error| unreachable(error.without_url()))
}

async fn following(response: Response) -> Result<Following> {
    if response.status() != StatusCode::OK {
        return Err(refusal(response).await);
    }
    Ok(Following { response, rest: BytesMut::new() })
}

async fn document<T: DeserializeOwned>(response: Response) -> Result<T> {
    if !response.status().is_success() {
        return Err(refusal(response).await);
    }
    serde_json::from_slice(&collect(response).await?).map_err(unreachable)
}

/// The error that deployd responded with.
async fn refusal(response: Response) -> Error {
    let status = response.status();
    let bytes = match collect(response).await {
        Ok(bytes) => bytes,
        Err(error) => return error,
    };
    match serde_json::from_slice::<Outcome>(&bytes) {
        Ok(outcome) => outcome.into_error(),
        Err(_) => {
            let error = Error::new(Exit::NoAgent, format!("ask deployd at {SOCKET}"));
            let why = format!("it answered {status}");
            error.because(why).help("is the command of the same version as deployd?")
        }
    }
}

async fn collect(mut response: Response) -> Result<BytesMut> {
    let mut all = BytesMut::new();
    while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
        all.extend_from_slice(&chunk);
        if all.len() > LONGEST {
            return Err(unreachable(io::Error::other("its answer is too long")));
        }
    }
    Ok(all)
}

impl Following {
    /// The next event; none when deployd has closed the connection. Cancel safe.
    pub async fn next(&mut self) -> Result<Option<Event>> {
        self.next_as().await
    }

    /// The next event, of a response that has another kind of them.
    pub async fn next_as<T: DeserializeOwned>(&mut self) -> Result<Option<T>> {
        loop {
            if let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
                let line = self.rest.split_to(end + 1);
                return serde_json::from_slice(&line).map(Some).map_err(unreachable);
            }
            if self.rest.len() > LONGEST {
                return Err(unreachable(io::Error::other("an event is too long")));
            }
            match self.response.chunk().await {
                Ok(None) | Err(_) => return Ok(None),
                Ok(Some(chunk)) => self.rest.extend_from_slice(&chunk),
            }
        }
    }
}
