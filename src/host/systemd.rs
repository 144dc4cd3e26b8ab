//! systemd over D-Bus: jobs with their results, and what it knows of units.
//!
//! org.freedesktop.systemd1(5) is the reference for every name here.

use super::service_status::{ServiceStatus, status_of};
use futures_util::StreamExt;
use model::error::{Error, Result};
use model::reason::Reason;
use nix::time::{ClockId, clock_gettime};
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;
use zbus::connection::Builder;
use zbus::fdo::PropertiesProxy;
use zbus::{Connection, OwnedObjectPath};
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

/// Returns microseconds on the clock of [`ServiceStatus::active_since_monotonic`].
pub fn monotonic() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).map(Duration::from).unwrap_or_default();
    u64::try_from(now.as_micros()).unwrap_or(u64::MAX)
}
