//! Timeouts and retries for requests to a source.

use model::error::{Error, Result};
use std::time::Duration;

/// Limits for requests to a source. Tests use small ones.
#[derive(Clone, Debug)]
pub struct Timing {
    /// Connect timeout, TLS included.
    pub connect: Duration,
    /// Timeout without a response, or with too few bytes.
    pub stall: Duration,
    /// The fewest bytes of a download in each `stall` spent waiting for them.
    pub least: u64,
    /// Attempts for a request, the first included.
    pub asks: u32,
    /// Failures in a row after which a download gives up.
    pub attempts: u32,
    /// Bytes between two failures that reset the count of failures in a row: a server that sends
    /// one byte and fails cannot keep a download alive for ever.
    pub progress: u64,
    /// The longest pause before the second attempt; it doubles with each further one.
    pub first_pause: Duration,
    pub longest_pause: Duration,
    /// Objects smaller than this take one request: more would gain nothing.
    pub whole: u64,
    /// The size of each part of a larger object, and how many are fetched at once.
    pub part: u64,
    pub parts: usize,
}

impl Default for Timing {
    fn default() -> Self {
        Timing {
            connect: Duration::from_secs(5),
            stall: Duration::from_secs(30),
            least: 64 * 1024,
            asks: 3,
            attempts: 7,
            progress: 256 * 1024,
            first_pause: Duration::from_millis(400),
            longest_pause: Duration::from_secs(10),
            whole: 64 << 20,
            part: 4 << 20,
            parts: 4,
        }
    }
}

impl Timing {
    /// Returns a random pause after this many failures in a row, from zero to a bound that doubles
    /// each time: a fleet that failed together does not retry together.
    pub(super) fn pause(&self, failures: u32) -> Duration {
        let doubled = 2u32.saturating_pow(failures.saturating_sub(1));
        let longest = self.first_pause.saturating_mul(doubled).min(self.longest_pause);
        longest.mul_f64(fastrand::f64())
    }
}

/// Why an attempt failed, and whether a retry may succeed.
#[derive(Debug)]
pub(super) enum Failure {
    Transient(Error),
    Final(Error),
}

/// Retries transient failures, with `timing.asks` attempts at most.
pub(super) async fn retry<T, F>(timing: &Timing, attempt: impl Fn() -> F) -> Result<T>
where
    F: Future<Output = Result<T, Failure>>,
{
    let mut failures = 0;
    loop {
        match attempt().await {
            Ok(value) => return Ok(value),
            Err(Failure::Final(error)) => return Err(error),
            Err(Failure::Transient(error)) => {
                failures += 1;
                if failures >= timing.asks {
                    return Err(error);
                }
                tracing::warn!(attempt = failures, "{}; asking again", error.chain());
                tokio::time::sleep(timing.pause(failures)).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[test]
    fn a_pause_never_exceeds_its_doubled_bound_nor_the_longest() {
        let timing = Timing::default();
        for failures in 0..40u32 {
            let bound =
                timing.first_pause * 2u32.saturating_pow(failures.saturating_sub(1)).min(64);
            assert!(timing.pause(failures) <= bound.min(timing.longest_pause), "{failures}");
        }
    }

    #[test]
    fn pauses_differ() {
        let timing = Timing::default();
        let pauses: std::collections::HashSet<_> = (0..8).map(|_| timing.pause(5)).collect();
        assert!(pauses.len() > 1);
    }

    #[test]
    fn retries_a_transient_failure_and_not_a_final_one() {
        let timing = Timing { asks: 3, first_pause: Duration::ZERO, ..Timing::default() };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        for (transient, expected) in [(true, 3), (false, 1)] {
            let asked = AtomicU32::new(0);
            let failed = runtime.block_on(retry(&timing, || {
                asked.fetch_add(1, Ordering::Relaxed);
                let error = Error::source("no answer");
                let failure =
                    if transient { Failure::Transient(error) } else { Failure::Final(error) };
                std::future::ready(Err::<(), Failure>(failure))
            }));
            assert_eq!(failed.unwrap_err().to_string(), "no answer");
            assert_eq!(asked.into_inner(), expected);
        }
    }
}
