//! The clocks behind `--timings`.

use model::timings::{Archive, Part, Timings};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

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

    /// Switches the clock to `part`, and returns the part that it measured before.
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
}
