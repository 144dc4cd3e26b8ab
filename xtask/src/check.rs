//! Checks that the docs of settings and exit codes match the code: each setting with its
//! built-in value and each exit code is in the README, the manual, agent.env, `deploy --help`
//! and docs/operations.md. The oldest systemd is the same in all of them, and the tests that
//! pages name exist.

mod named_tests;

use crate::manifest::Package;
use crate::{Result, cli};
use model::doctor::OLDEST_SYSTEMD;
use model::error::Exit;
use model::release::settings::{Setting, catalog};
use std::fs;

/// Runs all checks; the error has a line for each difference.
pub fn all() -> Result<()> {
    let read = |path: &str| fs::read_to_string(path).map_err(|e| format!("{path}: {e}"));
    let readme = read("README.md")?;
    let manual = read("packaging/man/deploy-agent.env.5")?.replace("\\-", "-");
    let mut wrong = Vec::new();
    for setting in catalog() {
        wrong.extend(in_agent_env(&setting, &read("packaging/agent.env")?));
        wrong.extend(in_manual(&setting, &manual));
        wrong.extend(in_readme(&setting, &readme));
    }
    let help = cli::command("0").render_long_help().to_string();
    let operations = read("docs/operations.md")?;
    for exit in Exit::ALL {
        let code = exit.code();
        let row = format!("\n| {code} | ");
        for (file, text) in [("README.md", &readme), ("docs/operations.md", &operations)] {
            // Success needs no advice.
            let is_in = text.contains(&row) || (file != "README.md" && exit == Exit::Done);
            wrong.extend((!is_in).then(|| format!("{file}: no row for exit code {code}")));
        }
        let line = format!("\n{code:>4}  ");
        wrong.extend((!help.contains(&line)).then(|| format!("--help: no line for {code}")));
    }
    let depends = Package::read()?.deb("depends")?.to_owned();
    wrong.extend(claims(
        "Cargo.toml: depends",
        &depends,
        &format!("systemd (>= {OLDEST_SYSTEMD})"),
    ));
    for (file, text) in [("README.md", &readme), ("docs/operations.md", &operations)] {
        wrong.extend(claims(file, text, &format!("systemd {OLDEST_SYSTEMD}")));
    }
    wrong.extend(named_tests::missing()?);
    match wrong.is_empty() {
        true => Ok(()),
        false => Err(wrong.join("\n").into()),
    }
}

/// Expects the oldest systemd in these words.
fn claims(place: &str, text: &str, words: &str) -> Option<String> {
    (!text.contains(words)).then(|| format!("{place}: no {words:?}, as in model::doctor"))
}

fn in_agent_env(setting: &Setting, text: &str) -> Option<String> {
    let Setting { name, default, .. } = setting;
    let line = format!("#{name}={default}");
    let is_in = text.lines().any(|found| found == line);
    (!is_in).then(|| format!("packaging/agent.env: no line {line}"))
}

/// Expects `.BR NAME " (default)"`, alone or beside others.
fn in_manual(setting: &Setting, text: &str) -> Option<String> {
    let Setting { name, default, .. } = setting;
    let is_in = text.lines().any(|line| {
        let Some((before, after)) = line.split_once(name) else { return false };
        let is_heading = before.starts_with(".B") && !before.contains('"')
            || before.starts_with(".BR ") && before.ends_with(' ');
        let said = after.split('"').nth(1).unwrap_or_default();
        let is_whole = !after.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
        let value = said.trim().trim_end_matches(',').trim();
        is_heading && is_whole && (default.is_empty() || value == format!("({default})"))
    });
    (!is_in).then(|| format!("deploy-agent.env(5): no heading {name} with ({default})"))
}

/// Expects a row with its name, and its built-in value in the second column.
fn in_readme(setting: &Setting, text: &str) -> Option<String> {
    let Setting { name, default, .. } = setting;
    let rows = text.lines().filter_map(|line| line.strip_prefix("| ")?.rsplit_once(" | "));
    let is_name = |word: &str| word.trim_end_matches([':', ',', ';', '.']) == *name;
    let is_value = |values: &str| {
        let mut words = values.trim_end_matches([' ', '|']).split([',', ';', ' ']);
        // A list contains commas itself; any other value must be a word: 0s is not in 10s.
        let is_list = default.contains(',') && values.contains(default);
        default.is_empty() || is_list || words.any(|word| word == *default)
    };
    let is_in = rows.into_iter().any(|(names, values)| {
        let mut words = names.split([' ', ',', ';']);
        words.any(is_name) && is_value(values)
    });
    (!is_in).then(|| format!("README.md: no row of {name} with the default {default:?}"))
}
