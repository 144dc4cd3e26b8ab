//! Where the time of a piece of work went: what `--timings` prints and the history keeps.

use serde::{Deserialize, Serialize};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// All of the wall time, in parts that do not overlap.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Timings {
    /// In the order in which they began.
    pub parts: Vec<Part>,
    /// Where an archive was brought onto the disk.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub archive: Option<Archive>,
}

/// A step, or what was singled out of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Part {
    pub part: String,
    pub seconds: f64,
}

/// What `stage` did with the archive. Its three stages work at the same time, so
/// their seconds overlap: each is how long the stage did not wait for another one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Archive {
    /// Compressed.
    pub bytes: u64,
    pub unpacked_bytes: u64,
    pub files: u64,
    /// Wall time of all of it.
    pub seconds: f64,
    pub fetch: f64,
    pub inflate: f64,
    pub unpack: f64,
}

impl Archive {
    /// The stage that the others have waited for.
    pub fn limit(&self) -> &'static str {
        let stages = [("fetch", self.fetch), ("inflate", self.inflate), ("unpack", self.unpack)];
        let slowest = stages.into_iter().max_by(|one, other| one.1.total_cmp(&other.1));
        slowest.map_or("", |(name, _)| name)
    }
}

/// Measures parts, one at a time.
#[derive(Debug)]
pub struct Clock {
    parts: Vec<(&'static str, Duration)>,
    now: &'static str,
    since: Instant,
    pub archive: Option<Archive>,
}

impl Clock {
    pub fn begin(part: &'static str) -> Clock {
        Clock {
            parts: vec![(part, Duration::ZERO)],
            now: part,
            since: Instant::now(),
            archive: None,
        }
    }

    /// From now on the time is this part's; whose it was until now.
    pub fn turn(&mut self, part: &'static str) -> &'static str {
        let (elapsed, before) = (self.since.elapsed(), self.now);
        self.add(before, elapsed);
        self.add(part, Duration::ZERO);
        (self.now, self.since) = (part, Instant::now());
        before
    }

    pub fn read(&self) -> Timings {
        let running = |part| if part == self.now { self.since.elapsed() } else { Duration::ZERO };
        let whole = |&(part, time): &(&'static str, Duration)| Part {
            part: part.to_owned(),
            seconds: (time + running(part)).as_secs_f64(),
        };
        Timings { parts: self.parts.iter().map(whole).collect(), archive: self.archive.clone() }
    }

    fn add(&mut self, part: &'static str, time: Duration) {
        match self.parts.iter_mut().find(|(known, _)| *known == part) {
            Some((_, sum)) => *sum += time,
            None => self.parts.push((part, time)),
        }
    }
}

/// How long one of several threads has waited for the others.
#[derive(Debug, Default)]
pub struct Waits(AtomicU64);

impl Waits {
    pub fn during<T>(&self, wait: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let ended = wait();
        self.add(start.elapsed());
        ended
    }

    pub fn add(&self, time: Duration) {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.0.fetch_add(nanos, Ordering::Relaxed);
    }

    /// Seconds at work, of so many in all.
    pub fn at_work(&self, seconds: f64) -> f64 {
        (seconds - self.0.load(Ordering::Relaxed) as f64 / 1e9).max(0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_moment_belongs_to_one_part_and_a_part_that_comes_back_goes_on() {
        let start = Instant::now();
        let mut clock = Clock::begin("lock");
        for part in ["resolve", "prove", "reload"] {
            clock.turn(part);
        }
        assert_eq!(clock.turn("prove"), "reload");
        let timings = clock.read();
        let names: Vec<_> = timings.parts.iter().map(|part| part.part.as_str()).collect();
        assert_eq!(names, ["lock", "resolve", "prove", "reload"]);
        let sum: f64 = timings.parts.iter().map(|part| part.seconds).sum();
        assert!(sum <= start.elapsed().as_secs_f64(), "{timings:?}");
    }

    #[test]
    fn the_limit_is_the_stage_that_was_busy_longest() {
        let archive = Archive { fetch: 0.2, inflate: 0.5, unpack: 0.4, ..Archive::default() };
        assert_eq!(archive.limit(), "inflate");
    }
}
