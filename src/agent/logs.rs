//! What `deploy logs` needs to know about apps: their slices, units, process types, and which
//! releases were current.

use super::status;
use crate::store::App;
use model::api::{Logged, Logs};
use model::error::{Error, Result};
use model::installed::Snapshot;
use model::reason::Reason;
use model::release::manifest::Process;
use model::selector::{self, Known, covers};
use model::units;
use std::collections::BTreeSet;

/// Returns the apps and processes that words can name.
pub(super) fn known(apps: &[App]) -> Vec<Known> {
    let known = |app: &App| Known {
        app: app.name().to_string(),
        is_installed: app.exists(),
        processes: processes(&snapshot(app)).iter().map(Process::to_string).collect(),
    };
    apps.iter().map(known).collect()
}

/// Returns where the lines are that the words name.
pub(super) fn find(apps: &[App], asked: &Logs) -> Result<Vec<Logged>> {
    let words: Vec<String> = asked.word.split_whitespace().map(str::to_owned).collect();
    let selected = selector::select(&known(apps), &words)?;
    let chosen =
        apps.iter().filter(|app| selected.apps.iter().any(|one| one == app.name().as_str()));
    chosen.map(|app| one(app, selected.process.as_deref(), asked.release.as_deref())).collect()
}

fn one(app: &App, process: Option<&str>, release: Option<&str>) -> Result<Logged> {
    let snapshot = snapshot(app);
    let history = status::history(app).unwrap_or_default();
    let mut ran: BTreeSet<String> = history.iter().flat_map(|one| one.after.clone()).collect();
    ran.extend(history.iter().flat_map(|one| one.before.clone()));
    ran.extend(snapshot.current.iter().map(ToString::to_string));
    let good = snapshot.releases.iter().filter(|one| one.state.is_good());
    ran.extend(good.map(|one| one.label.to_string()));
    let mut labels = ran.clone();
    labels.extend(history.iter().flat_map(|one| one.release.clone()));
    labels.extend(snapshot.releases.iter().map(|one| one.label.to_string()));

    let all = processes(&snapshot);
    let is_chosen = |one: &&Process| process.is_none_or(|word| covers(word, &one.to_string()));
    let chosen: Vec<&Process> = all.iter().filter(is_chosen).collect();
    if let Some(word) = process
        && chosen.is_empty()
    {
        let names = all.iter().map(Process::to_string);
        return Err(missing(word, app, "processes", &names.collect()));
    }
    if let Some(label) = release
        && !labels.contains(label)
    {
        return Err(missing(label, app, "releases", &labels));
    }
    let wanted = labels.iter().filter(|label| release.is_none_or(|one| one == *label));
    let units = wanted.filter_map(|label| label.parse().ok()).flat_map(|label| {
        chosen.iter().map(move |process| units::service(app.name(), &label, process))
    });
    let identifier = |process: &&Process| format!("{}.{process}", app.name());
    Ok(Logged {
        app: app.name().to_string(),
        slice: release.is_none().then(|| units::slice(app.name())),
        units: units.collect(),
        identifiers: process.iter().flat_map(|_| chosen.iter().map(identifier)).collect(),
        kinds: all
            .iter()
            .map(|one| one.kind.to_string())
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect(),
        current: snapshot.current.as_ref().map(ToString::to_string),
        ran: ran.into_iter().collect(),
    })
}

fn missing(word: &str, app: &App, what: &str, names: &BTreeSet<String>) -> Error {
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let why = match names.as_slice() {
        [] => format!("no {what} of it are known"),
        _ => format!("its {what} are {}", names.join(", ")),
    };
    let error = Error::usage(format!("find {word} of {}", app.name())).because(why);
    error.help("name one of those").with_reason(Reason::NotFound)
}

/// The processes of all installed releases.
fn processes(snapshot: &Snapshot) -> BTreeSet<Process> {
    let all = snapshot.releases.iter().flat_map(|manifest| manifest.plan.instances());
    all.map(|process| Process { port: None, ..process }).collect()
}

/// The state of an app, or what is known of it if it is damaged.
fn snapshot(app: &App) -> Snapshot {
    let nothing = || Snapshot::of_nothing(app.name().clone(), app.dir().to_owned());
    app.seen().snapshot.unwrap_or_else(nothing)
}
