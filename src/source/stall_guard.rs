//! Detects a stalled source: a trickle counts as a stall.

use super::retry::Timing;
use std::time::{Duration, Instant};

/// Checks that one connection delivers [`Timing::least`] bytes in each [`Timing::stall`]. Only the
/// time spent waiting for it counts: a slow unpacker is not the source's fault.
#[derive(Debug, Default)]
pub(super) struct StallGuard {
    waited: Duration,
    came: u64,
}

impl StallGuard {
    /// Returns the next bytes, or none if the connection is too slow.
    pub async fn next<T>(&mut self, timing: &Timing, next: impl Future<Output = T>) -> Option<T> {
        let begin = Instant::now();
        let left = timing.stall.saturating_sub(self.waited);
        let next = tokio::time::timeout(left, next).await;
        self.waited += begin.elapsed();
        next.ok()
    }

    pub fn came(&mut self, bytes: usize, timing: &Timing) {
        self.came += bytes as u64;
        if self.came >= timing.least {
            *self = StallGuard::default();
        }
    }

    /// Describes the stall in words.
    pub fn describe(&self, timing: &Timing) -> String {
        match self.came {
            0 => format!("no byte came for {:?}", timing.stall),
            came => format!("only {came} bytes came in {:?}", timing.stall),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMING: Timing = Timing {
        connect: Duration::ZERO,
        stall: Duration::from_secs(1),
        least: 10,
        asks: 1,
        attempts: 1,
        progress: 0,
        first_pause: Duration::ZERO,
        longest_pause: Duration::ZERO,
        whole: 0,
        part: 0,
        parts: 0,
    };

    /// Waits for one byte after the other, each after `pause`, and returns how many came.
    async fn bytes(pause: Duration, most: usize) -> usize {
        let mut pace = StallGuard::default();
        for came in 0..most {
            if pace.next(&TIMING, tokio::time::sleep(pause)).await.is_none() {
                return came;
            }
            pace.came(1, &TIMING);
        }
        most
    }

    #[tokio::test]
    async fn a_trickle_is_a_stall() {
        assert!(bytes(Duration::from_millis(400), 100).await < 10);
    }

    #[tokio::test]
    async fn a_steady_connection_may_last_longer_than_a_stall() {
        assert_eq!(bytes(Duration::from_millis(20), 60).await, 60);
    }

    #[tokio::test]
    async fn the_readers_own_time_does_not_count() {
        let mut pace = StallGuard::default();
        for _ in 0..4 {
            tokio::time::sleep(Duration::from_millis(300)).await;
            assert!(pace.next(&TIMING, std::future::ready(())).await.is_some());
            pace.came(1, &TIMING);
        }
    }
}
