//! The rate of one call: slower when AWS throttles it, and then slowly up again.

use crate::fleet::aws::jitter;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// The longest pause between two calls.
const SLOWEST: Duration = Duration::from_secs(8);

#[derive(Debug)]
pub struct Pace {
    /// The shortest pause between two calls.
    fastest: Duration,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// When the next call may be made; none before the first.
    next: Option<Instant>,
    pause: Duration,
}

impl Pace {
    pub fn new(per_second: u32) -> Pace {
        let fastest = Duration::from_secs(1) / per_second.max(1);
        Pace { fastest, state: Mutex::new(State { next: None, pause: fastest }) }
    }

    /// Waits until the next call may be made. Callers get turns one after the other.
    pub async fn turn(&self) {
        let at = {
            let mut state = self.state();
            let now = Instant::now();
            let at = state.next.unwrap_or(now).max(now);
            state.next = Some(at + state.pause);
            at
        };
        sleep_until(at).await;
    }

    /// Notes that a call was throttled.
    pub fn slower(&self) {
        let mut state = self.state();
        state.pause = (state.pause * 2).min(SLOWEST);
        let next = Instant::now() + state.pause + jitter(state.pause);
        state.next = Some(state.next.unwrap_or(next).max(next));
    }

    /// Notes that a call was not throttled.
    pub fn faster(&self) {
        let mut state = self.state();
        state.pause = state.pause.mul_f64(0.95).max(self.fastest);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn takes(pace: &Pace, calls: u32) -> Duration {
        let begun = Instant::now();
        for _ in 0..calls {
            pace.turn().await;
        }
        begun.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn calls_keep_their_distance_and_a_larger_one_after_a_refusal() {
        let pace = Pace::new(5);
        assert!(takes(&pace, 11).await >= Duration::from_secs(2));
        pace.slower();
        assert!(takes(&pace, 11).await >= Duration::from_secs(4));
        (0..100).for_each(|_| pace.faster());
        takes(&pace, 1).await;
        assert!(takes(&pace, 11).await <= Duration::from_millis(2300));
    }
}
