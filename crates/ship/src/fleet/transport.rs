//! How a command gets to instances, and its outcome back.

use super::{Host, Shell};
use async_trait::async_trait;
use model::error::Result;
use model::event::Outcome;
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::Duration;

/// What instances are told to do. Each order may be given again at any time: the agent waits for
/// the job that is under way, and does nothing where the release runs and is healthy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// `deploy URL`; `release` is the id under which its release phase runs once.
    Deploy { url: String, by: String, release: Option<String> },
    /// `deploy rollback APP --to RELEASE`, which needs no store.
    Rollback { app: String, to: String, by: String },
}

/// A command under way on several instances.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ticket(pub String);

/// How far an instance is with a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Sent, or not yet sent.
    Waiting,
    /// The step, where the transport knows it.
    Running(Option<String>),
    Ended(Ended),
    /// It was cancelled before the instance had begun.
    NotBegun,
    /// The outcome cannot be known: the instance or the connection is gone.
    Lost(String),
}

/// How `deploy` ended on an instance.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ended {
    pub code: u8,
    pub message: String,
    /// What to do about a failure.
    pub help: Option<String>,
    /// The last lines of the processes that failed.
    pub log: Vec<String>,
}

/// What runs on an instance.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Seen {
    /// The name of the current release; none if the app is not there.
    pub release: Option<String>,
    pub healthy: bool,
    /// The release that a rollback of this instance would take.
    pub rollback: Option<String>,
    /// Whether the current release came by a rollback, so that another one goes further back.
    #[serde(skip)]
    pub rolled_back: bool,
    /// Whether a job is under way that may change it.
    pub working: bool,
    /// Why it is not healthy.
    pub fault: Option<String>,
    /// Since when the release is current.
    pub since: Option<jiff::Timestamp>,
    /// The version of the agent, where the transport knows it.
    pub agent: Option<String>,
}

/// Lines of a failed process's log that are kept.
const LOG: usize = 20;

impl From<Outcome> for Ended {
    fn from(outcome: Outcome) -> Ended {
        let message = model::text::line(&outcome.message, 500);
        let help = outcome.help.map(|help| model::text::line(&help, 300));
        let first = outcome.log.len().saturating_sub(LOG);
        let log = outcome.log.iter().skip(first).map(|line| model::text::line(line, 500));
        Ended { code: outcome.code, message, help, log: log.collect() }
    }
}

impl Seen {
    /// Returns the release that runs, unless that may change by itself.
    pub fn settled(self) -> Option<String> {
        self.release.filter(|_| !self.working)
    }
}

/// Runs `deploy` on instances.
#[async_trait]
pub trait Transport: Send + Sync {
    /// Notes the rollout that the next orders belong to, for whoever reads what was sent.
    fn belong_to(&self, _rollout: &str) {}

    /// Returns the way for commands of people, if it has one.
    fn shell(&self) -> Option<&dyn Shell> {
        None
    }

    /// Returns how many instances one command is sent to at most.
    fn most(&self) -> usize;

    /// Returns the pause between two polls.
    fn pause(&self) -> Duration {
        Duration::from_secs(2)
    }

    /// Asks instances what runs on them, all at once. The error of one says why it cannot be
    /// reached.
    async fn look(&self, app: &str, hosts: &[Host])
    -> Result<BTreeMap<Host, Result<Seen, String>>>;

    /// Sends a command to instances, and returns at once. It goes on if ship ends.
    async fn begin(&self, order: &Order, hosts: &[Host]) -> Result<Ticket>;

    /// Returns how far each instance is.
    async fn poll(&self, ticket: &Ticket) -> Result<BTreeMap<Host, Progress>>;

    /// Stops sending; instances that have begun go on.
    async fn cancel(&self, ticket: &Ticket) -> Result<()>;

    /// Stops sending whatever has been begun, as ship ends. Instances that have begun go on.
    async fn let_go(&self) -> Result<()> {
        Ok(())
    }
}
