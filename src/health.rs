//! Is it healthy? A candidate is watched until it is, or not; a committed
//! release is watched through the settle window.

use crate::error::{Error, Result};
use crate::host::systemd::{ServiceStatus, Systemd};
use crate::host::{probe, sockets};
use crate::release::manifest::{Manifest, Process};
use crate::release::name::ProcessType;
use crate::units;
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

/// A probe that the deadline cuts off before this says nothing.
const FAIR: Duration = Duration::from_secs(1);

const SEE_LOG: &str = "see its log";

/// The processes of one release, and what healthy means for them.
pub struct Watch {
    processes: Vec<Watched>,
    path: Option<String>,
}

struct Watched {
    kind: ProcessType,
    name: String,
    unit: String,
    port: Option<u16>,
    /// Bytes; none means no limit.
    memory_max: Option<u64>,
    /// The process as it was seen first: it must stay that one.
    seen: Option<Seen>,
    healthy: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Seen {
    main_pid: u32,
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
            seen: None,
            healthy: false,
        };
        let processes = manifest.plan.instances().map(watched).collect();
        Watch { processes, path: manifest.plan.health_path.clone() }
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
        Watch { processes: out, path: self.path.clone() }
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
            if runs && process.verdict(&status, self.path.as_deref()).await.is_err() {
                unhealthy.push(process.unit.clone());
            }
        }
        systemd.stop(&unhealthy, timeout).await
    }

    /// Watches started processes until all of them are healthy. A process that
    /// ends or is restarted fails at once; the deadline fails the rest.
    pub async fn prove(&mut self, systemd: &Systemd, timeout: Duration) -> Result<()> {
        let deadline = Instant::now() + timeout;
        let mut before = None;
        loop {
            let mut waiting = None;
            for process in &mut self.processes {
                let status = systemd.status(&process.unit).await?;
                process.must_stay(&status)?;
                // Once healthy it is not asked again while the others start.
                if !process.healthy {
                    let path = self.path.as_deref();
                    let verdict = process.verdict_by(deadline, &status, path, &mut before).await;
                    process.healthy = verdict.is_ok();
                    waiting = waiting.or(verdict.err());
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
                if probe::connect(port).await.is_err() {
                    closed.push(port);
                }
            }
            loop {
                tokio::time::sleep(TRY).await;
                for port in &closed {
                    if probe::connect(*port).await.is_ok() {
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
        let end = Instant::now() + window;
        let mut failures = 0;
        loop {
            let mut unanswered = None;
            for process in &mut self.processes {
                let answer = match systemd.status(&process.unit).await {
                    Ok(status) => {
                        process.must_stay(&status)?;
                        process.answers(&status, self.path.as_deref()).await
                    }
                    // systemd itself may be busy, as when it re-executes.
                    Err(error) => Err(process.not_yet(error.chain(), "see `journalctl -b -p err`")),
                };
                unanswered = unanswered.or(answer.err());
            }
            failures = if unanswered.is_some() { failures + 1 } else { 0 };
            if let Some(why) = unanswered
                && failures >= PROBE_FAILURES
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

    /// Whether every process runs and answers, at this moment.
    pub async fn is_healthy(&self, systemd: &Systemd) -> Result<bool> {
        for process in &self.processes {
            let status = systemd.status(&process.unit).await?;
            let answers = process.answers(&status, self.path.as_deref()).await;
            if !status.is_running() || answers.is_err() {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// Why a process is not healthy yet.
struct NotYet {
    process: String,
    unit: String,
    why: String,
    help: String,
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
        let now = Seen { main_pid: status.main_pid, n_restarts: status.n_restarts };
        let same = *self.seen.get_or_insert(now) == now;
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
            (false, _) => format!("read what it wrote: `journalctl -u {}`", self.unit),
            (true, None) => "the instance has too little memory for it".to_owned(),
            (true, Some(most)) => {
                format!("let it use less than {most} bytes, or raise DEPLOY_MEMORY_MAX")
            }
        };
        Err(Error::unhealthy(what).because(why).help(help))
    }

    async fn verdict(&self, status: &ServiceStatus, path: Option<&str>) -> Result<(), NotYet> {
        if !status.is_running() {
            return Err(self.not_yet(format!("it is {}", status.sub_state), SEE_LOG));
        }
        if self.port.is_none() && !stayed_up(status) {
            return Err(self.not_yet("it has only just started".into(), SEE_LOG));
        }
        self.answers(status, path).await
    }

    /// The same by a deadline. Where that leaves no time for a fair answer, what was
    /// found before says more.
    async fn verdict_by(
        &self,
        deadline: Instant,
        status: &ServiceStatus,
        path: Option<&str>,
        before: &mut Option<NotYet>,
    ) -> Result<(), NotYet> {
        let asked = Instant::now();
        let verdict = tokio::time::timeout_at(deadline.into(), self.verdict(status, path)).await;
        verdict.unwrap_or_else(|_| {
            let mute = || self.not_yet("it did not answer in time".into(), SEE_LOG);
            Err(before.take().filter(|_| asked.elapsed() < FAIR).unwrap_or_else(mute))
        })
    }

    /// A process with a port must listen on it itself, and answer.
    async fn answers(&self, status: &ServiceStatus, path: Option<&str>) -> Result<(), NotYet> {
        let Some(port) = self.port else { return Ok(()) };
        if !sockets::listens(&status.control_group, port) {
            let other = sockets::ports(&status.control_group);
            let why = match other.as_slice() {
                [] => format!("it does not listen on port {port}"),
                ports => format!("it listens on {ports:?}, not on port {port}"),
            };
            return Err(self.not_yet(why, "the process must bind 0.0.0.0 (or [::]) and $PORT"));
        }
        let (answer, help) = match path {
            None => {
                let why = |e| format!("connect to port {port}: {e}");
                (probe::connect(port).await.map_err(why), "it must accept connections on $PORT")
            }
            Some(path) => (get(port, path).await, "DEPLOY_HEALTH_PATH must answer with 2xx or 3xx"),
        };
        answer.map_err(|why| self.not_yet(why, help))
    }

    fn not_yet(&self, why: String, help: &str) -> NotYet {
        let (process, unit) = (self.name.clone(), self.unit.clone());
        NotYet { process, unit, why, help: help.to_owned() }
    }
}

async fn get(port: u16, path: &str) -> Result<(), String> {
    match probe::get(port, path).await {
        Ok(status) if (200..400).contains(&status) => Ok(()),
        Ok(status) => Err(format!("GET {path} on port {port} answered {status}")),
        Err(error) => Err(format!("GET {path} on port {port}: {error}")),
    }
}

fn stayed_up(status: &ServiceStatus) -> bool {
    let now = jiff::Timestamp::now().as_microsecond();
    let since = i64::try_from(status.active_since).unwrap_or(now);
    u128::try_from(now.saturating_sub(since)).is_ok_and(|micros| micros >= STAYED_UP.as_micros())
}

#[cfg(test)]
mod tests;
