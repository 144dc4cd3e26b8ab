//! Pure: what is installed -> the text of systemd's units. The generator writes
//! them, and nothing else ever does.

mod command;
pub mod ports;
mod service;

use crate::release::manifest::{Manifest, Process};
use crate::release::name::{AppName, Label, ProcessType};
use crate::store::Snapshot;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

/// Where systemd's generators write units that stand for something elsewhere;
/// systemd.generator(7), "normal".
pub const GENERATED: &str = "/run/systemd/generator";

/// What a generated path holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unit {
    Text(String),
    /// A symbolic link with this target.
    Link(String),
}

/// The target that stands for the whole app.
pub fn target(app: &AppName) -> String {
    format!("deploy-{app}.target")
}

/// The slice that all processes of an app, and its builds, live in.
/// A `-` in a slice's name means a level; systemd.slice(5).
pub fn slice(app: &AppName) -> String {
    format!("deploy-{}.slice", app.as_str().replace('-', "\\x2d"))
}

/// One process of one installed release: `deploy-my-app-web-r42@1.service`.
pub fn service(app: &AppName, label: &Label, process: &Process) -> String {
    format!("{}@{}.service", prefix(app, label, &process.kind), process.number)
}

/// The same `APP-TYPE-LABEL` may be cut in two ways (`a-b` + `c`, `a` + `b-c`),
/// so a release is refused where another app already has one of its names.
pub fn templates(manifest: &Manifest) -> impl Iterator<Item = String> + '_ {
    let app = manifest.url.app();
    let name = move |kind| format!("{}@.service", prefix(app, &manifest.label, kind));
    manifest.plan.processes.iter().map(move |service| name(&service.kind))
}

fn prefix(app: &AppName, label: &Label, kind: &ProcessType) -> String {
    format!("deploy-{app}-{kind}-{label}")
}

/// The units that have to run now: the processes of `current`, less those the
/// operator has stopped.
pub fn wanted(snapshot: &Snapshot) -> BTreeSet<String> {
    let Some(manifest) = snapshot.current() else { return BTreeSet::new() };
    let running = |process: &Process| !snapshot.stopped.covers(&process.to_string());
    let processes = manifest.plan.instances().filter(running);
    processes.map(|process| service(&snapshot.app, &manifest.label, &process)).collect()
}

/// All units of an app, by their path below the generator's directory: a
/// template for each process type of every installed release, so that the
/// previous one can be started at any time, and the target of the current one.
pub fn generate(snapshot: &Snapshot) -> BTreeMap<String, Unit> {
    let mut units = BTreeMap::new();
    for manifest in &snapshot.releases {
        for kind in &manifest.plan.processes {
            let name = prefix(&snapshot.app, &manifest.label, &kind.kind);
            let text = service::text(snapshot, manifest, kind);
            units.insert(format!("{name}@.service"), Unit::Text(text));
        }
        for process in manifest.plan.instances() {
            if let Some(port) = process.port {
                let unit = service(&snapshot.app, &manifest.label, &process);
                let text = format!(
                    "[Service]\nEnvironment=PORT={port} PUBLIC_PORT={}\n",
                    manifest.plan.port
                );
                units.insert(format!("{unit}.d/port.conf"), Unit::Text(text));
            }
        }
    }
    if let Some(manifest) = snapshot.current() {
        let name = target(&snapshot.app);
        let link = format!("multi-user.target.wants/{name}");
        units.insert(link, Unit::Link(format!("../{name}")));
        units.insert(name, Unit::Text(target_text(snapshot, manifest)));
    }
    units
}

fn target_text(snapshot: &Snapshot, manifest: &Manifest) -> String {
    let (app, environment) = (&snapshot.app, manifest.url.environment());
    let mut text =
        format!("[Unit]\nDescription={app} ({environment}), release {}\n", manifest.label);
    for unit in wanted(snapshot) {
        let _ = writeln!(text, "Wants={unit}");
    }
    text
}
