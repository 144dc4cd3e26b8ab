//! Instances as people and programs see them.

use crate::cli::progress::word;
use crate::fleet::{Host, Instance, Seen, Standing, Target};
use crate::releases::age;
use crate::table;
use console::{style, truncate_str};
use jiff::Timestamp;
use model::text::line;
use serde::Serialize;
use std::collections::BTreeMap;

/// An instance.
#[derive(Debug, Serialize)]
pub struct Row {
    host: Host,
    zone: Option<String>,
    standing: Standing,
    /// Its state in the load balancer; none if it is in none.
    target: Option<Target>,
    #[serde(flatten)]
    seen: Option<Seen>,
    /// Whether it runs another release than the pointer names.
    drift: bool,
    /// Why it cannot be reached.
    unreachable: Option<String>,
}

impl Row {
    /// Whether it serves the current release, or need not.
    pub fn is_well(&self) -> bool {
        let healthy = self.seen.as_ref().is_some_and(|seen| seen.healthy);
        self.standing != Standing::InService || (healthy && !self.drift)
    }

    fn state(&self) -> String {
        match (&self.seen, &self.unreachable) {
            (None, Some(why)) => format!("unreachable: {}", line(why, 200)),
            (None, None) => "-".to_owned(),
            (Some(seen), _) if seen.working => "deploying".to_owned(),
            (Some(seen), _) if seen.release.is_none() => "not deployed".to_owned(),
            (Some(seen), _) if seen.healthy => "healthy".to_owned(),
            (Some(seen), _) => match &seen.fault {
                Some(fault) => format!("not healthy: {}", line(fault, 300)),
                None => "not healthy".to_owned(),
            },
        }
    }

    fn cells(&self, now: Timestamp) -> Vec<String> {
        let nothing = || "-".to_owned();
        let seen = self.seen.as_ref();
        let release = seen.and_then(|seen| seen.release.clone()).unwrap_or_else(nothing);
        let release = line(&release, 63);
        let is_in_service = self.standing == Standing::InService;
        let mark = if self.is_well() { "" } else { "!" };
        let state = self.state();
        vec![
            style(mark).red().bold().to_string(),
            line(&self.host.0, 255),
            self.zone.as_ref().map_or_else(nothing, |zone| line(zone, 63)),
            // A list of hosts knows no other state.
            match (&self.zone, is_in_service) {
                (None, true) => nothing(),
                _ => word(&self.standing).replace('_', " "),
            },
            self.target.as_ref().map_or_else(nothing, Target::text),
            match self.drift {
                true => style(format!("{release} (drift)")).yellow().to_string(),
                false => release,
            },
            seen.and_then(|seen| seen.since).map_or_else(nothing, |since| age(since, now)),
            seen.and_then(|seen| seen.agent.clone()).map_or_else(nothing, |agent| line(&agent, 20)),
            match (self.is_well(), seen) {
                (true, Some(seen)) if seen.healthy => style(state).green().to_string(),
                (false, seen) if !seen.is_some_and(|seen| seen.healthy) => {
                    style(state).red().to_string()
                }
                _ => state,
            },
        ]
    }
}

pub fn rows(
    instances: Vec<Instance>,
    mut seen: BTreeMap<Host, Result<Seen, String>>,
    mut targets: BTreeMap<Host, Target>,
    current: Option<&str>,
) -> Vec<Row> {
    let row = |Instance { host, zone, standing }| {
        let (seen, unreachable) = match seen.remove(&host) {
            Some(Ok(seen)) => (Some(seen), None),
            Some(Err(why)) => (None, Some(why)),
            None => (None, None),
        };
        let drift = seen.as_ref().is_some_and(|seen| seen.release.as_deref() != current);
        Row { target: targets.remove(&host), host, zone, standing, seen, drift, unreachable }
    };
    instances.into_iter().map(row).collect()
}

/// Renders rows for people, without the columns that say nothing.
pub fn table(rows: &[Row], now: Timestamp, width: Option<usize>) -> String {
    let header = ["", "INSTANCE", "ZONE", "GROUP", "TARGET", "RELEASE", "SINCE", "AGENT", "STATE"];
    let mut lines = vec![header.map(str::to_owned).to_vec()];
    lines.extend(rows.iter().map(|row| row.cells(now)));
    table::table(&table::without_empty(&lines), width)
}

/// What `--watch` draws over and over.
pub struct Screen {
    /// Lines of the last frame.
    lines: usize,
}

impl Screen {
    pub fn new() -> Screen {
        Screen { lines: 0 }
    }

    /// Returns the bytes that replace the last frame by the next. Without a terminal, frames
    /// follow each other.
    pub fn draw(
        &mut self,
        head: &str,
        table: &str,
        height: Option<usize>,
        width: Option<usize>,
    ) -> String {
        let (Some(height), Some(width)) = (height, width) else {
            return format!("{head}\n{table}\n");
        };
        // The head, the number of those left out, and the line of the cursor.
        let most = height.saturating_sub(3).max(1);
        let all = table.lines().count();
        let mut lines = vec![truncate_str(head, width, "…").into_owned()];
        lines.extend(table.lines().take(most).map(|row| truncate_str(row, width, "…").into()));
        if all > most {
            lines.push(format!("and {} more", all - most));
        }
        let up = match self.lines {
            0 => String::new(),
            lines => format!("\x1b[{lines}A\r"),
        };
        self.lines = lines.len();
        let drawn: Vec<String> = lines.iter().map(|row| format!("{row}\x1b[K\n")).collect();
        format!("{up}{}\x1b[J", drawn.concat())
    }
}

#[cfg(test)]
mod tests;
