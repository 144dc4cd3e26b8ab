//! What people do on instances beside a rollout: a command, a login, the logs.

use super::Host;
use async_trait::async_trait;
use model::error::Result;
use tokio::sync::mpsc::Sender;

/// What is run on an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Task {
    /// `deploy` with these words, by root.
    Deploy(Vec<String>),
    /// The login shell of the user that ship connects as.
    Login,
}

/// A stream of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    Out,
    Err,
}

/// A line that an instance has printed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    pub stream: Stream,
    pub text: String,
}

/// Runs commands on instances for people.
#[async_trait]
pub trait Shell: Send + Sync {
    /// Whether lines come while a task runs, and not all at its end.
    fn is_live(&self) -> bool {
        true
    }

    /// Runs a task with the streams of this process and, with `terminal`, at a terminal of its
    /// own. Returns its exit code.
    async fn attached(&self, host: &Host, task: &Task, terminal: bool) -> Result<u8>;

    /// Runs a task without input, and passes its lines on as they come. Returns its exit code, or
    /// why it cannot be run.
    async fn lines(&self, host: &Host, task: &Task, to: Sender<Said>) -> Result<u8, String>;
}
