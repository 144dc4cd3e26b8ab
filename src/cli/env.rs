//! `deploy env`: prints the variables of an app's processes.

use super::args::EnvArgs;
use super::client::Client;
use super::show;
use model::api::{EnvQuery, EnvStatus, Variable};
use model::error::{Exit, Result};
use std::fmt::Write;

pub async fn env(args: EnvArgs) -> Result<Exit> {
    let (names, query) = (args.words.len(), EnvQuery { words: args.words.join(" ") });
    let found: EnvStatus = Client::new()?.get("/v1/env", &query).await?;
    let has_values = names > 0 && found.variables.iter().any(|one| one.value.is_some());
    show(&found, args.json, |found| if has_values { values(found) } else { names_of(found) })
}

/// `NAME=VALUE` lines.
fn values(found: &EnvStatus) -> String {
    found.variables.iter().fold(String::new(), |mut text, one| {
        let _ = match &one.value {
            Some(value) => writeln!(text, "{}={value}", one.name),
            None => writeln!(text, "{} is gone since {}", one.name, before(found)),
        };
        text
    })
}

fn before(found: &EnvStatus) -> &str {
    found.before.as_deref().unwrap_or("the release before")
}

/// A line for each name, with its source.
fn names_of(found: &EnvStatus) -> String {
    let mut text = format!("{} release {}", found.app, found.release);
    if let Some(before) = &found.before {
        let _ = write!(text, ", compared with {before}");
    }
    text.push('\n');
    let width = found.variables.iter().map(|one| one.name.len()).max().unwrap_or_default();
    for one in &found.variables {
        let line = format!("  {:width$}  {:9}  {}", one.name, one.from, remark(one));
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text
}

fn remark(one: &Variable) -> &str {
    match (one.from.as_str(), one.change.as_deref()) {
        (_, Some(change)) if change != "same" => change,
        ("agent.env", _) => "a setting, no variable of the processes",
        _ => "",
    }
}
