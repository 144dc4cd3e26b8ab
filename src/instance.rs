//! What every step of a deploy needs of this instance.

use crate::error::{Error, Result};
use crate::event::Events;
use crate::host::systemd::Systemd;
use crate::host::user::{self, Ids};
use crate::release::env::Env;
use crate::release::settings::{AGENT_FILE, AgentSettings};
use crate::source::Sources;
use crate::store::Store;
use std::io::ErrorKind;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The group whose members may change things, besides root.
pub const OPERATORS: &str = "deploy";

/// One request's view of the instance: settings as they are now, the state,
/// systemd, the sources, and where to report.
#[derive(Clone)]
pub struct Instance {
    /// `agent.env` as it was read, under the release's own env.
    pub agent_env: Env,
    pub settings: AgentSettings,
    pub store: Store,
    pub systemd: Systemd,
    pub sources: Arc<Sources>,
    pub events: Events,
    /// The user who asked.
    pub who: String,
    /// Of the piece of work that this is for.
    pub id: String,
    /// When the caller no longer wants the deploy, if it is not committed by then.
    pub deadline: Option<Instant>,
}

impl Instance {
    pub async fn open(sources: Arc<Sources>, events: Events, who: String) -> Result<Self> {
        let (agent_env, settings) = load_settings()?;
        let store = Store::at(&settings.state_dir);
        let systemd = Systemd::connect().await?;
        let (id, deadline) = (String::new(), None);
        Ok(Instance { agent_env, settings, store, systemd, sources, events, who, id, deadline })
    }

    /// What comes by the deadline; none where it does not.
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

/// The identity that apps get. Whoever has it must have no say over the agent.
pub fn app_user(settings: &AgentSettings) -> Result<Ids> {
    let name = &settings.user;
    let ids = user::ids(name)?;
    if ids.uid != 0 && !user::is_member(ids.uid, ids.gid, OPERATORS) {
        return Ok(ids);
    }
    let why = format!("it is root, or in the group {OPERATORS}: apps could control the agent");
    let error = Error::usage(format!("run apps as DEPLOY_USER={name}")).because(why);
    Err(error.help("name a user of its own, such as deploy-app"))
}
