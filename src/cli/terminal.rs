//! A job as a person watches it at a terminal: a line with its time for each step that has
//! ended, and below them one line that moves, about the step that is under way.

use console::{Emoji, StyledObject, Term, style, truncate_str};
use indicatif::{HumanBytes, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
use model::error::Exit;
use model::event::{Event, Outcome, Step};
use model::text::{for_terminal, took};
use std::fmt::{self, Write as _};
use std::io::{IsTerminal, Write as _, stderr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How often the moving line is drawn.
const TICK: Duration = Duration::from_millis(100);
/// Columns of a terminal that does not say how many it has.
const USUAL_WIDTH: u16 = 80;
/// Columns of the progress bar, where the line has room for it.
const BAR: usize = 24;

pub struct Terminal {
    line: ProgressBar,
    now: Arc<Mutex<Option<Now>>>,
}

/// The step that is under way.
#[derive(Clone)]
struct Now {
    step: Step,
    text: String,
    /// Seconds from the beginning of the job to that of the step.
    after: f64,
    since: Instant,
    at_most: Option<f64>,
    waiting: Option<Waiting>,
    stages: bool,
}

/// What the step waits for, since when, and for how many seconds at most.
#[derive(Clone)]
struct Waiting {
    text: String,
    since: Instant,
    at_most: Option<f64>,
}

impl Terminal {
    /// Whether stderr is a terminal on which a line can be drawn again.
    pub fn is_there() -> bool {
        let is_dumb = std::env::var("TERM").is_ok_and(|term| term == "dumb");
        stderr().is_terminal() && !is_dumb
    }

    pub fn new() -> Self {
        let line = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        let now: Arc<Mutex<Option<Now>>> = Arc::default();
        let shown = now.clone();
        let moving = move |state: &ProgressState, out: &mut dyn fmt::Write| {
            let now = shown.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let text = now.map(|now| now.moving(state)).unwrap_or_default();
            // The spinner and its blank come before it.
            let room = usize::from(width()).saturating_sub(3);
            let _ = out.write_str(&truncate_str(&text, room, "…"));
        };
        if let Ok(style) = ProgressStyle::with_template("{spinner} {moving}") {
            line.set_style(style.with_key("moving", moving));
        }
        line.enable_steady_tick(TICK);
        Terminal { line, now }
    }

    pub fn show(&self, event: &Event) {
        match event {
            Event::Begun { id, what, who } => {
                let asked = style(format!("for {} ({id})", for_terminal(who))).for_stderr().dim();
                self.line(&format!("{} {asked}", style(for_terminal(what)).for_stderr().bold()));
            }
            Event::Step { step, text, after, at_most } => {
                self.begin(*step, for_terminal(text), *after, *at_most);
            }
            Event::Waiting { text, at_most } => self.change(|now| {
                let (text, since, at_most) = (for_terminal(text), Instant::now(), *at_most);
                now.waiting = (!text.is_empty()).then_some(Waiting { text, since, at_most });
            }),
            Event::Progress { bytes, total, .. } => {
                self.line.set_length(total.unwrap_or(*bytes));
                self.line.set_position(*bytes);
                self.change(|now| now.stages = true);
            }
            Event::Output { line } => self.line(&format!("    | {}", for_terminal(line))),
            Event::Warning { text } => {
                let word = style("warning:").for_stderr().yellow().bold();
                self.line(&format!("{word} {}", for_terminal(text)));
            }
            Event::Ended { outcome } => self.end(outcome),
            Event::Unknown => {}
        }
    }

    /// Prints a line above the moving one.
    pub fn line(&self, text: &str) {
        self.line.suspend(|| {
            let _ = writeln!(stderr(), "{text}");
        });
    }

    fn begin(&self, step: Step, text: String, after: f64, at_most: Option<f64>) {
        let mut goes_on = false;
        self.change(|now| {
            goes_on = now.step == step;
            if goes_on {
                now.text.clone_from(&text);
            }
        });
        if goes_on {
            return;
        }
        let since = Instant::now();
        let next = Now { step, text, after, since, at_most, waiting: None, stages: false };
        if let Some(ended) = self.take(Some(next)) {
            self.ended(&ended, after, step != Step::RollBack);
        }
    }

    fn end(&self, outcome: &Outcome) {
        if let Some(ended) = self.take(None) {
            let well = match ended.step {
                Step::RollBack => outcome.exit != Exit::RollbackFailed,
                _ => outcome.exit == Exit::Done,
            };
            self.ended(&ended, outcome.seconds, well);
        }
        self.line.finish_and_clear();
    }

    fn ended(&self, step: &Now, after: f64, well: bool) {
        let (mark, name): (StyledObject<Emoji<'_, '_>>, _) = match well {
            true => (style(Emoji("✓", "+")).green(), style(step.step.name())),
            false => (style(Emoji("✗", "x")).red(), style(step.step.name()).red()),
        };
        let took = took((after - step.after).max(0.0));
        let text = match step.step {
            Step::Settle if well => format!("live after {}", model::text::took(step.after)),
            _ => step.text.clone(),
        };
        let (mark, name) = (mark.for_stderr(), name.for_stderr());
        let text = format!("{mark} {name:<9} {:>8}  {text}", style(took).for_stderr().dim());
        self.line(&truncate_str(&text, usize::from(width()), "…"));
    }

    fn change(&self, change: impl FnOnce(&mut Now)) {
        if let Some(now) = self.now.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            change(now);
        }
    }

    fn take(&self, next: Option<Now>) -> Option<Now> {
        std::mem::replace(&mut *self.now.lock().unwrap_or_else(PoisonError::into_inner), next)
    }
}

impl Now {
    /// Describes the step as it is at this moment.
    fn moving(&self, state: &ProgressState) -> String {
        let mut text = format!("{:<9} ", self.step.name());
        let elapsed = self.since.elapsed().as_secs_f64();
        let left = self.at_most.map(|most| (most - elapsed).max(0.0));
        let waiting = |Waiting { text, since, at_most }: &Waiting| {
            let waited = since.elapsed().as_secs_f64();
            match at_most {
                None => format!("{text}, {}", took(waited)),
                Some(most) => {
                    format!("at most {:.0} s more: {text}", (most - waited).max(0.0).ceil())
                }
            }
        };
        let waiting = self.waiting.as_ref().map(waiting);
        let _ = match (self.step, left) {
            (Step::Stage, _) if self.stages => write!(text, "{}", staging(state)),
            (Step::Settle, Some(left)) => {
                let more = waiting.map(|waiting| format!("; {waiting}")).unwrap_or_default();
                let live = took(self.after);
                write!(text, "live after {live}; watching {:.0} s more{more}", left.ceil())
            }
            (_, Some(left)) => {
                let waiting = waiting.unwrap_or_else(|| self.text.clone());
                write!(text, "{waiting}, at most {:.0} s more", left.ceil())
            }
            (_, None) => match waiting {
                Some(waiting) => write!(text, "{waiting}"),
                None => write!(text, "{}, {}", self.text, took(elapsed)),
            },
        };
        text
    }
}

/// The bar, the bytes, the speed and the remaining time, as many as the line has room for.
fn staging(state: &ProgressState) -> String {
    let (done, all) = (state.pos(), state.len().unwrap_or_default());
    let bytes = format!("{}/{}", HumanBytes(done), HumanBytes(all));
    let (speed, eta) = (state.per_sec(), state.eta().as_secs_f64());
    if done >= all {
        return format!("{bytes}, unpacking the rest");
    }
    let speed = format!("{}/s, {} left", HumanBytes(speed as u64), took(eta));
    let share = if all > 0 { done as f64 / all as f64 } else { 0.0 };
    let filled = (share * BAR as f64) as usize;
    let (full, rest) = ("█".repeat(filled), "░".repeat(BAR.saturating_sub(filled)));
    let room = usize::from(width()).saturating_sub(14);
    match (bytes.len() + speed.len() + 2, BAR) {
        (text, bar) if text + bar < room => format!("{full}{rest} {bytes}, {speed}"),
        (text, _) if text <= room => format!("{bytes}, {speed}"),
        _ => bytes,
    }
}

fn width() -> u16 {
    Term::stderr().size_checked().map_or(USUAL_WIDTH, |(_, columns)| columns)
}
