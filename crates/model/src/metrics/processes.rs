//! The series of an app's processes.

use super::exposition::Exposition;
use super::{App, float, seconds, truth};
use crate::api::ProcessStatus;
use std::collections::BTreeMap;

pub(super) fn render(text: &mut Exposition, apps: &[App]) {
    types(text, apps);
    each(text, apps);
    leaving(text, apps);
}

fn is_up(process: &ProcessStatus) -> bool {
    process.since.is_some()
}

/// How many processes of a type should run, and do.
#[derive(Clone, Copy, Default)]
struct Count {
    wanted: u64,
    up: u64,
}

fn counts(app: &App) -> BTreeMap<&str, Count> {
    let mut counts: BTreeMap<&str, Count> = BTreeMap::new();
    for one in &app.status.processes {
        let kind = one.process.rsplit_once('.').map_or(&*one.process, |(kind, _)| kind);
        let count = counts.entry(kind).or_default();
        // The operator has stopped it otherwise.
        count.wanted += u64::from(one.state != "stopped");
        count.up += u64::from(is_up(one));
    }
    counts
}

/// A gauge of a type: name, help, value.
type Counted = (&'static str, &'static str, fn(Count) -> u64);

fn types(text: &mut Exposition, apps: &[App]) {
    let families: [Counted; 2] = [
        ("deploy_processes_wanted", "Processes of a type that should run.", |count| count.wanted),
        ("deploy_processes_up", "Processes of a type that run.", |count| count.up),
    ];
    for (name, help, value) in families {
        let mut family = text.gauge(name, help);
        for app in apps {
            for (kind, count) in counts(app) {
                family.sample(&[("app", &app.status.app), ("type", kind)], float(value(count)));
            }
        }
    }
}

type Value = fn(&ProcessStatus) -> Option<f64>;

/// Gauges of each process: name, help, value.
const GAUGES: [(&str, &str, Value); 5] = [
    ("deploy_process_up", "Whether the process runs.", |one| Some(truth(is_up(one)))),
    ("deploy_process_crash_loop", "Whether the process ends again and again.", |one| {
        Some(truth(one.crash_loop))
    }),
    ("deploy_process_start_timestamp_seconds", "Since when the process runs.", |one| {
        one.since.map(seconds)
    }),
    ("deploy_process_memory_bytes", "Memory of the process's control group.", |one| {
        one.memory.map(float)
    }),
    ("deploy_process_connections", "Open connections to the process's port.", |one| {
        one.connections.map(|count| count as f64)
    }),
];

/// Counters of each process; they begin anew with its unit.
const COUNTERS: [(&str, &str, Value); 2] = [
    (
        "deploy_process_restarts_total",
        "How often systemd has restarted the process since it was last started.",
        |one| Some(one.restarts.into()),
    ),
    ("deploy_process_cpu_seconds_total", "CPU time of the process's control group.", |one| {
        one.cpu_seconds
    }),
];

fn each(text: &mut Exposition, apps: &[App]) {
    for (name, help, value) in GAUGES {
        let mut family = text.gauge(name, help);
        for (app, one) in all(apps) {
            family.known(&[("app", app), ("process", &one.process)], value(one));
        }
    }
    for (name, help, value) in COUNTERS {
        let mut family = text.counter(name, help);
        for (app, one) in all(apps) {
            family.known(&[("app", app), ("process", &one.process)], value(one));
        }
    }
}

fn all(apps: &[App]) -> impl Iterator<Item = (&str, &ProcessStatus)> {
    let of = |app| {
        let App { status, .. }: &App = app;
        status.processes.iter().map(|one| (&*status.app, one))
    };
    apps.iter().flat_map(of)
}

fn leaving(text: &mut Exposition, apps: &[App]) {
    let help = "Processes of a release before that still serve their clients.";
    let mut units = text.gauge("deploy_leaving_processes", help);
    for App { status, .. } in apps {
        let count = status.leaving.as_ref().map_or(0, |leaving| leaving.units.len());
        units.sample(&[("app", &status.app)], count as f64);
    }
    let help = "Open connections to these processes.";
    let mut connections = text.gauge("deploy_leaving_connections", help);
    for App { status, .. } in apps {
        let count = status.leaving.as_ref().map_or(0, |leaving| leaving.connections);
        connections.sample(&[("app", &status.app)], count as f64);
    }
}
