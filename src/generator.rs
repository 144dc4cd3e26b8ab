//! What `deploy-generator` does: every app's units, whatever the others are like.

use crate::error::{Error, Result};
use crate::instance::load_settings;
use crate::store::{App, Store};
use crate::units::{Unit, generate};
use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::symlink;
use std::path::Path;

/// Writes the units of every app below `dir`. An app that cannot be read is
/// logged and left out; the others are still generated.
pub fn run(dir: &Path) {
    let apps = load_settings()
        .and_then(|(_, settings)| Store::at(settings.state_dir).apps())
        .unwrap_or_else(|error| {
            log(&error.chain());
            Vec::new()
        });
    let mut taken = BTreeSet::new();
    for app in apps.iter().filter(|app| app.exists()) {
        if let Err(error) = write_app(dir, app, &mut taken) {
            log(&format!("skipped {}: {}", app.name(), error.chain()));
        }
    }
}

fn write_app(dir: &Path, app: &App, taken: &mut BTreeSet<String>) -> Result<()> {
    let units = generate(&app.snapshot()?);
    if let Some(name) = units.keys().find(|name| taken.contains(*name)) {
        let why = "another app has it already";
        return Err(Error::failed(format!("make {name}")).because(why));
    }
    for (name, unit) in &units {
        write_unit(&dir.join(name), unit)
            .map_err(|e| Error::failed(format!("write {name}")).because(e))?;
    }
    taken.extend(units.into_keys());
    Ok(())
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
