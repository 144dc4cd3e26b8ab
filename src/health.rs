//! Is it healthy? A candidate is watched until it is, or not; a committed
//! release is watched through the settle window.

use crate::error::{Error, Result};
use crate::host::sockets;
use crate::host::systemd::{ServiceStatus, Systemd};
use crate::release::manifest::{Manifest, Process};
use crate::units;
use reqwest::redirect::Policy;
use std::time::{Duration, Instant};
use tokio::net::TcpStream;

/// How often a candidate that is not yet healthy is looked at again.
const LOOK: Duration = Duration::from_millis(50);
/// How long a process that binds no port must have stayed up to count as healthy.
const STAYED_UP: Duration = Duration::from_secs(1);
/// How often a committed release is looked at in the settle window.
const SETTLE_LOOK: Duration = Duration::from_millis(500);
/// A committed release fails when its probe fails this often in a row.
const PROBE_FAILURES: u32 = 3;
/// How long one probe may take.
const PROBE: Duration = Duration::from_secs(5);

/// The processes of one release, and what healthy means for them.
pub struct Watch {
    processes: Vec<Watched>,
    path: Option<String>,
    http: reqwest::Client,
}

struct Watched {
    name: String,
    unit: String,
    port: Option<u16>,
    /// Set when the process was first seen healthy.
    main_pid: u32,
}

impl Watch {
    pub fn new(manifest: &Manifest) -> Result<Self> {
        let watched = |process: Process| Watched {
            name: process.to_string(),
            unit: units::service(manifest.url.app(), &manifest.label, &process),
            port: process.port,
            main_pid: 0,
        };
        let processes = manifest.plan.instances().map(watched).collect();
        let http = reqwest::Client::builder()
            .redirect(Policy::none())
            .no_proxy()
            .timeout(PROBE)
            .build()
            .map_err(|e| Error::failed("make an HTTP client for health probes").because(e))?;
        Ok(Watch { processes, path: manifest.plan.health_path.clone(), http })
    }

    pub fn units(&self) -> Vec<String> {
        self.processes.iter().map(|process| process.unit.clone()).collect()
    }

    /// Leaves out the processes that are not expected to run.
    pub fn retain(&mut self, expected: impl Fn(&str) -> bool) {
        self.processes.retain(|process| expected(&process.name));
    }

    /// Watches started processes until all of them are healthy. A process that
    /// ends or is restarted fails at once; the deadline fails the rest.
    pub async fn prove(&mut self, systemd: &Systemd, timeout: Duration) -> Result<()> {
        let deadline = Instant::now() + timeout;
        loop {
            let mut waiting = None;
            for process in &mut self.processes {
                let status = systemd.status(&process.unit).await?;
                process.must_not_have_ended(&status, 0)?;
                process.main_pid = status.main_pid;
                let verdict = process.verdict(&status, self.path.as_deref(), &self.http).await;
                waiting = waiting.or(verdict.err());
            }
            let Some(why) = waiting else { return Ok(()) };
            if Instant::now() >= deadline {
                return Err(why.deadline(timeout));
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Watches healthy processes for the length of the settle window: each must
    /// stay the same process, and keep answering.
    pub async fn settle(&self, systemd: &Systemd, window: Duration) -> Result<()> {
        let end = Instant::now() + window;
        let mut failures = 0;
        loop {
            let mut unanswered = None;
            for process in &self.processes {
                let status = systemd.status(&process.unit).await?;
                process.must_not_have_ended(&status, process.main_pid)?;
                let answer = process.answers(&status, self.path.as_deref(), &self.http).await;
                unanswered = unanswered.or(answer.err());
            }
            failures = if unanswered.is_some() { failures + 1 } else { 0 };
            if let Some(why) = unanswered
                && failures >= PROBE_FAILURES
            {
                return Err(why.stopped_answering());
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            tokio::time::sleep(left.min(SETTLE_LOOK)).await;
        }
    }

    /// Whether every process runs and answers, at this moment.
    pub async fn is_healthy(&self, systemd: &Systemd) -> Result<bool> {
        for process in &self.processes {
            let status = systemd.status(&process.unit).await?;
            let answers = process.answers(&status, self.path.as_deref(), &self.http).await;
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
    /// `main_pid` 0 accepts any, as long as systemd did not restart the process.
    fn must_not_have_ended(&self, status: &ServiceStatus, main_pid: u32) -> Result<()> {
        let same = main_pid == 0 || status.main_pid == main_pid;
        let up = matches!(status.active_state.as_str(), "active" | "activating" | "reloading");
        if up && same && status.n_restarts == 0 && status.sub_state != "auto-restart" {
            return Ok(());
        }
        let why = match (status.result.as_str(), status.sub_state.as_str()) {
            ("oom-kill", _) => "it was killed for memory".to_owned(),
            (_, "running") => "it ended and was restarted".to_owned(),
            ("success", "dead") => "it is not running".to_owned(),
            _ => format!("it ended: {}", status.ending()),
        };
        let what = format!("{} did not stay up ({})", self.name, self.unit);
        let help = format!("read what it wrote: `journalctl -u {}`", self.unit);
        Err(Error::unhealthy(what).because(why).help(help))
    }

    async fn verdict(
        &self,
        status: &ServiceStatus,
        path: Option<&str>,
        http: &reqwest::Client,
    ) -> Result<(), NotYet> {
        if !status.is_running() {
            return Err(self.not_yet(format!("it is {}", status.sub_state), "see its log"));
        }
        if self.port.is_none() && !stayed_up(status) {
            return Err(self.not_yet("it has only just started".into(), "see its log"));
        }
        self.answers(status, path, http).await
    }

    /// A process with a port must listen on it itself, and answer.
    async fn answers(
        &self,
        status: &ServiceStatus,
        path: Option<&str>,
        http: &reqwest::Client,
    ) -> Result<(), NotYet> {
        let Some(port) = self.port else { return Ok(()) };
        if !sockets::listens(&status.control_group, port) {
            let other = sockets::ports(&status.control_group);
            let why = match other.as_slice() {
                [] => format!("it does not listen on port {port}"),
                ports => format!("it listens on {ports:?}, not on port {port}"),
            };
            return Err(self.not_yet(why, "the process must bind 0.0.0.0 (or [::]) and $PORT"));
        }
        match path {
            None => self.accepts(port).await,
            Some(path) => self.responds(port, path, http).await,
        }
    }

    async fn accepts(&self, port: u16) -> Result<(), NotYet> {
        let refused = |why: String| self.not_yet(why, "the process must accept on $PORT");
        let mut last = String::new();
        for address in ["127.0.0.1", "::1"] {
            match tokio::time::timeout(PROBE, TcpStream::connect((address, port))).await {
                Ok(Ok(_)) => return Ok(()),
                Ok(Err(error)) => last = format!("connect to {address} port {port}: {error}"),
                Err(_) => last = format!("connect to {address} port {port}: timed out"),
            }
        }
        Err(refused(last))
    }

    async fn responds(&self, port: u16, path: &str, http: &reqwest::Client) -> Result<(), NotYet> {
        let help = "DEPLOY_HEALTH_PATH must answer with 2xx or 3xx";
        let url = format!("http://127.0.0.1:{port}{path}");
        match http.get(&url).send().await {
            Ok(response) if (200..400).contains(&response.status().as_u16()) => Ok(()),
            Ok(response) => {
                Err(self.not_yet(format!("GET {path} answered {}", response.status()), help))
            }
            Err(error) => {
                let error = error.without_url();
                let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}"));
                let why =
                    format!("GET {path} on port {port}: {error}{}", cause.unwrap_or_default());
                Err(self.not_yet(why, help))
            }
        }
    }

    fn not_yet(&self, why: String, help: &str) -> NotYet {
        let (process, unit) = (self.name.clone(), self.unit.clone());
        NotYet { process, unit, why, help: help.to_owned() }
    }
}

fn stayed_up(status: &ServiceStatus) -> bool {
    let now = jiff::Timestamp::now().as_microsecond();
    let since = i64::try_from(status.active_since).unwrap_or(now);
    u128::try_from(now.saturating_sub(since)).is_ok_and(|micros| micros >= STAYED_UP.as_micros())
}
