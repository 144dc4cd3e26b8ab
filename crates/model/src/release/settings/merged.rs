//! The merged layers, still as text.

use super::AGENT_FILE;
use super::names::{FOR_AGENT, FOR_ANYONE};
use super::value::Invalid;
use crate::error::{Error, Exit};
use crate::release::env::Env;
use crate::text::quoted;
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// The text of each setting of a release.
#[derive(Deserialize)]
pub(super) struct ReleaseText {
    pub port: String,
    pub deploy_concurrency: String,
    pub deploy_strategy: String,
    pub deploy_clients: String,
    pub deploy_ready: String,
    pub deploy_health_path: String,
    pub deploy_health_host: String,
    pub deploy_health_status: String,
    pub deploy_health_timeout: String,
    pub deploy_prove: String,
    pub deploy_settle: String,
    pub deploy_drain_timeout: String,
    pub deploy_watchdog: String,
    pub deploy_stop_signal: String,
    pub deploy_stop_timeout: String,
    pub deploy_build_timeout: String,
    pub deploy_release_phase: String,
    pub deploy_singleton: String,
    pub deploy_udp: String,
    pub deploy_writable: String,
    pub deploy_process_dirs: String,
    pub deploy_sandbox: String,
    pub deploy_memory_max: String,
    pub deploy_metadata: String,
}

/// The text of each setting of the agent.
#[derive(Deserialize)]
pub(super) struct AgentText {
    pub deploy_state_dir: String,
    pub deploy_user: String,
    pub deploy_keep_releases: String,
    pub deploy_max_unpacked: String,
    pub deploy_max_files: String,
    pub deploy_max_fetch_memory: String,
    pub deploy_build_memory_max: String,
    pub deploy_min_sandbox: String,
    pub deploy_max_duration: String,
    pub deploy_max_stop_timeout: String,
    pub deploy_max_processes: String,
    pub deploy_max_memory: String,
    pub deploy_max_tasks: String,
    pub deploy_public_ports: String,
    pub deploy_boot_timeout: String,
    pub deploy_watch: String,
    pub deploy_watch_interval: String,
    pub deploy_syslog: String,
    pub deploy_syslog_ca: String,
    pub deploy_syslog_peer: String,
}

/// The layers that were read, lowest first; the built-in values are below both.
pub(super) struct Layers<'a> {
    pub agent: &'a Env,
    pub release: &'a Env,
}

impl Layers<'_> {
    /// Takes each setting from the highest layer that has it.
    pub fn merge<T: DeserializeOwned>(&self) -> Result<T, Error> {
        let pairs = FOR_ANYONE.iter().chain(&FOR_AGENT).map(|(name, built_in)| {
            let set = self.release.get(name).or_else(|| self.agent.get(name));
            ((*name).to_owned(), set.unwrap_or(built_in).to_owned())
        });
        envy::from_iter(pairs).map_err(|error| Error::failed("read the settings").because(error))
    }

    /// Whether the release or the agent sets it.
    pub fn sets(&self, name: &str) -> bool {
        self.release.get(name).or_else(|| self.agent.get(name)).is_some()
    }

    /// Validates a merged text; the error names the file that it came from. Settings are not
    /// secret: the error shows the text.
    pub fn valid<T>(
        &self,
        name: &str,
        text: &str,
        read: fn(&str) -> Result<T, Invalid>,
    ) -> Result<T, Error> {
        read(text).map_err(|invalid| {
            self.blame(&[name], format!("{name}={}", quoted(text)))
                .because(invalid.what)
                .help(invalid.help)
        })
    }

    /// An error about `what`, in the file that sets one of `names`: the release's first.
    pub fn blame(&self, names: &[&str], what: String) -> Error {
        let of_release = names.iter().any(|name| self.release.get(name).is_some());
        let (exit, file) =
            if of_release { (Exit::Unusable, "env") } else { (Exit::Usage, AGENT_FILE) };
        Error::new(exit, format!("{file}: {what}"))
    }
}
