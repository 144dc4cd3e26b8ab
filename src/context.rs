//! What every step of a deploy works with: settings, state, machine, sources, events.

use crate::budget::Budget;
use crate::cut::Cut;
use crate::events::Events;
use crate::host::linux::Linux;
use crate::host::seams::Machine;
use crate::rollback_window::RollbackWindow;
use crate::source::Sources;
use crate::store::{Store, last_place, remember_place};
use crate::switched::Switched;
use crate::trust::Trust;
use model::error::{Error, Result};
use model::reason::Reason;
use model::release::env::Env;
use model::release::settings::{AGENT_FILE, AgentSettings, STATE_DIR};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The group whose members may change things, besides root.
pub const OPERATORS: &str = "deploy";

/// One request's view of the instance: settings as they are now, the state,
/// systemd, the sources, and where to report.
#[derive(Clone)]
pub struct Context {
    /// `agent.env` as it was read, under the release's own env.
    pub agent_env: Env,
    pub settings: AgentSettings,
    pub store: Store,
    pub machine: Arc<dyn Machine>,
    pub common: Arc<Common>,
    pub sources: Arc<Sources>,
    /// The keys that may sign releases.
    pub trust: Trust,
    pub events: Events,
    /// The user who asked.
    pub who: String,
    /// Of the job that this is for.
    pub id: String,
    pub rollback_window: RollbackWindow,
    /// Where the work may be cut off.
    pub cut: Cut,
    /// When the caller no longer wants the deploy, if it is not committed by then.
    pub deadline: Option<Instant>,
}

/// Values that all jobs of one daemon share.
#[derive(Debug)]
pub struct Common {
    pub ports: Switched,
    /// Held from the last look at the public ports to the commit that takes one.
    pub committing: tokio::sync::Mutex<()>,
    /// Held from reading which private ports are taken until the manifest that takes some is
    /// on the disk.
    pub allocating: tokio::sync::Mutex<()>,
    /// Held while a signature is verified: the unit has one name.
    pub verifying: tokio::sync::Mutex<()>,
    /// The memory of all stages.
    pub budget: Budget,
    /// The pause between tries to bring a release back: systemd may be re-executing itself.
    pub restore_pause: Duration,
    /// How long a deploy that has failed waits for the disk, so that its release need not be
    /// fetched again.
    pub last_wait: Duration,
}

impl Default for Common {
    fn default() -> Self {
        Common {
            ports: Switched::default(),
            committing: tokio::sync::Mutex::default(),
            allocating: tokio::sync::Mutex::default(),
            verifying: tokio::sync::Mutex::default(),
            budget: Budget::default(),
            restore_pause: Duration::from_secs(2),
            last_wait: Duration::from_secs(30),
        }
    }
}

impl Context {
    pub async fn open(
        common: Arc<Common>,
        sources: Arc<Sources>,
        events: Events,
        who: String,
    ) -> Result<Self> {
        let (agent_env, settings) = load_settings()?;
        let store = Store::at(&settings.state_dir);
        if let Err(error) = remember_place(Path::new(STATE_DIR), store.root()) {
            tracing::warn!("{}", error.chain());
        }
        let machine = Arc::new(Linux::connect().await?);
        Ok(Context {
            agent_env,
            settings,
            store,
            machine,
            common,
            sources,
            trust: Trust::default(),
            events,
            who,
            id: String::new(),
            rollback_window: RollbackWindow::default(),
            cut: Cut::default(),
            deadline: None,
        })
    }

    /// Returns the result of `work`, or none if the deadline comes first.
    pub async fn in_time<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        match self.deadline {
            Some(deadline) => tokio::time::timeout_at(deadline.into(), work).await.ok(),
            None => Some(work.await),
        }
    }

    /// How long a step may take that has `most` by itself.
    pub fn remaining(&self, most: Duration) -> Duration {
        let left = |deadline: Instant| deadline.saturating_duration_since(Instant::now());
        self.deadline.map_or(most, |deadline| left(deadline).min(most))
    }
}

/// Runs disk work that may take long without holding up the daemon's other tasks.
pub fn blocking<T>(work: impl FnOnce() -> T) -> T {
    tokio::task::block_in_place(work)
}

/// Reads the agent's settings; a missing file means the built-in ones.
pub fn load_settings() -> Result<(Env, AgentSettings)> {
    let env = load_env()?;
    let settings = AgentSettings::from_env(&env).map_err(with_line)?;
    Ok((env, settings))
}

/// Adds the line of agent.env that an error is about.
pub fn with_line(error: Error) -> Error {
    let text = std::fs::read_to_string(AGENT_FILE).unwrap_or_default();
    let what = error.to_string();
    let Some(line) = line_of(&text, &what) else {
        return error.with_reason(Reason::InvalidAgentSetting);
    };
    let about = what.trim_start_matches(AGENT_FILE).trim_start_matches([':', ' ']);
    let why =
        error.chain().trim_start_matches(what.as_str()).trim_start_matches([':', ' ']).to_owned();
    let outer = Error::new(error.exit(), format!("{AGENT_FILE}, line {line}: {about}"));
    let outer = outer.with_reason(Reason::InvalidAgentSetting).because(why);
    match error.advice() {
        Some(help) => outer.help(help.to_owned()),
        None => outer,
    }
}

/// Returns the number of the last line that sets the variable that an error names.
fn line_of(text: &str, error: &str) -> Option<usize> {
    let after = error.strip_prefix(AGENT_FILE)?.trim_start_matches([':', ' ']);
    let name = after.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).next()?;
    let sets = |line: &str| {
        let line = line.trim_start().trim_start_matches("export ").trim_start();
        !name.is_empty() && line.strip_prefix(name).is_some_and(|rest| rest.starts_with('='))
    };
    text.lines().enumerate().filter(|(_, line)| sets(line)).map(|(nth, _)| nth + 1).last()
}

/// Returns the state directory; while agent.env has a mistake, the last valid one.
pub fn state_dir() -> PathBuf {
    let usual = Path::new(STATE_DIR);
    match load_settings() {
        Ok((_, settings)) => settings.state_dir,
        Err(_) => last_place(usual).unwrap_or_else(|| usual.to_owned()),
    }
}

/// Reads the agent's settings as they stand in the file.
pub fn load_env() -> Result<Env> {
    let what = || Error::usage(format!("read {AGENT_FILE}"));
    let bytes = match std::fs::read(AGENT_FILE) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == ErrorKind::NotFound => Vec::new(),
        Err(e) => return Err(what().because(e)),
    };
    Env::parse(&bytes).map_err(|e| {
        let help = e.help.clone().unwrap_or_else(|| format!("correct {AGENT_FILE}"));
        what().because(e).help(help)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_of_a_mistake_is_the_last_that_sets_the_variable() {
        let text = "# DEPLOY_SETTLE=1s\nDEPLOY_SETTLE=1s\nPORT=1\nexport DEPLOY_SETTLE=soon\n";
        let error = format!("{AGENT_FILE}: DEPLOY_SETTLE=\"soon\"");
        assert_eq!(line_of(text, &error), Some(4));
        assert_eq!(line_of(text, "another error"), None);
    }
}
