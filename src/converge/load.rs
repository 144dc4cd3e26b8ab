//! The units of an app: whether systemd has those that the state on disk asks for, and how it gets
//! them.

use super::part_of;
use crate::context::Context;
use crate::host::namespaces::kernel;
use model::error::{Error, Result};
use model::installed::Snapshot;
use model::units::{self, Unit};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// Runs the generator, by a daemon-reload, if systemd's units are not those that the state asks
/// for.
pub async fn load_units(cx: &Context, snapshot: &Snapshot) -> Result<()> {
    let dir = cx.machine.generated();
    if matches(dir, snapshot) {
        return Ok(());
    }
    let reloading = cx.events.part("reload");
    cx.machine.daemon_reload().await?;
    drop(reloading);
    let missing = units::generate(snapshot, kernel()).into_keys();
    match missing.into_iter().find(|name| dir.join(name).symlink_metadata().is_err()) {
        // A unit of other text comes from another version, in the middle of an upgrade.
        None => Ok(()),
        Some(name) => {
            let what = format!("make {name} below {}", dir.display());
            let help = "see `journalctl -b | grep deploy-generator`";
            let why = "the generator did not write what the state on disk asks for";
            Err(Error::failed(what).because(why).help(help))
        }
    }
}

/// The same for a release that is about to be proved: if only its units are missing, they are added
/// without a daemon-reload, which takes longer the more units the instance has.
pub async fn load_new_units(cx: &Context, snapshot: &Snapshot) -> Result<()> {
    if let Some(units) = new_units(cx.machine.generated(), snapshot) {
        let _loading = cx.events.part("reload");
        let added = cx.machine.add_units(&units).await.unwrap_or_else(|error| {
            tracing::warn!("{}", error.chain());
            false
        });
        if !added {
            tracing::info!("the new units need a daemon-reload");
            cx.machine.daemon_reload().await?;
        }
    }
    load_units(cx, snapshot).await
}

/// The units of the app's processes whose files are missing, if those are all that has changed.
fn new_units(dir: &Path, snapshot: &Snapshot) -> Option<Vec<String>> {
    let wanted = units::generate(snapshot, kernel());
    let is_missing = |name: &str| dir.join(name).symlink_metadata().is_err();
    let template = |name: &str| name.split_once('@').map(|(name, _)| format!("{name}@.service"));
    let (new, others): (BTreeMap<_, _>, BTreeMap<_, _>) = wanted
        .clone()
        .into_iter()
        .partition(|(name, _)| template(name).is_some_and(|template| is_missing(&template)));
    if new.is_empty() || !are_there(dir, &others) || stale(dir, snapshot, &wanted) {
        return None;
    }
    let processes = snapshot.releases.iter().flat_map(units::unit_names);
    Some(processes.filter(|unit| template(unit).is_some_and(|it| new.contains_key(&it))).collect())
}

fn matches(dir: &Path, snapshot: &Snapshot) -> bool {
    let wanted = units::generate(snapshot, kernel());
    are_there(dir, &wanted) && !stale(dir, snapshot, &wanted)
}

fn are_there(dir: &Path, wanted: &BTreeMap<String, Unit>) -> bool {
    wanted.iter().all(|(name, unit)| {
        let path = dir.join(name);
        match unit {
            Unit::Text(text) => fs::read_to_string(&path).is_ok_and(|found| found == *text),
            Unit::Link(to) => fs::read_link(&path).is_ok_and(|found| found == Path::new(to)),
        }
    })
}

/// Whether there is a unit of a removed release, or a target without a current release.
fn stale(dir: &Path, snapshot: &Snapshot, wanted: &BTreeMap<String, Unit>) -> bool {
    let part_of = part_of(&units::target(&snapshot.app));
    let Ok(entries) = fs::read_dir(dir) else { return false };
    entries.flatten().any(|entry| {
        let name = entry.file_name().to_string_lossy().into_owned();
        let ours = name == units::target(&snapshot.app)
            || (name.starts_with("deploy-")
                && name.ends_with(".service")
                && fs::read_to_string(entry.path()).is_ok_and(|text| text.contains(&part_of)));
        ours && !wanted.contains_key(&name)
    })
}
