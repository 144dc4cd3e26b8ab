//! Rollouts and groups as people and programs see them.

use crate::cli::columns::table;
use crate::cli::print;
use crate::fleet::{Host, Instance, Seen, Standing, names};
use crate::releases::age;
use crate::report::Report;
use crate::rollout::{Action, Event, Happened, Rollout, SKIPPED};
use jiff::Timestamp;
use model::error::{Error, Exit, Result};
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Characters of an outcome in the history.
const OUTCOME: usize = 300;

/// Returns the printer of events: lines on stderr, or JSON on stdout.
pub fn events(report: Report, as_json: bool) -> Arc<dyn Fn(&Event) + Send + Sync> {
    Arc::new(move |event| {
        if as_json {
            // A reader that is gone is no reason to leave a group in the middle.
            let _ = print::json(event);
        } else {
            line(report, event);
        }
    })
}

fn line(report: Report, event: &Event) {
    match event {
        Event::Begun { id, to, from, instances } => {
            let from = from.as_ref().map(|from| format!(" from {from}")).unwrap_or_default();
            report.step("rollout", format!("{id} to {to}{from}, {instances} in the group"));
        }
        Event::Step { phase, text } => report.step(&name(phase), text),
        Event::Host { happened: Happened::Running, text, .. } if text.is_empty() => {}
        Event::Host { host, happened, text, help, log } => {
            let text = model::text::line(text, 600);
            report.step(&name(happened), format!("{host}: {text}"));
            for line in log {
                report.step("", format!("{host} | {}", model::text::line(line, 500)));
            }
            if let Some(help) = help {
                report.step("help", format!("{host}: {}", model::text::line(help, 300)));
            }
        }
        Event::Warning { text } => report.warn(text),
        Event::Ended { .. } => {}
    }
}

/// Returns the word that JSON has for a value.
fn name(value: &impl Serialize) -> String {
    let name = serde_json::to_value(value).ok();
    name.and_then(|name| name.as_str().map(str::to_owned)).unwrap_or_default()
}

/// Prints how a rollout ended: one line on stdout, or its error.
pub fn ended(rollout: &Rollout, as_json: bool) -> Result<u8> {
    let Some(verdict) = &rollout.verdict else { return Err(Error::failed("end the rollout")) };
    if matches!(verdict.code, 0 | SKIPPED) {
        if as_json {
            return Ok(verdict.code);
        }
        print::text(&format!("{}\n", verdict.message))?;
        if let Some(help) = &verdict.help {
            Report::default().step("help:", help);
        }
        return Ok(verdict.code);
    }
    let exit = Exit::ALL.into_iter().find(|exit| exit.code() == verdict.code);
    let error = Error::new(exit.unwrap_or(Exit::Failed), verdict.message.clone());
    Err(match &verdict.help {
        Some(help) => error.help(help.clone()),
        None => error,
    })
}

pub fn batches(to: &str, batches: &[Vec<Host>]) -> String {
    let rows = batches.iter().enumerate();
    let rows = rows.map(|(n, batch)| format!("batch {}: {to} on {}\n", n + 1, names(batch)));
    rows.collect::<String>() + "nothing is changed\n"
}

pub fn history(rollouts: &[Rollout], now: Timestamp, width: Option<usize>) -> String {
    let mut rows = vec![["ID", "AGE", "BY", "TO", "FROM", "OUTCOME"].map(str::to_owned).to_vec()];
    for one in rollouts {
        let outcome = match &one.verdict {
            Some(verdict) if verdict.code == 0 => verdict.message.clone(),
            Some(verdict) => format!("exit {}: {}", verdict.code, verdict.message),
            None => format!("under way: {}", name(&one.phase)),
        };
        let back = if one.action == Action::Rollback { " (rollback)" } else { "" };
        rows.push(vec![
            model::text::line(&one.id, 20),
            age(one.begun, now),
            console::truncate_str(&model::text::line(&one.by, 80), 20, "…").into_owned(),
            format!("{}{back}", model::text::line(&one.to, 63)),
            model::text::line(one.from.as_deref().unwrap_or("-"), 63),
            model::text::line(&outcome, OUTCOME),
        ]);
    }
    table(&rows, width)
}

/// An instance in `ship ps`.
#[derive(Debug, Serialize)]
pub struct Row {
    host: Host,
    zone: Option<String>,
    standing: Standing,
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
}

pub fn rows(
    instances: Vec<Instance>,
    mut seen: BTreeMap<Host, Result<Seen, String>>,
    current: Option<&str>,
) -> Vec<Row> {
    let row = |Instance { host, zone, standing }| {
        let (seen, unreachable) = match seen.remove(&host) {
            Some(Ok(seen)) => (Some(seen), None),
            Some(Err(why)) => (None, Some(why)),
            None => (None, None),
        };
        let drift = seen.as_ref().is_some_and(|seen| seen.release.as_deref() != current);
        Row { host, zone, standing, seen, drift, unreachable }
    };
    instances.into_iter().map(row).collect()
}

pub fn ps(rows: &[Row], now: Timestamp, width: Option<usize>) -> String {
    let header = ["INSTANCE", "ZONE", "GROUP", "RELEASE", "SINCE", "STATE"].map(str::to_owned);
    let mut lines = vec![header.to_vec()];
    for row in rows {
        let seen = row.seen.as_ref();
        let release = seen.and_then(|seen| seen.release.clone());
        let drift = if row.drift { " (drift)" } else { "" };
        let state = match (seen, &row.unreachable) {
            (None, Some(why)) => format!("unreachable: {}", model::text::line(why, 200)),
            (None, None) => "-".to_owned(),
            (Some(seen), _) if seen.working => "deploying".to_owned(),
            (Some(seen), _) if seen.release.is_none() => "not deployed".to_owned(),
            (Some(seen), _) if seen.healthy => "healthy".to_owned(),
            (Some(seen), _) => match &seen.fault {
                Some(fault) => format!("not healthy: {fault}"),
                None => "not healthy".to_owned(),
            },
        };
        lines.push(vec![
            row.host.0.clone(),
            row.zone.clone().unwrap_or("-".to_owned()),
            name(&row.standing).replace('_', " "),
            format!("{}{drift}", release.unwrap_or("-".to_owned())),
            seen.and_then(|seen| seen.since).map_or("-".to_owned(), |since| age(since, now)),
            state,
        ]);
    }
    table(&lines, width)
}
