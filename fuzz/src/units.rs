//! Parses the units of a release as systemd does: no text of a release can add a line to them.

use model::installed::{Snapshot, Stopped};
use model::release::identity::{Identity, Validator};
use model::release::manifest::{FORMAT, Manifest, Plan};
use model::release::ports::allocate;
use model::release::procfile::Procfile;
use model::release::settings::{AgentSettings, ReleaseSettings};
use model::release::state::State;
use model::units::{Kernel, Unit, generate, generate_shared};
use std::collections::{BTreeMap, BTreeSet};

/// The features of almost every machine.
const KERNEL: Kernel = Kernel { user_namespaces: true };

/// The directives that may occur more than once in a unit.
const LISTS: [&str; 5] =
    ["LogExtraFields", "Environment", "ReadWritePaths", "StartLimitIntervalSec", "Wants"];
/// The directives that depend on a command.
const OF_COMMAND: [&str; 2] = ["ExecStart", "KillMode"];
/// The longest file name, equal to systemd's UNIT_NAME_MAX.
const LONGEST_NAME: usize = 255;

pub fn check(procfile: &Procfile, agent: &AgentSettings, settings: &ReleaseSettings) {
    let snapshot = snapshot(procfile, agent, settings);
    let plain = with_plain_commands(&snapshot);
    let shared = |snapshot: &Snapshot| generate_shared(std::slice::from_ref(snapshot));
    assert_eq!(shared(&snapshot), shared(&plain), "a command changes the port map");
    let (units, plain) = (generate(&snapshot, KERNEL), generate(&plain, KERNEL));
    assert!(units.keys().eq(plain.keys()), "a command gives a unit another name");
    for ((name, unit), plain) in units.iter().zip(plain.values()) {
        check_name(name);
        match (unit, plain) {
            (Unit::Text(text), Unit::Text(plain)) => {
                check_lines(text);
                differs_by_command_alone(text, plain);
            }
            _ => assert_eq!(unit, plain),
        }
    }
    commands_are_what_systemd_reads(&units, procfile);
}

fn snapshot(procfile: &Procfile, agent: &AgentSettings, settings: &ReleaseSettings) -> Snapshot {
    let identity = Identity {
        archive: Validator::default(),
        env: Validator::default(),
        content: None,
        also: Vec::new(),
    };
    let manifest = Manifest {
        format: FORMAT,
        label: "r1".parse().expect("a label"),
        url: "s3://releases/my-app/production/r1".parse().expect("a URL"),
        identity,
        state: State::Good,
        staged_at: "2026-01-01T00:00:00Z".parse().expect("a time"),
        uids: Vec::new(),
        replaced: None,
        serves: None,
        files: 1,
        bytes: 1,
        homes: true,
        process_dirs: settings.process_dirs.clone(),
        rolling: None,
        port_is_own: true,
        signed_by: None,
        staged_counts: Default::default(),
        plan: plan(procfile, agent, settings),
    };
    Snapshot {
        app: manifest.url.app().clone(),
        dir: agent.state_dir.join("apps/my-app"),
        current: Some(manifest.label.clone()),
        releases: vec![manifest],
        stopped: Stopped::default(),
    }
}

/// The plan with private ports, as when it is staged.
pub fn plan(procfile: &Procfile, agent: &AgentSettings, settings: &ReleaseSettings) -> Plan {
    let mut plan = Plan::new(procfile, settings, agent.user.as_deref().unwrap_or("app-my-app"));
    let ports = allocate(plan.private_ports_needed(), &BTreeSet::new(), |_| true);
    plan.private_ports = ports.expect("enough private ports");
    plan
}

fn with_plain_commands(snapshot: &Snapshot) -> Snapshot {
    let mut plain = snapshot.clone();
    let services = plain.releases.iter_mut().flat_map(|manifest| &mut manifest.plan.processes);
    services.for_each(|service| service.command = "true".into());
    plain
}

/// Checks that the name is a single file below its directory.
fn check_name(name: &str) {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"@._-".contains(&b);
    let fine = |part: &str| {
        (1..=LONGEST_NAME).contains(&part.len()) && part.bytes().all(plain) && part != ".."
    };
    assert!(name.split('/').all(fine) && name.split('/').count() <= 2, "{name}");
}

/// Checks that sections and directives occur once, and none continues on the next line.
fn check_lines(text: &str) {
    let unprintable = |c: char| c.is_control() && c != '\n';
    assert!(text.ends_with('\n') && !text.contains(unprintable), "{text:?}");
    let mut seen = BTreeSet::new();
    for line in text.lines().filter(|line| !line.is_empty()) {
        assert!(!line.ends_with('\\'), "{line:?} goes on in the next line");
        let key = line.split_once('=').map_or(line, |(key, _)| key);
        let header = matches!(line, "[Unit]" | "[Service]");
        assert!(header || key.bytes().all(|b| b.is_ascii_alphanumeric()), "{line:?}");
        assert!(seen.insert(key) || LISTS.contains(&key), "a second {line:?}");
    }
}

fn differs_by_command_alone(text: &str, plain: &str) {
    assert_eq!(text.lines().count(), plain.lines().count(), "{text}");
    for (line, plain) in text.lines().zip(plain.lines()) {
        let of_command = |line: &str| {
            let key = line.split_once('=').map(|(key, _)| key);
            OF_COMMAND.into_iter().find(|own| key == Some(*own))
        };
        let same =
            line == plain || of_command(line).is_some_and(|key| of_command(plain) == Some(key));
        assert!(same, "a command makes {plain:?} {line:?}");
    }
}

/// Checks that every service has a unit that runs its own command, perhaps after an `exec`.
fn commands_are_what_systemd_reads(units: &BTreeMap<String, Unit>, procfile: &Procfile) {
    let mut services = 0;
    for (kind, command) in procfile.services() {
        services += 1;
        let Some(Unit::Text(text)) = units.get(&format!("deploy-my-app-{kind}-r1@.service")) else {
            panic!("no unit for {kind}");
        };
        let argument = text.lines().find_map(|line| line.strip_prefix("ExecStart=:/bin/bash -c "));
        let script = as_systemd_reads(argument.expect("a command"));
        let own = script == command || script.strip_prefix("exec ") == Some(command);
        assert!(own, "{kind}: {command:?} became {script:?}");
    }
    let templates = units.keys().filter(|name| name.ends_with("@.service")).count();
    assert_eq!(templates, services, "units that no line of the Procfile asks for");
}

/// Parses one quoted argument: systemd.syntax(7) for the escapes, systemd.unit(5) for `%`.
fn as_systemd_reads(argument: &str) -> String {
    let inner = argument.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    let mut chars = inner.unwrap_or_else(|| panic!("not quoted: {argument}")).chars();
    let mut read = String::new();
    while let Some(c) = chars.next() {
        read.push(match c {
            '"' => panic!("a quote that ends the argument: {argument}"),
            '\\' => match chars.next() {
                Some('t') => '\t',
                Some(c @ ('"' | '\\')) => c,
                other => panic!("an escape that is not needed, {other:?}: {argument}"),
            },
            '%' => {
                assert_eq!(chars.next(), Some('%'), "a specifier: {argument}");
                '%'
            }
            c => c,
        });
    }
    read
}
