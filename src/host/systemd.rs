//! systemd over D-Bus: jobs with their results, and the state of units.
//!
//! org.freedesktop.systemd1(5) is the reference for every name here.

use futures_util::StreamExt;
use model::error::{Error, Result};
use model::reason::Reason;
use nix::time::{ClockId, clock_gettime};
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;
use zbus::connection::Builder;
use zbus::fdo::PropertiesProxy;
use zbus::{Connection, OwnedObjectPath, OwnedVariant};
use zbus_systemd::systemd1::ManagerProxy;

const SERVICE: &str = "org.freedesktop.systemd1.Service";
const UNIT: &str = "org.freedesktop.systemd1.Unit";
const NOT_LOADED: &str = "org.freedesktop.systemd1.NoSuchUnit";

/// The time for a job beyond the unit's own timeouts.
const GRACE: Duration = Duration::from_secs(30);
/// The timeout of a start: at boot it may wait for the network first,
/// systemd-networkd-wait-online.service(8) for two minutes.
const START: Duration = Duration::from_secs(300);
/// The timeout of a D-Bus call.
const ANSWER: Duration = Duration::from_secs(60);
/// How long a start takes before the waiting units are checked.
const NOTIFYING: Duration = Duration::from_millis(100);
/// How many jobs are requested before waiting for their ends: the connection buffers a bounded
/// number of signals.
const TOGETHER: usize = 16;

/// A connection to the system's service manager.
#[derive(Clone)]
pub struct Systemd {
    pub(super) connection: Connection,
    pub(super) manager: ManagerProxy<'static>,
}

/// The kind of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    Start,
    Stop,
    Restart,
}

/// The state of a unit, or the state that its pending job leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activity {
    Up,
    /// Going down; a start waits for that, and then starts the unit.
    Stopping,
    Down,
}

/// The state of a service; the fields are named like its D-Bus properties.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceStatus {
    /// `active`, `inactive`, `failed`, `activating`, …
    pub active_state: String,
    /// `running`, `dead`, `auto-restart`, …
    pub sub_state: String,
    /// The reason why it is not running: `success`, `exit-code`, `signal`, `oom-kill`, …
    pub result: String,
    /// 0 if it has none.
    pub main_pid: u32,
    pub exec_main_status: i32,
    /// 1 exited, 2 killed, 3 dumped: CLD_* of sigaction(2).
    pub exec_main_code: i32,
    pub n_restarts: u32,
    /// Microseconds since the epoch; 0 if it was never active.
    pub active_since: u64,
    /// The same by CLOCK_MONOTONIC, which is never set.
    pub active_since_monotonic: u64,
    /// When its main process began, in microseconds since the epoch; 0 if it never did.
    pub started: u64,
    /// Bytes; `None` without memory accounting.
    pub memory: Option<u64>,
    /// `None` without CPU accounting.
    pub cpu: Option<Duration>,
    pub control_group: String,
    /// Whether it has Type=notify.
    pub notifies: bool,
    /// The last STATUS= that the process sent; sd_notify(3).
    pub status_text: String,
    pub invocation_id: String,
}

impl ServiceStatus {
    /// The state of a unit that has left no trace in systemd.
    fn not_loaded() -> ServiceStatus {
        ServiceStatus {
            active_state: "inactive".to_owned(),
            sub_state: "dead".to_owned(),
            result: "success".to_owned(),
            ..ServiceStatus::default()
        }
    }

    pub fn is_running(&self) -> bool {
        match self.active_state.as_str() {
            "active" => self.sub_state == "running",
            // Set by RELOADING=1 of sd_notify(3): it serves meanwhile.
            state => state == "reloading",
        }
    }

    /// Whether its process runs, and systemd waits for its READY=1.
    pub fn is_getting_ready(&self) -> bool {
        self.notifies && self.sub_state == "start" && self.main_pid != 0
    }

    /// Whether it was killed because memory ran out. Under cgroup v1 the kernel does not report
    /// it, and the only trace is a SIGKILL, perhaps passed on by a shell. systemd's own kills have
    /// another result, so otherwise only a person could have sent it.
    pub fn was_killed_for_memory(&self) -> bool {
        let by_kernel = match self.exec_main_code {
            2 | 3 => self.result == "signal" && self.exec_main_status == 9,
            _ => self.result == "exit-code" && self.exec_main_status == 128 + 9,
        };
        by_kernel || self.result == "oom-kill"
    }

    /// Describes how it ended: `exit-code, status 1`, `signal 9`.
    pub fn ending(&self) -> String {
        match self.exec_main_code {
            _ if self.result == "oom-kill" => "killed for memory".to_owned(),
            _ if self.was_killed_for_memory() => {
                "killed for memory, by all signs (signal 9)".to_owned()
            }
            2 | 3 => format!("{}, signal {}", self.result, self.exec_main_status),
            _ => format!("{}, exit status {}", self.result, self.exec_main_status),
        }
    }
}

fn failed(what: impl Into<String>, cause: zbus::Error) -> Error {
    Error::failed(what).because(cause).help("see `systemctl status` and `journalctl -b -p err`")
}

impl Systemd {
    /// Connects to the system bus and subscribes to systemd's signals.
    pub async fn connect() -> Result<Self> {
        let bus = || "connect to systemd over the system bus";
        let builder = Builder::system().method_timeout(ANSWER);
        let connection = builder.build().await.map_err(|e| failed(bus(), e))?;
        let manager = ManagerProxy::new(&connection).await.map_err(|e| failed(bus(), e))?;
        manager.subscribe().await.map_err(|e| failed(bus(), e))?;
        Ok(Systemd { connection, manager })
    }

    /// Makes systemd reload unit files and run the generators.
    pub async fn daemon_reload(&self) -> Result<()> {
        reach!("systemd: before daemon-reload");
        let reloaded = self.manager.reload().await;
        reach!("systemd: after daemon-reload");
        reloaded.map_err(|e| failed("reload systemd's units", e))
    }

    /// Starts units together and waits for all of them, regardless of systemd's start limits:
    /// earlier failures are reset first. For a unit of Type=notify it only waits until the process
    /// runs: the caller judges whether it becomes ready in time.
    pub async fn start(&self, units: &[String]) -> Result<()> {
        for unit in units {
            self.reset_failed(unit).await;
        }
        let started = self.jobs(Verb::Start, units, START).await;
        if started.is_err() {
            // A waiting job must not start its unit later; a running process may serve.
            for unit in units {
                if !self.status(unit).await.is_ok_and(|status| status.is_running()) {
                    let _ = self.enqueue(Verb::Stop, unit).await;
                }
            }
        }
        started
    }

    /// Begins to start a target. It is active once everything that it wants is ready, which may
    /// take any time.
    pub async fn begin_start(&self, target: &str) -> Result<()> {
        let asked = self.enqueue(Verb::Start, target).await;
        asked.map(drop).map_err(|e| failed(format!("start {target}"), e))
    }

    /// Stops units together; `stop_timeout` is the longest of their timeouts.
    pub async fn stop(&self, units: &[String], stop_timeout: Duration) -> Result<()> {
        self.jobs(Verb::Stop, units, stop_timeout * 2 + GRACE).await?;
        for unit in units {
            self.reset_failed(unit).await;
        }
        Ok(())
    }

    pub async fn restart(&self, units: &[String], stop_timeout: Duration) -> Result<()> {
        for unit in units {
            self.reset_failed(unit).await;
        }
        self.jobs(Verb::Restart, units, stop_timeout * 2 + START).await
    }

    /// Resets a unit's failure and its start counter. A unit that is not loaded has neither, which
    /// is no error.
    pub async fn reset_failed(&self, unit: &str) {
        if let Err(error) = self.manager.reset_failed_unit(unit.to_owned()).await {
            tracing::debug!("reset-failed {unit}: {error}");
        }
    }

    async fn jobs(&self, verb: Verb, units: &[String], deadline: Duration) -> Result<()> {
        if units.is_empty() {
            return Ok(());
        }
        let run = async {
            let mut unsuccessful = Vec::new();
            for some in units.chunks(TOGETHER) {
                unsuccessful.extend(self.jobs_together(verb, some).await?);
            }
            Ok(unsuccessful)
        };
        let what = format!("{} {}", verb.name(), units.join(", "));
        reach!("systemd: before {what}");
        let unsuccessful = match tokio::time::timeout(deadline, run).await {
            Ok(done) => done.map_err(|e| failed(&what, e))?,
            Err(_) => {
                let why = format!("systemd did not finish within {} s", deadline.as_secs());
                return Err(Error::failed(what).because(why));
            }
        };
        reach!("systemd: after {what}");
        if unsuccessful.is_empty() {
            return Ok(());
        }
        let help = format!("see `systemctl status {}`", units.join(" "));
        let list = unsuccessful.join(", ");
        let error = Error::failed(format!("{} {list}", verb.name())).because("the job failed");
        let reason = match verb {
            Verb::Start | Verb::Restart => Reason::StartFailed,
            Verb::Stop => Reason::AgentFailed,
        };
        Err(error.help(help).with_reason(reason))
    }

    /// Requests jobs and waits for their ends; returns those that failed, with their results.
    async fn jobs_together(&self, verb: Verb, units: &[String]) -> zbus::Result<Vec<String>> {
        let mut removed = self.manager.receive_job_removed().await?;
        let mut waiting: HashMap<OwnedObjectPath, &str> = HashMap::new();
        for unit in units {
            waiting.insert(self.enqueue(verb, unit).await?, unit);
        }
        let mut unsuccessful = Vec::new();
        while !waiting.is_empty() {
            let Ok(signal) = tokio::time::timeout(NOTIFYING, removed.next()).await else {
                if verb != Verb::Stop {
                    self.forget_those_that_notify(&mut waiting).await;
                }
                continue;
            };
            let Some(signal) = signal else { break };
            let Ok(job) = signal.args() else { continue };
            let Some(unit) = waiting.remove(&job.job) else { continue };
            // A start of a running unit ends with `skipped`.
            if !matches!(job.result.as_str(), "done" | "skipped") {
                unsuccessful.push(format!("{unit} ({})", job.result));
            }
        }
        Ok(unsuccessful)
    }

    /// Drops the units whose process runs but has not sent READY=1 yet.
    async fn forget_those_that_notify(&self, waiting: &mut HashMap<OwnedObjectPath, &str>) {
        let mut begun = Vec::new();
        for (job, unit) in waiting.iter() {
            if self.status(unit).await.is_ok_and(|status| status.is_getting_ready()) {
                begun.push(job.clone());
            }
        }
        waiting.retain(|job, _| !begun.contains(job));
    }

    async fn enqueue(&self, verb: Verb, unit: &str) -> zbus::Result<OwnedObjectPath> {
        let (name, mode) = (unit.to_owned(), "replace".to_owned());
        let job = match verb {
            Verb::Start => self.manager.start_unit(name, mode).await,
            Verb::Stop => self.manager.stop_unit(name, mode).await,
            Verb::Restart => self.manager.restart_unit(name, mode).await,
        };
        reach!("systemd: asked to {} {unit}", verb.name());
        job
    }

    /// Returns the current state of the service; a unit that does not exist is `inactive`.
    ///
    /// A unit that systemd does not have in memory is not loaded for that: systemd would forget it
    /// at once, and load it again for each question, which takes 3 ms each.
    pub async fn status(&self, unit: &str) -> Result<ServiceStatus> {
        let read = async {
            let path = match self.manager.get_unit(unit.to_owned()).await {
                Err(error) if is_not_loaded(&error) => return Ok(ServiceStatus::not_loaded()),
                path => path?,
            };
            let properties = self.properties(path).await?;
            let unit = properties.get_all(interface(UNIT)?).await?;
            let service = properties.get_all(interface(SERVICE)?).await?;
            Ok(status_of(&unit, &service))
        };
        read.await.map_err(|e| failed(format!("read the state of {unit}"), e))
    }

    /// Returns the units whose `PartOf=` names this one: systemd's own list of an app's units,
    /// also of releases that are gone from the disk.
    pub async fn consists_of(&self, target: &str) -> Result<BTreeMap<String, Activity>> {
        let read = async {
            let path = self.manager.load_unit(target.to_owned()).await?;
            let value = self.properties(path).await?.get(interface(UNIT)?, "ConsistsOf").await?;
            let names = Vec::<String>::try_from(value).unwrap_or_default();
            let units = self.manager.list_units_by_names(names).await?;
            let activity = |state: &str, job: &str| match (job, state) {
                ("stop", _) | (_, "deactivating") => Activity::Stopping,
                // A unit with a pending start job counts as up.
                ("", "inactive" | "failed") => Activity::Down,
                _ => Activity::Up,
            };
            Ok(units.into_iter().map(|unit| (unit.0, activity(&unit.3, &unit.8))).collect())
        };
        read.await.map_err(|e| failed(format!("list the units of {target}"), e))
    }

    /// Returns how long this instance has been up: since its systemd started, which is right in a
    /// container too.
    pub async fn uptime(&self) -> Result<Duration> {
        let read = async {
            let begin = self.manager.userspace_timestamp_monotonic().await?;
            Ok(Duration::from_micros(begin))
        };
        let begin = read.await.map_err(|e| failed("ask systemd since when it runs", e))?;
        let now = clock_gettime(ClockId::CLOCK_MONOTONIC);
        let now = now.map_err(|e| Error::failed("read the clock").because(e))?;
        Ok(Duration::from(now).saturating_sub(begin))
    }

    /// Returns systemd's version, such as `252.22-1~deb12u1`.
    pub async fn version(&self) -> Result<String> {
        self.manager.version().await.map_err(|e| failed("ask systemd for its version", e))
    }

    /// Whether the instance is shutting down, and all units with it.
    pub async fn is_stopping(&self) -> bool {
        self.manager.system_state().await.is_ok_and(|state| state == "stopping")
    }

    /// Returns `active`, `inactive`, `failed`, … of any unit.
    pub async fn active_state(&self, unit: &str) -> Result<String> {
        let read = async {
            let path = self.manager.load_unit(unit.to_owned()).await?;
            let value = self.properties(path).await?.get(interface(UNIT)?, "ActiveState").await?;
            Ok(String::try_from(value).unwrap_or_default())
        };
        read.await.map_err(|e| failed(format!("read the state of {unit}"), e))
    }

    async fn properties(&self, path: OwnedObjectPath) -> zbus::Result<PropertiesProxy<'static>> {
        PropertiesProxy::builder(&self.connection)
            .destination("org.freedesktop.systemd1")
            .path(path)
            .build()
            .await
    }
}

impl Verb {
    pub fn name(self) -> &'static str {
        match self {
            Verb::Start => "start",
            Verb::Stop => "stop",
            Verb::Restart => "restart",
        }
    }
}

/// Whether systemd does not have the unit in memory: it has neither run nor failed since systemd
/// last forgot it.
fn is_not_loaded(error: &zbus::Error) -> bool {
    matches!(error, zbus::Error::MethodError(name, ..) if name.as_str() == NOT_LOADED)
}

fn interface(name: &'static str) -> zbus::Result<zbus::names::InterfaceName<'static>> {
    zbus::names::InterfaceName::try_from(name)
}

pub(super) type Properties = HashMap<String, OwnedVariant>;

/// Returns microseconds on the clock of [`ServiceStatus::active_since_monotonic`].
pub fn monotonic() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).map(Duration::from).unwrap_or_default();
    u64::try_from(now.as_micros()).unwrap_or(u64::MAX)
}

fn property<T: TryFrom<OwnedVariant> + Default>(properties: &Properties, name: &str) -> T {
    let value = properties.get(name).cloned();
    value.and_then(|value| T::try_from(value).ok()).unwrap_or_default()
}

pub(super) fn status_of(unit: &Properties, service: &Properties) -> ServiceStatus {
    let memory: u64 = property(service, "MemoryCurrent");
    let cpu: u64 = property(service, "CPUUsageNSec");
    let id: Vec<u8> = property(unit, "InvocationID");
    ServiceStatus {
        active_state: property(unit, "ActiveState"),
        sub_state: property(unit, "SubState"),
        result: property(service, "Result"),
        main_pid: property(service, "MainPID"),
        exec_main_status: property(service, "ExecMainStatus"),
        exec_main_code: property(service, "ExecMainCode"),
        n_restarts: property(service, "NRestarts"),
        active_since: property(unit, "ActiveEnterTimestamp"),
        active_since_monotonic: property(unit, "ActiveEnterTimestampMonotonic"),
        started: property(service, "ExecMainStartTimestamp"),
        memory: (memory != u64::MAX && memory != 0).then_some(memory),
        cpu: (cpu != u64::MAX && cpu != 0).then(|| Duration::from_nanos(cpu)),
        control_group: property(service, "ControlGroup"),
        notifies: property::<String>(service, "Type") == "notify",
        status_text: property(service, "StatusText"),
        invocation_id: id.iter().map(|byte| format!("{byte:02x}")).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::recorded;
    use super::*;

    /// What each recorded service is, and how it ended in an operator's words.
    #[test]
    fn recorded_services_are_told_apart() {
        for (case, is_running, ending) in [
            ("running", true, "success, exit status 0"),
            ("never-started", false, "success, exit status 0"),
            ("exit-3", false, "exit-code, exit status 3"),
            ("restarts", false, "exit-code, exit status 3"),
            ("sigusr1", false, "signal, signal 10"),
            ("sigkill", false, "killed for memory, by all signs (signal 9)"),
            ("no-program", false, "exit-code, exit status 203"),
            ("no-user", false, "exit-code, exit status 217"),
            ("no-path", false, "exit-code, exit status 226"),
            ("not-ready", false, "success, exit status 0"),
            ("start-timeout", false, "timeout, signal 15"),
            ("stopping", false, "success, exit status 0"),
        ] {
            let status = recorded::status(case);
            assert_eq!(
                (status.is_running(), status.ending()),
                (is_running, ending.to_owned()),
                "{case}"
            );
            assert_eq!(status.is_getting_ready(), case == "not-ready", "{case}");
            assert_eq!(status.invocation_id, "07".repeat(16), "{case}");
        }
        assert_eq!(recorded::status("not-ready").status_text, "loading");
        assert_eq!(recorded::status("running").memory, None, "not accounted");
    }

    #[test]
    fn a_unit_that_is_not_loaded_is_as_one_that_never_ran() {
        let of = |status: ServiceStatus| {
            let ending = status.ending();
            (status.active_state, status.sub_state, status.result, status.main_pid, ending)
        };
        assert_eq!(of(ServiceStatus::not_loaded()), of(recorded::status("never-started")));
    }

    #[test]
    fn what_systemd_does_not_account_is_unknown() {
        let status = |cpu: u64| {
            let service = [("CPUUsageNSec".to_owned(), OwnedVariant::from(cpu))];
            status_of(&Properties::new(), &service.into_iter().collect())
        };
        assert_eq!(status(1_500_000_000).cpu, Some(Duration::from_millis(1500)));
        // "[not set]"
        assert_eq!(status(u64::MAX).cpu, None);
        assert_eq!(status(0).cpu, None);
    }
}
