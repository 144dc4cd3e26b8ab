//! Progress for people on stderr, a bar where that is a terminal; the one result
//! line on stdout, since remote runners keep only the head of it.

use super::terminal::Terminal;
use console::style;
use model::error::Exit;
use model::event::{Event, Outcome};
use model::text::for_terminal;
use model::timings::{Archive, Timings};
use std::io::{Write, stderr, stdout};
use std::time::{Duration, Instant};

/// How often plain progress is printed.
const PLAIN: Duration = Duration::from_secs(5);

/// Shows the events of one job.
pub enum Progress {
    Json,
    /// Nothing but the outcome.
    Quiet,
    /// A line for each step as it begins: for logs and remote runners.
    Lines(Lines),
    Terminal(Terminal),
}

impl Progress {
    pub fn new(json: bool, quiet: bool) -> Self {
        match (json, quiet) {
            (true, _) => Progress::Json,
            (false, true) => Progress::Quiet,
            (false, false) if Terminal::is_there() => Progress::Terminal(Terminal::new()),
            (false, false) => {
                Progress::Lines(Lines { printed: Instant::now(), end: None, waiting: None })
            }
        }
    }

    pub fn show(&mut self, event: &Event) {
        match self {
            Progress::Json => match event {
                Event::Ended { .. } | Event::Waiting { .. } | Event::Unknown => {}
                event => print_json(event),
            },
            Progress::Quiet => {}
            Progress::Lines(lines) => lines.show(event),
            Progress::Terminal(terminal) => terminal.show(event),
        }
    }

    /// Says again what is waited for; a terminal shows it all the time.
    pub fn remind(&self) {
        if let Progress::Lines(Lines { waiting: Some(waiting), .. }) = self {
            line(&waiting.line());
        }
    }

    /// Prints a line that is about the command itself.
    pub fn say(&self, text: &str) {
        match self {
            Progress::Terminal(terminal) => terminal.line(text),
            _ => line(text),
        }
    }
}

/// Plain lines.
pub struct Lines {
    printed: Instant,
    /// The end of the step, if it has one.
    end: Option<Instant>,
    /// What the step waits for.
    waiting: Option<Wait>,
}

/// What a job waits for, and until when.
struct Wait {
    text: String,
    end: Option<Instant>,
}

impl Wait {
    fn line(&self) -> String {
        let left = self.end.map(|end| end.saturating_duration_since(Instant::now()));
        let left = left.map(|left| format!(", at most {:.0} s more", left.as_secs_f64().ceil()));
        format!("{:<9} {}{}", "waits", self.text, left.unwrap_or_default())
    }
}

/// The moment after so many seconds.
fn end(at_most: Option<f64>) -> Option<Instant> {
    Instant::now().checked_add(Duration::try_from_secs_f64(at_most?).ok()?)
}

impl Lines {
    fn show(&mut self, event: &Event) {
        match event {
            Event::Begun { id, what, who } => {
                line(&format!(
                    "{:<9} {} for {} ({id})",
                    "begin",
                    for_terminal(what),
                    for_terminal(who)
                ));
            }
            Event::Step { step, text, at_most, .. } => {
                (self.end, self.waiting) = (end(*at_most), None);
                line(&format!("{:<9} {}", step.name(), for_terminal(text)))
            }
            Event::Output { line: text } => line(&format!("  | {}", for_terminal(text))),
            Event::Warning { text } => line(&format!("warning: {}", for_terminal(text))),
            Event::Progress { bytes, total, files } => self.progress(*bytes, *total, *files),
            Event::Waiting { text, at_most } => {
                let (text, end) = (for_terminal(text), end(*at_most).or(self.end));
                self.waiting = (!text.is_empty()).then_some(Wait { text, end });
            }
            Event::Ended { .. } | Event::Unknown => {}
        }
    }

    fn progress(&mut self, bytes: u64, total: Option<u64>, files: u64) {
        if self.printed.elapsed() >= PLAIN {
            self.printed = Instant::now();
            let percent = total.filter(|total| *total > 0).map(|total| bytes * 100 / total);
            let percent = percent.map(|percent| format!("{percent} %, ")).unwrap_or_default();
            line(&format!("  {percent}{bytes} bytes, {files} files"));
        }
    }
}

fn line(text: &str) {
    let _ = writeln!(stderr(), "{text}");
}

/// Prints the id of work that goes on alone.
pub fn begun(event: &Event, json: bool) {
    match event {
        _ if json => print_json(event),
        Event::Begun { id, what, .. } => {
            let _ = writeln!(stdout(), "{id}");
            let _ = writeln!(
                stderr(),
                "{} has begun: `deploy attach {id}` follows it",
                for_terminal(what)
            );
        }
        _ => {}
    }
}

/// Prints how it ended: one line on stdout, the rest of a failure on stderr.
pub fn outcome(outcome: &Outcome, command: &str, json: bool) {
    if json {
        return print_json(&Event::Ended { outcome: outcome.clone() });
    }
    if outcome.exit == Exit::Done {
        let _ = writeln!(stdout(), "{}", style(for_terminal(&outcome.message)).green());
        return;
    }
    for line in &outcome.log {
        let _ = writeln!(stderr(), "  | {}", for_terminal(line));
    }
    let text = for_terminal(&outcome.message);
    let failed = style(format!("{command} failed (exit {})", outcome.exit.code())).red().bold();
    let _ = writeln!(stdout(), "{failed}: {text}");
    if let Some(help) = &outcome.help {
        let _ = writeln!(stderr(), "{} {}", style("help:").for_stderr().cyan(), for_terminal(help));
    }
}

/// The parts in which the agent waits, and for what.
const WAITS: [(&str, &str); 4] = [
    ("lock", "for another job of the app"),
    ("prove", "until the release is healthy, and DEPLOY_PROVE"),
    ("settle", "DEPLOY_SETTLE; clients have the new release already"),
    ("drain", "for open connections, at most DEPLOY_DRAIN_TIMEOUT"),
];

/// Prints where the time went, on stderr beside the steps.
pub fn timings(timings: &Timings) {
    let mut lines = Vec::new();
    for part in &timings.parts {
        let kind = WAITS.iter().find(|(name, _)| *name == part.part);
        let kind = kind.map(|(_, why)| format!("  a wait: {why}")).unwrap_or_default();
        lines.push(format!("{:<9} {:>9.1} ms{kind}", part.part, part.seconds * 1e3));
        if let Some(archive) = timings.archive.as_ref().filter(|_| part.part == "stage") {
            lines.extend(staged(archive));
        }
    }
    let sum: f64 = timings.parts.iter().map(|part| part.seconds).sum();
    lines.push(format!("{:<9} {:>9.1} ms", "in all", sum * 1e3));
    for line in lines {
        let _ = writeln!(stderr(), "{line}");
    }
}

/// The three stages that work at the same time.
fn staged(archive: &Archive) -> Vec<String> {
    let rate = |bytes: u64, seconds: f64| match seconds > 0.0 {
        true => format!("{:.0} MB/s", bytes as f64 / 1e6 / seconds),
        false => "-".to_owned(),
    };
    let stage = |name: &str, seconds: f64, bytes: u64| {
        let limit = if archive.limit() == name { ", the limit" } else { "" };
        let (ms, rate) = (seconds * 1e3, rate(bytes, seconds));
        format!("  {name:<7} {ms:>9.1} ms at work, {rate}{limit}")
    };
    let Archive { bytes, unpacked_bytes, files, .. } = *archive;
    vec![
        stage("fetch", archive.fetch, bytes),
        stage("inflate", archive.inflate, unpacked_bytes),
        stage("unpack", archive.unpack, unpacked_bytes),
        format!("  {bytes} bytes became {files} files of {unpacked_bytes} bytes"),
    ]
}

fn print_json(event: &Event) {
    if let Ok(line) = serde_json::to_string(event) {
        let _ = writeln!(stdout(), "{line}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::event::Step;

    fn step(at_most: Option<f64>) -> Event {
        Event::Step { step: Step::Prove, text: "r1".to_owned(), after: 0.0, at_most }
    }

    fn waiting(text: &str, at_most: Option<f64>) -> Event {
        Event::Waiting { text: text.to_owned(), at_most }
    }

    /// The line that is printed every ten seconds after these events.
    fn reminder(events: &[Event]) -> Option<String> {
        let mut lines = Lines { printed: Instant::now(), end: None, waiting: None };
        events.iter().for_each(|event| lines.show(event));
        lines.waiting.map(|waiting| waiting.line())
    }

    #[test]
    fn a_reminder_says_what_is_waited_for_and_how_long_it_may_take() {
        let said = |events: &[Event]| reminder(events).expect("a reminder");
        let wait = |at_most| waiting("no\x1b route", at_most);
        assert_eq!(said(&[step(None), wait(None)]), "waits     no\u{fffd} route");
        let most = "waits     no\u{fffd} route, at most 60 s more";
        assert_eq!(said(&[step(Some(60.0)), wait(None)]), most);
        assert_eq!(said(&[step(None), wait(Some(60.0))]), most);
        assert_eq!(said(&[step(Some(900.0)), wait(Some(60.0))]), most);
    }

    #[test]
    fn nothing_is_said_of_a_wait_that_is_over() {
        assert_eq!(reminder(&[step(None), waiting("a", None), waiting("", None)]), None);
        assert_eq!(reminder(&[step(None), waiting("a", None), step(None)]), None);
    }
}
