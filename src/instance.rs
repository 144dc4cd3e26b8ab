//! What every step of a deploy needs of this instance.

use crate::error::{Error, Result};
use crate::event::Events;
use crate::host::systemd::Systemd;
use crate::release::env::Env;
use crate::release::settings::{AGENT_FILE, AgentSettings};
use crate::source::Sources;
use crate::store::Store;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

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
    /// When the caller no longer wants the deploy, if it is not committed by then.
    pub deadline: Option<Instant>,
}

impl Instance {
    pub async fn open(sources: Arc<Sources>, events: Events, who: String) -> Result<Self> {
        let (agent_env, settings) = load_settings()?;
        let store = Store::at(&settings.state_dir);
        let systemd = Systemd::connect().await?;
        let deadline = None;
        Ok(Instance { agent_env, settings, store, systemd, sources, events, who, deadline })
    }

    /// How long a step may take that has `most` by itself.
    pub fn remaining(&self, most: Duration) -> Duration {
        let left = |deadline: Instant| deadline.saturating_duration_since(Instant::now());
        self.deadline.map_or(most, |deadline| left(deadline).min(most))
    }
}

/// Reads the agent's settings; a missing file means the built-in ones.
pub fn load_settings() -> Result<(Env, AgentSettings)> {
    let path = Path::new(AGENT_FILE);
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == ErrorKind::NotFound => Vec::new(),
        Err(e) => return Err(Error::usage(format!("read {}", path.display())).because(e)),
    };
    let env = Env::parse(&bytes).map_err(|e| {
        let help = e.help.clone().unwrap_or_else(|| format!("correct {}", path.display()));
        Error::usage(format!("read {}", path.display())).because(e).help(help)
    })?;
    let settings = AgentSettings::from_env(&env)?;
    Ok((env, settings))
}
