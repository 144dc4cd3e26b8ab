//! A machine in memory: a small state machine of units, jobs, ports and users. It starts the
//! units that the agent's own generator writes. The word after `does=` in a process's command
//! selects its behaviour.

mod keygen;
mod seams;

use crate::generator;
use crate::host::journal::Line;
use crate::store::Store;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::Ipv4Addr;
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
