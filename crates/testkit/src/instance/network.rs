//! A network of a single test: a namespace with a bridge for instances. It ends with the last
//! of its instances, sockets and threads, so a dead test leaves none.
//!
//! A test can be a server or a client on it, from its own process: a socket stays in the
//! namespace in which it was created.

use super::lifeline::{Lifeline, places};
use super::{Must, on_a_thread};
use nix::sched::{CloneFlags, setns, unshare};
use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::process::{self, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::time::Duration;

/// An isolated network, 10.77.0.0/24. Clones are the same network.
#[derive(Clone)]
pub struct Network(Arc<Bridge>);

struct Bridge {
    namespace: File,
    places: Vec<File>,
    taken: AtomicUsize,
    next: AtomicU8,
}

/// The response of an HTTP server.
#[derive(Debug)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// The body, as text.
    pub body: String,
}

impl Default for Network {
    fn default() -> Network {
        Network::new()
    }
}

impl Network {
    /// The test's own address on the network, and every instance's gateway.
    pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
    /// Another address of the test: the one at which EC2 serves instance metadata.
    pub const METADATA: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);

    /// Creates a network for one instance.
    pub fn new() -> Network {
        Network::of(1)
    }

    /// Creates a network for up to `instances` concurrent instances. Waits until this machine
    /// has that many places (see [`places`]). So a test with two networks might wait for
    /// itself: create one network per test.
    pub fn of(instances: usize) -> Network {
        Lifeline::get();
        let places = places(instances);
        let namespace = on_a_thread(|| {
            unshare(CloneFlags::CLONE_NEWNET).must("make a network namespace");
            ip(&format!(
                "link set lo up\n\
                 link add bridge type bridge\n\
                 addr add {}/24 dev bridge\n\
                 addr add {}/32 dev bridge\n\
                 link set bridge up\n",
                Network::GATEWAY,
                Network::METADATA
            ));
            current_namespace()
        });
        Network(Arc::new(Bridge {
            namespace,
            places,
            taken: AtomicUsize::new(0),
            next: AtomicU8::new(11),
        }))
    }

    /// Returns the last number of the next instance's address.
    pub(super) fn next_host(&self) -> u8 {
        self.0.next.fetch_add(1, Ordering::Relaxed)
    }

    /// Runs `work` on a thread in the network's namespace.
    pub fn within<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        on_a_thread(|| {
            setns(&self.0.namespace, CloneFlags::CLONE_NEWNET).must("enter the network");
            work()
        })
    }

    /// Listens at [`Network::GATEWAY`]; port 0 picks a free one.
    pub fn listen(&self, port: u16) -> TcpListener {
        self.listen_at(SocketAddrV4::new(Network::GATEWAY, port))
    }

    /// Listens at an address of this network.
    pub fn listen_at(&self, address: SocketAddrV4) -> TcpListener {
        self.within(|| TcpListener::bind(address)).must(format_args!("listen at {address}"))
    }

    /// Connects to an address from this network.
    pub fn connect(&self, address: SocketAddrV4) -> io::Result<TcpStream> {
        self.within(|| TcpStream::connect_timeout(&address.into(), Duration::from_secs(5)))
    }

    /// Gets `http://ADDRESS[:PORT]/PATH`, with ten seconds for each step.
    pub fn http_get(&self, url: &str) -> io::Result<Response> {
        let unfit = || io::Error::new(io::ErrorKind::InvalidInput, url.to_owned());
        let rest = url.strip_prefix("http://").ok_or_else(unfit)?;
        let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
        let address = if host.contains(':') { host.to_owned() } else { format!("{host}:80") };
        let mut stream = self.connect(address.parse().map_err(|_| unfit())?)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        stream.set_write_timeout(Some(Duration::from_secs(10)))?;
        // HTTP/1.0: the response is not chunked and ends with the connection.
        write!(stream, "GET /{path} HTTP/1.0\r\nHost: {host}\r\n\r\n")?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        let answer = String::from_utf8_lossy(&answer);
        let cut = || io::Error::new(io::ErrorKind::UnexpectedEof, format!("{url}: {answer:?}"));
        let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(cut)?;
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
        Ok(Response { status: status.ok_or_else(cut)?, body: body.to_owned() })
    }

    /// Takes one of the network's places, which [`Network::leave`] frees.
    pub(super) fn join(&self) {
        let taken = self.0.taken.fetch_add(1, Ordering::Relaxed);
        let places = self.0.places.len();
        assert!(
            taken < places,
            "this network was made for {places} instance(s): use Network::of({})",
            taken + 1
        );
    }

    pub(super) fn leave(&self) {
        self.0.taken.fetch_sub(1, Ordering::Relaxed);
    }

    /// Creates `eth0` with this address in the caller's network namespace, plugged into the
    /// bridge under the name `port`.
    pub(super) fn plug(&self, port: &str, address: Ipv4Addr) {
        let [_, _, _, host] = address.octets();
        // The hardware address stays the same across reboots: neighbours would otherwise use
        // the old one for a while.
        ip(&format!(
            "link set lo up\n\
             link add eth0 address 02:00:0a:4d:00:{host:02x} type veth peer name {port} netns {}\n\
             addr add {address}/24 dev eth0\n\
             link set eth0 up\n\
             route add default via {}\n\
             route add {}/32 dev eth0 src {address}\n",
            path_of(&self.0.namespace),
            Network::GATEWAY,
            Network::METADATA
        ));
        self.within(|| ip(&format!("link set {port} master bridge up\n")));
    }

    /// Disconnects (`down`) or reconnects (`up`) the cable of a port.
    pub(super) fn set_port(&self, port: &str, state: &str) {
        self.within(|| ip(&format!("link set {port} {state}\n")));
    }
}

/// The network namespace of the calling thread.
fn current_namespace() -> File {
    File::open("/proc/thread-self/ns/net").must("open the network namespace")
}

/// A path by which another process finds the open file.
fn path_of(file: &File) -> String {
    format!("/proc/{}/fd/{}", process::id(), file.as_raw_fd())
}

/// Runs ip(8) commands, one per line, in the calling thread's namespace.
fn ip(commands: &str) {
    let mut ip = Command::new("ip")
        .args(["-batch", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .must("start ip");
    let mut input = ip.stdin.take().expect("ip's input is a pipe");
    input.write_all(commands.as_bytes()).must("tell ip");
    drop(input);
    let ran = ip.wait_with_output().must("wait for ip");
    let complaint = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "ip: {complaint}\n{commands}");
}
