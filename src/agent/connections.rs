//! The connections to the control socket: limits on their number, and on the time that a
//! request may take to arrive. 4,600 idle ones took 104 MB.

use super::handed::{self, Handed};
use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::StatusCode;
use axum::http::header::{CONNECTION, HeaderValue};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::serve::Listener;
use model::error::{Error, Exit};
use model::event::Outcome;
use std::collections::HashMap;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::unix::SocketAddr;
use tokio::net::{UnixListener, UnixStream};
use tokio::time::Sleep;

/// The most connections of one user, and of all users.
const OF_ONE: usize = 100;
const OF_ALL: usize = 300;
/// The deadline for the head of a request, and then for its body.
pub const PATIENCE: Duration = Duration::from_secs(10);
/// The end of a request's head; RFC 9112, section 2.1.
const END_OF_HEAD: &[u8] = b"\r\n\r\n";

/// The control socket, with a limit on its connections.
pub struct Bounded {
    listener: UnixListener,
    patience: Duration,
    open: Open,
}

/// The number of open connections by user.
type Open = Arc<Mutex<HashMap<Option<u32>, usize>>>;

impl Bounded {
    /// `patience` is the time for the head of each request.
    pub fn new(listener: UnixListener, patience: Duration) -> Bounded {
        Bounded { listener, patience, open: Open::default() }
    }

    /// Counts a connection; none if there are too many.
    fn admit(&self, user: Option<u32>) -> Option<Guard> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let all: usize = open.values().sum();
        let own = open.entry(user).or_default();
        // Root always gets a place beside the others.
        let most = if user == Some(0) { OF_ALL + OF_ONE } else { OF_ALL };
        if *own >= OF_ONE || all >= most {
            return None;
        }
        *own += 1;
        Some(Guard { user, open: self.open.clone() })
    }
}

impl Listener for Bounded {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        loop {
            let (stream, address) = Listener::accept(&mut self.listener).await;
            let user = stream.peer_cred().ok().map(|peer| peer.uid());
            match self.admit(user) {
                Some(guard) => return (Connection::new(stream, self.patience, guard), address),
                None => refuse(&stream),
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// Sends the reason, as far as the socket takes it without blocking.
fn refuse(stream: &UnixStream) {
    let error = Error::new(Exit::Busy, "ask deployd");
    let error = error.because("it has too many connections").help("end some, and ask again");
    let text = serde_json::to_string(&Outcome::from(&error)).unwrap_or_default();
    let found = format!(
        "HTTP/1.1 503 Service Unavailable\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{text}",
        text.len()
    );
    let _ = stream.try_write(found.as_bytes());
}

/// Counts a connection until it is dropped.
struct Guard {
    user: Option<u32>,
    open: Open,
}

impl Drop for Guard {
    fn drop(&mut self) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = open.get_mut(&self.user) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.user);
            }
        }
    }
}

/// A connection whose request must arrive in time.
pub struct Connection {
    pub stream: UnixStream,
    /// The file descriptors that came along with its bytes.
    pub handed: Handed,
    /// None once the head of the request has come.
    head: Option<Head>,
    _guard: Guard,
}

struct Head {
    /// Completes at the deadline for the head.
    end: Pin<Box<Sleep>>,
    /// How many bytes of [`END_OF_HEAD`] the last bytes read match.
    matched: usize,
}

impl Connection {
    fn new(stream: UnixStream, patience: Duration, guard: Guard) -> Connection {
        let end = Box::pin(tokio::time::sleep(patience));
        Connection {
            stream,
            handed: Handed::default(),
            head: Some(Head { end, matched: 0 }),
            _guard: guard,
        }
    }
}

impl Head {
    /// Whether the head ends within these bytes.
    fn ends_with(&mut self, bytes: &[u8]) -> bool {
        for byte in bytes {
            self.matched = match *byte == END_OF_HEAD[self.matched] {
                true => self.matched + 1,
                false => usize::from(*byte == END_OF_HEAD[0]),
            };
            if self.matched == END_OF_HEAD.len() {
                return true;
            }
        }
        false
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = into.filled().len();
        let read = handed::poll_read(&self.stream, &self.handed, cx, into);
        let Some(head) = &mut self.head else { return read };
        if read.is_ready() {
            let come = into.filled().get(before..).unwrap_or_default();
            if head.ends_with(come) {
                self.head = None;
            }
            return read;
        }
        match head.end.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Reads the body of a request, of at most `longest` bytes, within `patience`. A connection
/// carries one request.
pub async fn in_time(patience: Duration, longest: usize, request: Request, next: Next) -> Response {
    let (head, body) = request.into_parts();
    let mut response = match tokio::time::timeout(patience, to_bytes(body, longest)).await {
        Ok(Ok(bytes)) => next.run(Request::from_parts(head, Body::from(bytes))).await,
        Ok(Err(_)) => StatusCode::PAYLOAD_TOO_LARGE.into_response(),
        Err(_) => StatusCode::REQUEST_TIMEOUT.into_response(),
    };
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::Router;
    use axum::routing::post;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    const SHORT: Duration = Duration::from_secs(1);

    async fn read(mut stream: UnixStream) -> String {
        let mut text = Vec::new();
        let _ = stream.read_to_end(&mut text).await;
        String::from_utf8_lossy(&text).into_owned()
    }

    /// Serves a control socket that echoes request bodies.
    fn serve(directory: &std::path::Path) -> std::path::PathBuf {
        let path = directory.join("socket");
        let listener = Bounded::new(UnixListener::bind(&path).unwrap(), SHORT);
        let routes = Router::new()
            .route("/", post(|body: String| async { body }))
            .layer(axum::middleware::from_fn(|request, next| in_time(SHORT, 16, request, next)));
        tokio::spawn(async { axum::serve(listener, routes).await });
        path
    }

    #[tokio::test]
    async fn closes_a_connection_that_sends_no_request() {
        let directory = tempfile::tempdir().unwrap();
        let path = serve(directory.path());
        let head = "POST / HTTP/1.1\r\nhost: deployd\r\n";
        for begun in [String::new(), head.into(), format!("{head}content-length: 9\r\n\r\nhalf")] {
            let mut stream = UnixStream::connect(&path).await.unwrap();
            stream.write_all(begun.as_bytes()).await.unwrap();
            assert!(!read(stream).await.contains("200 OK"), "{begun:?}");
        }
        let mut stream = UnixStream::connect(&path).await.unwrap();
        let whole = format!("{head}content-length: 5\r\n\r\nhello");
        stream.write_all(whole.as_bytes()).await.unwrap();
        let found = read(stream).await;
        assert!(found.contains("200 OK") && found.ends_with("hello"), "{found}");
    }

    #[tokio::test]
    async fn limits_the_connections_of_a_user() {
        let directory = tempfile::tempdir().unwrap();
        let path = serve(directory.path());
        let mut held = Vec::new();
        for _ in 0..OF_ONE {
            held.push(UnixStream::connect(&path).await.unwrap());
        }
        let found = read(UnixStream::connect(&path).await.unwrap()).await;
        assert!(found.contains("503") && found.contains("too many connections"), "{found}");
        held.pop();
        let end = tokio::time::Instant::now() + Duration::from_secs(5);
        loop {
            let mut stream = UnixStream::connect(&path).await.unwrap();
            let _ =
                stream.write_all(b"POST / HTTP/1.1\r\nhost: d\r\ncontent-length: 0\r\n\r\n").await;
            if read(stream).await.contains("200 OK") {
                break;
            }
            assert!(tokio::time::Instant::now() < end, "no place became free");
        }
    }
}
