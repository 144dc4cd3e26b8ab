//! The events of a job, kept for those who follow it.

use crate::timings::Clock;
use model::event::{Event, Step};
use model::timings::{Archive, Timings};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// How much is kept for those who follow from the beginning, in events and in
/// bytes of text; older ones are dropped, so a chatty build cannot fill the memory.
const KEPT: usize = 4096;
const KEPT_BYTES: usize = 1 << 20;

/// The events of one job: written by it, read by any number of
/// followers, none of whom can slow it down.
#[derive(Clone, Debug)]
pub struct Events(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    kept: Mutex<Kept>,
    begun: Instant,
    /// Measures the steps, from the first moment on.
    clock: Mutex<Clock>,
    /// How many events there have been; a change wakes the followers.
    count: watch::Sender<usize>,
}

#[derive(Debug, Default)]
struct Kept {
    /// The number of the first event still kept.
    first: usize,
    events: VecDeque<Event>,
    bytes: usize,
    closed: bool,
}

impl Default for Events {
    fn default() -> Self {
        let clock = Mutex::new(Clock::begin(Step::Lock.name()));
        let (kept, count) = (Mutex::default(), watch::Sender::new(0));
        Events(Arc::new(Shared { kept, begun: Instant::now(), clock, count }))
    }
}

impl Events {
    pub fn push(&self, event: Event) {
        let mut kept = self.kept();
        kept.bytes += event.bytes();
        kept.events.push_back(event);
        while kept.events.len() > KEPT || kept.bytes > KEPT_BYTES {
            let Some(dropped) = kept.events.pop_front() else { break };
            kept.bytes -= dropped.bytes();
            kept.first += 1;
        }
        let count = kept.first + kept.events.len();
        drop(kept);
        self.0.count.send_replace(count);
    }

    pub fn step(&self, step: Step, text: impl Into<String>) {
        self.begin(step, text.into(), None);
    }

    /// Begins a step that ends by itself when this time is over.
    pub fn step_of_at_most(&self, step: Step, text: impl Into<String>, most: Duration) {
        self.begin(step, text.into(), Some(most.as_secs_f64()));
    }

    /// Says what the step waits for now; an empty text, that it goes on.
    pub fn waiting(&self, text: impl Into<String>) {
        self.push(Event::Waiting { text: text.into(), at_most: None });
    }

    /// Says what the step waits for now, and how long it may.
    pub fn waiting_at_most(&self, text: impl Into<String>, most: Duration) {
        self.push(Event::Waiting { text: text.into(), at_most: Some(most.as_secs_f64()) });
    }

    fn begin(&self, step: Step, text: String, at_most: Option<f64>) {
        tracing::info!(DEPLOY_STAGE = step.name(), "{}: {text}", step.name());
        self.clock().turn(step.name());
        let after = self.0.begun.elapsed().as_secs_f64();
        self.push(Event::Step { step, text, after, at_most });
        reach!("step: {}", step.name());
    }

    /// A line that a process of the release wrote or said.
    pub fn output(&self, line: String) {
        self.push(Event::Output { line });
    }

    pub fn warn(&self, text: impl Into<String>) {
        let text = text.into();
        tracing::warn!("{text}");
        self.push(Event::Warning { text });
    }

    /// Singles a part out of the step that is under way, until the guard is dropped.
    pub fn part(&self, name: &'static str) -> impl Drop + '_ {
        PartOf { events: self, step: self.clock().turn(name) }
    }

    pub fn archive(&self, archive: Archive) {
        self.clock().archive = Some(archive);
    }

    /// Where the time went so far.
    pub fn timings(&self) -> Timings {
        self.clock().read()
    }

    /// There are no more of them here: another run of the daemon goes on with the work.
    pub fn close(&self) {
        let mut kept = self.kept();
        kept.closed = true;
        let count = kept.first + kept.events.len();
        drop(kept);
        self.0.count.send_replace(count);
    }

    /// Reads the events from the first that is still kept.
    pub fn follow(&self) -> Follower {
        Follower { events: self.clone(), next: 0, count: self.0.count.subscribe() }
    }

    fn clock(&self) -> MutexGuard<'_, Clock> {
        self.0.clock.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The step goes on when the part ends.
struct PartOf<'a> {
    events: &'a Events,
    step: &'static str,
}

impl Drop for PartOf<'_> {
    fn drop(&mut self) {
        self.events.clock().turn(self.step);
    }
}

/// One reader of the events; it ends after [`Event::Ended`], or where they are closed.
pub struct Follower {
    events: Events,
    next: usize,
    count: watch::Receiver<usize>,
}

impl Follower {
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.take() {
                return Some(event);
            }
            if self.events.kept().closed {
                return None;
            }
            self.count.changed().await.ok()?;
        }
    }

    fn take(&mut self) -> Option<Event> {
        self.count.mark_unchanged();
        let kept = self.events.kept();
        self.next = self.next.max(kept.first);
        let event = kept.events.get(self.next - kept.first)?.clone();
        self.next += 1;
        Some(event)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(n: usize) -> Event {
        Event::Output { line: n.to_string() }
    }

    #[tokio::test]
    async fn a_late_follower_reads_from_the_beginning() {
        let events = Events::default();
        events.push(output(1));
        let mut follower = events.follow();
        events.push(output(2));
        assert_eq!(follower.next().await, Some(output(1)));
        assert_eq!(follower.next().await, Some(output(2)));
    }

    #[tokio::test]
    async fn old_events_are_dropped_rather_than_kept_without_bound() {
        let events = Events::default();
        for n in 0..KEPT + 10 {
            events.push(output(n));
        }
        assert_eq!(events.follow().next().await, Some(output(10)));
        assert_eq!(events.kept().events.len(), KEPT);
    }

    #[tokio::test]
    async fn long_lines_are_dropped_before_many_are() {
        let events = Events::default();
        for _ in 0..200 {
            events.push(Event::Output { line: "x".repeat(KEPT_BYTES / 100) });
        }
        assert_eq!(events.kept().events.len(), 100);
    }

    #[tokio::test]
    async fn a_follower_reads_what_there_is_until_the_events_are_closed() {
        let events = Events::default();
        let mut follower = events.follow();
        events.push(output(1));
        assert_eq!(follower.next().await, Some(output(1)));
        let waiting = tokio::spawn(async move { follower.next().await });
        events.close();
        assert_eq!(waiting.await.expect("join"), None);
    }

    #[tokio::test]
    async fn a_waiting_follower_is_woken() {
        let events = Events::default();
        let mut follower = events.follow();
        let waiting = tokio::spawn(async move { follower.next().await });
        events.push(output(7));
        assert_eq!(waiting.await.expect("join"), Some(output(7)));
    }
}
