//! A load of HTTP requests on some addresses, bounded in number and in time, and
//! an honest count of what became of them.
//!
//! ```ignore
//! let load = Load::on(&["10.77.0.11:5000".parse()?]).connections(8).keep_alive();
//! let running = network.within(|| load.start());
//! … deploy …
//! let tally = running.stop();
//! assert_eq!(tally.failed(), 0, "{tally}");
//! ```

mod client;
pub mod server;
mod tally;
#[cfg(test)]
mod tests;

pub use tally::{Fault, Tally};

use client::Client;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// What is asked, of whom, how often and for how long.
#[derive(Clone, Debug)]
pub struct Load {
    targets: Vec<SocketAddr>,
    connections: usize,
    keep_alive: bool,
    path: String,
    pause: Duration,
    patience: Duration,
    most: u64,
    longest: Duration,
}

impl Load {
    /// Four clients with a connection for each request, for up to a minute; one
    /// client after the other is given the next of these targets.
    pub fn on(targets: &[SocketAddr]) -> Load {
        assert!(!targets.is_empty(), "a load needs a target");
        Load {
            targets: targets.to_vec(),
            connections: 4,
            keep_alive: false,
            path: "/".to_owned(),
            pause: Duration::ZERO,
            patience: Duration::from_secs(10),
            most: u64::MAX,
            longest: Duration::from_secs(60),
        }
    }

    /// How many requests are under way at once.
    pub fn connections(mut self, connections: usize) -> Load {
        self.connections = connections;
        self
    }

    /// Each client asks again on the same connection, as long as the server lets it.
    pub fn keep_alive(mut self) -> Load {
        self.keep_alive = true;
        self
    }

    /// The path that is asked for; `/` by default.
    pub fn path(mut self, path: &str) -> Load {
        path.clone_into(&mut self.path);
        self
    }

    /// How long a client rests between an answer and its next request.
    pub fn pause(mut self, pause: Duration) -> Load {
        self.pause = pause;
        self
    }

    /// How long a client waits for a connection, and for each part of an answer.
    pub fn patience(mut self, patience: Duration) -> Load {
        self.patience = patience;
        self
    }

    /// Ends by itself after this many requests.
    pub fn most(mut self, requests: u64) -> Load {
        self.most = requests;
        self
    }

    /// Ends by itself after this time.
    pub fn longest(mut self, time: Duration) -> Load {
        self.longest = time;
        self
    }

    /// Begins, in the network namespace of the calling thread.
    pub fn start(self) -> Running {
        let shared = Arc::new(Shared::default());
        let clients = (0..self.connections).map(|number| {
            let (load, shared) = (self.clone(), Arc::clone(&shared));
            thread::spawn(move || load.ask(number, &shared))
        });
        Running { clients: clients.collect(), shared, began: Instant::now() }
    }

    /// What one client does.
    fn ask(&self, number: usize, shared: &Shared) -> Tally {
        let target = self.targets[number % self.targets.len()];
        let mut client = Client::new(target, &self.path, self.keep_alive, self.patience);
        let mut tally = Tally::default();
        let end = Instant::now() + self.longest;
        while Instant::now() < end
            && !shared.stopped.load(Ordering::Relaxed)
            && shared.asked.fetch_add(1, Ordering::Relaxed) < self.most
        {
            client.ask(&mut tally);
            shared.ended.fetch_add(1, Ordering::Relaxed);
            if !self.pause.is_zero() {
                thread::sleep(self.pause);
            }
        }
        tally
    }
}

#[derive(Default)]
struct Shared {
    stopped: AtomicBool,
    asked: AtomicU64,
    ended: AtomicU64,
}

/// A load under way.
pub struct Running {
    clients: Vec<JoinHandle<Tally>>,
    shared: Arc<Shared>,
    began: Instant,
}

impl Running {
    /// Waits for this many more requests to end, well or not.
    pub fn wait_for(&self, requests: u64) {
        let goal = self.shared.ended.load(Ordering::Relaxed) + requests;
        let deadline = Instant::now() + Duration::from_secs(60);
        while self.shared.ended.load(Ordering::Relaxed) < goal {
            assert!(Instant::now() < deadline, "a minute without {requests} requests");
            assert!(!self.clients.iter().all(JoinHandle::is_finished), "the load has ended");
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Lets each client end its request, and gives the whole count.
    pub fn stop(self) -> Tally {
        self.shared.stopped.store(true, Ordering::Relaxed);
        self.finish()
    }

    /// Waits until the load has ended by itself.
    pub fn finish(self) -> Tally {
        let tallies = self.clients.into_iter().map(|client| client.join().expect("a client"));
        let mut all = tallies.fold(Tally::default(), Tally::and);
        all.time = self.began.elapsed();
        all
    }
}
