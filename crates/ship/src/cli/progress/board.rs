//! What is known of a rollout from its events.

use super::{MANY, word};
use crate::fleet::Host;
use crate::rollout::{Event, Happened, Phase};
use model::text::line;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// How far each instance is.
pub struct Board {
    pub step: String,
    pub text: String,
    /// When the step began.
    pub since: Instant,
    phase: Option<Phase>,
    instances: usize,
    hosts: BTreeMap<Host, Place>,
}

enum Place {
    Running(Running),
    Done,
    Failed,
    Gone,
}

/// An instance at work.
#[derive(Clone)]
pub struct Running {
    /// The agent's step and its text, where the transport knows them.
    pub text: String,
    pub since: Instant,
}

/// How many instances are how far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub waiting: usize,
    pub running: usize,
    pub done: usize,
    pub failed: usize,
    pub gone: usize,
}

impl Board {
    pub fn new(now: Instant) -> Board {
        Board {
            step: "look".to_owned(),
            text: "at the store and the instances".to_owned(),
            since: now,
            phase: None,
            instances: 0,
            hosts: BTreeMap::new(),
        }
    }

    /// Takes an event in. Returns how long an instance took that has ended, if it
    /// was seen at work.
    pub fn take(&mut self, event: &Event, now: Instant) -> Option<Duration> {
        match event {
            Event::Begun { instances, .. } => self.instances = *instances,
            Event::Step { phase, text } => {
                if *phase == Phase::Back && self.phase != Some(Phase::Back) {
                    // The counts are those of the way back from here on.
                    self.hosts.retain(|_, place| matches!(place, Place::Running(_)));
                    self.instances = 0;
                }
                self.phase = Some(*phase);
                (self.step, self.text, self.since) = (word(phase), line(text, 300), now);
            }
            Event::Host { host, happened, text, .. } => {
                let before = self.hosts.remove(host);
                let since = match before {
                    Some(Place::Running(Running { since, .. })) => Some(since),
                    _ => None,
                };
                let took = since.map(|since| now - since);
                let (place, took) = match happened {
                    Happened::Running => {
                        let text = line(text, 300);
                        (Place::Running(Running { text, since: since.unwrap_or(now) }), None)
                    }
                    Happened::Done => (Place::Done, took),
                    Happened::Failed | Happened::Lost => (Place::Failed, took),
                    Happened::Gone => (Place::Gone, None),
                };
                self.hosts.insert(host.clone(), place);
                return took;
            }
            Event::Warning { .. } | Event::Ended { .. } => {}
        }
        None
    }

    /// Whether the group is counted, and no longer shown instance by instance.
    pub fn has_many(&self) -> bool {
        self.all() > MANY
    }

    pub fn all(&self) -> usize {
        self.instances.max(self.hosts.len())
    }

    pub fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for place in self.hosts.values() {
            match place {
                Place::Running(_) => counts.running += 1,
                Place::Done => counts.done += 1,
                Place::Failed => counts.failed += 1,
                Place::Gone => counts.gone += 1,
            }
        }
        counts.waiting = self.all() - self.hosts.len();
        counts
    }

    /// Returns the instances at work, those first that have been for the longest time.
    pub fn running(&self) -> Vec<(&Host, &Running)> {
        let mut running: Vec<_> = self
            .hosts
            .iter()
            .filter_map(|(host, place)| match place {
                Place::Running(running) => Some((host, running)),
                _ => None,
            })
            .collect();
        running.sort_by_key(|(_, running)| running.since);
        running
    }
}

impl Counts {
    /// Returns the counts in words: `5 waiting, 3 running, 12 done, 1 failed`.
    pub fn words(&self) -> Vec<(&'static str, String)> {
        let all = [
            ("waiting", self.waiting),
            ("running", self.running),
            ("done", self.done),
            ("failed", self.failed),
            ("gone", self.gone),
        ];
        let shown = all.into_iter().filter(|(word, count)| *count > 0 || *word == "done");
        shown.map(|(word, count)| (word, format!("{count} {word}"))).collect()
    }
}
