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
use model::error::{Error, Result};
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
    /// The memory of all stages.
    pub budget: Budget,
    /// The pause between tries to bring a release back: systemd may be re-executing itself.
    pub restore_pause: Duration,
}

impl Default for Common {
    fn default() -> Self {
        Common {
            ports: Switched::default(),
            committing: tokio::sync::Mutex::default(),
            allocating: tokio::sync::Mutex::default(),
            budget: Budget::default(),
            restore_pause: Duration::from_secs(2),
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
    let settings = AgentSettings::from_env(&env)?;
    Ok((env, settings))
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
