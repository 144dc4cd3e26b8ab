//! One process of a release: whether it stays up, listens where its clients are, responds, and
//! reports readiness.

use super::demand::{Demand, Reach, Shortfall};
use crate::events::Events;
use crate::host::service_status::ServiceStatus;
use crate::host::systemd::monotonic;
use model::error::{Error, Result};
use model::reason::Reason;
use model::release::manifest::{Manifest, Process};
use model::release::name::ProcessType;
use model::release::settings::Readiness;
use model::text;
use model::units;
use std::time::{Duration, Instant};

/// How long a process that binds no port must have stayed up to count as healthy.
const STAYED_UP: Duration = Duration::from_secs(1);

/// The shortest time for a fair probe: one that the deadline cuts off earlier proves nothing.
const FAIR: Duration = Duration::from_secs(1);
/// Characters that are shown of what a process says of itself.
const LONGEST_SAID: usize = 200;
const SEE_LOG: &str = "see its log";

/// A process, and what the last check found.
pub(super) struct Watched {
    pub kind: ProcessType,
    pub name: String,
    pub unit: String,
    /// The command that prints its log.
    logs: String,
    pub port: Option<u16>,
    /// In bytes; none means no limit.
    memory_max: Option<u64>,
    /// How the process reports readiness.
    ready: Readiness,
    /// The run that was seen first: the process must stay in it.
    seen: Option<Seen>,
    pub healthy: bool,
    /// How clients reached it at the last check; none without a port.
    pub reached: Option<Reach>,
    /// Its last STATUS= of sd_notify(3).
    said: String,
}

/// One run of a service. Its main process may change, as when a server re-executes itself.
#[derive(Clone, PartialEq, Eq)]
struct Seen {
    invocation: String,
    n_restarts: u32,
}

/// Why a process is not healthy yet.
pub(super) struct NotYet {
    pub process: String,
    unit: String,
    pub why: String,
    help: String,
    /// The process responds, but the port map does not lead to it.
    pub is_of_map: bool,
}

impl NotYet {
    pub fn deadline(self, timeout: Duration) -> Error {
        let what = format!("{} was not healthy within {} s", self.process, timeout.as_secs_f32());
        self.error(what).with_reason(Reason::HealthTimeout)
    }

    pub fn stopped_answering(self) -> Error {
        let what = format!("{} stopped being healthy", self.process);
        self.error(what).with_reason(Reason::StoppedAnswering)
    }

    fn error(self, what: String) -> Error {
        let what = format!("{what} ({})", self.unit);
        Error::unhealthy(what).because(self.why).help(self.help)
    }
}

/// Returns the advice for a process that was killed for memory; its limit is in bytes.
pub fn help_for_memory(limit: Option<u64>) -> String {
    match limit {
        None => "the instance has too little memory for it".to_owned(),
        Some(most) => format!("let it use less than {most} bytes, or raise DEPLOY_MEMORY_MAX"),
    }
}

impl Watched {
    pub fn new(manifest: &Manifest, process: &Process) -> Watched {
        Watched {
            kind: process.kind.clone(),
            name: process.to_string(),
            unit: units::service(manifest.url.app(), &manifest.label, process),
            logs: format!(
                "deploy logs {} {process} --release {}",
                manifest.url.app(),
                manifest.label
            ),
            port: process.port,
            memory_max: manifest.plan.memory_max,
            ready: manifest.plan.ready,
            seen: None,
            healthy: false,
            reached: None,
            said: String::new(),
        }
    }

    /// Fails if the process ended or was restarted since it was seen first.
    pub fn must_stay(&mut self, status: &ServiceStatus) -> Result<()> {
        let (invocation, n_restarts) = (status.invocation_id.clone(), status.n_restarts);
        let now = Seen { invocation, n_restarts };
        let same = *self.seen.get_or_insert(now.clone()) == now;
        let up = matches!(status.active_state.as_str(), "active" | "activating" | "reloading");
        if up && same && status.sub_state != "auto-restart" {
            return Ok(());
        }
        let memory = status.was_killed_for_memory();
        let why = match (status.result.as_str(), status.sub_state.as_str()) {
            (_, "running") => "it ended and was restarted".to_owned(),
            ("success", "dead") => "it is not running".to_owned(),
            _ if memory => format!("it was {}", status.ending()),
            _ => format!("it ended: {}", status.ending()),
        };
        let what = format!("{} did not stay up ({})", self.name, self.unit);
        let help = match (memory, self.memory_max) {
            (false, _) => self.help_for_exit(status),
            (true, most) => help_for_memory(most),
        };
        let reason = if memory { Reason::OutOfMemory } else { Reason::ProcessEnded };
        Err(Error::unhealthy(what).because(why).help(help).with_reason(reason))
    }

    /// Returns the advice for an exit status that has a meaning: bash(1), EXIT STATUS.
    fn help_for_exit(&self, status: &ServiceStatus) -> String {
        let read = format!("read all that it wrote: `{}`", self.logs);
        let kind = &self.kind;
        match (status.exec_main_code, status.exec_main_status) {
            (1, 0) if kind.as_str() == "web" => {
                format!("keep it in the foreground, without an option such as --daemon; {read}")
            }
            (1, 0) => format!(
                "keep it in the foreground; if {kind} is a one-off and no service, set \
                 DEPLOY_CONCURRENCY={kind}=0 in the release's env (beside others: web=2,{kind}=0)"
            ),
            (1, 126) => format!(
                "pack the program with its x bit, built for this machine's architecture, and with \
                 a program in its `#!` line that the app's user may run; {read}"
            ),
            (1, 127) => format!(
                "name the program by its path in the release (./bin/server), install it, or set \
                 PATH in env; a script is not found either where its `#!` line names a program \
                 that is not there; {read}"
            ),
            _ => read,
        }
    }

    pub async fn verdict(
        &self,
        status: &ServiceStatus,
        demand: &Demand,
    ) -> Result<Option<Reach>, NotYet> {
        let only_port = self.ready == Readiness::Port;
        if self.port.is_none() && only_port && status.is_running() && !stayed_up(status) {
            return Err(self.not_yet("it has only just started".into(), SEE_LOG));
        }
        self.verdict_of_running(status, demand).await
    }

    pub async fn verdict_of_running(
        &self,
        status: &ServiceStatus,
        demand: &Demand,
    ) -> Result<Option<Reach>, NotYet> {
        if status.is_running() {
            return self.answers(status, demand).await;
        }
        if self.ready == Readiness::Notify && status.sub_state == "start" {
            let said = match status.status_text.as_str() {
                "" => String::new(),
                text => format!("; it says: {}", text::line(text, LONGEST_SAID)),
            };
            let why = format!("it has not sent READY=1{said}");
            let help = "let it send READY=1 (sd_notify(3)) when it is ready, raise \
                        DEPLOY_HEALTH_TIMEOUT, or set DEPLOY_READY=port";
            return Err(self.not_yet(why, help));
        }
        Err(self.not_yet(format!("it is {}", status.sub_state), SEE_LOG))
    }

    /// Emits the status text of the process when it changes.
    pub fn pass_on(&mut self, status: &ServiceStatus, events: &Events) {
        if status.status_text != self.said {
            self.said.clone_from(&status.status_text);
            events.output(format!("{}: {}", self.name, text::line(&self.said, LONGEST_SAID)));
        }
    }

    /// The same with a deadline. If that leaves no time for a fair probe, returns `before`, the
    /// earlier finding, which is more useful.
    pub async fn verdict_by(
        &self,
        deadline: Instant,
        status: &ServiceStatus,
        demand: &Demand,
        before: &mut Option<NotYet>,
    ) -> Result<Option<Reach>, NotYet> {
        let asked = Instant::now();
        let verdict = tokio::time::timeout_at(deadline.into(), self.verdict(status, demand)).await;
        verdict.unwrap_or_else(|_| {
            let mute = || self.not_yet("it did not answer in time".into(), SEE_LOG);
            Err(before.take().filter(|_| asked.elapsed() < FAIR).unwrap_or_else(mute))
        })
    }

    /// Checks that a process with a port listens on it itself, and responds.
    pub async fn answers(
        &self,
        status: &ServiceStatus,
        demand: &Demand,
    ) -> Result<Option<Reach>, NotYet> {
        let Some(port) = self.port else { return Ok(None) };
        let endpoints = demand.network.endpoints(&status.control_group).await;
        match demand.check(&endpoints, port).await {
            Ok(reached) => Ok(Some(reached)),
            Err(Shortfall { why, help }) => Err(self.not_yet(why, &help)),
        }
    }

    /// The same, and that clients of the public port reach it, or another process of its type.
    pub async fn answers_in_public(
        &self,
        status: &ServiceStatus,
        demand: &Demand,
        public: Option<u16>,
    ) -> Result<(), NotYet> {
        let Some((reach, port)) = self.answers(status, demand).await?.zip(public) else {
            return Ok(());
        };
        let path = demand.public_path(reach, port).await;
        path.map_err(|Shortfall { why, help }| NotYet {
            is_of_map: true,
            ..self.not_yet(why, &help)
        })
    }

    pub fn not_yet(&self, why: String, help: &str) -> NotYet {
        let (process, unit) = (self.name.clone(), self.unit.clone());
        NotYet { process, unit, why, help: help.to_owned(), is_of_map: false }
    }
}

fn stayed_up(status: &ServiceStatus) -> bool {
    let micros = monotonic().saturating_sub(status.active_since_monotonic);
    u128::from(micros) >= STAYED_UP.as_micros()
}

#[cfg(test)]
mod tests;
