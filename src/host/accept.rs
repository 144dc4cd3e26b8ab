//! Whether a server accepts connections. The kernel completes a connection on behalf of a process
//! that hangs, and keeps it in the queue of the listening socket until accept(2).

use super::probe::ResetWhenGivenUp;
use super::sock_diag;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

/// How long a connection may wait to be accepted.
pub const PATIENCE: Duration = Duration::from_secs(5);
/// The pauses between two looks at the queue.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

/// What became of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accepted {
    /// It was accepted, or one of those before it was, or the kernel does not tell.
    Yes,
    /// None was accepted for [`PATIENCE`], while so many others waited.
    No { others: usize },
}

/// Connects to an address of this instance, and watches the queue of its port until the server
/// has accepted a connection.
pub async fn accepted(to: SocketAddr) -> io::Result<Accepted> {
    accepted_within(PATIENCE, to).await
}

async fn accepted_within(patience: Duration, to: SocketAddr) -> io::Result<Accepted> {
    let end = Instant::now() + patience;
    let mut queue = Queue { port: to.port(), length: 0, moves: false };
    let mut pause = FIRST_PAUSE;
    let mut connecting = std::pin::pin!(TcpStream::connect(to));
    // A queue without a place takes no connection.
    let stream = loop {
        match timeout(pause, &mut connecting).await {
            Ok(stream) => break stream?,
            Err(_) => queue.look(),
        }
        if Instant::now() >= end {
            return match queue.moves || queue.length == 0 {
                true => Err(io::Error::other(format!("no answer within {} s", patience.as_secs()))),
                false => Ok(Accepted::No { others: queue.clients() }),
            };
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    };
    // It is not to stay open in a process that hangs.
    let reset = ResetWhenGivenUp::of(&stream)?;
    let own = stream.local_addr()?.port();
    loop {
        queue.look();
        if queue.moves || queue.length == 0 || !queue.holds(own) {
            reset.no_more();
            return Ok(Accepted::Yes);
        }
        if Instant::now() >= end {
            return Ok(Accepted::No { others: queue.clients().saturating_sub(1) });
        }
        sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// The connections to a port that wait for accept(2).
struct Queue {
    port: u16,
    /// With those that have been given up.
    length: u32,
    /// Whether it became shorter between two looks, or cannot be looked at.
    moves: bool,
}

impl Queue {
    fn look(&mut self) {
        match sock_diag::waiting(self.port) {
            Ok(length) => {
                self.moves |= length < self.length;
                self.length = length;
            }
            Err(error) => self.moves |= error.kind() != io::ErrorKind::Interrupted,
        }
    }

    /// Whether the connection from this port is still in it.
    fn holds(&self, client: u16) -> bool {
        match sock_diag::clients_waiting(self.port, client) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => true,
            found => found.is_ok_and(|count| count > 0),
        }
    }

    /// Counts those in it that wait for an answer.
    fn clients(&self) -> usize {
        sock_diag::clients_waiting(self.port, 0).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::socket::Backlog;
    use std::net::TcpListener;

    const SHORT: Duration = Duration::from_millis(300);

    fn listener() -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind("[::]:0").expect("listen");
        let port = listener.local_addr().expect("an address").port();
        (listener, SocketAddr::from(([127, 0, 0, 1], port)))
    }

    #[tokio::test]
    async fn a_server_that_accepts_nothing_is_found_with_the_clients_that_wait() {
        let (listener, at) = listener();
        let _client = std::net::TcpStream::connect(at).expect("connect");
        drop(std::net::TcpStream::connect(at).expect("connect"));
        for _ in 0..2 {
            let found = accepted_within(SHORT, at).await.expect("a connection");
            assert_eq!(found, Accepted::No { others: 1 });
        }
        drop(listener);
        accepted_within(SHORT, at).await.expect_err("nobody listens");
    }

    #[tokio::test]
    async fn a_server_whose_queue_is_full_is_found_too() {
        let (listener, at) = listener();
        nix::sys::socket::listen(&listener, Backlog::new(1).expect("a length")).expect("listen");
        let mut clients = Vec::new();
        while let Ok(Ok(client)) = timeout(SHORT, TcpStream::connect(at)).await {
            clients.push(client);
        }
        let found = accepted_within(SHORT, at).await.expect("a queue");
        assert_eq!(found, Accepted::No { others: clients.len() });
    }

    #[tokio::test]
    async fn a_server_that_accepts_this_one_accepts() {
        let (listener, at) = listener();
        let served = std::thread::spawn(move || listener.accept().expect("accept"));
        assert_eq!(accepted(at).await.expect("a connection"), Accepted::Yes);
        served.join().expect("a server");
    }

    /// A server that works on one request after the other.
    #[test]
    fn a_queue_that_becomes_shorter_moves() {
        let (listener, at) = listener();
        let clients = [(); 3].map(|()| std::net::TcpStream::connect(at).expect("connect"));
        let mut queue = Queue { port: at.port(), length: 0, moves: false };
        queue.look();
        queue.look();
        assert_eq!((queue.length, queue.clients(), queue.moves), (3, 3, false));
        listener.accept().expect("accept");
        queue.look();
        assert_eq!((queue.length, queue.clients(), queue.moves), (2, 2, true));
        drop(clients);
    }

    /// The queue of a socket beside it on the same port may be stuck.
    #[tokio::test]
    async fn an_accepted_connection_does_not_wait() {
        let (listener, at) = listener();
        let client = std::net::TcpStream::connect(at).expect("connect");
        let own = client.local_addr().expect("an address").port();
        let queue = Queue { port: at.port(), length: 0, moves: false };
        assert!(queue.holds(own));
        let served = listener.accept().expect("accept");
        assert!(!queue.holds(own));
        drop(served);
    }
}
