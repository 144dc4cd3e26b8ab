//! The history of an app: what was asked for, and how it ended.

use crate::error::Exit;
use crate::event::Outcome;
use crate::reason::Reason;
use crate::timings::Timings;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// One deploy or rollback, and how it ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    pub at: Timestamp,
    /// Of the job, as its caller was told.
    pub id: String,
    /// `deploy`, `rollback`, or `recover` where nobody had asked for anything.
    pub action: String,
    /// Who asked for it: the user's name.
    pub who: String,
    pub url: Option<String>,
    /// The label that was asked for, where it came that far.
    pub release: Option<String>,
    /// What was current before.
    pub before: Option<String>,
    /// What is current after.
    pub after: Option<String>,
    pub exit: Exit,
    /// Why it failed; entries of 0.1.0 have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    pub message: String,
    pub seconds: f64,
    /// Where they went.
    #[serde(default)]
    pub timings: Timings,
}

/// How it ended, as its caller was told.
impl From<Entry> for Outcome {
    fn from(entry: Entry) -> Outcome {
        let mut outcome = Outcome::done(entry.message);
        (outcome.exit, outcome.code, outcome.reason) =
            (entry.exit, entry.exit.code(), entry.reason);
        (outcome.id, outcome.release) = (Some(entry.id), entry.release);
        (outcome.current, outcome.seconds) = (entry.after, entry.seconds);
        outcome.timings = entry.timings;
        outcome
    }
}
