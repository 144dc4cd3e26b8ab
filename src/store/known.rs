//! `known.json`: a copy of what an app's units and ports are made from, kept whenever its
//! lock is released. An app whose own files cannot be read any more keeps its units and its
//! ports by it: a daemon-reload, a reboot or another app's deploy leaves it as it runs.

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

/// The copy. Baked into an image, it says nothing of another machine.
#[derive(Serialize, Deserialize)]
struct Known {
    machine: String,
    current: Option<Label>,
    releases: Vec<Manifest>,
    stopped: BTreeSet<String>,
}

/// Everything known of one app, whatever state its files are in.
#[derive(Debug)]
pub struct Seen {
    pub app: AppName,
    /// As it is; or, of a damaged app, as it was when it could last be read. None where
    /// that is not known either.
    pub snapshot: Option<Snapshot>,
    /// Why its files cannot be read.
    pub damage: Option<Error>,
}

impl Store {
    /// Every app, the damaged ones among them.
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
        let Known { machine, current, releases, stopped } = known;
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
    /// Makes the copy follow the state. Best effort: a state that cannot be read leaves the
    /// copy as it is, and a copy that cannot be written is missed only with such a state.
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
    /// Whatever was done under the lock, and however it ended.
    fn drop(&mut self) {
        self.keep_known();
    }
}
