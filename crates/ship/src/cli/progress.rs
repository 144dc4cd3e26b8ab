//! The progress of a rollout: a board that is drawn again at a terminal, plain lines in a log, or
//! JSON for a program.

mod board;
mod lines;
mod terminal;
#[cfg(test)]
mod tests;
mod view;

use crate::rollout::Event;
use lines::Lines;
use serde::Serialize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use terminal::Terminal;

/// Groups of more instances than this are counted, and no longer shown one by one.
pub const MANY: usize = 20;
/// Failed instances whose logs are shown.
const LOGS: usize = 5;

/// How often it is looked whether the counts of a log are due.
const TICK: Duration = Duration::from_secs(1);

/// Where events go.
pub type Events = Arc<dyn Fn(&Event) + Send + Sync>;

/// Returns the printer of events: on stderr for people, as lines on stdout for a program.
pub fn events(as_json: bool) -> Events {
    if as_json {
        // A reader that is gone is no reason to leave a group in the middle.
        return Arc::new(|event| drop(super::print::json(event)));
    }
    if Terminal::is_there() {
        let terminal = Terminal::new();
        return Arc::new(move |event| terminal.show(event));
    }
    let lines = Arc::new(Mutex::new(Lines::new(std::io::stderr(), Instant::now())));
    let counted = Arc::downgrade(&lines);
    // Where nothing happens for long, the log goes on: it ends with the lines.
    std::thread::spawn(move || {
        while let Some(lines) = counted.upgrade() {
            locked(&lines).count(false, Instant::now());
            drop(lines);
            std::thread::sleep(TICK);
        }
    });
    Arc::new(move |event| locked(&lines).show(event, Instant::now()))
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns the printer of commands that have no progress.
pub fn none() -> Events {
    Arc::new(|_| {})
}

/// Returns the word that JSON has for a value.
pub fn word(value: &impl Serialize) -> String {
    let word = serde_json::to_value(value).ok();
    word.and_then(|word| word.as_str().map(str::to_owned)).unwrap_or_default()
}
