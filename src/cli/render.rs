//! Progress for people on stderr, a bar where that is a terminal; the one result
//! line on stdout, since remote runners keep only the head of it.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use model::error::Exit;
use model::event::{Event, Outcome};
use model::timings::{Archive, Timings};
use std::io::{IsTerminal, Write, stderr, stdout};
use std::time::{Duration, Instant};

/// How often plain progress is printed.
const PLAIN: Duration = Duration::from_secs(5);

/// Shows the events of one job.
pub struct Progress {
    json: bool,
    bar: ProgressBar,
    printed: Instant,
}

impl Progress {
    pub fn new(json: bool) -> Self {
        let target = match !json && stderr().is_terminal() {
            true => ProgressDrawTarget::stderr(),
            false => ProgressDrawTarget::hidden(),
        };
        let bar = ProgressBar::with_draw_target(Some(0), target);
        let template = "  {bar:30} {bytes}/{total_bytes} {bytes_per_sec} {msg}";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        Progress { json, bar, printed: Instant::now() }
    }

    pub fn show(&mut self, event: &Event) {
        if self.json {
            if !matches!(event, Event::Ended { .. }) {
                print_json(event);
            }
            return;
        }
        match event {
            Event::Begun { id, what, who } => {
                self.line(&format!("{:<9} {} for {} ({id})", "begin", plain(what), plain(who)));
            }
            Event::Step { step, text } => self.line(&format!("{:<9} {}", step.name(), plain(text))),
            Event::Output { line } => self.line(&format!("  | {}", plain(line))),
            Event::Warning { text } => self.line(&format!("warning: {}", plain(text))),
            Event::Progress { bytes, total, files } => self.progress(*bytes, *total, *files),
            Event::Ended { .. } => self.bar.finish_and_clear(),
        }
    }

    fn progress(&mut self, bytes: u64, total: Option<u64>, files: u64) {
        self.bar.set_length(total.unwrap_or(bytes));
        self.bar.set_position(bytes);
        self.bar.set_message(format!("{files} files"));
        if self.bar.is_hidden() && self.printed.elapsed() >= PLAIN {
            self.printed = Instant::now();
            let percent = total.filter(|total| *total > 0).map(|total| bytes * 100 / total);
            let percent = percent.map(|percent| format!("{percent} %, ")).unwrap_or_default();
            self.line(&format!("  {percent}{bytes} bytes, {files} files"));
        }
    }

    fn line(&self, text: &str) {
        self.bar.suspend(|| {
            let _ = writeln!(stderr(), "{text}");
        });
    }
}

/// Prints the id of work that goes on alone.
pub fn begun(event: &Event, json: bool) {
    match event {
        _ if json => print_json(event),
        Event::Begun { id, what, .. } => {
            let _ = writeln!(stdout(), "{id}");
            let _ =
                writeln!(stderr(), "{} has begun: `deploy attach {id}` follows it", plain(what));
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
        let _ = writeln!(stdout(), "{}", plain(&outcome.message));
        return;
    }
    for line in &outcome.log {
        let _ = writeln!(stderr(), "  | {}", plain(line));
    }
    if let Some(help) = &outcome.help {
        let _ = writeln!(stderr(), "help: {}", plain(help));
    }
    let text = plain(&outcome.message);
    let _ = writeln!(stdout(), "{command} failed (exit {}): {text}", outcome.exit.code());
}

/// Prints where the time went, on stderr beside the steps.
pub fn timings(timings: &Timings) {
    let mut lines = Vec::new();
    for part in &timings.parts {
        lines.push(format!("{:<9} {:>9.1} ms", part.part, part.seconds * 1e3));
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

/// What a release or a server wrote must not steer the operator's terminal.
pub fn plain(text: &str) -> String {
    let shown = |c: char| if c.is_control() && !"\t\n".contains(c) { '\u{fffd}' } else { c };
    text.chars().map(shown).collect()
}
