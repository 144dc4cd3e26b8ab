//! The agent's state on disk, and the only place that builds a path below it.
//!
//! ```text
//! apps/APP/current -> releases/r42   the commit point
//! apps/APP/releases/r42/{release.json,env,Procfile,app/,home/}
//! apps/APP/releases/r42/unsynced     its files may not be on the disk yet
//! apps/APP/releases/.staging-r43/    in work
//! apps/APP/shared/                   the app's own, kept across releases
//! apps/APP/reserve/                  room for what must be written to a full disk
//! apps/APP/history.jsonl, stopped, underway.json, watch.json, known.json, phase.json,
//! apps/APP/machine, lock
//! removed/APP.jsonl                  the history of an app that was removed
//! syslog/MACHINE/                     the configuration that forwards logs
//! state-dir                          where the state is, where that is not here
//! ```
//!
//! Everything but `app/`, the contents of `home/`, and `shared/` belongs to root, so an app cannot
//! change a path down to them; anything inside them is opened by handle only.

mod durable;
mod forwarding;
mod history;
mod known;
mod lock;
mod machine;
mod ownership;
mod phase;
mod place;
pub mod removal;
mod removed;
mod report;
mod reserve;
mod staging;
mod underway;
mod unsynced;
mod watched;

pub use forwarding::ForwardingFiles;
pub use known::Seen;
pub use lock::Locked;
pub use ownership::Held;
pub use phase::{LastPhase, PhaseState};
pub use place::{last_place, remember_place};
pub use report::write_report;
pub use staging::{Homes, Staging, Unwritable, WhyUnwritable};
pub use underway::UnderWay;
pub use unsynced::{Unsynced, errno};
pub use watched::Watched;

use crate::host::machine::{boot_id, identity};
use crate::host::priority;
use model::error::{Cause, Error, Result};
use model::installed::{Snapshot, Stopped};
use model::release::manifest::{FORMAT, Manifest};
use model::release::name::{AppName, Label};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

/// Prefix of a directory in which a release is being staged, before the label.
const STAGING: &str = ".staging-";
/// Prefix of directories that are being removed; never part of an app's name or a label.
const REMOVING: &str = ".removing-";

/// The state of this instance, below one directory.
#[derive(Clone, Debug)]
pub struct Store {
    root: PathBuf,
    machine: Arc<str>,
    boot: Arc<str>,
}

/// One app's part of the store, for reading. Changes need [`Locked`].
#[derive(Clone, Debug)]
pub struct App {
    name: AppName,
    dir: PathBuf,
    /// The identity of this instance.
    machine: Arc<str>,
    /// The id of its present boot.
    boot: Arc<str>,
}

impl Store {
    /// Opens the store at `root`: DEPLOY_STATE_DIR, by default `/var/lib/deploy`.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Store { root: root.into(), machine: identity().into(), boot: boot_id().into() }
    }

    /// Returns the same state as seen by another machine.
    #[cfg(test)]
    pub fn on(self, machine: &str) -> Self {
        Store { machine: machine.into(), ..self }
    }

    /// Returns the same state as seen after another boot.
    #[cfg(test)]
    pub fn after_boot(self, boot: &str) -> Self {
        Store { boot: boot.into(), ..self }
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    pub fn app(&self, name: &AppName) -> App {
        let dir = self.root.join("apps").join(name.as_str());
        App { name: name.clone(), dir, machine: self.machine.clone(), boot: self.boot.clone() }
    }

    /// Lists the apps that have a directory here, in the order of their names.
    pub fn apps(&self) -> Result<Vec<App>> {
        let dir = self.root.join("apps");
        let names = names(&dir)?;
        let apps = names.iter().filter_map(|name| name.parse().ok()).map(|name| self.app(&name));
        Ok(apps.filter(|app| app.dir.is_dir()).collect())
    }

    /// Removes the remains of an interrupted removal of an app; reports a failure once.
    pub fn remove_leftovers(&self) -> Result<()> {
        discard_all(&self.root.join("apps"))
    }

    /// The same in a thread with the lowest priority.
    pub fn remove_leftovers_at_leisure(&self) {
        let store = self.clone();
        at_leisure(move || store.remove_leftovers());
    }
}

impl App {
    pub fn name(&self) -> &AppName {
        &self.name
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Returns the directory that the app's processes may write to, kept across releases.
    pub fn shared(&self) -> PathBuf {
        self.dir.join("shared")
    }

    /// Whether a release is installed. An app whose every deploy failed has only a history.
    pub fn exists(&self) -> bool {
        let releases = names(&self.releases_dir()).unwrap_or_default();
        !releases.is_empty() || self.dir.join("current").symlink_metadata().is_ok()
    }

    /// Returns the directory that contains the installed releases.
    pub fn releases_dir(&self) -> PathBuf {
        self.dir.join("releases")
    }

    fn release_dir(&self, label: &Label) -> PathBuf {
        self.releases_dir().join(label.as_str())
    }

    /// Removes the files of retired releases; reports a failure once.
    pub fn sweep(&self) -> Result<()> {
        discard_all(&self.releases_dir())
    }

    /// The same in a thread with the lowest priority.
    pub fn sweep_in_background(&self) {
        let app = self.clone();
        at_leisure(move || app.sweep());
    }

    /// Returns the unpacked tree of an installed release.
    pub fn tree(&self, label: &Label) -> PathBuf {
        self.release_dir(label).join("app")
    }

    /// Returns the label that `current` points to; `None` before the first deploy on this machine.
    pub fn current(&self) -> Result<Option<Label>> {
        let link = self.dir.join("current");
        let target = match fs::read_link(&link) {
            Ok(target) => target,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(self.damaged(&link, e)),
        };
        if !self.is_of_this_machine_for_sure()? {
            return Ok(None);
        }
        let label = target.strip_prefix("releases").ok().and_then(Path::to_str);
        match label.and_then(|label| label.parse().ok()) {
            Some(label) => Ok(Some(label)),
            None => {
                let why = format!("it points to {}, not to a release", target.display());
                Err(self.damaged(&link, why))
            }
        }
    }

    pub fn manifest(&self, label: &Label) -> Result<Manifest> {
        let path = self.release_dir(label).join("release.json");
        let bytes = fs::read(&path).map_err(|e| self.damaged(&path, e))?;
        let manifest: Manifest =
            serde_json::from_slice(&bytes).map_err(|e| self.damaged(&path, e))?;
        if manifest.format != FORMAT || manifest.label != *label {
            let why = format!("it is not of form {FORMAT}, or not of release {label}");
            return Err(self.damaged(&path, why));
        }
        Ok(manifest)
    }

    /// Reads the complete state of the app. Skips a release that was lost with the power, and an
    /// unreadable one, so that one bad file stops neither a boot nor a rollback; an unreadable
    /// current release is an error.
    pub fn snapshot(&self) -> Result<Snapshot> {
        let current = self.current()?;
        let mut releases: Vec<Manifest> = Vec::new();
        for name in names(&self.releases_dir())? {
            let Ok(label) = name.parse::<Label>() else { continue };
            if self.is_lost(&label) && Some(&label) != current.as_ref() {
                continue;
            }
            match self.manifest(&label) {
                Ok(manifest) => {
                    let at = releases.partition_point(|other| age(other) < age(&manifest));
                    releases.insert(at, manifest);
                }
                Err(error) if Some(&label) == current.as_ref() => return Err(error),
                Err(error) => tracing::warn!("skipping release {label}: {}", error.chain()),
            }
        }
        if let Some(label) = &current
            && !releases.iter().any(|manifest| manifest.label == *label)
        {
            self.manifest(label)?;
        }
        let (app, dir, stopped) = (self.name.clone(), self.dir.clone(), self.stopped()?);
        Ok(Snapshot { app, dir, current, releases, stopped })
    }

    /// The error for a damaged state; the app's running processes are left alone.
    fn damaged(&self, path: &Path, why: impl Into<Cause>) -> Error {
        let name = &self.name;
        let help = format!(
            "restore {} from a backup; or take the app off with `deploy remove --force {name}` \
             and deploy it again",
            path.display()
        );
        Error::failed(format!("read {}", path.display())).because(why).help(help)
    }

    fn stopped(&self) -> Result<Stopped> {
        let path = self.dir.join("stopped");
        match fs::read_to_string(&path) {
            Ok(text) => Ok(Stopped(text.lines().map(str::to_owned).collect())),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(Stopped::default()),
            Err(e) => Err(self.damaged(&path, e)),
        }
    }
}

/// Runs a removal on a thread with the lowest priority.
fn at_leisure(remove: impl FnOnce() -> Result<()> + Send + 'static) {
    let remove = || {
        priority::lowest();
        if let Err(error) = remove() {
            tracing::warn!("{}", error.chain());
        }
    };
    if let Err(error) = thread::Builder::new().name("sweep".into()).spawn(remove) {
        tracing::warn!("start the thread that removes old files: {error}");
    }
}

/// Removes all entries of this directory that [`doomed`] has named, one caller at a time.
fn discard_all(dir: &Path) -> Result<()> {
    static TURNS: Mutex<BTreeMap<PathBuf, Arc<Mutex<()>>>> = Mutex::new(BTreeMap::new());
    let turn = {
        let mut turns = TURNS.lock().unwrap_or_else(PoisonError::into_inner);
        // Keeps directories with a removal in another thread.
        turns.retain(|_, turn| Arc::strong_count(turn) > 1);
        turns.entry(dir.to_owned()).or_default().clone()
    };
    let _turn = turn.lock().unwrap_or_else(PoisonError::into_inner);
    for name in names(dir)?.iter().filter(|name| name.starts_with(REMOVING)) {
        let path = dir.join(name);
        if let Err(error) = durable::remove_tree(&path) {
            report_left(&path, &error);
        }
    }
    Ok(())
}

/// Reports that files stay on the disk, once per path in the life of the process.
fn report_left(path: &Path, error: &Error) {
    static SAID: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());
    if SAID.lock().unwrap_or_else(PoisonError::into_inner).insert(path.to_owned()) {
        tracing::warn!("{}; it stays, and is tried again later", error.chain());
    }
}

/// Returns a free name beside `dir` that marks it for removal.
fn doomed(dir: &Path) -> PathBuf {
    let name = dir.file_name().unwrap_or_default().to_string_lossy();
    let name = name.strip_prefix(STAGING).unwrap_or(&name);
    let names = (0..).map(|nth: u32| dir.with_file_name(format!("{REMOVING}{nth}-{name}")));
    let mut free = names.filter(|path| path.symlink_metadata().is_err());
    free.next().unwrap_or_else(|| dir.with_file_name(REMOVING))
}

fn unreadable(path: &Path, cause: io::Error) -> Error {
    Error::failed(format!("read {}", path.display())).because(cause)
}

/// The order of an app's releases, oldest first.
fn age(manifest: &Manifest) -> impl PartialOrd {
    (manifest.staged_at, &manifest.label)
}

/// Returns the names in a directory, in their order; none if it does not exist.
fn names(dir: &Path) -> Result<Vec<String>> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(unreadable(dir, e)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|e| unreadable(dir, e))?;
        names.extend(entry.file_name().into_string());
    }
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests;

/// Returns the content of the manifest's file.
fn manifest_json(path: &Path, manifest: &Manifest) -> Result<Vec<u8>> {
    let mut json = serde_json::to_vec_pretty(manifest)
        .map_err(|e| Error::failed(format!("write {}", path.display())).because(e))?;
    json.push(b'\n');
    Ok(json)
}
