//! deploy-agent: one release in S3 becomes running systemd services on this instance.
//!
//! The modules in the order in which a release flows through them; none imports
//! one that stands above it.

// No input makes a root daemon panic.
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used))]
#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests make what they look at"))]

/// A point that the daemon can be made to die at, named by a text or by a path and
/// what was done with it: see `failpoint`.
macro_rules! reach {
    ($name:literal $($values:tt)*) => {
        #[cfg(feature = "failpoints")]
        crate::failpoint::reach(format!($name $($values)*));
    };
    ($path:expr, $done:literal) => {
        #[cfg(feature = "failpoints")]
        crate::failpoint::reach(format!("{}: {}", crate::failpoint::name($path.as_ref()), $done));
    };
}

pub mod cli;
pub mod agent;
pub mod deploy;
pub mod generator;
pub mod stop;
pub mod doctor;
pub mod forwarding;
pub mod formation;
pub mod preflight;
pub mod converge;
pub mod health;
pub mod stage;
pub mod owner;
pub mod context;
pub mod trust;
pub mod switched;
pub mod rollback_window;
pub mod budget;
pub mod source;
pub mod store;
pub mod host;
mod clues;
mod quote;
#[cfg(test)]
mod story;
pub mod cut;
pub mod events;
pub mod timings;
mod signals;
#[cfg(feature = "failpoints")]
mod failpoint;
