//! What a rollout reports while it goes on.

use super::record::{Phase, Verdict};
use crate::fleet::Host;
use serde::Serialize;

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The first event.
    Begun {
        id: String,
        to: String,
        from: Option<String>,
        instances: usize,
    },
    /// A step begins.
    Step {
        phase: Phase,
        text: String,
    },
    /// An instance is further.
    Host {
        host: Host,
        happened: Happened,
        text: String,
        /// What to do about a failure.
        #[serde(skip_serializing_if = "Option::is_none")]
        help: Option<String>,
        /// The last lines of the processes that failed.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        log: Vec<String>,
    },
    Warning {
        text: String,
    },
    /// The last event.
    Ended {
        id: String,
        verdict: Verdict,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Happened {
    Running,
    Done,
    Failed,
    Lost,
    Gone,
}
