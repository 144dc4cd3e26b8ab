//! The text of one service template.

use super::command::{quote, shell};
use crate::installed::Snapshot;
use crate::release::manifest::{Manifest, Plan, Service};
use crate::release::settings::{Readiness, Sandbox, StopSignal};
use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

/// Ends what the main process of a unit leaves behind: `stop.rs`. KillMode=mixed alone
/// would kill that at once, and control-group would send a second SIGTERM to it. It is root
/// outside of the sandbox: each command of a unit has a user namespace of its own, and only
/// from outside of them all it sees the processes' pipes.
const STOP: &str = "/usr/lib/deploy-agent/deploy-stop";

/// From the end of DEPLOY_HEALTH_TIMEOUT to systemd's own.
const READY_GRACE: Duration = Duration::from_secs(10);

/// What a process cannot do under every sandbox but `off`.
const PROTECTED: &str = "\
NoNewPrivileges=yes
PrivateTmp=yes
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectKernelLogs=yes
ProtectControlGroups=yes
ProtectHostname=yes
RestrictSUIDSGID=yes
CapabilityBoundingSet=
AmbientCapabilities=
";

/// What `full` adds: it takes no device away, as `ProtectClock=` would, and shows home
/// directories, where runtimes may lie.
const FULL: &str = "\
ProtectSystem=full
ProtectHome=read-only
";

/// What `strict` adds: its own tree, its home, its shared directory and /tmp aside, a
/// process sees the system read-only. `MemoryDenyWriteExecute=` is not among it: it
/// breaks V8 and the JVM, which write the code they run. Nor are the calls of
/// `@privileged` and `@resources` that `@system-service` has: without
/// capabilities the kernel refuses what would harm, and runtimes use the rest,
/// such as a chown(2) to oneself.
const STRICT: &str = "\
PrivateDevices=yes
ProtectHome=yes
ProtectClock=yes
RestrictRealtime=yes
LockPersonality=yes
ProtectSystem=strict
ProtectProc=invisible
PrivateMounts=yes
RestrictNamespaces=yes
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX AF_NETLINK
SystemCallFilter=@system-service
SystemCallErrorNumber=EPERM
SystemCallArchitectures=native
RemoveIPC=yes
";

/// What `strict` adds where the app has a user of its own, which is all that it then knows
/// of: not even another release of the app can be traced, or read through /proc.
const ALONE: &str = "\
PrivateUsers=yes
";

/// What the directory with all apps' state looks like to a process of one of them.
const HIDDEN: &str = "ro,mode=0755";

/// A directory of which each process sees its own: for whatever user, and small.
const PROCESS_DIR: &str = "mode=1777,nosuid,nodev,size=16m";

pub(super) fn text(snapshot: &Snapshot, manifest: &Manifest, service: &Service) -> String {
    let (app, label, kind) = (&snapshot.app, &manifest.label, &service.kind);
    let plan = &manifest.plan;
    format!(
        "\
[Unit]
Description={app} {kind}.%i, release {label}
PartOf=deploy-{app}.target
Wants=network-online.target
After=network-online.target
StartLimitIntervalSec=0

[Service]
{kind_of_start}User={user}
Slice={slice}
WorkingDirectory={tree}
EnvironmentFile={env}
{environment}ExecStart=:/bin/bash -c {script}
{stop_first}ExecStopPost=-+{STOP} {signal}
KillMode=mixed
KillSignal={signal}
Restart=always
RestartSec=2
TimeoutStopSec={stop}
SuccessExitStatus=143
StandardOutput=journal
StandardError=journal
SyslogIdentifier={app}.{kind}.%i
LogRateLimitIntervalSec=0
LimitNOFILE=65536
OOMPolicy=continue
{limits}{sandbox}",
        kind_of_start = kind_of_start(plan),
        user = plan.user,
        slice = super::slice(app),
        tree = path(&snapshot.tree(label)),
        env = path(&snapshot.env_path(label)),
        environment = environment(snapshot, manifest, service),
        script = quote(&shell(&service.command)),
        stop_first = stop_first(plan.stop_signal),
        signal = plan.stop_signal.name(),
        stop = milliseconds(plan.stop_timeout),
        limits = limits(plan),
        sandbox = sandbox(snapshot, manifest, service),
    )
}

/// A shell outlives these signals while it waits for the app: systemd would signal the
/// shell alone.
fn stop_first(signal: StopSignal) -> String {
    match signal {
        StopSignal::Int | StopSignal::Quit | StopSignal::Winch => {
            format!("ExecStop=-+{STOP} {} $MAINPID\n", signal.name())
        }
        StopSignal::Term | StopSignal::Hup | StopSignal::Usr1 | StopSignal::Usr2 => String::new(),
    }
}

/// The lines of [`super::confinement`].
pub(super) fn confinement(snapshot: &Snapshot, manifest: &Manifest, service: &Service) -> String {
    let environment = environment(snapshot, manifest, service);
    format!("{environment}{}{}", limits(&manifest.plan), sandbox(snapshot, manifest, service))
}

/// What the agent tells every process. `PORT` is not here: it comes from a
/// drop-in of the one process that it belongs to.
fn environment(snapshot: &Snapshot, manifest: &Manifest, service: &Service) -> String {
    let variables = [
        format!("PS={}.%i", service.kind),
        format!("HOME={}", home(snapshot, manifest, service)),
        format!("DEPLOY_SHARED={}", path(&snapshot.shared())),
        format!("DEPLOY_APP={}", snapshot.app),
        format!("DEPLOY_ENVIRONMENT={}", manifest.url.environment()),
        format!("DEPLOY_RELEASE={}", manifest.label),
    ];
    variables.iter().fold(String::new(), |mut lines, variable| {
        let _ = writeln!(lines, "Environment={variable}");
        lines
    })
}

/// The home of the process: its own, or that of all where the release has none.
fn home(snapshot: &Snapshot, manifest: &Manifest, service: &Service) -> String {
    match manifest.homes {
        true => format!("{}/{}.%i", path(&snapshot.homes(&manifest.label)), service.kind),
        false => path(&snapshot.shared()),
    }
}

fn sandbox(snapshot: &Snapshot, manifest: &Manifest, service: &Service) -> String {
    let plan = &manifest.plan;
    let tree = snapshot.tree(&manifest.label);
    let alone = !manifest.uids.is_empty();
    let own = |relative: &String| manifest.process_dirs.contains(relative);
    let own_dirs = manifest.process_dirs.iter().fold(String::new(), |mut lines, relative| {
        let dir = path(&tree.join(relative));
        let _ = writeln!(lines, "TemporaryFileSystem={dir}:{PROCESS_DIR}");
        lines
    });
    let protected = match plan.sandbox {
        // Apps that share a user may share files: 0.1.0 let them.
        Sandbox::Strict if alone => walls(plan.sandbox, alone) + &own_state_alone(snapshot),
        Sandbox::Strict | Sandbox::Full => walls(plan.sandbox, alone),
        // What is mounted for the process lies where the app's user may put a link to
        // anywhere: it must not be able to show a setuid program another /etc.
        Sandbox::Off if !own_dirs.is_empty() => return format!("NoNewPrivileges=yes\n{own_dirs}"),
        Sandbox::Off => return String::new(),
    };
    let trees = plan.writable.iter().filter(|relative| !own(relative));
    let trees = trees.map(|relative| path(&tree.join(relative)));
    let homes =
        [home(snapshot, manifest, service), path(&snapshot.homes(&manifest.label).join("build"))];
    let homes = homes.into_iter().filter(|_| manifest.homes);
    let writable = trees.chain(homes).chain([path(&snapshot.shared())]);
    let lines = writable.fold(protected, |mut lines, writable| {
        let _ = writeln!(lines, "ReadWritePaths=-{writable}");
        lines
    });
    lines + &own_dirs
}

/// What it may take of the machine.
fn limits(plan: &Plan) -> String {
    let tasks = plan.max_tasks.map(|tasks| format!("TasksMax={tasks}\n"));
    let memory = plan.memory_max.map(|bytes| format!("MemoryMax={bytes}\n"));
    [tasks, memory].into_iter().flatten().collect()
}

/// What a process, or a build, is kept from; `alone` where its user is the app's own.
pub(super) fn walls(sandbox: Sandbox, alone: bool) -> String {
    match sandbox {
        Sandbox::Strict if alone => format!("{PROTECTED}{STRICT}{ALONE}"),
        Sandbox::Strict => format!("{PROTECTED}{STRICT}"),
        Sandbox::Full => format!("{PROTECTED}{FULL}"),
        Sandbox::Off => String::new(),
    }
}

/// Its own app is all that it sees of the agent's state.
fn own_state_alone(snapshot: &Snapshot) -> String {
    let apps = snapshot.dir.parent().map(path).unwrap_or_default();
    format!("TemporaryFileSystem={apps}:{HIDDEN}\nBindReadOnlyPaths={}\n", path(&snapshot.dir))
}

/// How systemd knows that a process has started, and that it still works.
fn kind_of_start(plan: &Plan) -> String {
    let mut lines = match plan.ready {
        Readiness::Port => "Type=exec\n".to_owned(),
        // A candidate that takes too long is the agent's to end, and to report.
        Readiness::Notify => {
            let longest = milliseconds(plan.health_timeout.saturating_add(READY_GRACE));
            format!("Type=notify\nTimeoutStartSec={longest}\n")
        }
    };
    if !plan.watchdog.is_zero() {
        let _ = writeln!(lines, "WatchdogSec={}", milliseconds(plan.watchdog));
    }
    if plan.ready == Readiness::Notify || !plan.watchdog.is_zero() {
        lines.push_str("NotifyAccess=all\n");
    }
    lines
}

/// As systemd.time(7) has it.
fn milliseconds(time: Duration) -> String {
    format!("{}ms", time.as_millis())
}

/// A path in a unit file: every `%` doubled. Settings refuse a state directory
/// whose name would need quotes.
fn path(path: &Path) -> String {
    path.to_string_lossy().replace('%', "%%")
}
