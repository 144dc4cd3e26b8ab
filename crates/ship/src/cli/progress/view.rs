//! The board in lines of a terminal.

use super::MANY;
use super::board::{Board, Running};
use crate::fleet::Host;
use console::{StyledObject, measure_text_width, pad_str, style, truncate_str};
use model::text::{line, took};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Columns of the bar, where the line has room for it.
const BAR: usize = 20;
/// Columns that the name of an instance gets at most.
const NAME: usize = 24;
/// Columns of the agent's longest step.
const STEP: usize = 9;

/// What the terminal can show.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    pub width: usize,
    pub height: usize,
    pub colours: bool,
    pub unicode: bool,
}

impl Look {
    /// Renders the moving part. The spinner and its blank come before the first line.
    pub fn board(&self, board: &Board, now: Instant) -> Vec<String> {
        let (step, text) = (&board.step, &board.text);
        let mut lines = vec![self.timed(&format!("{step:<9} {text}"), now - board.since)];
        if board.all() == 0 {
            return lines;
        }
        lines.push(self.cut(self.counts(board), self.width));
        let running = board.running();
        // The counts, the step, what is left out, and a line for the cursor.
        let most = MANY.min(self.height.saturating_sub(4));
        let (shown, rest) = running.split_at(most.min(running.len()));
        let name = shown.iter().map(|(host, _)| measure_text_width(&host.0)).max().unwrap_or(0);
        let name = name.min(NAME).min(self.width / 3);
        for (host, running) in shown {
            let text = self.host(&self.name(host, name), Some(now - running.since), &running.text);
            lines.push(self.cut(format!("  {text}"), self.width));
        }
        if !rest.is_empty() {
            lines.push(self.cut(format!("  and {}", summary(rest)), self.width));
        }
        lines
    }

    /// Renders the line of an instance that has ended.
    pub fn ended(&self, host: &Host, is_well: bool, time: Option<Duration>, text: &str) -> String {
        let mark = match (is_well, self.unicode) {
            (true, true) => self.paint(style("✓")).green(),
            (true, false) => self.paint(style("+")).green(),
            (false, true) => self.paint(style("✗")).red(),
            (false, false) => self.paint(style("x")).red(),
        };
        let width = measure_text_width(&host.0).clamp(8, NAME.min(self.width / 3).max(8));
        let line = self.host(&self.name(host, width), time, &line(text, 600));
        let line = format!("{mark} {line}");
        // The reason of a failure is never cut.
        if is_well { self.cut(line, self.width) } else { line }
    }

    pub fn warning(&self) -> StyledObject<&'static str> {
        self.paint(style("warning:")).yellow().bold()
    }

    fn counts(&self, board: &Board) -> String {
        let counts = board.counts();
        let paint = |(word, text): (&str, String)| match word {
            "failed" => self.paint(style(text)).red().bold().to_string(),
            "done" => self.paint(style(text)).green().to_string(),
            _ => text,
        };
        let words = counts.words().into_iter().map(paint).collect::<Vec<_>>().join(", ");
        let ended = board.all() - counts.waiting - counts.running;
        let filled = ended * BAR / board.all().max(1);
        let (full, rest) = if self.unicode { ("█", "░") } else { ("#", "-") };
        let bar = format!("{}{}", full.repeat(filled), rest.repeat(BAR - filled));
        let text = format!("{ended}/{}  {words}", board.all());
        let room = self.width.saturating_sub(4);
        match measure_text_width(&text) + BAR < room {
            true => format!("  {bar} {text}"),
            false => format!("  {text}"),
        }
    }

    /// A text, cut so that the time after it has room.
    fn timed(&self, text: &str, time: Duration) -> String {
        let time = format!(", {}", took(time.as_secs_f64()));
        let room = self.width.saturating_sub(2 + time.len());
        format!("{}{time}", self.cut(text.to_owned(), room))
    }

    fn host(&self, name: &str, time: Option<Duration>, text: &str) -> String {
        let time = time.map(|time| took(time.as_secs_f64())).unwrap_or_default();
        let took = self.paint(style(format!("{time:>8}"))).dim();
        format!("{name} {took}  {text}").trim_end().to_owned()
    }

    fn name(&self, host: &Host, width: usize) -> String {
        let name = line(&host.0, 255);
        pad_str(&name, width, console::Alignment::Left, Some(self.dots())).into_owned()
    }

    fn cut(&self, text: String, width: usize) -> String {
        truncate_str(&text, width, self.dots()).into_owned()
    }

    fn dots(&self) -> &'static str {
        if self.unicode { "…" } else { "~" }
    }

    fn paint<D>(&self, object: StyledObject<D>) -> StyledObject<D> {
        object.force_styling(self.colours)
    }
}

/// Returns how many instances are left out, and their steps: `and 480 more: 300 prove, 180 stage`.
fn summary(rest: &[(&Host, &Running)]) -> String {
    let mut steps: BTreeMap<String, usize> = BTreeMap::new();
    for (_, running) in rest {
        let step: String = running.text.chars().take(STEP).collect();
        *steps.entry(step.trim().to_owned()).or_default() += 1;
    }
    steps.remove("");
    let mut steps: Vec<(String, usize)> = steps.into_iter().collect();
    steps.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let steps: Vec<String> = steps.iter().map(|(step, count)| format!("{count} {step}")).collect();
    let colon = if steps.is_empty() { "" } else { ": " };
    format!("{} more{colon}{}", rest.len(), steps.join(", "))
}
