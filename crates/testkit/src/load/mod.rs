//! A load of HTTP requests on some addresses, limited in number and time, and an honest count
//! of their outcomes.
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

/// The requests of a load: their targets, number and duration.
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
    /// Four clients with a connection per request, for up to a minute. The clients take the
    /// targets in turn.
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

    /// Sets the number of concurrent requests.
    pub fn connections(mut self, connections: usize) -> Load {
        self.connections = connections;
        self
    }

    /// Makes each client reuse its connection, as long as the server keeps it.
    pub fn keep_alive(mut self) -> Load {
        self.keep_alive = true;
        self
    }

    /// Sets the path of the requests; `/` by default.
    pub fn path(mut self, path: &str) -> Load {
        path.clone_into(&mut self.path);
        self
    }

    /// Sets the pause of a client between a response and its next request.
    pub fn pause(mut self, pause: Duration) -> Load {
        self.pause = pause;
        self
    }

    /// Sets the timeout of a connect, and of each part of a response.
    pub fn patience(mut self, patience: Duration) -> Load {
        self.patience = patience;
        self
    }

    /// Ends the load after this many requests.
    pub fn most(mut self, requests: u64) -> Load {
        self.most = requests;
        self
    }

    /// Ends the load after this time.
    pub fn longest(mut self, time: Duration) -> Load {
        self.longest = time;
        self
    }

    /// Starts the load in the network namespace of the calling thread.
    pub fn start(self) -> Running {
        let shared = Arc::new(Shared::default());
        let clients = (0..self.connections).map(|number| {
            let (load, shared) = (self.clone(), Arc::clone(&shared));
            thread::spawn(move || load.ask(number, &shared))
        });
        Running { clients: clients.collect(), shared, began: Instant::now() }
    }

    /// Runs one client.
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
    /// Waits for this many more requests to end, whatever their outcome.
    pub fn wait_for(&self, requests: u64) {
        let goal = self.shared.ended.load(Ordering::Relaxed) + requests;
        let deadline = Instant::now() + Duration::from_secs(60);
        while self.shared.ended.load(Ordering::Relaxed) < goal {
            assert!(Instant::now() < deadline, "a minute without {requests} requests");
            assert!(!self.clients.iter().all(JoinHandle::is_finished), "the load has ended");
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Lets each client complete its request, and returns the total count.
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
