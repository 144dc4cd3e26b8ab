//! The agent's state on disk, and the only place that spells a path below it.
//!
//! ```text
//! apps/APP/current -> releases/r42   the commit point
//! apps/APP/releases/r42/{release.json,env,Procfile,app/,home/}
//! apps/APP/releases/.staging-r43/    in work
//! apps/APP/shared/                   the app's own, kept across releases
//! apps/APP/reserve/                  room for what must be written to a full disk
//! apps/APP/history.jsonl, stopped, underway.json, watch.json, known.json, machine, lock
//! state-dir                          where the state is, where that is not here
//! ```
//!
//! Everything but `app/`, what lies in `home/`, and `shared/` belongs to root, so a path down to them
//! cannot be changed by an app; what lies inside them is opened by handle only.

mod durable;
mod history;
mod known;
mod lock;
mod machine;
mod ownership;
mod place;
pub mod removal;
mod reserve;
mod staging;
mod underway;
mod watched;

pub use known::Seen;
pub use lock::Locked;
pub use ownership::Held;
pub use place::{last_place, remember_place};
pub use staging::{Homes, Staging, Unwritable, WhyUnwritable};
pub use underway::UnderWay;
pub use watched::Watched;

use crate::host::machine::identity;
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

/// Prefix of directories that are being removed; never part of an app's name or a label.
const REMOVING: &str = ".removing-";

/// The state of this instance below one directory.
#[derive(Clone, Debug)]
pub struct Store {
    root: PathBuf,
    machine: Arc<str>,
}

/// One app's part of the store, for reading. Changes want [`Locked`].
#[derive(Clone, Debug)]
pub struct App {
    name: AppName,
    dir: PathBuf,
    /// Which machine this is.
    machine: Arc<str>,
}

impl Store {
    /// `root` is DEPLOY_STATE_DIR, by default `/var/lib/deploy`.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Store { root: root.into(), machine: identity().into() }
    }

    /// The same state, seen by another machine.
    #[cfg(test)]
    pub fn on(self, machine: &str) -> Self {
        Store { machine: machine.into(), ..self }
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    pub fn app(&self, name: &AppName) -> App {
        let dir = self.root.join("apps").join(name.as_str());
        App { name: name.clone(), dir, machine: self.machine.clone() }
    }

    /// Every app that has a directory here, by name.
    pub fn apps(&self) -> Result<Vec<App>> {
        let dir = self.root.join("apps");
        let mut apps: Vec<App> = names(&dir)?
            .iter()
            .filter_map(|name| name.parse().ok())
            .map(|name| self.app(&name))
            .filter(|app| app.dir.is_dir())
            .collect();
        apps.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(apps)
    }

    /// Removes what an interrupted removal of an app has left; what cannot be removed is
    /// said once.
    pub fn remove_leftovers(&self) -> Result<()> {
        discard_all(&self.root.join("apps"))
    }

    /// The same, behind everything else that this instance has to do.
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

    /// The directory that the app's processes may write to, whatever release runs.
    pub fn shared(&self) -> PathBuf {
        self.dir.join("shared")
    }

    /// Something is installed. An app whose every deploy failed has a history alone.
    pub fn exists(&self) -> bool {
        let releases = names(&self.releases_dir()).unwrap_or_default();
        !releases.is_empty() || self.dir.join("current").symlink_metadata().is_ok()
    }

    /// The directory of every installed release.
    pub fn releases_dir(&self) -> PathBuf {
        self.dir.join("releases")
    }

    fn release_dir(&self, label: &Label) -> PathBuf {
        self.releases_dir().join(label.as_str())
    }

    /// Removes the files of the releases that were retired; what cannot be removed is
    /// said once.
    pub fn sweep(&self) -> Result<()> {
        discard_all(&self.releases_dir())
    }

    /// The same, behind everything else that this instance has to do.
    pub fn sweep_in_background(&self) {
        let app = self.clone();
        at_leisure(move || app.sweep());
    }

    /// The unpacked tree of an installed release.
    pub fn tree(&self, label: &Label) -> PathBuf {
        self.release_dir(label).join("app")
    }

    /// The label that `current` points to; none before the first deploy on this machine.
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

    /// Everything installed, read at once. A release that cannot be read is
    /// left out, so that one bad file stops neither a boot nor a rollback; what is
    /// current can always be read.
    pub fn snapshot(&self) -> Result<Snapshot> {
        let current = self.current()?;
        let mut releases = Vec::new();
        for name in names(&self.releases_dir())? {
            let Ok(label) = name.parse::<Label>() else { continue };
            match self.manifest(&label) {
                Ok(manifest) => releases.push(manifest),
                Err(error) if Some(&label) == current.as_ref() => return Err(error),
                Err(error) => tracing::warn!("skipping release {label}: {}", error.chain()),
            }
        }
        if let Some(label) = &current
            && !releases.iter().any(|manifest| manifest.label == *label)
        {
            self.manifest(label)?;
        }
        releases.sort_by(|a, b| (a.staged_at, &a.label).cmp(&(b.staged_at, &b.label)));
        let (app, dir, stopped) = (self.name.clone(), self.dir.clone(), self.stopped()?);
        Ok(Snapshot { app, dir, current, releases, stopped })
    }

    /// The app's own state is at fault, and what runs of it is left alone.
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

/// Runs a removal on a thread that everything else comes before.
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

/// Removes all that has a name of [`doomed`] in this directory, one caller at a time.
fn discard_all(dir: &Path) -> Result<()> {
    static TURNS: Mutex<BTreeMap<PathBuf, Arc<Mutex<()>>>> = Mutex::new(BTreeMap::new());
    let turn = {
        let mut turns = TURNS.lock().unwrap_or_else(PoisonError::into_inner);
        // Directories that no other thread is removing from.
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

/// Says that something is left on the disk, once in the life of the process.
fn report_left(path: &Path, error: &Error) {
    static SAID: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());
    if SAID.lock().unwrap_or_else(PoisonError::into_inner).insert(path.to_owned()) {
        tracing::warn!("{}; it stays, and is tried again later", error.chain());
    }
}

/// A name beside a directory that is to be removed, which says so.
fn doomed(dir: &Path) -> PathBuf {
    let name = dir.file_name().unwrap_or_default().to_string_lossy();
    let name = name.strip_prefix(staging::STAGING).unwrap_or(&name);
    let names = (0..).map(|nth: u32| dir.with_file_name(format!("{REMOVING}{nth}-{name}")));
    let mut free = names.filter(|path| path.symlink_metadata().is_err());
    free.next().unwrap_or_else(|| dir.with_file_name(REMOVING))
}

fn unreadable(path: &Path, cause: io::Error) -> Error {
    Error::failed(format!("read {}", path.display())).because(cause)
}

/// The names in a directory; none where there is no such directory.
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
    Ok(names)
}

#[cfg(test)]
mod tests;
