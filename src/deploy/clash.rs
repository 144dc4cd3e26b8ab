//! A port that a failed candidate found taken: who holds it, and the ways out.

use crate::clues;
use crate::context::{Context, blocking};
use crate::store::App;
use model::release::manifest::{Manifest, Process};
use model::release::name::Label;
use model::release::settings::Strategy;
use model::units;
use std::collections::{BTreeMap, BTreeSet};

/// The advice for a release that ignores `$PORT`.
const WAYS_OUT: &str = "two releases run side by side while one is proved: derive each further \
                        port from $PORT, such as $((PORT - 10000)), or set DEPLOY_STRATEGY=restart";

/// Returns advice, if the log of the failed release says that a port was taken.
pub(super) async fn help(
    cx: &Context,
    app: &App,
    failed: &Manifest,
    log: &[String],
) -> Option<String> {
    let lines = clues::in_use(log);
    if lines.is_empty() {
        return None;
    }
    let held = match failed.plan.strategy {
        Strategy::Handover => held_by_others(cx, app, failed).await,
        Strategy::Restart => BTreeMap::new(),
    };
    let named: Vec<u16> = lines.iter().flat_map(|line| clues::ports(line)).collect();
    if let Some((port, holder)) = named.iter().find_map(|port| held.get_key_value(port)) {
        return Some(format!("port {port} is held by {holder}; {WAYS_OUT}"));
    }
    let elsewhere = |port: &u16| Some((*port, blocking(|| cx.machine.listener(*port, None))?));
    if let Some((port, holder)) = named.iter().find_map(elsewhere) {
        let (name, pid) = (holder.name, holder.pid);
        return Some(format!("port {port} is held by {name} ({pid}); choose another one"));
    }
    if held.is_empty() {
        return Some(format!("a port that it binds is taken; {WAYS_OUT}"));
    }
    let held: Vec<_> = held.iter().map(|(port, holder)| format!("{port} by {holder}")).collect();
    Some(format!("a port that it binds is taken; held are {}; {WAYS_OUT}", held.join(", ")))
}

/// Warns if a process listens on fewer ports than the process that it replaces, which still
/// runs: a server may go on without a port that it found taken.
pub(super) async fn warn_of_missing_ports(
    cx: &Context,
    app: &App,
    new: &Manifest,
    before: Option<&Label>,
) {
    let Some(old) = before.and_then(|label| app.manifest(label).ok()) else { return };
    if new.plan.strategy != Strategy::Handover {
        return;
    }
    for process in new.plan.instances() {
        let name = process.to_string();
        let Some(theirs) = old.plan.instances().find(|other| other.to_string() == name) else {
            continue;
        };
        let held = further_ports(cx, app, &old, &theirs).await;
        let own = further_ports(cx, app, new, &process).await;
        if own.len() < held.len() {
            let missing: Vec<_> = held.difference(&own).map(u16::to_string).collect();
            cx.events.warn(format!(
                "{name} of {} does not listen on {}, as {name} of {} does; if it found the port \
                 taken: {WAYS_OUT}",
                new.label,
                missing.join(", "),
                old.label
            ));
        }
    }
}

/// The ports on which a process of a release listens, beside its private one.
async fn further_ports(
    cx: &Context,
    app: &App,
    manifest: &Manifest,
    process: &Process,
) -> BTreeSet<u16> {
    let unit = units::service(app.name(), &manifest.label, process);
    let Ok(status) = cx.machine.status(&unit).await else { return BTreeSet::new() };
    let listens = cx.machine.endpoints(&status.control_group).await.into_iter();
    listens.map(|endpoint| endpoint.port).filter(|port| process.port != Some(*port)).collect()
}

/// The ports on which processes of the app's other releases listen, beside the private
/// port of each, and whose they are: `web.1 of r41`.
async fn held_by_others(cx: &Context, app: &App, failed: &Manifest) -> BTreeMap<u16, String> {
    let mut held = BTreeMap::new();
    let Ok(snapshot) = app.snapshot() else { return held };
    let others = snapshot.releases.iter().filter(|other| other.label != failed.label);
    for (other, process) in others.flat_map(|m| m.plan.instances().map(move |one| (m, one))) {
        let further = further_ports(cx, app, other, &process).await.into_iter();
        held.extend(further.map(|port| (port, format!("{process} of {}", other.label))));
    }
    held
}
