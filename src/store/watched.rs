//! `watch.json`: what watch mode did last, so that a release which failed here is
//! not tried again, over a restart and a reboot as well.

use super::durable;
use super::{App, Locked};
use jiff::Timestamp;
use model::error::{Error, Exit, Result};
use model::reason::Reason;
use model::release::identity::Mark;
use model::release::url::ReleaseUrl;
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::PathBuf;

/// An attempt to deploy what a watched URL names.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Watched {
    /// As it was in DEPLOY_WATCH.
    pub url: ReleaseUrl,
    pub mark: Mark,
    /// The release that it named.
    pub release: ReleaseUrl,
    /// Of the deploy, in the history as well.
    pub id: String,
    /// How often this was tried in a row.
    pub tries: u32,
    /// None: the deploy has begun and not ended.
    pub exit: Option<Exit>,
    #[serde(default)]
    pub reason: Option<Reason>,
    pub message: String,
    pub at: Timestamp,
}

/// Whose it is: baked into an image, it says nothing of another machine.
#[derive(Serialize, Deserialize)]
struct Stored {
    machine: String,
    watched: Watched,
}

impl App {
    /// None where nothing was, or where that cannot be read.
    pub fn watched(&self) -> Option<Watched> {
        let stored: Stored = serde_json::from_slice(&fs::read(self.watched_path()).ok()?).ok()?;
        (*stored.machine == *self.machine).then_some(stored.watched)
    }

    fn watched_path(&self) -> PathBuf {
        self.dir().join("watch.json")
    }
}

impl Locked {
    pub fn set_watched(&self, watched: &Watched) -> Result<()> {
        let path = self.watched_path();
        let stored = Stored { machine: self.machine.to_string(), watched: watched.clone() };
        let json = serde_json::to_vec(&stored)
            .map_err(|e| Error::failed(format!("write {}", path.display())).because(e))?;
        durable::write(&path, &json, 0o600)
    }
}
