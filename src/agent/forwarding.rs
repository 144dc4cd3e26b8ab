//! Follows DEPLOY_SYSLOG in agent.env for as long as the daemon runs.

use crate::context;
use crate::forwarding::{self, Change, Place};
use crate::host::linux::Linux;
use crate::host::machine;
use crate::source::Sources;
use model::error::Result;
use model::release::settings::SyslogSettings;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// The interval of looks at the settings, and at what the machine has: rsyslog may be installed
/// later.
const LOOK: Duration = Duration::from_secs(10);

/// The metadata service may be out of reach until so long after the start.
const EARLY: Duration = Duration::from_secs(300);

/// The deadline of the metadata service.
const ANSWER: Duration = Duration::from_secs(2);

/// The task that follows the settings.
#[derive(Clone, Default)]
pub struct Forwarder(Arc<Notify>);

impl Forwarder {
    /// Looks at the settings now.
    pub fn reload(&self) {
        self.0.notify_one();
    }

    /// Runs as long as the daemon.
    pub async fn run(self, sources: Arc<Sources>) {
        let mut following = Following::new(sources);
        loop {
            following.look().await;
            let _ = tokio::time::timeout(LOOK, self.0.notified()).await;
        }
    }
}

struct Following {
    place: Place,
    sources: Arc<Sources>,
    begun: Instant,
    host: Option<String>,
    is_started: bool,
    /// The last error, which is logged once.
    said: String,
}

impl Following {
    fn new(sources: Arc<Sources>) -> Following {
        let host = machine::instance_id().map(str::to_owned);
        let place = Place::new(Path::new("/"));
        let begun = Instant::now();
        Following { place, sources, begun, host, is_started: false, said: String::new() }
    }

    async fn look(&mut self) {
        match self.converge().await {
            Ok(Change::None) => self.said.clear(),
            Ok(Change::Removed) => tracing::info!("logs are no longer forwarded"),
            Ok(Change::Configured) => {
                self.said.clear();
                let config = self.place.config().unwrap_or_default();
                let server = model::syslog::server_of(&config).unwrap_or_default();
                tracing::info!("logs are forwarded to {server}");
            }
            Err(error) => {
                let text = error.chain();
                if text != self.said {
                    let help = error.advice().map_or(String::new(), |help| format!("; {help}"));
                    let goes_on = match self.place.config() {
                        Some(_) => "logs are forwarded as before",
                        None => "logs are not forwarded",
                    };
                    tracing::error!("{text}{help}: {goes_on}");
                    self.said = text;
                }
            }
        }
    }

    async fn converge(&mut self) -> Result<Change> {
        let settings = forwarding::settings(&context::load_env()?)?;
        if settings.is_none() && self.place.config().is_none() {
            return Ok(Change::None);
        }
        self.find_host(settings.as_ref()).await;
        let machine = Linux::connect().await?;
        let host = self.host.as_deref();
        let change = self.place.converge(&machine, settings.as_ref(), host).await?;
        if !self.is_started {
            self.place.ensure_started(&machine).await?;
            self.is_started = true;
        }
        Ok(change)
    }

    /// Looks for the instance id, which is the host's name in each line.
    async fn find_host(&mut self, settings: Option<&SyslogSettings>) {
        let is_disabled =
            std::env::var("AWS_EC2_METADATA_DISABLED").is_ok_and(|value| value == "true");
        if settings.is_none()
            || self.host.is_some()
            || is_disabled
            || (self.is_started && self.begun.elapsed() > EARLY)
        {
            return;
        }
        let asked = tokio::time::timeout(ANSWER, self.sources.instance_id()).await;
        self.host = asked.ok().flatten();
    }
}
