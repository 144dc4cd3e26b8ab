//! The lock of one app: only its holder can change the app's state, since every change is a method
//! of the guard.

use super::durable::{self, unwritable};
use super::{App, STAGING, doomed, manifest_json};
use model::error::{Error, Exit, Result};
use model::installed::Stopped;
use model::reason::Reason;
use model::release::manifest::Manifest;
use model::release::name::Label;
use model::release::state::State;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use std::fs::{File, OpenOptions};
use std::ops::Deref;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// An app whose lock is held; the lock ends with its process.
#[derive(Debug)]
pub struct Locked {
    app: App,
    _lock: Flock<File>,
}

impl Deref for Locked {
    type Target = App;

    fn deref(&self) -> &App {
        &self.app
    }
}

impl App {
    /// Lists the releases whose staging is in progress or was interrupted.
    pub fn unfinished(&self) -> Result<Vec<Label>> {
        let names = super::names(&self.releases_dir())?;
        let labels = names.iter().filter_map(|name| name.strip_prefix(STAGING)?.parse().ok());
        Ok(labels.collect())
    }

    /// Takes the lock; an error if another process holds it.
    #[expect(clippy::disallowed_methods, reason = "there is nothing in the file to be lost")]
    pub fn lock(&self) -> Result<Locked> {
        durable::make_dir(&self.releases_dir(), 0o755)?;
        let path = self.dir().join("lock");
        let mut open = OpenOptions::new();
        open.write(true).create(true).truncate(false).mode(0o600);
        let file = open.open(&path).map_err(|e| unwritable(&path, e))?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => {
                let locked = Locked { app: self.clone(), _lock: lock };
                locked.keep_reserve();
                Ok(locked)
            }
            Err((_, Errno::EWOULDBLOCK)) => {
                let what = format!("take the lock of {}", self.name());
                let error = Error::new(Exit::Busy, what).because("another process holds it");
                Err(error.help("wait until it is done: `deploy status`"))
            }
            Err((_, errno)) => Err(unwritable(&path, errno.into())),
        }
    }
}

impl App {
    /// Locks the app's directory instead if the app's own files prevent taking the lock.
    pub fn lock_by_force(&self) -> Result<Locked> {
        match self.lock() {
            Err(error) if error.reason() != Reason::Busy => {
                tracing::warn!("{}", error.chain());
                let what = |e| Error::failed(format!("open {}", self.dir().display())).because(e);
                let directory = File::open(self.dir()).map_err(what)?;
                let lock = Flock::lock(directory, FlockArg::LockExclusiveNonblock);
                let lock = lock.map_err(|(_, errno)| what(errno.into()))?;
                Ok(Locked { app: self.clone(), _lock: lock })
            }
            locked => locked,
        }
    }
}

impl Locked {
    /// Makes `label` the current release: the one atomic step of a deploy. Refuses a release that
    /// is not on the disk yet.
    pub fn commit(&self, label: &Label) -> Result<()> {
        self.must_be_synced(label)?;
        self.mark_as_of_this_machine()?;
        let target = Path::new("releases").join(label.as_str());
        self.write_with_reserve(|| durable::replace_symlink(&self.dir().join("current"), &target))
    }

    /// Reverts the first release of an app: afterwards none is current.
    pub fn uncommit(&self) -> Result<()> {
        durable::remove(&self.dir().join("current"))
    }

    pub fn write_manifest(&self, manifest: &Manifest) -> Result<()> {
        let path = self.release_dir(&manifest.label).join("release.json");
        let json = manifest_json(&path, manifest)?;
        self.write_with_reserve(|| durable::write(&path, &json, 0o600))
    }

    pub fn set_state(&self, label: &Label, state: State) -> Result<()> {
        let manifest = self.manifest(label)?;
        if manifest.state == state {
            return Ok(());
        }
        self.write_manifest(&Manifest { state, ..manifest })
    }

    pub fn set_stopped(&self, stopped: &Stopped) -> Result<()> {
        let path = self.dir().join("stopped");
        if stopped.0.is_empty() {
            return durable::remove(&path);
        }
        let text: String = stopped.0.iter().map(|name| format!("{name}\n")).collect();
        self.write_with_reserve(|| durable::write(&path, text.as_bytes(), 0o644))
    }

    /// Retires a release; the next [`App::sweep`] removes its files. It is renamed, so that no
    /// boot and no deploy ever sees half of it.
    pub fn retire(&self, label: &Label) -> Result<()> {
        let dir = self.release_dir(label);
        durable::rename(&dir, &doomed(&dir)).map_err(|e| unwritable(&dir, e))
    }

    /// Retires the releases that failed here: each may be as large as the current one, and is
    /// never a rollback target.
    pub fn retire_failed(&self) -> Result<()> {
        let snapshot = self.snapshot()?;
        let current = |manifest: &&Manifest| Some(&manifest.label) == snapshot.current.as_ref();
        let failed = snapshot.releases.iter().filter(|m| m.state.is_failed() && !current(m));
        failed.map(|manifest| &manifest.label).try_for_each(|label| self.retire(label))
    }

    /// Renames the remains of an interrupted deploy for removal by the next [`App::sweep`], which
    /// can run in the background.
    pub fn remove_leftovers(&self) -> Result<()> {
        let dir = self.releases_dir();
        for name in super::names(&dir)? {
            let path = dir.join(&name);
            if name.starts_with(STAGING) {
                durable::rename(&path, &doomed(&path)).map_err(|e| unwritable(&path, e))?;
            } else if path.is_dir() {
                durable::remove_unfinished(&path)?;
            }
        }
        durable::remove_unfinished(self.dir())
    }

    /// Whether the app has no state besides its lock.
    pub fn is_new(&self) -> bool {
        let no_history = self.history(1).is_ok_and(|entries| entries.is_empty());
        let used = ["shared", "watch.json"].map(|name| self.dir().join(name));
        no_history && !self.exists() && used.iter().all(|path| path.symlink_metadata().is_err())
    }

    /// Removes all of the app from this instance: releases, shared files, history. It is renamed
    /// first: the remains of an interrupted removal are not an app. Returns the error if some
    /// files cannot be removed.
    pub fn remove_app(self) -> Result<Option<Error>> {
        let dir = self.dir();
        let doomed = doomed(dir);
        durable::rename(dir, &doomed).map_err(|e| unwritable(dir, e))?;
        Ok(durable::remove_tree(&doomed).err())
    }
}
