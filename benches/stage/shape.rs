//! A slow line to S3: a proxy with limited bandwidth and added latency that cuts a connection
//! now and then. It does not model TCP slow start over the distance; a real line is even slower
//! for a client that opens many connections.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddrV4, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};
use testkit::instance::Network;

const CHUNK: usize = 32 * 1024;

/// Chunks in flight per connection: 8 MiB, more than any line here holds.
const WINDOW: usize = 256;

/// The time that the line may fall behind its rate and catch up, as sleeping threads wake late.
const SLACK: Duration = Duration::from_millis(2);

/// A connection is cut after this many bytes of responses; connections that carry fewer do not
/// count.
const CUT_AFTER: usize = 1 << 20;

#[derive(Clone, Copy)]
pub struct Line {
    pub name: &'static str,
    pub bits_per_second: u64,
    /// The round-trip time.
    pub round_trip: Duration,
    /// The share of connections that are cut: one in this number.
    pub cut_one_in: Option<u64>,
}

pub const LINES: [Line; 2] = [
    Line {
        name: "1 Gbit/s, 20 ms",
        bits_per_second: 1_000_000_000,
        round_trip: Duration::from_millis(20),
        cut_one_in: None,
    },
    Line {
        name: "100 Mbit/s, 80 ms, one connection in 50 cut",
        bits_per_second: 100_000_000,
        round_trip: Duration::from_millis(80),
        cut_one_in: Some(50),
    },
];

/// Bytes with their time of arrival.
type Late = (Instant, Vec<u8>);

/// One direction of the line, shared by all connections.
struct Pace {
    line: Line,
    free: Mutex<Instant>,
}

/// A line that is served until this is dropped.
pub struct Served {
    network: Network,
    port: u16,
    over: Arc<AtomicBool>,
    /// The number of connections that it has cut.
    pub cut: Arc<AtomicU64>,
}

impl Served {
    pub fn endpoint(&self) -> String {
        format!("http://{}:{}", Network::GATEWAY, self.port)
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        // Its thread waits for a connection.
        drop(self.network.connect(SocketAddrV4::new(Network::GATEWAY, self.port)));
    }
}

/// Serves the line at this port.
pub fn serve(network: &Network, port: u16, to: SocketAddrV4, line: Line) -> Served {
    let listener = network.listen(port);
    let over = Arc::new(AtomicBool::new(false));
    let pace = || Arc::new(Pace { line, free: Mutex::new(Instant::now()) });
    let (up, down) = (pace(), pace());
    let cut = Arc::new(AtomicU64::new(0));
    let served = Served { network: network.clone(), port, over: over.clone(), cut: cut.clone() };
    let (network, cuts) = (network.clone(), cut);
    thread::spawn(move || {
        let full = Arc::new(AtomicU64::new(0));
        for client in listener.incoming().flatten() {
            if over.load(Ordering::Relaxed) {
                break;
            }
            let Ok(server) = network.connect(to) else { continue };
            let fate = line.cut_one_in.map(|one_in| {
                let (full, cuts) = (full.clone(), cuts.clone());
                Fate { left: CUT_AFTER, one_in, full, cuts }
            });
            let _ = client.set_nodelay(true).and_then(|()| server.set_nodelay(true));
            join(&client, &server, &up, None);
            join(&server, &client, &down, fate);
        }
    });
    served
}

/// Copies bytes from one side to the other, on two threads of its own.
fn join(from: &TcpStream, to: &TcpStream, pace: &Arc<Pace>, fate: Option<Fate>) {
    let (Ok(from), Ok(to)) = (from.try_clone(), to.try_clone()) else { return };
    let (late, arriving) = sync_channel(WINDOW);
    let pace = pace.clone();
    thread::spawn(move || send(from, &pace, &late));
    thread::spawn(move || receive(&arriving, to, fate));
}

fn send(mut from: TcpStream, pace: &Pace, late: &SyncSender<Late>) {
    // Adds the round trip of the handshake, which this proxy completed at once.
    let opened = Instant::now() + pace.line.round_trip;
    let mut chunk = vec![0; CHUNK];
    while let Ok(length @ 1..) = from.read(&mut chunk) {
        let sent = pace.reserve(length);
        thread::sleep(sent.saturating_duration_since(Instant::now()));
        let due = sent.max(opened) + pace.line.round_trip / 2;
        if late.send((due, chunk[..length].to_vec())).is_err() {
            break;
        }
    }
    let _ = from.shutdown(Shutdown::Read);
}

impl Pace {
    /// Returns when the last of these bytes is on the line.
    fn reserve(&self, bytes: usize) -> Instant {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let takes = bytes as f64 * 8.0 / self.line.bits_per_second as f64;
        let earliest = Instant::now().checked_sub(SLACK).unwrap_or(*free);
        *free = (*free).max(earliest) + Duration::from_secs_f64(takes);
        *free
    }
}

/// Whether a connection is cut, decided once it has carried enough bytes.
struct Fate {
    left: usize,
    one_in: u64,
    /// The number of connections that have carried enough.
    full: Arc<AtomicU64>,
    cuts: Arc<AtomicU64>,
}

impl Fate {
    fn is_met(&mut self, bytes: usize) -> bool {
        if self.left == 0 {
            return false;
        }
        self.left = self.left.saturating_sub(bytes);
        if self.left > 0 {
            return false;
        }
        let met = self.full.fetch_add(1, Ordering::Relaxed) % self.one_in == self.one_in / 2;
        self.cuts.fetch_add(u64::from(met), Ordering::Relaxed);
        met
    }
}

fn receive(arriving: &Receiver<Late>, mut to: TcpStream, mut fate: Option<Fate>) {
    for (due, bytes) in arriving {
        thread::sleep(due.saturating_duration_since(Instant::now()));
        if to.write_all(&bytes).is_err() {
            break;
        }
        if fate.as_mut().is_some_and(|fate| fate.is_met(bytes.len())) {
            reset(&to);
            return;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}

/// Ends a connection by RST, even if its socket has other holders: connect(2) to AF_UNSPEC
/// dissolves it.
fn reset(stream: &TcpStream) {
    let nothing = nix::libc::sockaddr { sa_family: 0, sa_data: [0; 14] };
    let length = size_of_val(&nothing) as nix::libc::socklen_t;
    // SAFETY: the descriptor is open, and the address outlives the call.
    unsafe { nix::libc::connect(stream.as_raw_fd(), &raw const nothing, length) };
}
