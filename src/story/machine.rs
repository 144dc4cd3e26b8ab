//! A machine in memory: a small state machine of units, jobs, ports and users. It starts the
//! units that the agent's own generator writes. The word after `does=` in a process's command
//! selects its behaviour.

mod keygen;

use crate::generator;
use crate::host::accept::Accepted;
use crate::host::journal::Line;
use crate::host::made_users::Wanted;
use crate::host::probe::{Answer, Request};
use crate::host::recorded;
use crate::host::ruleset::Fingerprint;
use crate::host::seams::{Disk, Network, PortSwitch, ServiceManager, Users};
use crate::host::sockets::Listener;
use crate::host::systemd::{Activity, ServiceStatus};
use crate::host::transient::{Command, Ending, Lines};
use crate::host::user::Ids;
use crate::store::Store;
use async_trait::async_trait;
use model::error::{Error, Result};
use model::reason::Reason;
use model::release::reach::{Endpoint, Families};
use nix::unistd::{getgid, getuid};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// When a `late` process begins to listen.
const LATE: Duration = Duration::from_millis(200);

/// The state that a test inspects or breaks.
#[derive(Default)]
pub struct State {
    units: BTreeMap<String, Unit>,
    /// Every job, in order: `start UNIT`, `stop UNIT`, `units`, `reload`, `ports`.
    pub jobs: Vec<String>,
    pub script: String,
    /// Why nft cannot be used at all.
    pub no_nft: bool,
    /// Why nft fails, though it can be used.
    pub nft_fails: bool,
    /// Whether something was prepared for the next script.
    pub expects_ports: bool,
    pub reload_fails: bool,
    /// systemd does not find the units of a new release.
    pub adds_fail: bool,
    /// Units whose name contains this cannot be started.
    pub cannot_start: Option<String>,
    pub is_stopping: bool,
    /// How long it has been up, if not for an hour.
    pub uptime: Option<Duration>,
    /// Whether its network is not up yet.
    pub has_no_address: bool,
    /// The job that never ends: the daemon is killed there.
    pub dies_at: Option<String>,
    /// Ports that another program listens on.
    pub strangers: BTreeSet<u16>,
    /// The number of open connections by private port.
    pub connections: BTreeMap<u16, usize>,
    pub log: Vec<Line>,
    /// The version of systemd, if not a recent one.
    pub version: Option<String>,
    /// Whether no group or user can be found.
    pub has_nobody: bool,
    /// The states of further units.
    pub active: BTreeMap<String, String>,
    /// Each job, and the units that clients of port 5000 reached when it was requested.
    pub reached: Vec<(String, Vec<String>)>,
    /// The recorded runs of `build` and `release`.
    pub runs: Vec<String>,
    pub disk: Syncs,
}

/// How long a sync of the disk takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Syncs {
    #[default]
    AtOnce,
    /// As long as this is the value.
    Slowly,
    /// It fails with this error.
    Fails(i32),
}

#[derive(Clone, Debug, Default)]
struct Unit {
    is_up: bool,
    /// It was up, and ended by itself.
    has_failed: bool,
    starts: u32,
    since: Option<Instant>,
    target: String,
    does: String,
    port: Option<u16>,
}

impl State {
    /// How often a process was started.
    pub fn starts_of(&self, unit: &str) -> u32 {
        self.units.get(&format!("{unit}.service")).map_or(0, |unit| unit.starts)
    }
}

pub struct Fake {
    store: Store,
    generated: PathBuf,
    state: Mutex<State>,
    dead: Notify,
}

impl Fake {
    pub fn new(store: Store, generated: PathBuf) -> Fake {
        Fake { store, generated, state: Mutex::default(), dead: Notify::new() }
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records a job. The job at which the daemon dies never completes.
    async fn job(&self, job: String) {
        let reached = self.reached_by(5000);
        let dies = {
            let mut state = self.state();
            state.reached.push((job.clone(), reached));
            let dies = state.dies_at.as_ref().is_some_and(|at| job.contains(at));
            state.jobs.push(job);
            dies
        };
        if dies {
            self.dead.notify_one();
            std::future::pending().await
        }
    }

    /// Waits until the daemon has died at `dies_at`.
    pub async fn death(&self) {
        self.dead.notified().await;
        self.state().dies_at = None;
    }

    /// The units that run, by name.
    pub fn running(&self) -> Vec<String> {
        let state = self.state();
        let up = state.units.iter().filter(|(_, unit)| unit.is_up);
        up.map(|(name, _)| name.trim_end_matches(".service").to_owned()).collect()
    }

    /// The units that clients of a public port reach now.
    pub fn reached_by(&self, port: u16) -> Vec<String> {
        let mut found = Vec::new();
        for private in self.behind(port) {
            let state = self.state();
            let listens = |unit: &Unit| unit.is_up && unit.port == Some(private);
            found.extend(
                state
                    .units
                    .iter()
                    .filter(|(_, unit)| listens(unit))
                    .map(|(name, _)| name.trim_end_matches(".service").to_owned()),
            );
        }
        found
    }

    /// The private ports that the map leads a public port to, or the port itself.
    fn behind(&self, port: u16) -> Vec<u16> {
        let state = self.state();
        let rule = format!("dport {port} ");
        let lines = state.script.lines().filter(|line| line.contains(&rule));
        let numbers = lines.flat_map(|line| line.split(|c: char| !c.is_ascii_digit()));
        let private: BTreeSet<u16> = numbers
            .filter_map(|number| number.parse().ok())
            .filter(|number| (29000..30000).contains(number))
            .collect();
        if private.is_empty() { vec![port] } else { private.into_iter().collect() }
    }

    /// The names of the generator's files.
    pub fn generated_units(&self) -> Vec<String> {
        let files = fs::read_dir(&self.generated).into_iter().flatten().flatten();
        files.map(|file| file.file_name().to_string_lossy().into_owned()).collect()
    }

    /// Kills a process; it is not restarted.
    pub fn kill(&self, unit: &str) {
        let mut state = self.state();
        let found = state.units.iter_mut().find(|(name, _)| name.contains(unit));
        let (_, unit) = found.expect("a unit");
        (unit.is_up, unit.has_failed) = (false, true);
    }

    /// Reboots the machine: nothing runs, and systemd has read its units.
    pub fn reboot(&self) {
        self.state().units.clear();
        self.state().script.clear();
        generate(&self.generated, &self.store);
    }

    /// Loads a unit from the files below the generator's directory.
    fn load(&self, name: &str) -> Option<Unit> {
        if name == model::syslog::UNIT {
            return Some(Unit::default());
        }
        let (template, rest) = name.split_once('@')?;
        let text = fs::read_to_string(self.generated.join(format!("{template}@.service"))).ok()?;
        let mut all = text.clone();
        let dropped = self.generated.join(format!("{template}@{rest}.d"));
        for entry in fs::read_dir(dropped).into_iter().flatten().flatten() {
            all += &fs::read_to_string(entry.path()).unwrap_or_default();
        }
        let word = |before: &str| {
            let at = all.rfind(before)? + before.len();
            let end = |c: char| !(c.is_ascii_alphanumeric() || "-.".contains(c));
            all[at..].split(end).next().map(str::to_owned)
        };
        Some(Unit {
            target: word("PartOf=")?,
            does: word("does=").unwrap_or_default(),
            port: word("=PORT=").or_else(|| word(" PORT=")).and_then(|port| port.parse().ok()),
            ..Unit::default()
        })
    }

    /// Whether the unit's release is current: `deploy-my-app-web-r2@1.service`.
    fn is_current(&self, unit: &str) -> bool {
        let current = self.store.root().join("apps/my-app/current");
        let Ok(target) = fs::read_link(current) else { return false };
        let label = target.file_name().and_then(|label| label.to_str()).unwrap_or_default();
        unit.split_once('@').is_some_and(|(name, _)| name.ends_with(&format!("-{label}")))
    }

    /// The current behaviour of a process that runs.
    fn does(&self, name: &str, unit: &Unit) -> Does {
        match unit.does.as_str() {
            "crash" => Does::Ended,
            "crash-when-current" if self.is_current(name) => Does::Ended,
            "hang-when-current" if self.is_current(name) => Does::Hangs,
            "hang" => Does::Hangs,
            "late" if unit.since.is_none_or(|since| since.elapsed() < LATE) => Does::Hangs,
            "local" => Does::Listens(Ipv4Addr::LOCALHOST, unit.port),
            "elsewhere" => Does::Listens(Ipv4Addr::UNSPECIFIED, Some(8080)),
            _ => Does::Listens(Ipv4Addr::UNSPECIFIED, unit.port),
        }
    }
}

enum Does {
    Ended,
    /// It runs, and listens nowhere.
    Hangs,
    Listens(Ipv4Addr, Option<u16>),
}

#[expect(clippy::disallowed_methods, reason = "a test's own directory")]
pub fn generate(dir: &Path, store: &Store) {
    let _ = fs::remove_dir_all(dir);
    fs::create_dir_all(dir).expect("a directory");
    generator::write_all(dir, store);
}

#[async_trait]
impl ServiceManager for Fake {
    async fn daemon_reload(&self) -> Result<()> {
        self.job("reload".to_owned()).await;
        if self.state().reload_fails {
            return Err(Error::failed("reload systemd's units").because("it is told to fail"));
        }
        generate(&self.generated, &self.store);
        Ok(())
    }

    async fn add_units(&self, _: &[String]) -> Result<bool> {
        self.job("units".to_owned()).await;
        if !self.state().adds_fail {
            generator::add_all(&self.generated, &self.store).expect("units");
        }
        Ok(!self.state().adds_fail)
    }

    fn generated(&self) -> &Path {
        &self.generated
    }

    async fn start(&self, units: &[String]) -> Result<()> {
        for name in units {
            let refused = self.state().cannot_start.as_ref().is_some_and(|no| name.contains(no));
            let found = self.load(name).filter(|_| !refused);
            let loaded = found.ok_or_else(|| {
                Error::failed(format!("start {name}")).with_reason(Reason::StartFailed)
            })?;
            self.job(format!("start {}", name.trim_end_matches(".service"))).await;
            let mut state = self.state();
            let starts = state.units.get(name).map_or(0, |unit| unit.starts) + 1;
            state.units.insert(
                name.clone(),
                Unit { is_up: true, starts, since: Some(Instant::now()), ..loaded },
            );
        }
        Ok(())
    }

    async fn begin_start(&self, target: &str) -> Result<()> {
        let unit = Unit { is_up: true, ..Unit::default() };
        self.state().units.insert(target.to_owned(), unit);
        Ok(())
    }

    async fn stop(&self, units: &[String], _: Duration) -> Result<()> {
        for name in units {
            self.job(format!("stop {}", name.trim_end_matches(".service"))).await;
            let mut state = self.state();
            if let Some(unit) = state.units.get_mut(name) {
                (unit.is_up, unit.has_failed) = (false, false);
            }
        }
        Ok(())
    }

    async fn restart(&self, units: &[String], stop_timeout: Duration) -> Result<()> {
        self.stop(units, stop_timeout).await?;
        self.start(units).await
    }

    async fn reset_failed(&self, unit: &str) {
        if let Some(unit) = self.state().units.get_mut(unit) {
            unit.has_failed = false;
        }
    }

    async fn status(&self, name: &str) -> Result<ServiceStatus> {
        let unit = self.state().units.get(name).cloned().unwrap_or_default();
        let case = match unit.is_up {
            _ if unit.has_failed => "sigusr1",
            true if matches!(self.does(name, &unit), Does::Ended) => "restarts",
            true => "running",
            false => "never-started",
        };
        let (control_group, invocation_id) = (name.to_owned(), format!("{name} {}", unit.starts));
        Ok(ServiceStatus { control_group, invocation_id, ..recorded::status(case) })
    }

    async fn active_state(&self, unit: &str) -> Result<String> {
        if let Some(state) = self.state().active.get(unit) {
            return Ok(state.clone());
        }
        let up = self.state().units.get(unit).is_some_and(|unit| unit.is_up);
        Ok(if up { "active" } else { "inactive" }.to_owned())
    }

    async fn consists_of(&self, target: &str) -> Result<BTreeMap<String, Activity>> {
        let state = self.state();
        let parts = state.units.iter().filter(|(_, unit)| unit.target == target);
        let activity = |unit: &Unit| if unit.is_up { Activity::Up } else { Activity::Down };
        Ok(parts.map(|(name, unit)| (name.clone(), activity(unit))).collect())
    }

    async fn run(&self, command: Command, line: Lines<'_>) -> Result<Ending> {
        if command.unit == "deployd-signature" {
            return Ok(keygen::run(command, line));
        }
        let text = command.argv.join(" ");
        self.state().runs.push(format!("{}: {text}", command.unit));
        line(format!("{} runs", command.unit));
        if text.contains("does=hang") {
            tokio::time::sleep(command.timeout).await;
            return Ok(Ending::Failure("timeout".to_owned()));
        }
        match text.contains("does=fail") {
            true => Ok(Ending::Failure("exit-code, exit status 1".to_owned())),
            false => Ok(Ending::Success),
        }
    }

    async fn version(&self) -> Result<String> {
        Ok(self.state().version.clone().unwrap_or_else(|| "252.1".to_owned()))
    }

    async fn uptime(&self) -> Result<Duration> {
        Ok(self.state().uptime.unwrap_or(Duration::from_secs(3600)))
    }

    async fn is_stopping(&self) -> bool {
        self.state().is_stopping
    }

    async fn last_lines(&self, _: &[String], _: i64, _: usize) -> Vec<Line> {
        self.state().log.clone()
    }
}

#[async_trait]
impl PortSwitch for Fake {
    fn expect_ports(&self) {
        self.state().expects_ports = true;
    }

    fn expect_no_ports(&self) {
        self.state().expects_ports = false;
    }

    async fn load_ports(&self, script: &str) -> Result<()> {
        self.job("ports".to_owned()).await;
        let mut state = self.state();
        if state.nft_fails {
            return Err(Error::failed("load the port map").because("it is told to fail"));
        }
        script.clone_into(&mut state.script);
        Ok(())
    }

    async fn cannot_load(&self, _: &str) -> Result<Option<Error>> {
        let missing = || {
            Error::failed("use nftables")
                .because("it is told to be missing")
                .help("install nftables")
        };
        Ok(self.state().no_nft.then(missing))
    }

    fn fingerprint(&self, _: &str) -> io::Result<Fingerprint> {
        let script = self.state().script.clone();
        Ok(Fingerprint { rules: script.lines().count(), hash: script.len() as u64 })
    }
}

#[async_trait]
impl Network for Fake {
    async fn endpoints(&self, control_group: &str) -> Vec<Endpoint> {
        let unit = self.state().units.get(control_group).cloned().unwrap_or_default();
        match self.does(control_group, &unit) {
            Does::Listens(address, Some(port)) if unit.is_up => {
                vec![Endpoint { address: address.into(), port, v6only: false }]
            }
            _ => Vec::new(),
        }
    }

    fn listener(&self, port: u16, _: Option<&str>) -> Option<Listener> {
        let is_taken = self.state().strangers.contains(&port);
        is_taken.then(|| Listener { pid: 99, name: "stranger".to_owned(), ..Listener::default() })
    }

    fn receiver(&self, _: u16, _: Option<&str>) -> Option<Listener> {
        None
    }

    fn bound_ports(&self) -> BTreeSet<u16> {
        self.state().strangers.clone()
    }

    fn reserved_by_others(&self) -> String {
        String::new()
    }

    fn first_unprivileged_port(&self) -> u16 {
        1024
    }

    fn connections(&self, port: u16) -> io::Result<usize> {
        Ok(self.state().connections.get(&port).copied().unwrap_or_default())
    }

    fn families(&self) -> Families {
        match self.state().has_no_address {
            true => Families::default(),
            false => Families::IPV4,
        }
    }

    async fn accepted(&self, to: SocketAddr) -> io::Result<Accepted> {
        self.connect(to).await?;
        let units = self.state().units.clone();
        let mut on_it = units.values().filter(|unit| unit.is_up && unit.port == Some(to.port()));
        let hangs = on_it.any(|unit| unit.does == "accept-nothing");
        Ok(if hangs { Accepted::No { others: 3 } } else { Accepted::Yes })
    }

    async fn connect(&self, to: SocketAddr) -> io::Result<()> {
        for port in self.behind(to.port()) {
            let units = self.state().units.clone();
            for (name, unit) in units.iter().filter(|(_, unit)| unit.is_up) {
                if let Does::Listens(_, Some(found)) = self.does(name, unit)
                    && found == port
                    && to.is_ipv4()
                {
                    return Ok(());
                }
            }
        }
        Err(ErrorKind::ConnectionRefused.into())
    }

    async fn get(&self, at: SocketAddr, _: &Request) -> io::Result<Answer> {
        self.connect(at).await?;
        let units = self.state().units.clone();
        let mut on_it = units.values().filter(|unit| unit.is_up && unit.port == Some(at.port()));
        let status = if on_it.any(|unit| unit.does == "status-500") { 500 } else { 200 };
        Ok(Answer { status, location: None })
    }
}

/// The user that owns files: for a test as root another user, otherwise the current one.
fn user() -> Ids {
    match getuid().is_root() {
        true => Ids { uid: 61_000, gid: 61_000 },
        false => Ids { uid: getuid().as_raw(), gid: getgid().as_raw() },
    }
}

#[async_trait]
impl Users for Fake {
    fn ids(&self, name: &str) -> Result<Ids> {
        match self.state().has_nobody {
            true => Err(Error::failed(format!("look up {name}"))),
            false => Ok(user()),
        }
    }

    fn is_member(&self, _: Ids, _: &str) -> bool {
        false
    }

    fn has_group(&self, _: &str) -> bool {
        !self.state().has_nobody
    }

    async fn make_users(&self, wanted: &[Wanted]) -> Result<Vec<Ids>> {
        Ok(wanted.iter().map(|_| user()).collect())
    }

    async fn remove_users(&self, _: &[Wanted]) -> Result<()> {
        Ok(())
    }
}

#[async_trait]
impl Disk for Fake {
    async fn sync(&self, _: OwnedFd) -> io::Result<()> {
        self.job("sync".to_owned()).await;
        while self.state().disk == Syncs::Slowly {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let disk = self.state().disk;
        match disk {
            Syncs::Fails(errno) => Err(io::Error::from_raw_os_error(errno)),
            _ => {
                self.job("synced".to_owned()).await;
                Ok(())
            }
        }
    }
}
