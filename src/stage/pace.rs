//! Leaves the processors to the apps where the machine gets little of them: staging then takes at
//! most half of what there is. Otherwise it would use up each period's share, and every request
//! would wait for the next one.

use crate::host::granted::{Granted, granted};
use nix::time::{ClockId, clock_gettime};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// How often the machine's counters are read.
const INTERVAL: Duration = Duration::from_millis(300);

/// The machine counts as short of processors if it was denied more than this part of an interval,
/// and of what it wanted.
const DENIED: u32 = 10;

/// How long a limit holds after the last denial, which may have been another machine's doing.
const HOLD: Duration = Duration::from_secs(30);

/// The least that a stage gets, in processors: half of what the smallest instances are granted.
const LEAST: f64 = 0.05;

/// The longest pause at once: the deadline and the end of a cancelled deploy are looked at between
/// two of them.
const LONGEST: Duration = Duration::from_millis(200);

/// The pace of one stage, for all of its threads.
pub struct Pace(Option<Mutex<Share>>);

impl Pace {
    /// As fast as it can, where no app can be hurt.
    pub fn free() -> Pace {
        Pace(None)
    }

    /// Beside running apps.
    pub fn beside_apps() -> Pace {
        Pace(granted().map(|granted| Mutex::new(Share::new(Instant::now(), granted))))
    }

    /// Called after each piece of work; sleeps if the process is ahead of its share.
    pub fn keep(&self) {
        let Some(share) = &self.0 else { return };
        let pause = {
            let mut share = share.lock().unwrap_or_else(PoisonError::into_inner);
            let now = Instant::now();
            if now.duration_since(share.read_at) >= INTERVAL
                && let Some(granted) = granted()
            {
                share.read(now, granted);
            }
            share.limit.as_mut().map(|limit| limit.pause(now, used_here()))
        };
        if let Some(pause) = pause.filter(|pause| !pause.is_zero()) {
            thread::sleep(pause.min(LONGEST));
        }
    }
}

/// The processor time of this process, all of its threads together.
fn used_here() -> Duration {
    clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).map(Duration::from).unwrap_or_default()
}

/// What is known of the machine.
struct Share {
    read_at: Instant,
    granted: Granted,
    limit: Option<Limit>,
}

impl Share {
    fn new(now: Instant, granted: Granted) -> Share {
        Share { read_at: now, granted, limit: None }
    }

    fn read(&mut self, now: Instant, granted: Granted) {
        let took = now.duration_since(self.read_at);
        let denied = granted.denied.saturating_sub(self.granted.denied);
        let used = granted.used.saturating_sub(self.granted.used);
        if denied * DENIED > took && denied * DENIED > used + denied {
            let half = used.div_f64(2.0).div_duration_f64(took);
            let limit = self.limit.get_or_insert_with(|| Limit::new(now, half));
            limit.processors = half.max(limit.least);
            limit.denied_at = now;
        }
        self.limit.take_if(|limit| now.duration_since(limit.denied_at) > HOLD);
        (self.read_at, self.granted) = (now, granted);
    }
}

/// A limit of this process.
struct Limit {
    processors: f64,
    /// What it never falls below: half of the first limit. What the machine uses while this process
    /// waits is not what it is granted.
    least: f64,
    /// When the machine was denied processors for the last time.
    denied_at: Instant,
    /// Since when, and the process's time then; `None` until the first pause is computed.
    since: Instant,
    used: Option<Duration>,
}

impl Limit {
    fn new(now: Instant, processors: f64) -> Limit {
        let least = (processors / 2.0).max(LEAST);
        Limit { processors, least, denied_at: now, since: now, used: None }
    }

    /// How long the process has to wait, so that it has used no more than its share. What it did
    /// not use is not kept for later.
    fn pause(&mut self, now: Instant, used: Duration) -> Duration {
        let since_then = used.saturating_sub(*self.used.get_or_insert(used));
        let due = since_then.div_f64(self.processors);
        let passed = now.duration_since(self.since);
        if passed >= due {
            (self.since, self.used) = (now, Some(used));
        }
        due.saturating_sub(passed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(used: u64, denied: u64) -> Granted {
        Granted { used: Duration::from_millis(used), denied: Duration::from_millis(denied) }
    }

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_machine_that_gets_its_processors_sets_no_limit() {
        let begin = Instant::now();
        let mut share = Share::new(begin, after(0, 0));
        share.read(begin + 100 * MS, after(200, 9));
        assert!(share.limit.is_none());
    }

    #[test]
    fn a_machine_that_is_denied_them_leaves_half_to_the_apps() {
        let begin = Instant::now();
        let mut share = Share::new(begin, after(0, 0));
        share.read(begin + 100 * MS, after(20, 80));
        let limit = share.limit.as_mut().expect("a limit");
        assert!((limit.processors - 0.1).abs() < 1e-9, "{}", limit.processors);
        let begin = begin + 100 * MS;
        assert_eq!(limit.pause(begin, 500 * MS), Duration::ZERO);
        // 3 ms of work are due after 30 ms.
        assert_eq!(limit.pause(begin + 4 * MS, 503 * MS), 26 * MS);
        assert_eq!(limit.pause(begin + 30 * MS, 503 * MS), Duration::ZERO);
        // A second in which nothing was used is not made up for.
        assert_eq!(limit.pause(begin + 1030 * MS, 503 * MS), Duration::ZERO);
        assert_eq!(limit.pause(begin + 1031 * MS, 504 * MS), 9 * MS);
    }

    #[test]
    fn the_limit_follows_what_the_machine_gets_and_outlasts_the_denial_a_while() {
        let begin = Instant::now();
        let mut share = Share::new(begin, after(0, 0));
        share.read(begin + 100 * MS, after(20, 80));
        share.read(begin + 200 * MS, after(60, 140));
        share.read(begin + 300 * MS, after(70, 140));
        let limit = share.limit.as_ref().expect("a limit");
        assert!((limit.processors - 0.2).abs() < 1e-9, "{}", limit.processors);
        share.read(begin + 200 * MS + HOLD, after(80, 140));
        assert!(share.limit.is_some());
        share.read(begin + 201 * MS + HOLD, after(80, 140));
        assert!(share.limit.is_none());
    }

    #[test]
    fn a_denial_that_the_stage_does_not_cause_does_not_bring_it_to_a_halt() {
        let begin = Instant::now();
        let mut share = Share::new(begin, after(0, 0));
        let mut used = 0;
        for interval in 1..20 {
            // All that is used is the stage's own part.
            used += share.limit.as_ref().map_or(800, |limit| (limit.processors * 100.0) as u64);
            share.read(begin + interval * 100 * MS, after(used, 800 * u64::from(interval)));
        }
        let limit = share.limit.as_ref().expect("a limit");
        assert!((limit.processors - 2.0).abs() < 1e-9, "{}", limit.processors);
    }

    #[test]
    fn a_large_machine_that_is_denied_little_sets_no_limit() {
        let begin = Instant::now();
        let mut share = Share::new(begin, after(0, 0));
        share.read(begin + 100 * MS, after(1500, 20));
        assert!(share.limit.is_none());
    }

    #[test]
    fn a_machine_that_gets_nothing_goes_on_slowly() {
        let begin = Instant::now();
        let mut share = Share::new(begin, after(0, 0));
        share.read(begin + 100 * MS, after(0, 100));
        let limit = share.limit.as_mut().expect("a limit");
        assert_eq!(limit.pause(begin, MS), Duration::ZERO);
        assert_eq!(limit.pause(begin, 2 * MS), 20 * MS);
    }
}
