//! Is it healthy? A candidate is watched until it is, or not; a committed
//! release is watched through the settle window.

mod demand;

use crate::error::{Error, Result};
use crate::event::Events;
use crate::host::systemd::{ServiceStatus, Systemd};
use crate::host::{addresses, probe, sockets};
use crate::release::manifest::{Manifest, Process};
use crate::release::name::ProcessType;
use crate::release::reach::Families;
use crate::release::settings::{Clients, Readiness};
use crate::units;
use demand::{Demand, Reach, Shortfall};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

/// How often a candidate that is not yet healthy is looked at again.
const LOOK: Duration = Duration::from_millis(50);
/// How often its port is tried meanwhile: that costs next to nothing, and what opens
/// is looked at at once.
const TRY: Duration = Duration::from_millis(2);
/// How long a process that binds no port must have stayed up to count as healthy.
const STAYED_UP: Duration = Duration::from_secs(1);
/// How often a committed release is looked at in the settle window.
const SETTLE_LOOK: Duration = Duration::from_millis(500);
/// A committed release fails when its probe fails this often in a row.
const PROBE_FAILURES: u32 = 3;
/// The same where only its public port does not answer: the port map is at fault then,
/// which the daemon repairs, and the release before would stand behind the same one.
const MAP_FAILURES: u32 = 20;

/// A probe that the deadline cuts off before this says nothing.
const FAIR: Duration = Duration::from_secs(1);

const SEE_LOG: &str = "see its log";

/// The processes of one release, and what healthy means for them.
pub struct Watch {
    processes: Vec<Watched>,
    demand: Demand,
    /// The port by which clients come to `web` through the port map; none where its
    /// processes bind it themselves.
    public: Option<u16>,
}

struct Watched {
    kind: ProcessType,
    name: String,
    unit: String,
    port: Option<u16>,
    /// Bytes; none means no limit.
    memory_max: Option<u64>,
    /// What it does to say that it is ready.
    ready: Readiness,
    /// The process as it was seen first: it must stay that one.
    seen: Option<Seen>,
    healthy: bool,
    /// How its clients reached it when it was last asked; none without a port.
    reached: Option<Reach>,
    /// What it last said of itself.
    said: String,
}

/// One run of a service. Its main process may be another one in the course of it, as when
/// a server executes itself again.
#[derive(Clone, PartialEq, Eq)]
struct Seen {
    invocation: String,
    n_restarts: u32,
}

impl Watch {
    pub fn new(manifest: &Manifest) -> Self {
        let watched = |process: Process| Watched {
            kind: process.kind.clone(),
            name: process.to_string(),
            unit: units::service(manifest.url.app(), &manifest.label, &process),
            port: process.port,
            memory_max: manifest.plan.memory_max,
            ready: manifest.plan.ready,
            seen: None,
            healthy: false,
            reached: None,
            said: String::new(),
        };
        let processes = manifest.plan.instances().map(watched).collect();
        let mapped = !manifest.plan.private_ports.is_empty();
        let public = mapped.then_some(manifest.plan.port.get());
        Watch { processes, demand: Demand::of(manifest), public }
    }

    /// Asks that clients also reach it as they reach the release that runs now.
    pub fn also_serve(&mut self, current: &Manifest) {
        if self.demand.clients == Clients::Anywhere
            && current.plan.clients == Clients::Anywhere
            && let Some(served) = current.serves
        {
            let served = served.and(addresses::families());
            self.demand.families = self.demand.families.or(served);
        }
    }

    /// Takes it as it is, wherever it listens: it served before, and nothing better is there.
    pub fn accept_any_address(&mut self) {
        self.demand.accept_any_address();
    }

    /// Asks of a release that was never asked before that clients reach it.
    pub fn ask_for_reach(&mut self, manifest: &Manifest) {
        self.demand = Demand::of_new(manifest);
    }

    /// What the operator should know of a first release: over which family of this
    /// instance's addresses no client reaches it.
    pub fn gap(&self) -> Option<String> {
        let served = self.serves().filter(|_| self.demand.clients == Clients::Anywhere)?;
        let gap = addresses::families().without(served);
        let said = |gap: Families| {
            format!(
                "clients do not reach it over {gap}, which this instance has: to serve both, \
                 bind [::]"
            )
        };
        (!gap.is_empty()).then(|| said(gap))
    }

    /// The families over which clients reach every process that has a port; none where
    /// there is no such process.
    pub fn serves(&self) -> Option<Families> {
        let reached = self.processes.iter().filter_map(|process| Some(process.reached?.families));
        reached.reduce(Families::and)
    }

    pub fn units(&self) -> Vec<String> {
        self.processes.iter().map(|process| process.unit.clone()).collect()
    }

    /// Leaves out the processes that are not expected to run.
    pub fn retain(&mut self, expected: impl Fn(&str) -> bool) {
        self.processes.retain(|process| expected(&process.name));
    }

    /// Takes the processes of these types out, into a watch of their own.
    pub fn split_off(&mut self, is: impl Fn(&ProcessType) -> bool) -> Watch {
        let (out, left) = self.processes.drain(..).partition(|process| is(&process.kind));
        self.processes = left;
        Watch { processes: out, demand: self.demand.clone(), public: self.public }
    }

    pub fn is_empty(&self) -> bool {
        self.processes.is_empty()
    }

    pub fn join(&mut self, other: Watch) {
        self.processes.extend(other.processes);
    }

    /// The units that are yet to be started.
    pub async fn not_running(&self, systemd: &Systemd) -> Result<Vec<String>> {
        let mut units = Vec::new();
        for process in &self.processes {
            if !systemd.status(&process.unit).await?.is_running() {
                units.push(process.unit.clone());
            }
        }
        Ok(units)
    }

    /// Stops those that run and are not well, as a release that is deployed again
    /// may have them; the others are left alone.
    pub async fn end_the_unhealthy(&self, systemd: &Systemd, timeout: Duration) -> Result<()> {
        let mut unhealthy = Vec::new();
        for process in &self.processes {
            let status = systemd.status(&process.unit).await?;
            let runs = !matches!(status.active_state.as_str(), "inactive" | "failed");
            if runs && process.verdict(&status, &self.demand).await.is_err() {
                unhealthy.push(process.unit.clone());
            }
        }
        systemd.stop(&unhealthy, timeout).await
    }

    /// Watches started processes until all of them are healthy. A process that
    /// ends or is restarted fails at once; the deadline fails the rest. What a process
    /// says of itself meanwhile goes to `events`.
    pub async fn prove(
        &mut self,
        systemd: &Systemd,
        timeout: Duration,
        events: &Events,
    ) -> Result<()> {
        let deadline = Instant::now() + timeout;
        let mut before = None;
        loop {
            let mut waiting = None;
            for process in &mut self.processes {
                let status = systemd.status(&process.unit).await?;
                process.must_stay(&status)?;
                process.pass_on(&status, events);
                // Once healthy it is not asked again while the others start.
                if !process.healthy {
                    let demand = &self.demand;
                    match process.verdict_by(deadline, &status, demand, &mut before).await {
                        Ok(reached) => (process.healthy, process.reached) = (true, reached),
                        Err(why) => waiting = waiting.or(Some(why)),
                    }
                }
            }
            let Some(why) = waiting else { return Ok(()) };
            if Instant::now() >= deadline {
                return Err(why.deadline(timeout));
            }
            before = Some(why);
            self.wait_for_a_port().await;
        }
    }

    /// Waits for the next look: for [`LOOK`], or until a port opens that was closed.
    async fn wait_for_a_port(&self) {
        let unhealthy = self.processes.iter().filter(|process| !process.healthy);
        let opened = async {
            let mut closed = Vec::new();
            for port in unhealthy.filter_map(|process| process.port) {
                let over_ipv4 = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
                let over_ipv6 = SocketAddr::from((Ipv6Addr::LOCALHOST, port));
                for address in [over_ipv4, over_ipv6] {
                    if probe::connect(address).await.is_err() {
                        closed.push(address);
                    }
                }
            }
            loop {
                tokio::time::sleep(TRY).await;
                for address in &closed {
                    if probe::connect(*address).await.is_ok() {
                        return;
                    }
                }
            }
        };
        let _ = tokio::time::timeout(LOOK, opened).await;
    }

    /// Watches healthy processes for the length of the settle window: each must
    /// stay the same process, and keep answering. The window is not over while one
    /// does not: a probe alone may take longer than it.
    pub async fn settle(&mut self, systemd: &Systemd, window: Duration) -> Result<()> {
        let public = self.public;
        self.keep_healthy(systemd, window, public).await
    }

    /// The same for a candidate, to which no client comes yet.
    pub async fn stay_healthy(&mut self, systemd: &Systemd, window: Duration) -> Result<()> {
        self.keep_healthy(systemd, window, None).await
    }

    async fn keep_healthy(
        &mut self,
        systemd: &Systemd,
        window: Duration,
        public: Option<u16>,
    ) -> Result<()> {
        let end = Instant::now() + window;
        let mut failures = 0;
        loop {
            let mut unanswered = None;
            for process in &mut self.processes {
                let answer = match systemd.status(&process.unit).await {
                    Ok(status) => {
                        process.must_stay(&status)?;
                        process.answers_in_public(&status, &self.demand, public).await
                    }
                    // systemd itself may be busy, as when it re-executes.
                    Err(error) => Err(process.not_yet(error.chain(), "see `journalctl -b -p err`")),
                };
                unanswered = unanswered.or(answer.err());
            }
            failures = if unanswered.is_some() { failures + 1 } else { 0 };
            if let Some(why) = unanswered
                && failures >= if why.is_of_map { MAP_FAILURES } else { PROBE_FAILURES }
            {
                return Err(why.stopped_answering());
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() && failures == 0 {
                return Ok(());
            }
            let pause = if failures == 0 { left.min(SETTLE_LOOK) } else { SETTLE_LOOK };
            tokio::time::sleep(pause).await;
        }
    }

    /// Why not every process runs and answers at this moment; none where all do.
    pub async fn fault(&self, systemd: &Systemd) -> Result<Option<String>> {
        for process in &self.processes {
            let status = systemd.status(&process.unit).await?;
            let verdict = match status.is_running() {
                true => process.answers_in_public(&status, &self.demand, self.public).await,
                false => process.verdict_of_running(&status, &self.demand).await.map(drop),
            };
            if let Err(why) = verdict {
                return Ok(Some(format!("{}: {}", why.process, why.why)));
            }
        }
        Ok(None)
    }
}

/// Why a process is not healthy yet.
struct NotYet {
    process: String,
    unit: String,
    why: String,
    help: String,
    /// It answers, but the port map does not lead to it.
    is_of_map: bool,
}

impl NotYet {
    fn deadline(self, timeout: Duration) -> Error {
        let what = format!("{} was not healthy within {} s", self.process, timeout.as_secs_f32());
        self.error(what)
    }

    fn stopped_answering(self) -> Error {
        let what = format!("{} stopped being healthy", self.process);
        self.error(what)
    }

    fn error(self, what: String) -> Error {
        let what = format!("{what} ({})", self.unit);
        Error::unhealthy(what).because(self.why).help(self.help)
    }
}

impl Watched {
    /// It neither ended nor was restarted since it was seen first.
    fn must_stay(&mut self, status: &ServiceStatus) -> Result<()> {
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
            (true, None) => "the instance has too little memory for it".to_owned(),
            (true, Some(most)) => {
                format!("let it use less than {most} bytes, or raise DEPLOY_MEMORY_MAX")
            }
        };
        Err(Error::unhealthy(what).because(why).help(help))
    }

    /// What helps against the statuses that say why by themselves: bash(1), EXIT STATUS.
    fn help_for_exit(&self, status: &ServiceStatus) -> String {
        let read = format!("read what it wrote: `journalctl -u {}`", self.unit);
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

    async fn verdict(
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

    async fn verdict_of_running(
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
                text => format!("; it says: {}", shortened(text)),
            };
            let why = format!("it has not sent READY=1{said}");
            let help = "let it send READY=1 (sd_notify(3)) when it is ready, raise \
                        DEPLOY_HEALTH_TIMEOUT, or set DEPLOY_READY=port";
            return Err(self.not_yet(why, help));
        }
        Err(self.not_yet(format!("it is {}", status.sub_state), SEE_LOG))
    }

    /// Hands on what the process says of itself when it says something new.
    fn pass_on(&mut self, status: &ServiceStatus, events: &Events) {
        if status.status_text != self.said {
            self.said.clone_from(&status.status_text);
            events.output(format!("{}: {}", self.name, shortened(&self.said)));
        }
    }

    /// The same by a deadline. Where that leaves no time for a fair answer, what was
    /// found before says more.
    async fn verdict_by(
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

    /// A process with a port must listen on it itself, and answer.
    async fn answers(
        &self,
        status: &ServiceStatus,
        demand: &Demand,
    ) -> Result<Option<Reach>, NotYet> {
        let Some(port) = self.port else { return Ok(None) };
        let endpoints = sockets::endpoints(&status.control_group);
        match demand.check(&endpoints, port).await {
            Ok(reached) => Ok(Some(reached)),
            Err(Shortfall { why, help }) => Err(self.not_yet(why, &help)),
        }
    }

    /// The same, and clients of the public port come to it, or to another one of its type.
    async fn answers_in_public(
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

    fn not_yet(&self, why: String, help: &str) -> NotYet {
        let (process, unit) = (self.name.clone(), self.unit.clone());
        NotYet { process, unit, why, help: help.to_owned(), is_of_map: false }
    }
}

/// One line of what a process says of itself, which may be anything.
fn shortened(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(200).collect()
}

fn stayed_up(status: &ServiceStatus) -> bool {
    let now = jiff::Timestamp::now().as_microsecond();
    let since = i64::try_from(status.active_since).unwrap_or(now);
    u128::try_from(now.saturating_sub(since)).is_ok_and(|micros| micros >= STAYED_UP.as_micros())
}

#[cfg(test)]
mod tests;
