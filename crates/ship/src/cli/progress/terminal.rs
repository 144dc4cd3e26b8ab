//! Progress at a terminal: lines about what has ended, and below them a board that is drawn
//! again ten times a second.

use super::board::Board;
use super::view::Look;
use super::{LOGS, locked};
use crate::fleet::Host;
use crate::rollout::{Event, Happened};
use console::{Term, style};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
use model::text::{for_terminal, line};
use std::fmt::Write;
use std::io::IsTerminal;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// How often the board is drawn.
const TICK: Duration = Duration::from_millis(100);
/// The size of a terminal that does not say which it has.
const USUAL: (u16, u16) = (24, 80);

type Looks = Arc<dyn Fn() -> Look + Send + Sync>;

pub struct Terminal {
    bar: ProgressBar,
    board: Arc<Mutex<Board>>,
    look: Looks,
    failures: Mutex<Failures>,
}

/// The logs of failed instances, which are printed at the end.
#[derive(Default)]
struct Failures {
    shown: Vec<(Host, Vec<String>, Option<String>)>,
    others: usize,
}

impl Terminal {
    /// Whether stderr is a terminal on which a line can be drawn again.
    pub fn is_there() -> bool {
        let is_dumb = std::env::var("TERM").is_ok_and(|term| term == "dumb");
        std::io::stderr().is_terminal() && !is_dumb
    }

    pub fn new() -> Terminal {
        let (term, colours) = (Term::stderr(), console::colors_enabled_stderr());
        let look = move || {
            let (height, width) = term.size_checked().unwrap_or(USUAL);
            let unicode = term.features().wants_emoji();
            Look { width: width.into(), height: height.into(), colours, unicode }
        };
        let terminal = Terminal::on(ProgressDrawTarget::stderr(), Arc::new(look));
        terminal.bar.enable_steady_tick(TICK);
        terminal
    }

    pub fn on(target: ProgressDrawTarget, look: Looks) -> Terminal {
        let bar = ProgressBar::with_draw_target(None, target);
        let board = Arc::new(Mutex::new(Board::new(Instant::now())));
        let (shown, looks) = (Arc::clone(&board), Arc::clone(&look));
        let moving = move |_: &ProgressState, out: &mut dyn Write| {
            let lines = looks().board(&locked(&shown), Instant::now());
            let _ = out.write_str(&lines.join("\n"));
        };
        if let Ok(style) = ProgressStyle::with_template("{spinner} {moving}") {
            bar.set_style(style.with_key("moving", moving));
        }
        Terminal { bar, board, look, failures: Mutex::default() }
    }

    pub fn show(&self, event: &Event) {
        let took = locked(&self.board).take(event, Instant::now());
        let is_counted = locked(&self.board).has_many();
        let look = (self.look)();
        match event {
            Event::Begun { id, to, from, instances } => {
                let from = from.as_ref().map(|from| format!(" from {from}")).unwrap_or_default();
                let text = format!("rollout {id} to {to}{from}, {instances} in the group");
                self.line(&style(for_terminal(&text)).force_styling(look.colours).bold());
            }
            Event::Host { happened: Happened::Running, .. } => {}
            Event::Host { happened: Happened::Done, .. } if is_counted => {}
            Event::Host { host, happened, text, help, log } => {
                let is_well = *happened == Happened::Done;
                self.line(&look.ended(host, is_well, took, text));
                if *happened == Happened::Failed {
                    locked(&self.failures).note(host, log, help.as_deref());
                }
            }
            Event::Warning { text } => {
                self.line(&format!("{} {}", look.warning(), for_terminal(text)));
            }
            Event::Step { .. } => {}
            Event::Ended { .. } => {
                locked(&self.failures).lines().iter().for_each(|text| self.line(text));
                self.bar.finish_and_clear();
            }
        }
    }

    /// Prints a line above the board.
    fn line(&self, text: &impl std::fmt::Display) {
        self.bar.println(text.to_string());
    }

    /// Draws the board at once.
    #[cfg(test)]
    pub fn draw(&self) {
        self.bar.tick();
    }
}

impl Failures {
    fn note(&mut self, host: &Host, log: &[String], help: Option<&str>) {
        if log.is_empty() && help.is_none() {
            return;
        }
        if self.shown.len() < LOGS {
            self.shown.push((host.clone(), log.to_vec(), help.map(str::to_owned)));
        } else {
            self.others += 1;
        }
    }

    fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for (host, log, help) in &self.shown {
            lines.extend(log.iter().map(|text| format!("  {host} | {}", line(text, 500))));
            lines.extend(help.iter().map(|help| format!("  help: {host}: {}", line(help, 300))));
        }
        if self.others > 0 {
            lines.push(format!("  the logs of {} more are not shown", self.others));
        }
        lines
    }
}
