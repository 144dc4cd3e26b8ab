//! The series of the last deploy or rollback.

use super::exposition::Exposition;
use super::{App, float, seconds, word};
use crate::history::Entry;
use crate::timings::Archive;
use std::collections::BTreeMap;

type Value = fn(&Entry) -> Option<f64>;

/// Gauges of the last deploy: name, help, value.
const GAUGES: [(&str, &str, Value); 5] = [
    ("deploy_last_deploy_timestamp_seconds", "When the last deploy or rollback ended.", |entry| {
        Some(seconds(entry.at))
    }),
    ("deploy_last_deploy_exit_code", "Its exit code; 0 is success.", |entry| {
        Some(entry.exit.code().into())
    }),
    ("deploy_last_deploy_seconds", "How long it took.", |entry| Some(entry.seconds)),
    (
        "deploy_last_deploy_archive_bytes",
        "Compressed size of the archive that it staged.",
        |entry| archive(entry, |archive| archive.bytes),
    ),
    ("deploy_last_deploy_unpacked_bytes", "Size of the files that it staged.", |entry| {
        archive(entry, |archive| archive.unpacked_bytes)
    }),
];

fn archive(entry: &Entry, value: fn(&Archive) -> u64) -> Option<f64> {
    entry.timings.archive.as_ref().map(value).map(float)
}

pub(super) fn render(text: &mut Exposition, apps: &[App]) {
    let last = || apps.iter().filter_map(|app| Some((&*app.status.app, app.deployed.as_ref()?)));
    let help = "The last deploy or rollback, as labels.";
    let mut info = text.gauge("deploy_last_deploy_info", help);
    for (app, entry) in last() {
        let labels = [
            ("app", app),
            ("action", &*entry.action),
            ("release", entry.release.as_deref().unwrap_or_default()),
            ("exit", &word(entry.exit)),
            ("reason", &entry.reason.map(word).unwrap_or_default()),
        ];
        info.sample(&labels, 1.0);
    }
    for (name, help, value) in GAUGES {
        let mut family = text.gauge(name, help);
        for (app, entry) in last() {
            family.known(&[("app", app)], value(entry));
        }
    }
    let help = "Where its time went; the parts do not overlap.";
    let mut parts = text.gauge("deploy_last_deploy_part_seconds", help);
    for (app, entry) in last() {
        for (part, seconds) in sums(entry) {
            parts.sample(&[("app", app), ("part", part)], seconds);
        }
    }
}

/// The seconds by part. A part that an entry has twice must not become two series.
fn sums(entry: &Entry) -> BTreeMap<&str, f64> {
    let mut sums = BTreeMap::new();
    for part in &entry.timings.parts {
        *sums.entry(&*part.part).or_insert(0.0) += part.seconds;
    }
    sums
}
