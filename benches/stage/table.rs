//! The rows of a run, as a plain table, as Markdown, and as a line of JSON.

use crate::sample::{Sample, Spread};
use serde_json::{Value, json};

#[derive(Default)]
pub struct Rows {
    rows: Vec<Row>,
    notes: Vec<String>,
    facts: Vec<(String, Value)>,
}

struct Row {
    group: String,
    what: String,
    sync: bool,
    samples: Vec<Sample>,
}

/// The baseline of our claim: the two versions of `aws` with tar, on gzip.
pub const AWS: [&str; 2] = ["S3, gzip: aws (PyPI) | tar xz", "S3, gzip: aws (Debian) | tar xz"];
/// The peer in groups with a single one.
pub const PEER: &str = "bash script";

/// The placeholder for a missing figure.
const NOTHING: &str = "-";

const HEAD: [&str; 7] =
    ["what", "unsynced, s", "times as fast", "synced, s", "times as fast", "CPU, s", "peak, MiB"];

impl Rows {
    /// Adds a sample to a row, which the first sample creates.
    pub fn add(&mut self, group: &str, what: &str, sync: bool, sample: Sample) {
        let of = |row: &&mut Row| row.group == group && row.what == what && row.sync == sync;
        match self.rows.iter_mut().find(of) {
            Some(row) => row.samples.push(sample),
            None => self.rows.push(Row {
                group: group.to_owned(),
                what: what.to_owned(),
                sync,
                samples: vec![sample],
            }),
        }
    }

    /// Adds a note for the reader.
    pub fn note(&mut self, note: &str) {
        if !self.notes.iter().any(|there| there == note) {
            self.notes.push(note.to_owned());
        }
    }

    /// Adds a figure that was measured once.
    pub fn fact(&mut self, name: &str, value: impl Into<Value>) {
        self.facts.push((name.to_owned(), value.into()));
    }

    /// The groups in the order of their measurement.
    pub fn groups(&self) -> Vec<&str> {
        let mut groups: Vec<&str> = Vec::new();
        for row in &self.rows {
            if !groups.contains(&row.group.as_str()) {
                groups.push(&row.group);
            }
        }
        groups
    }

    fn find(&self, group: &str, what: &str, sync: bool) -> Option<&Row> {
        self.rows.iter().find(|row| row.group == group && row.what == what && row.sync == sync)
    }

    /// The median of a row's seconds; none if it always failed.
    pub fn median(&self, group: &str, what: &str, sync: bool) -> Option<f64> {
        Some(self.find(group, what, sync)?.wall()?.median)
    }

    /// The median that counts as 1.0 in the same run: of the faster `aws`, or of the script.
    fn baseline(&self, group: &str, sync: bool) -> Option<f64> {
        let peers = AWS.iter().chain([&PEER]);
        let medians = peers.filter_map(|what| self.median(group, what, sync));
        medians.min_by(f64::total_cmp)
    }

    fn ratio(&self, row: &Row) -> Option<f64> {
        Some(self.baseline(&row.group, row.sync)? / row.wall()?.median)
    }

    /// One table per group, for the terminal and for a page.
    pub fn markdown(&self) -> String {
        let mut text = String::new();
        for group in self.groups() {
            text += &self.group(group);
        }
        let facts = self.facts.iter().map(|(name, value)| [name.clone(), value.to_string()]);
        if !self.facts.is_empty() {
            text += &format!("\n### Beside these\n\n{}", aligned(["what", "value"], facts));
        }
        for note in &self.notes {
            text += &format!("\n{note}.\n");
        }
        text
    }

    /// The table of one group.
    pub fn group(&self, group: &str) -> String {
        let rows = self.rows.iter().filter(|row| row.group == group);
        let mut named: Vec<&str> = Vec::new();
        for row in rows {
            if !named.contains(&row.what.as_str()) {
                named.push(&row.what);
            }
        }
        let lines = named.into_iter().map(|what| self.line(group, what));
        format!("\n### {group}\n\n{}", aligned(HEAD, lines))
    }

    fn line(&self, group: &str, what: &str) -> [String; 7] {
        let (without, with) = (self.find(group, what, false), self.find(group, what, true));
        let dash = || NOTHING.to_owned();
        let wall = |row: Option<&Row>| row.map_or_else(dash, Row::shown);
        let ratio = |row: Option<&Row>| {
            let ratio = row.and_then(|row| self.ratio(row));
            ratio.map_or_else(dash, |ratio| format!("{ratio:.2}"))
        };
        let spread = |of: fn(&Sample) -> f64| {
            let spread = with.or(without).and_then(|row| row.spread(of));
            spread.filter(|spread| spread.most > 0.0)
        };
        // A peer has no daemon.
        let peak = spread(|sample| sample.peak).filter(|_| what.contains("deploy "));
        [
            what.to_owned(),
            wall(without),
            ratio(without),
            wall(with),
            ratio(with),
            spread(|sample| sample.cpu).map_or_else(dash, |cpu| format!("{:.2}", cpu.median)),
            peak.map_or_else(dash, |peak| format!("{:.0}", peak.most)),
        ]
    }

    /// The whole run, on one line.
    pub fn json(&self) -> Value {
        let rows = self.rows.iter().map(|row| {
            let spread = |of: fn(&Sample) -> f64| row.spread(of).map(Spread::json);
            json!({
                "group": row.group,
                "what": row.what,
                "sync": row.sync,
                "wall_s": spread(|sample| sample.wall),
                "cpu_s": spread(|sample| sample.cpu),
                "peak_mib": spread(|sample| sample.peak),
                "ratio": self.ratio(row),
                "samples": row.samples.len(),
                "failed": row.failed(),
            })
        });
        let facts: serde_json::Map<String, Value> = self.facts.iter().cloned().collect();
        json!({ "rows": rows.collect::<Vec<_>>(), "facts": facts, "notes": self.notes })
    }
}

impl Row {
    fn spread(&self, of: impl Fn(&Sample) -> f64) -> Option<Spread> {
        Spread::of(self.samples.iter().filter(|sample| !sample.failed).map(of))
    }

    fn wall(&self) -> Option<Spread> {
        self.spread(|sample| sample.wall)
    }

    fn failed(&self) -> usize {
        self.samples.iter().filter(|sample| sample.failed).count()
    }

    fn shown(&self) -> String {
        let spread = self
            .wall()
            .map(|wall| format!("{:.3} ({:.3}..{:.3})", wall.median, wall.least, wall.most));
        match (spread, self.failed()) {
            (Some(spread), 0) => spread,
            (Some(spread), failed) => format!("{spread}, {failed} failed"),
            (None, _) => "failed".to_owned(),
        }
    }
}

/// A Markdown table that is also readable as plain text, without its empty columns.
pub fn aligned<const N: usize>(
    head: [&str; N],
    lines: impl IntoIterator<Item = [String; N]>,
) -> String {
    let escaped = |cell: String| cell.replace('|', "\\|");
    let mut table: Vec<[String; N]> = lines.into_iter().map(|line| line.map(escaped)).collect();
    let shown: Vec<usize> =
        (0..N).filter(|&column| table.iter().any(|line| line[column] != NOTHING)).collect();
    table.insert(0, head.map(|cell| escaped(cell.to_owned())));
    let widths: [usize; N] = std::array::from_fn(|column| {
        table.iter().map(|line| line[column].chars().count()).max().unwrap_or_default()
    });
    table.insert(1, widths.map(|width| "-".repeat(width)));
    let mut text = String::new();
    for line in table {
        for &column in &shown {
            text += &format!("| {:<1$} ", line[column], widths[column]);
        }
        text += "|\n";
    }
    text
}
