//! `phase.json`: the last release phase that was asked for with an id. It must survive a crash, so
//! that a request that is repeated does not run it again.

use super::durable;
use super::{App, Locked};
use model::error::Result;
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::PathBuf;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PhaseState {
    /// It runs, or was interrupted.
    Begun,
    Done,
    Failed,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastPhase {
    /// The id that the caller gave.
    pub id: String,
    pub state: PhaseState,
}

impl App {
    /// Returns the last one; an unreadable file is ignored.
    pub fn last_phase(&self) -> Option<LastPhase> {
        serde_json::from_slice(&fs::read(self.phase_path()).ok()?).ok()
    }

    fn phase_path(&self) -> PathBuf {
        self.dir().join("phase.json")
    }
}

impl Locked {
    pub fn set_last_phase(&self, last: &LastPhase) -> Result<()> {
        let json = serde_json::to_vec(last).unwrap_or_default();
        self.write_with_reserve(|| durable::write(&self.phase_path(), &json, 0o600))
    }
}
