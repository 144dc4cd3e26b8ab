//! The caller's side of the control socket.

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use model::api::SOCKET;
use model::error::{Error, Exit, Result};
use model::event::{Event, Outcome};
use model::reason::Reason;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io::ErrorKind;
use tokio::net::UnixStream;

/// The longest line or document that an answer may have; bytes.
const LONGEST: usize = 16 << 20;

/// A connection to `deployd`.
pub struct Client {
    sender: SendRequest<Full<Bytes>>,
}

/// The events of a job, as they come.
pub struct Following {
    body: Incoming,
    rest: BytesMut,
}

fn unreachable(cause: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::new(Exit::NoAgent, format!("ask deployd at {SOCKET}")).because(cause)
}

impl Client {
    pub async fn connect() -> Result<Self> {
        let stream = UnixStream::connect(SOCKET).await.map_err(|error| {
            let help = match error.kind() {
                ErrorKind::PermissionDenied => "run it with sudo, or join the group deploy",
                ErrorKind::NotFound => {
                    "install the package, or `systemctl enable --now deployd.socket`"
                }
                _ => "see `systemctl status deployd.socket deployd`",
            };
            unreachable(error).help(help)
        })?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(unreachable)?;
        tokio::spawn(connection);
        Ok(Client { sender })
    }

    /// Asks a question; the answer is one document.
    pub async fn question<T: DeserializeOwned>(self, path: &str) -> Result<T> {
        let response = self.send(Method::GET, path, Bytes::new()).await?;
        document(response).await
    }

    /// Asks for something that answers with one document.
    pub async fn ask<T: DeserializeOwned>(self, path: &str, request: &impl Serialize) -> Result<T> {
        let response = self.send(Method::POST, path, encode(request)?).await?;
        document(response).await
    }

    /// Asks for work whose events are then read.
    pub async fn follow(self, path: &str, request: &impl Serialize) -> Result<Following> {
        following(self.send(Method::POST, path, encode(request)?).await?).await
    }

    /// Follows work that was asked for before; without an id, whatever is under way.
    pub async fn attach(self, id: Option<&str>) -> Result<Following> {
        let query = id.map(|id| format!("?id={id}")).unwrap_or_default();
        let path = format!("/v1/attach{query}");
        following(self.send(Method::GET, &path, Bytes::new()).await?).await
    }

    async fn send(mut self, method: Method, path: &str, body: Bytes) -> Result<Response<Incoming>> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "deployd")
            .header("content-type", "application/json")
            .body(Full::new(body))
            .map_err(|e| Error::usage("make the request").because(e))?;
        self.sender.send_request(request).await.map_err(unreachable)
    }
}

async fn following(response: Response<Incoming>) -> Result<Following> {
    if response.status() != StatusCode::OK {
        return Err(refusal(response).await);
    }
    Ok(Following { body: response.into_body(), rest: BytesMut::new() })
}

fn encode(request: &impl Serialize) -> Result<Bytes> {
    let json = serde_json::to_vec(request);
    json.map(Bytes::from).map_err(|e| Error::usage("make the request").because(e))
}

async fn document<T: DeserializeOwned>(response: Response<Incoming>) -> Result<T> {
    if !response.status().is_success() {
        return Err(refusal(response).await);
    }
    let bytes = collect(response.into_body()).await?;
    serde_json::from_slice(&bytes).map_err(unreachable)
}

/// The error that deployd responded with.
async fn refusal(response: Response<Incoming>) -> Error {
    let status = response.status();
    let bytes = match collect(response.into_body()).await {
        Ok(bytes) => bytes,
        Err(error) => return error,
    };
    match serde_json::from_slice::<Outcome>(&bytes) {
        Ok(outcome) => {
            let error = Error::new(outcome.exit, outcome.message).with_log(outcome.log);
            let reason = outcome.reason.unwrap_or_else(|| Reason::of_exit(outcome.exit));
            let error = error.with_reason(reason);
            match outcome.help {
                Some(help) => error.help(help),
                None => error,
            }
        }
        Err(_) => {
            let error = Error::new(Exit::NoAgent, format!("ask deployd at {SOCKET}"));
            let why = format!("it answered {status}");
            error.because(why).help("is the command of the same version as deployd?")
        }
    }
}

async fn collect(mut body: Incoming) -> Result<BytesMut> {
    let mut all = BytesMut::new();
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame.map_err(unreachable)?.into_data() {
            all.extend_from_slice(&data);
        }
        if all.len() > LONGEST {
            return Err(unreachable(std::io::Error::other("its answer is too long")));
        }
    }
    Ok(all)
}

impl Following {
    /// The next event; none when deployd has closed the connection.
    pub async fn next(&mut self) -> Result<Option<Event>> {
        loop {
            if let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
                let line = self.rest.split_to(end + 1);
                return serde_json::from_slice(&line).map(Some).map_err(unreachable);
            }
            if self.rest.len() > LONGEST {
                return Err(unreachable(std::io::Error::other("an event is too long")));
            }
            match self.body.frame().await {
                None => return Ok(None),
                Some(Err(_)) => return Ok(None),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.rest.extend_from_slice(&data);
                    }
                }
            }
        }
    }
}
