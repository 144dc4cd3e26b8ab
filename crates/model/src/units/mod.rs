//! Pure: renders the installed state as the text of systemd's units. Only the generator writes
//! them.

mod command;
pub mod ports;
pub mod reserve;
mod service;

use crate::installed::Snapshot;
use crate::release::manifest::{Manifest, Plan, Process, Service};
use crate::release::name::{AppName, Label, ProcessType};
use crate::release::settings::{Sandbox, Strategy};
use ports::PortMap;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

/// The directory for units of systemd's generators that represent configuration elsewhere;
/// systemd.generator(7), "normal".
pub const GENERATED: &str = "/run/systemd/generator";

/// The path of the agent's generator.
pub const GENERATOR: &str = "/usr/lib/systemd/system-generators/deploy-generator";

/// The file in which the generator leaves the port map for [`PORTS`]; no unit's name.
pub const SCRIPT: &str = "deploy-ports.nft";

/// The unit that loads the port map at boot, before any app's target.
///
/// No unit of the agent itself begins with `deploy-`, as an app's units do: an administrator's
/// drop-in for those (`deploy-.service.d`) does not affect the agent's.
pub const PORTS: &str = "deployd-ports.service";

/// A drop-in for Debian's firewall unit: it flushes all tables whenever it is loaded, so the
/// map is loaded again after it.
const FIREWALL: &str = "nftables.service.d/deploy-ports.conf";

/// The path of nft(8) on Debian, Ubuntu and Amazon Linux.
pub const NFT: &str = "/usr/sbin/nft";

/// The features of the machine's kernel that units need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kernel {
    pub user_namespaces: bool,
}

impl Kernel {
    /// Removes the lines of a unit file with which no process could start on this kernel.
    pub fn possible(self, lines: String) -> String {
        if self.user_namespaces { lines } else { lines.replace("PrivateUsers=yes\n", "") }
    }
}

/// The content of a generated path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unit {
    Text(String),
    /// A symbolic link with this target.
    Link(String),
}

/// The target of the whole app.
pub fn target(app: &AppName) -> String {
    format!("deploy-{app}.target")
}

/// The slice of all processes of an app, and of its builds. A `-` in a slice's name means a
/// level; systemd.slice(5).
pub fn slice(app: &AppName) -> String {
    format!("deploy-{}.slice", app.as_str().replace('-', "\\x2d"))
}

/// The unit of one process of an installed release: `deploy-my-app-web-r42@1.service`.
pub fn service(app: &AppName, label: &Label, process: &Process) -> String {
    format!("{}@{}.service", prefix(app, label, &process.kind), process.number)
}

/// The template units of a release. The same `APP-TYPE-LABEL` may be split in two ways (`a-b`,
/// `web` and `a`, `b-web`), so the release that comes second gets another label.
pub fn templates(manifest: &Manifest) -> impl Iterator<Item = String> + '_ {
    templates_of(manifest.url.app(), &manifest.label, &manifest.plan)
}

/// The template units that a release would have under this label.
pub fn templates_of<'a>(
    app: &'a AppName,
    label: &'a Label,
    plan: &'a Plan,
) -> impl Iterator<Item = String> + 'a {
    let name = move |kind| format!("{}@.service", prefix(app, label, kind));
    plan.processes.iter().map(move |service| name(&service.kind))
}

fn prefix(app: &AppName, label: &Label, kind: &ProcessType) -> String {
    format!("deploy-{app}-{kind}-{label}")
}

/// The units that have to run now: the processes of `current`, except those that the operator
/// has stopped.
pub fn wanted(snapshot: &Snapshot) -> BTreeSet<String> {
    let Some(manifest) = snapshot.current() else { return BTreeSet::new() };
    let running = |process: &Process| !snapshot.stopped.covers(&process.to_string());
    let processes = manifest.plan.instances().filter(running);
    processes.map(|process| service(&snapshot.app, &manifest.label, &process)).collect()
}

/// The units of all processes of a release.
pub fn unit_names(manifest: &Manifest) -> BTreeSet<String> {
    let unit = |process: Process| service(manifest.url.app(), &manifest.label, &process);
    manifest.plan.instances().map(unit).collect()
}

/// The units of a release's processes that clients connect to.
pub fn with_a_port(manifest: &Manifest) -> BTreeSet<String> {
    let processes = manifest.plan.instances().filter(|process| process.port.is_some());
    let unit = |process: Process| service(manifest.url.app(), &manifest.label, &process);
    processes.map(unit).collect()
}

/// The units of the processes of these types, of every installed release.
pub fn of_types(snapshot: &Snapshot, is: impl Fn(&ProcessType) -> bool) -> BTreeSet<String> {
    let units = snapshot.releases.iter().flat_map(|manifest| {
        let processes = manifest.plan.instances().filter(|process| is(&process.kind));
        processes.map(|process| service(&snapshot.app, &manifest.label, &process))
    });
    units.collect()
}

/// The units that clients reach through the port map, with their ports: of any release, since
/// connections stay with the release that they were opened to.
pub fn behind_the_map(snapshot: &Snapshot) -> BTreeMap<String, u16> {
    let handed_over = |manifest: &&Manifest| manifest.plan.strategy == Strategy::Handover;
    let releases = snapshot.releases.iter().filter(handed_over);
    let processes = releases.flat_map(|manifest| {
        let unit = |process: Process| {
            Some((service(&snapshot.app, &manifest.label, &process), process.port?))
        };
        manifest.plan.instances().filter_map(unit)
    });
    processes.collect()
}

/// The environment and restrictions of a one-off command of the release, as lines of a unit
/// file: the same as for a process of that type.
pub fn confinement(snapshot: &Snapshot, manifest: &Manifest, command: &Service) -> String {
    service::confinement(snapshot, manifest, command)
}

/// The restrictions of a build, as lines of a unit file: the same as for a process.
pub fn walls(sandbox: Sandbox, alone: bool) -> String {
    service::walls(sandbox, alone)
}

/// The bash script that runs a Procfile's command as a service.
pub fn script(command: &str) -> String {
    command::shell(command)
}

/// All units of an app, by their path below the generator's directory: a template for each
/// process type of every installed release, so that the previous one can be started at any
/// time, and the target of the current one.
pub fn generate(snapshot: &Snapshot, kernel: Kernel) -> BTreeMap<String, Unit> {
    let mut units = BTreeMap::new();
    for manifest in &snapshot.releases {
        units.extend(of_release(snapshot, manifest, kernel));
    }
    if let Some(manifest) = snapshot.current() {
        units.extend(of_target(snapshot, manifest));
    }
    units
}

/// The templates of one release, and the ports of its processes.
pub fn of_release(snapshot: &Snapshot, manifest: &Manifest, kernel: Kernel) -> Vec<(String, Unit)> {
    let mut units = Vec::new();
    for kind in &manifest.plan.processes {
        let name = prefix(&snapshot.app, &manifest.label, &kind.kind);
        let text = kernel.possible(service::text(snapshot, manifest, kind));
        units.push((format!("{name}@.service"), Unit::Text(text)));
    }
    for process in manifest.plan.instances() {
        if let Some(port) = process.port {
            let unit = service(&snapshot.app, &manifest.label, &process);
            let text =
                format!("[Service]\nEnvironment=PORT={port} PUBLIC_PORT={}\n", manifest.plan.port);
            units.push((format!("{unit}.d/port.conf"), Unit::Text(text)));
        }
    }
    units
}

/// The target of the app, whose current release this is, and the link that starts it at boot.
pub fn of_target(snapshot: &Snapshot, manifest: &Manifest) -> [(String, Unit); 2] {
    let name = target(&snapshot.app);
    let link = format!("multi-user.target.wants/{name}");
    let text = Unit::Text(target_text(snapshot, manifest));
    [(link, Unit::Link(format!("../{name}"))), (name, text)]
}

fn target_text(snapshot: &Snapshot, manifest: &Manifest) -> String {
    let (app, environment) = (&snapshot.app, manifest.url.environment());
    let mut text =
        format!("[Unit]\nDescription={app} ({environment}), release {}\n", manifest.label);
    if !manifest.plan.private_ports.is_empty() {
        let _ = writeln!(text, "Wants={PORTS}\nAfter={PORTS}");
    }
    for unit in wanted(snapshot) {
        let _ = writeln!(text, "Wants={unit}");
    }
    text
}

/// The units that all apps share: the port map, and the units that load it at boot and after
/// the machine's own firewall.
pub fn generate_shared(apps: &[Snapshot]) -> Vec<(String, Unit)> {
    let map = PortMap::new(apps, None);
    if map == PortMap::default() {
        return Vec::new();
    }
    let text = format!(
        "\
[Unit]
Description=Port map of the deployed apps
DefaultDependencies=no
After=local-fs.target systemd-sysctl.service nftables.service
Before=shutdown.target
Conflicts=shutdown.target

[Service]
Type=oneshot
RemainAfterExit=yes
{reserve}ExecStart={NFT} -f {GENERATED}/{SCRIPT}
",
        reserve = reserve::at_boot()
    );
    let again = format!("{NFT} -f {GENERATED}/{SCRIPT}");
    let firewall = format!("[Service]\nExecStartPost=-{again}\nExecReload=-{again}\n");
    let texts = [(SCRIPT, ports::script(&map)), (PORTS, text), (FIREWALL, firewall)];
    texts.into_iter().map(|(name, text)| (name.to_owned(), Unit::Text(text))).collect()
}
