//! Progress without a terminal: a line for each event, and counts where the group has many
//! instances.

use super::board::Board;
use super::{LOGS, word};
use crate::rollout::{Event, Happened};
use model::text::{for_terminal, line};
use std::io::Write;
use std::time::{Duration, Instant};

/// How often the counts are printed.
const PAUSE: Duration = Duration::from_secs(10);

pub struct Lines<W> {
    out: W,
    board: Board,
    /// When the counts were printed.
    counted: Instant,
    logs: usize,
    has_ended: bool,
}

impl<W: Write> Lines<W> {
    pub fn new(out: W, now: Instant) -> Lines<W> {
        Lines { out, board: Board::new(now), counted: now, logs: 0, has_ended: false }
    }

    pub fn show(&mut self, event: &Event, now: Instant) {
        self.board.take(event, now);
        match event {
            Event::Begun { id, to, from, instances } => {
                let from = from.as_ref().map(|from| format!(" from {from}")).unwrap_or_default();
                self.print("rollout", &format!("{id} to {to}{from}, {instances} in the group"));
            }
            Event::Step { phase, text } => self.print(&word(phase), text),
            Event::Host { happened: Happened::Running, text, .. } if text.is_empty() => {}
            Event::Host { happened: Happened::Running | Happened::Done, .. }
                if self.board.has_many() => {}
            Event::Host { host, happened, text, help, log } => {
                self.print(&word(happened), &format!("{host}: {}", line(text, 600)));
                self.logs += usize::from(!log.is_empty());
                if self.logs <= LOGS {
                    for text in log {
                        self.print("", &format!("{host} | {}", line(text, 500)));
                    }
                    if let Some(help) = help {
                        self.print("help", &format!("{host}: {}", line(help, 300)));
                    }
                }
            }
            Event::Warning { text } => {
                let _ = writeln!(self.out, "warning: {}", for_terminal(text));
            }
            Event::Ended { .. } => {}
        }
        let is_last = matches!(event, Event::Ended { .. });
        self.count(is_last, now);
        self.has_ended = is_last;
    }

    /// Prints the counts of a large group, if it is time.
    pub fn count(&mut self, at_once: bool, now: Instant) {
        let is_wanted = self.board.has_many() && !self.has_ended;
        if is_wanted && (at_once || now - self.counted >= PAUSE) {
            self.counted = now;
            let words = self.board.counts().words().into_iter().map(|(_, text)| text);
            let words = words.collect::<Vec<_>>().join(", ");
            self.print("progress", &words);
        }
    }

    fn print(&mut self, name: &str, text: &str) {
        let _ = writeln!(self.out, "{name:<9} {}", for_terminal(text));
    }
}
