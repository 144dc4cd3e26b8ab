//! Disposable Debian instances with a real systemd, for the end-to-end tests.
//!
//! An [`Instance`] is a systemd-nspawn container on an overlay of a cached base [`Image`]. It
//! boots in less than a second, on a [`Network`] of its own that the test can listen on. It can
//! be rebooted, killed, and have its power cut. Instances end with their test process, however
//! it ends (see [`lifeline`]).
//!
//! ```ignore
//! let network = Network::new();
//! let host = network.instance().disk(512).boot();
//! host.write("/etc/motd", "hello");
//! host.power_loss();
//! host.boot();
//! assert_eq!(host.exec(&["cat", "/etc/motd"]).ok(), "");
//! ```

mod base;
mod boot;
mod cgroup;
mod disk;
mod emulated;
mod exec;
mod image;
mod lifeline;
mod network;
mod nspawn;
mod proxy;
mod requirements;
mod suite;
mod throttle;

pub use boot::{Builder, Instance};
pub use disk::loop_files;
pub use emulated::Emulated;
pub use exec::{Invocation, Job, Output};
pub use image::{Image, package, package_of};
pub use lifeline::Lifeline;
pub use network::{Network, Response};
pub use throttle::Throttle;

use std::fmt::Display;
use std::panic;
use std::thread;
use std::time::{Duration, Instant};

/// Polls `probe` until it returns a value, and returns that; `None` if there is none within
/// `limit`.
pub fn poll<T>(limit: Duration, mut probe: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + limit;
    loop {
        // Checked before the probe, so that the last probe comes after the deadline.
        let late = Instant::now() >= deadline;
        if let Some(answer) = probe() {
            return Some(answer);
        }
        if late {
            return None;
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// Runs `work` on a thread of its own, which may change its namespaces.
fn on_a_thread<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    let done = thread::scope(|scope| scope.spawn(work).join());
    done.unwrap_or_else(|cause| panic::resume_unwind(cause))
}

/// Ends the test with an explanation if a step of the harness fails.
trait Must<T> {
    #[track_caller]
    fn must(self, what: impl Display) -> T;
}

impl<T, E: Display> Must<T> for Result<T, E> {
    #[track_caller]
    fn must(self, what: impl Display) -> T {
        match self {
            Ok(value) => value,
            Err(error) => panic!("cannot {what}: {error}"),
        }
    }
}
