//! `release.json`: all that the agent knows of an installed release. Units are
//! made from it alone. Of the env file it holds the settings (`DEPLOY_…`, `PORT`)
//! and no other value.

use super::identity::Identity;
use super::name::{Label, ProcessType};
use super::procfile::Procfile;
use super::reach::Families;
use super::settings::{
    Clients, Readiness, ReleaseSettings, Sandbox, Statuses, StopSignal, Strategy,
};
use super::state::State;
use super::url::ReleaseUrl;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt;
use std::num::NonZeroU16;
use std::time::Duration;

/// The form of `release.json` that this version writes and reads.
pub const FORMAT: u32 = 1;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    pub format: u32,
    pub label: Label,
    pub url: ReleaseUrl,
    pub identity: Identity,
    pub state: State,
    pub staged_at: Timestamp,
    /// The numbers of the app's own users, where it has them: of the one that it runs as,
    /// and of the one that its builds run as.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub uids: Vec<u32>,
    /// The release that ran when this one was committed: where a rollback goes.
    pub replaced: Option<Label>,
    /// The address families over which clients reached it when it was proved; none where
    /// it was not, or by 0.1.0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serves: Option<Families>,
    /// Entries of the unpacked tree, and their bytes.
    pub files: u64,
    pub bytes: u64,
    /// Whether each process has a home of its own. Those of 0.1.0 had `shared/` alone.
    #[serde(default)]
    pub homes: bool,
    /// The directories of the tree of which each process really sees its own.
    #[serde(default)]
    pub process_dirs: Vec<String>,
    pub plan: Plan,
}

impl Manifest {
    /// Whether both hold the same archive and env, whatever their labels.
    pub fn has_content_of(&self, other: &Manifest) -> bool {
        self.identity.is_same(&self.url, &other.identity, &other.url)
    }

    /// Whether to go from one to the other changes nothing.
    pub fn is_twin_of(&self, other: &Manifest) -> bool {
        self.has_content_of(other) && self.plan.is_same(&other.plan)
    }
}

/// What runs, and how: the Procfile and the settings, merged and valid.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// The user the processes run as.
    pub user: String,
    /// The port on which clients reach `web`.
    pub port: NonZeroU16,
    /// Whether clients reach `web` over UDP too, as HTTP/3 wants it.
    pub udp: bool,
    /// Where the processes of `web` really listen, the first one's port first;
    /// allocated when the release is staged. None where they bind the public
    /// port themselves, as with strategy `restart`.
    pub private_ports: Vec<u16>,
    pub processes: Vec<Service>,
    pub strategy: Strategy,
    // Settings that 0.1.0 did not have read as their built-in values.
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
    /// How long it must stay healthy before it gets the traffic.
    pub prove: Duration,
    pub settle: Duration,
    pub drain_timeout: Duration,
    /// Zero is no limit.
    #[serde(default)]
    pub watchdog: Duration,
    #[serde(default)]
    pub stop_signal: StopSignal,
    pub stop_timeout: Duration,
    /// Types of which never two releases run at once.
    pub singleton: Vec<ProcessType>,
    /// Paths below `app/` that the processes may write to.
    pub writable: Vec<String>,
    /// As the settings have it; [`Manifest::process_dirs`] says what came of it.
    #[serde(default = "process_dirs")]
    pub process_dirs: Vec<String>,
    pub sandbox: Sandbox,
    /// Bytes; none means no limit.
    pub memory_max: Option<u64>,
    /// None as 0.1.0 had it: as many as systemd has for every unit.
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

/// The `Host` of the probe before it could be chosen.
fn health_host() -> String {
    "localhost".to_owned()
}

/// The built-in value of DEPLOY_PROCESS_DIRS, which 0.1.0 did not know.
fn process_dirs() -> Vec<String> {
    vec!["tmp/pids".to_owned()]
}

impl Service {
    /// Clients reach `web` and no other type, as on Heroku.
    pub fn is_web(&self) -> bool {
        self.kind.as_str() == "web"
    }
}

/// One numbered instance of a process type: `web.1`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Process {
    pub kind: ProcessType,
    pub number: u16,
    /// Only where the process is one of `web`.
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

    /// The numbered processes of one type. Each `web` has its private port; where
    /// there are none, the first binds the public port, the others the ports
    /// after it, as foreman has it.
    pub fn instances_of(&self, service: &Service) -> impl Iterator<Item = Process> + '_ {
        let (kind, web) = (service.kind.clone(), service.is_web());
        (1..=service.count).map(move |number| Process {
            kind: kind.clone(),
            number,
            port: if web { self.port_of(number) } else { None },
        })
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

    /// The ports that are its own as clients see them.
    pub fn public_ports(&self) -> BTreeSet<u16> {
        match self.private_ports.is_empty() {
            true => self.instances().filter_map(|process| process.port).collect(),
            false => BTreeSet::from([self.port.get()]),
        }
    }

    /// How many private ports it needs.
    pub fn private_ports_needed(&self) -> usize {
        match self.strategy {
            Strategy::Restart => 0,
            Strategy::Handover => {
                self.processes.iter().filter(|s| s.is_web()).map(|s| usize::from(s.count)).sum()
            }
        }
    }

    /// Whether it runs the same in the same way, wherever its processes listen, whoever they
    /// run as, and however many tasks the machine lets them have.
    pub fn is_same(&self, other: &Plan) -> bool {
        let what = |plan: &Plan| Plan {
            private_ports: Vec::new(),
            user: String::new(),
            max_tasks: None,
            ..plan.clone()
        };
        what(self) == what(other)
    }

    /// Whether the type may run in two releases at once while one is proved.
    pub fn is_singleton(&self, kind: &ProcessType) -> bool {
        self.singleton.contains(kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_of_0_1_has_no_homes_and_the_plan_of_a_release_that_asks_for_nothing() {
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
