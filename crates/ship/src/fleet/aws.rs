//! A group in AWS: its instances from Auto Scaling, and Run Command of Systems Manager as the way
//! to them.

mod alarms;
pub mod api;
pub mod calls;
#[cfg(test)]
pub mod fake;
mod fault;
mod group;
mod pace;
mod sdk;
mod watch;

pub use calls::Calls;
pub use group::Scaling;
pub use sdk::Sdk;
pub use watch::Watch;

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::time::Duration;

/// Returns a time between none and this one, so that programs do not repeat all at once.
fn jitter(most: Duration) -> Duration {
    most.mul_f64(f64::from(number()) / f64::from(u32::MAX))
}

/// Returns a number that nobody can foresee.
pub fn number() -> u32 {
    let bits = RandomState::new().build_hasher().finish() >> 32;
    u32::try_from(bits).unwrap_or_default()
}
