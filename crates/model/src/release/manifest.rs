//! `release.json`: all data that the agent keeps about an installed release, and the only input
//! for its units. Of the env file it holds the settings (`DEPLOY_…`, `PORT`) and no other
//! value.

use super::identity::Identity;
use super::name::{Label, ProcessType};
use super::procfile::Procfile;
use super::reach::Families;
use super::settings::{
    Clients, Readiness, ReleaseSettings, Sandbox, Statuses, StopSignal, Strategy,
};
use super::signature::Signer;
use super::state::State;
use super::url::ReleaseUrl;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::num::NonZeroU16;
use std::time::Duration;

/// The format of `release.json` that this version writes and reads.
pub const FORMAT: u32 = 1;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    pub format: u32,
    pub label: Label,
    pub url: ReleaseUrl,
    pub identity: Identity,
    pub state: State,
    pub staged_at: Timestamp,
    /// The uids of the app's own users, if it has them: of its processes, and of its builds.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub uids: Vec<u32>,
    /// The release that ran when this one was committed: the target of a rollback.
    pub replaced: Option<Label>,
    /// The address families over which clients reached the release when it was proved; none if
    /// it was not, or was proved by 0.1.0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serves: Option<Families>,
    /// The number of entries of the unpacked tree, and their bytes.
    pub files: u64,
    pub bytes: u64,
    /// Whether each process has a home of its own. Releases of 0.1.0 had only `shared/`.
    #[serde(default)]
    pub homes: bool,
    /// Directories of the tree that each process has to itself.
    #[serde(default)]
    pub process_dirs: Vec<String>,
    /// A restart or scaling that is under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rolling: Option<Rolling>,
    /// Whether the release's env sets PORT. Otherwise the port comes from agent.env. Releases of
    /// 0.1.0 do not say; they count as if they set it.
    #[serde(default = "yes")]
    pub port_is_own: bool,
    /// The signer of its archive and env, if signatures are required here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signed_by: Option<Signer>,
    /// The counts that the release was staged with, of a release that was scaled since.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub staged_counts: BTreeMap<ProcessType, u16>,
    pub plan: Plan,
}

/// The state of a restart or scaling: what an interrupted one goes back to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rolling {
    /// Private ports that get no new connections.
    pub held_back: Vec<u16>,
    /// The counts of all types, and the private ports, afterwards.
    pub counts: BTreeMap<ProcessType, u16>,
    pub private_ports: Vec<u16>,
}

impl Manifest {
    /// Whether both have the same archive and env, whatever their labels.
    pub fn has_content_of(&self, other: &Manifest) -> bool {
        self.identity.is_same(&self.url, &other.identity, &other.url)
    }

    /// Gives new connections to all processes but the one with this port.
    pub fn hold_back(&mut self, port: Option<u16>) {
        match (port, &mut self.rolling) {
            (None, _) => self.rolling = None,
            (Some(port), Some(rolling)) => rolling.held_back = vec![port],
            (Some(port), None) => self.hold_back_all(vec![port]),
        }
    }

    /// The same for several ports.
    pub fn hold_back_all(&mut self, ports: Vec<u16>) {
        let plan = self.plan.clone();
        self.begin_rolling(&plan, ports);
    }

    /// Begins a restart or scaling that an interruption takes back to this plan.
    pub fn begin_rolling(&mut self, back_to: &Plan, held_back: Vec<u16>) {
        let counts = back_to.counts();
        let private_ports = back_to.private_ports.clone();
        self.rolling = Some(Rolling { held_back, counts, private_ports });
    }

    /// Ends a restart or scaling that was interrupted; returns whether there was one.
    pub fn end_rolling(&mut self) -> bool {
        let Some(rolling) = self.rolling.take() else { return false };
        for (kind, count) in &rolling.counts {
            self.set_count(kind, *count);
        }
        self.plan.private_ports = rolling.private_ports;
        true
    }

    /// Remembers the counts that the release was staged with.
    pub fn remember_counts(&mut self) {
        if self.staged_counts.is_empty() {
            self.staged_counts = self.plan.counts();
        }
    }

    /// The plan with the counts that the release was staged with.
    pub fn plan_as_staged(&self) -> Plan {
        let mut manifest = self.clone();
        manifest.forget_scaling();
        manifest.plan
    }

    /// Restores the counts that the release was staged with.
    pub fn forget_scaling(&mut self) {
        for (kind, count) in std::mem::take(&mut self.staged_counts) {
            self.set_count(&kind, count);
        }
    }

    pub fn set_count(&mut self, kind: &ProcessType, count: u16) {
        let services = self.plan.processes.iter_mut().filter(|service| service.kind == *kind);
        services.for_each(|service| service.count = count);
    }

    /// The types whose number of processes was changed after staging: type, number now, and number
    /// as staged.
    pub fn deviations(&self) -> Vec<(&ProcessType, u16, u16)> {
        let services = self.plan.processes.iter();
        let staged = |kind| self.staged_counts.get(kind).copied();
        let both = services.filter_map(|one| Some((&one.kind, one.count, staged(&one.kind)?)));
        both.filter(|(_, now, staged)| now != staged).collect()
    }

    /// Whether a switch from one to the other changes nothing.
    pub fn is_twin_of(&self, other: &Manifest) -> bool {
        self.has_content_of(other) && self.plan.is_same(&other.plan)
    }
}

/// The processes and how they run: the Procfile and the settings, merged and valid.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// The user the processes run as.
    pub user: String,
    /// The port on which clients reach `web`.
    pub port: NonZeroU16,
    /// Whether clients reach `web` over UDP too, as HTTP/3 needs.
    pub udp: bool,
    /// The ports that the processes of `web` actually listen on, in their order; allocated when
    /// the release is staged. Empty if they bind the public port themselves, as with strategy
    /// `restart`.
    pub private_ports: Vec<u16>,
    pub processes: Vec<Service>,
    pub strategy: Strategy,
    // Settings that 0.1.0 did not have are read as their built-in values.
    #[serde(default)]
    pub clients: Clients,
    #[serde(default)]
    pub ready: Readiness,
    pub health_path: Option<String>,
    #[serde(default = "health_host")]
    pub health_host: String,
    #[serde(default)]
    pub health_status: Statuses,
    pub health_timeout: Duration,
    /// How long a candidate must stay healthy before it gets the traffic.
    pub prove: Duration,
    pub settle: Duration,
    pub drain_timeout: Duration,
    /// Zero means no limit.
    #[serde(default)]
    pub watchdog: Duration,
    #[serde(default)]
    pub stop_signal: StopSignal,
    pub stop_timeout: Duration,
    /// Types that must never run in two releases at once.
    pub singleton: Vec<ProcessType>,
    /// Paths below `app/` that the processes may write to.
    pub writable: Vec<String>,
    /// As in the settings; [`Manifest::process_dirs`] has the directories that are used.
    #[serde(default = "process_dirs")]
    pub process_dirs: Vec<String>,
    pub sandbox: Sandbox,
    /// In bytes; none means no limit.
    pub memory_max: Option<u64>,
    /// None in releases of 0.1.0: systemd's limit for every unit applies.
    #[serde(default)]
    pub max_tasks: Option<u32>,
    #[serde(default = "yes")]
    pub metadata: bool,
}

/// One process type: a line of the Procfile and how many processes it gets.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Service {
    #[serde(rename = "type")]
    pub kind: ProcessType,
    pub command: String,
    pub count: u16,
}

fn yes() -> bool {
    true
}

/// The `Host` of the probe before it became a setting.
fn health_host() -> String {
    "localhost".to_owned()
}

/// The built-in value of DEPLOY_PROCESS_DIRS, which 0.1.0 did not have.
fn process_dirs() -> Vec<String> {
    vec!["tmp/pids".to_owned()]
}

impl Service {
    /// Whether clients reach the type: `web` and no other, as on Heroku.
    pub fn is_web(&self) -> bool {
        self.kind.as_str() == "web"
    }
}

/// One numbered instance of a process type: `web.1`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Process {
    pub kind: ProcessType,
    pub number: u16,
    /// Only for processes of `web`.
    pub port: Option<u16>,
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.kind, self.number)
    }
}

impl Plan {
    pub fn new(procfile: &Procfile, settings: &ReleaseSettings, user: &str) -> Plan {
        let count = |kind: &ProcessType| settings.concurrency.get(kind).copied().unwrap_or(1);
        let service = |(kind, command): (&ProcessType, &str)| Service {
            kind: kind.clone(),
            command: command.to_owned(),
            count: count(kind),
        };
        Plan {
            user: user.to_owned(),
            port: settings.port,
            udp: settings.udp,
            private_ports: Vec::new(),
            processes: procfile.services().map(service).collect(),
            strategy: settings.strategy,
            clients: settings.clients,
            ready: settings.ready,
            health_path: settings.health_path.clone(),
            health_host: settings.health_host.clone(),
            health_status: settings.health_status.clone(),
            health_timeout: settings.health_timeout,
            prove: settings.prove,
            settle: settings.settle,
            drain_timeout: settings.drain_timeout,
            singleton: settings.singleton.clone(),
            watchdog: settings.watchdog,
            stop_signal: settings.stop_signal,
            stop_timeout: settings.stop_timeout,
            writable: settings.writable.clone(),
            process_dirs: settings.process_dirs.clone(),
            sandbox: settings.sandbox,
            memory_max: settings.memory_max,
            max_tasks: Some(settings.max_tasks),
            metadata: settings.metadata,
        }
    }

    /// Every process that this release runs, in the Procfile's order.
    pub fn instances(&self) -> impl Iterator<Item = Process> + '_ {
        self.processes.iter().flat_map(|service| self.instances_of(service))
    }

    /// The numbered processes of one type. Each `web` has its private port. Without private
    /// ports the first binds the public port, the others the ports after it, as in foreman.
    pub fn instances_of(&self, service: &Service) -> impl Iterator<Item = Process> + '_ {
        let (kind, web) = (service.kind.clone(), service.is_web());
        (1..=service.count).map(move |number| Process {
            kind: kind.clone(),
            number,
            port: if web { self.port_of(number) } else { None },
        })
    }

    pub fn counts(&self) -> BTreeMap<ProcessType, u16> {
        self.processes.iter().map(|service| (service.kind.clone(), service.count)).collect()
    }

    fn port_of(&self, number: u16) -> Option<u16> {
        match self.strategy {
            Strategy::Restart => Some(self.port.get().saturating_add(number - 1)),
            Strategy::Handover => self.private_ports.get(usize::from(number) - 1).copied(),
        }
    }

    pub fn has_web(&self) -> bool {
        self.processes.iter().any(Service::is_web)
    }

    /// The release's own ports as clients see them.
    pub fn public_ports(&self) -> BTreeSet<u16> {
        match self.private_ports.is_empty() {
            true => self.instances().filter_map(|process| process.port).collect(),
            false => BTreeSet::from([self.port.get()]),
        }
    }

    /// How many private ports the release needs.
    pub fn private_ports_needed(&self) -> usize {
        match self.strategy {
            Strategy::Restart => 0,
            Strategy::Handover => {
                self.processes.iter().filter(|s| s.is_web()).map(|s| usize::from(s.count)).sum()
            }
        }
    }

    /// Whether both run the same processes in the same way, apart from their private ports,
    /// their user, and the machine's limit on tasks.
    pub fn is_same(&self, other: &Plan) -> bool {
        let what = |plan: &Plan| Plan {
            private_ports: Vec::new(),
            user: String::new(),
            max_tasks: None,
            ..plan.clone()
        };
        what(self) == what(other)
    }

    /// Whether no two releases of the type may run at once.
    pub fn is_singleton(&self, kind: &ProcessType) -> bool {
        self.singleton.contains(kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_of_0_1_has_no_homes_and_the_default_plan() {
        let settings = ReleaseSettings::merge(&Default::default(), &Default::default());
        let procfile = Procfile::parse(b"web: ./web").expect("a Procfile");
        let plan = Plan::new(&procfile, &settings.expect("settings"), "deploy-app");
        let mut json = serde_json::json!({
            "format": FORMAT, "label": "r1", "url": "s3://releases/my-app/production/r1",
            "identity": { "archive": {}, "env": {} }, "state": "good",
            "staged_at": "2026-11-21T00:00:00Z", "replaced": null, "files": 1, "bytes": 1,
            "plan": plan,
        });
        json["plan"].as_object_mut().expect("an object").remove("process_dirs");
        let manifest: Manifest = serde_json::from_value(json).expect("a manifest");
        assert!(!manifest.homes && manifest.process_dirs.is_empty());
        assert!(manifest.plan.is_same(&plan), "it is not staged again");
    }
}
