//! Probes a process of this instance over TCP and HTTP.

use http_body_util::Empty;
use hyper::body::Bytes;
use hyper::client::conn::http1::handshake;
use hyper_util::rt::TokioIo;
use nix::libc::linger;
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::Linger;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// The timeout of one probe.
const LONGEST: Duration = Duration::from_secs(5);

/// The longest part of a redirect's target that is kept, in characters.
const LOCATION: usize = 200;

/// A GET request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    pub path: String,
    pub host: String,
}

/// The parts of a response that are used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    /// The target of a redirect.
    pub location: Option<String>,
}

/// Connects to an address of this instance.
pub async fn connect(to: SocketAddr) -> io::Result<()> {
    within(TcpStream::connect(to)).await.map(drop)
}

/// Sends GET and returns the response; does not follow redirects.
pub async fn get(at: SocketAddr, request: &Request) -> io::Result<Answer> {
    within(async {
        let stream = TcpStream::connect(at).await?;
        let reset = ResetWhenGivenUp::of(&stream)?;
        let (mut sender, connection) =
            handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        let request = hyper::Request::get(&request.path)
            .header("host", &request.host)
            .header("user-agent", "deploy-agent")
            .header("connection", "close")
            .body(Empty::<Bytes>::new())
            .map_err(io::Error::other)?;
        // No separate task: the connection ends with the probe.
        let mut response = std::pin::pin!(sender.send_request(request));
        let response = tokio::select! {
            response = &mut response => response,
            _ = connection => response.await,
        };
        let response = response.map_err(io::Error::other)?;
        reset.no_more();
        let location = response.headers().get("location").and_then(|to| to.to_str().ok());
        let location = location.map(|to| to.chars().take(LOCATION).collect());
        Ok(Answer { status: response.status().as_u16(), location })
    })
    .await
}

/// Resets an abandoned connection: half closed, it would stay open in a process that hangs, and
/// count as a client's while the process drains.
pub(super) struct ResetWhenGivenUp(OwnedFd);

impl ResetWhenGivenUp {
    pub fn of(stream: &TcpStream) -> io::Result<Self> {
        let socket = stream.as_fd().try_clone_to_owned()?;
        setsockopt(&socket, Linger, &linger { l_onoff: 1, l_linger: 0 })?;
        Ok(ResetWhenGivenUp(socket))
    }

    /// A response arrived: the connection closes normally.
    pub fn no_more(self) {
        let _ = setsockopt(&self.0, Linger, &linger { l_onoff: 0, l_linger: 0 });
    }
}

async fn within<T>(probe: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let over = || io::Error::other(format!("no answer within {} s", LONGEST.as_secs()));
    timeout(LONGEST, probe).await.unwrap_or_else(|_| Err(over()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    /// Starts a server that sends one response; returns its address.
    async fn server(answer: &'static str) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let address = listener.local_addr().expect("address");
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("accept");
            let mut request = [0; 1024];
            let _ = stream.read(&mut request).await;
            let _ = stream.write_all(answer.as_bytes()).await;
        });
        address
    }

    fn request(path: &str) -> Request {
        Request { path: path.to_owned(), host: "www.example.com".to_owned() }
    }

    #[tokio::test]
    async fn returns_the_servers_status() {
        let busy = server("HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n").await;
        let answer = get(busy, &request("/health")).await.expect("answer");
        assert_eq!(answer, Answer { status: 503, location: None });
        let moved = "HTTP/1.1 301 Moved\r\nlocation: https://x/\r\ncontent-length: 0\r\n\r\n";
        let answer = get(server(moved).await, &request("/")).await.expect("answer");
        assert_eq!(answer, Answer { status: 301, location: Some("https://x/".to_owned()) });
    }

    /// The process may hang long after the probe has ended.
    #[tokio::test]
    async fn an_abandoned_probe_leaves_no_connection_behind() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let address = listener.local_addr().expect("address");
        let probe = tokio::spawn(async move { get(address, &request("/")).await });
        let (mut stream, _) = listener.accept().await.expect("accept");
        let mut request = [0; 1024];
        while !request.starts_with(b"GET /") {
            stream.read_exact(&mut request[..5]).await.expect("a request");
        }
        probe.abort();
        let end = loop {
            match stream.read(&mut request).await {
                Ok(0) => break Ok(()),
                Ok(_) => {}
                Err(error) => break Err(error.kind()),
            }
        };
        assert_eq!(end, Err(io::ErrorKind::ConnectionReset));
    }

    #[tokio::test]
    async fn a_response_that_is_not_http_is_an_error() {
        let ssh = server("SSH-2.0-OpenSSH\r\n").await;
        get(ssh, &request("/")).await.expect_err("no HTTP");
    }
}
