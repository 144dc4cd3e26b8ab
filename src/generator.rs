//! What `deploy-generator` does: every app's units, whatever the others are like.

use crate::instance::{load_env, load_settings};
use crate::release::manifest::Manifest;
use crate::release::name::AppName;
use crate::release::settings;
use crate::store::{App, Snapshot, Store};
use crate::units::{Unit, generate};
use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

/// Writes the units of every app below `dir`. An app that cannot be read is
/// logged and left out; the others are still generated.
pub fn run(dir: &Path) {
    let apps = Store::at(state_dir()).apps().unwrap_or_else(|error| {
        log(&error.chain());
        Vec::new()
    });
    let read = |app: &App| match app.snapshot() {
        Ok(snapshot) => Some(snapshot),
        Err(error) => {
            log(&format!("skipped {}: {}", app.name(), error.chain()));
            None
        }
    };
    let snapshots: Vec<Snapshot> = apps.iter().filter_map(read).collect();
    // What is current comes first: no other release takes a name away from it.
    let current = |snapshot: &Snapshot| {
        let is_current = |m: &Manifest| Some(&m.label) == snapshot.current.as_ref();
        let releases = snapshot.releases.iter().filter(|m| is_current(m)).cloned().collect();
        Snapshot { releases, ..snapshot.clone() }
    };
    let mut owners = BTreeMap::new();
    for snapshot in snapshots.iter().map(current).chain(snapshots.iter().cloned()) {
        write_app(dir, &snapshot, &mut owners);
    }
}

/// A mistake elsewhere in the settings must not take any unit away.
fn state_dir() -> PathBuf {
    match load_settings() {
        Ok((_, settings)) => settings.state_dir,
        Err(error) => {
            log(&error.chain());
            load_env().ok().and_then(|env| settings::state_dir(&env)).unwrap_or_default()
        }
    }
}

fn write_app(dir: &Path, snapshot: &Snapshot, owners: &mut BTreeMap<String, AppName>) {
    for (name, unit) in generate(snapshot) {
        let owner = owners.entry(name.clone()).or_insert_with(|| snapshot.app.clone());
        if *owner != snapshot.app {
            log(&format!("skipped {name} of {}: {owner} has it already", snapshot.app));
        } else if let Err(error) = write_unit(&dir.join(&name), &unit) {
            log(&format!("write {name}: {error}"));
        }
    }
}

fn write_unit(path: &Path, unit: &Unit) -> std::io::Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    match unit {
        Unit::Text(text) => fs::write(path, text),
        Unit::Link(target) => match symlink(target, path) {
            Err(e) if e.kind() == ErrorKind::AlreadyExists => Ok(()),
            other => other,
        },
    }
}

/// Early in the boot there is no journal yet: the kernel's log is what there is.
fn log(message: &str) {
    let line = format!("<3>deploy-generator: {message}\n");
    let kmsg = OpenOptions::new().write(true).open("/dev/kmsg");
    if kmsg.and_then(|mut kmsg| kmsg.write_all(line.as_bytes())).is_err() {
        eprint!("{line}");
    }
}
