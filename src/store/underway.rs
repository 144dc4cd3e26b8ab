//! `underway.json`: a deploy, or another job of an app, that has begun and not ended. After a crash
//! it is the only trace of a deploy besides its release, and lets the history report how it went on.

use super::durable;
use super::{App, Locked};
use jiff::Timestamp;
use model::error::Result;
use model::history::Entry;
use model::release::name::Label;
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::PathBuf;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UnderWay {
    pub id: String,
    /// The same value as in the history.
    pub action: String,
    pub who: String,
    pub url: Option<String>,
    /// The release that was current when it began.
    pub before: Option<Label>,
    pub since: Timestamp,
    /// Whether it is about processes of the current release: a restart, stop, start or scaling.
    #[serde(default)]
    pub of_processes: bool,
}

impl App {
    /// Returns the job that is under way, or was when the daemon last ended. A job whose
    /// outcome is in the history has ended, though a crash may have left the file; an unreadable
    /// file is ignored.
    pub fn under_way(&self) -> Option<UnderWay> {
        let work: UnderWay = serde_json::from_slice(&fs::read(self.under_way_path()).ok()?).ok()?;
        let has_ended = |newest: &Entry| newest.id == work.id;
        let history = self.history(1).unwrap_or_default();
        (!history.first().is_some_and(has_ended)).then_some(work)
    }

    fn under_way_path(&self) -> PathBuf {
        self.dir().join("underway.json")
    }
}

impl Locked {
    pub fn set_under_way(&self, work: &UnderWay) -> Result<()> {
        let json = serde_json::to_vec(work).unwrap_or_default();
        self.write_with_reserve(|| durable::write(&self.under_way_path(), &json, 0o600))
    }

    pub fn nothing_under_way(&self) -> Result<()> {
        durable::remove(&self.under_way_path())
    }
}
