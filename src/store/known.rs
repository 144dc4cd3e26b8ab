//! `known.json`: a copy of the state behind an app's units and ports, saved whenever its lock is
//! released. An app whose own files cannot be read any more keeps its units and ports through this
//! copy: a daemon-reload, a reboot or another app's deploy leaves it running.

use super::durable;
use super::{App, Locked, Store};
use model::error::{Error, Result};
use model::installed::{Snapshot, Stopped};
use model::release::manifest::Manifest;
use model::release::name::{AppName, Label};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

/// The copy. In an image, it does not count on another machine.
#[derive(Serialize, Deserialize)]
struct Known {
    machine: String,
    current: Option<Label>,
    releases: Vec<Manifest>,
    stopped: BTreeSet<String>,
}

/// The state of one app, even if its files are damaged.
#[derive(Debug)]
pub struct Seen {
    pub app: AppName,
    /// The current state; for a damaged app, its state when it could last be read, or `None` if
    /// that is unknown too.
    pub snapshot: Option<Snapshot>,
    /// Why its files cannot be read.
    pub damage: Option<Error>,
}

impl Store {
    /// Returns every app, including damaged ones.
    pub fn seen(&self) -> Result<Vec<Seen>> {
        Ok(self.apps()?.iter().map(App::seen).collect())
    }
}

impl App {
    pub fn seen(&self) -> Seen {
        let app = self.name().clone();
        match self.snapshot() {
            Ok(snapshot) => Seen { app, snapshot: Some(snapshot), damage: None },
            Err(error) => Seen { app, snapshot: self.known(), damage: Some(error) },
        }
    }

    pub(super) fn known(&self) -> Option<Snapshot> {
        let known: Known = serde_json::from_slice(&fs::read(self.known_path()).ok()?).ok()?;
        let Known { machine, current, mut releases, stopped } = known;
        releases.retain(|release| {
            Some(&release.label) == current.as_ref() || !self.is_lost(&release.label)
        });
        (*machine == *self.machine).then(|| Snapshot {
            app: self.name().clone(),
            dir: self.dir().to_owned(),
            current,
            releases,
            stopped: Stopped(stopped),
        })
    }

    pub(super) fn known_path(&self) -> PathBuf {
        self.dir().join("known.json")
    }
}

impl Locked {
    /// Updates the copy. Best effort: an unreadable state leaves the copy unchanged, and the copy
    /// matters only once the state is damaged.
    pub fn keep_known(&self) {
        let kept = match self.snapshot() {
            Ok(snapshot) if self.exists() => self.write_known(snapshot),
            Ok(_) => durable::remove(&self.known_path()),
            Err(_) => return,
        };
        if let Err(error) = kept {
            tracing::warn!("{}", error.chain());
        }
    }

    fn write_known(&self, snapshot: Snapshot) -> Result<()> {
        let Snapshot { current, releases, stopped, .. } = snapshot;
        let machine = self.machine.to_string();
        let known = Known { machine, current, releases, stopped: stopped.0 };
        let path = self.known_path();
        let json = serde_json::to_vec(&known)
            .map_err(|e| Error::failed(format!("write {}", path.display())).because(e))?;
        if fs::read(&path).is_ok_and(|found| found == json) {
            return Ok(());
        }
        durable::write(&path, &json, 0o600)
    }
}

impl Drop for Locked {
    /// Updates the copy after any change, also a failed one.
    fn drop(&mut self) {
        self.keep_known();
    }
}
