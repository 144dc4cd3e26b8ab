//! What every step of a deploy works with: settings, state, machine, sources, events.

use crate::budget::Budget;
use crate::cut::Cut;
use crate::events::Events;
use crate::host::linux::Linux;
use crate::host::seams::Machine;
use crate::source::Sources;
use crate::store::{Store, remember_place};
use crate::switched::Switched;
use jiff::Timestamp;
use model::error::{Error, Result};
use model::release::env::Env;
use model::release::name::Label;
use model::release::settings::{AGENT_FILE, AgentSettings, STATE_DIR};
use std::io::ErrorKind;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::watch;

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

/// The time after a switch, in which the release before is still warm: a rollback
/// that is asked for then takes the new one back at once.
#[derive(Clone, Debug, Default)]
pub struct RollbackWindow {
    phase: Arc<watch::Sender<Phase>>,
    /// The release that ran before a deploy that is not good yet.
    before: Arc<Mutex<Option<Label>>>,
}

#[derive(Clone, Debug, Default)]
enum Phase {
    #[default]
    Over,
    Settling {
        until: Timestamp,
        /// What is committed again if the new release is taken back.
        before: Label,
    },
    TakenBack {
        by: String,
    },
    Draining {
        until: Timestamp,
    },
}

impl RollbackWindow {
    /// Remembers the release that a rollback during the deploy goes to.
    pub fn remember(&self, before: Option<Label>) {
        *self.before.lock().unwrap_or_else(PoisonError::into_inner) = before;
    }

    /// Waits until somebody takes the release back to `before`; who it was.
    pub async fn taken_back(&self, before: Option<&Label>, window: Duration) -> String {
        let Some(before) = before.cloned() else { return std::future::pending().await };
        let until = end_of(window);
        let _phase = self.begin(Phase::Settling { until, before });
        let mut changes = self.phase.subscribe();
        let who =
            match changes.wait_for(|now| matches!(now, Phase::TakenBack { .. })).await.as_deref() {
                Ok(Phase::TakenBack { by }) => Some(by.clone()),
                _ => None,
            };
        match who {
            Some(who) => who,
            None => std::future::pending().await,
        }
    }

    /// The old processes are waited for until then; the phase ends with the guard.
    pub fn draining(&self, timeout: Duration) -> impl Drop + '_ {
        self.begin(Phase::Draining { until: end_of(timeout) })
    }

    /// Takes back what settles now, if anything does; where that, or a rollback
    /// that comes after the deploy, goes.
    pub fn take_back(&self, who: &str) -> Option<Label> {
        let mut to = self.before.lock().unwrap_or_else(PoisonError::into_inner).clone();
        self.phase.send_if_modified(|now| {
            let Phase::Settling { before, .. } = now else { return false };
            to = Some(before.clone());
            *now = Phase::TakenBack { by: who.to_owned() };
            true
        });
        to
    }

    /// When the processes of the release before may be stopped, at the latest.
    pub fn until(&self) -> Option<Timestamp> {
        match *self.phase.borrow() {
            Phase::Settling { until, .. } | Phase::Draining { until } => Some(until),
            Phase::Over | Phase::TakenBack { .. } => None,
        }
    }

    fn begin(&self, phase: Phase) -> End<'_> {
        self.phase.send_replace(phase);
        End(&self.phase)
    }
}

/// However a phase ends, it is over.
struct End<'a>(&'a watch::Sender<Phase>);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.send_replace(Phase::Over);
    }
}

fn end_of(window: Duration) -> Timestamp {
    Timestamp::now().checked_add(window).unwrap_or(Timestamp::MAX)
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
