//! The text of one service template.

use super::command::{quote, shell};
use crate::installed::Snapshot;
use crate::release::manifest::{Manifest, Plan, Service};
use crate::release::settings::{DEFAULT_VARIABLES, Readiness, Sandbox, StopSignal};
use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

/// Ends processes that a unit's main process leaves behind: `stop.rs`. KillMode=mixed alone
/// would kill them at once, and control-group would send them a second SIGTERM. It runs as root
/// outside the sandbox: each command of a unit has a user namespace of its own, and the pipes
/// of all processes are only visible from outside.
const STOP: &str = "/usr/lib/deploy-agent/deploy-stop";

/// The time from the end of DEPLOY_HEALTH_TIMEOUT to systemd's own timeout.
const READY_GRACE: Duration = Duration::from_secs(10);

/// The restrictions of every sandbox except `off`.
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

/// The additions of `full`: they remove no device, as `ProtectClock=` would, and show home
/// directories, where runtimes may be installed.
const FULL: &str = "\
ProtectSystem=full
ProtectHome=read-only
";

/// The additions of `strict`: a process sees the system read-only, except for its own tree, its
/// home, its shared directory and /tmp. `MemoryDenyWriteExecute=` is missing since it breaks V8
/// and the JVM, which write the code they run. The calls of `@privileged` and `@resources` in
/// `@system-service` stay: without capabilities the kernel refuses the harmful ones, and
/// runtimes use the rest, such as a chown(2) to oneself.
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

/// The additions of `strict` if the app has a user of its own, the only one that it then sees:
/// not even another release of the app can be traced, or read through /proc.
const ALONE: &str = "\
PrivateUsers=yes
";

/// How a process of one app sees the directory with the state of all apps.
const HIDDEN: &str = "ro,mode=0755";

/// A directory that each process has to itself: small, and writable for any user.
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
LogExtraFields=DEPLOY_APP={app}
LogExtraFields=DEPLOY_ENVIRONMENT={stage}
LogExtraFields=DEPLOY_RELEASE={label}
LogRateLimitIntervalSec=0
LimitNOFILE=65536
OOMPolicy=continue
{limits}{sandbox}",
        kind_of_start = kind_of_start(plan),
        stage = manifest.url.environment(),
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

/// Makes a shell outlive these signals while it waits for the app: systemd would signal the
/// shell alone.
fn stop_first(signal: StopSignal) -> String {
    match signal {
        StopSignal::Int | StopSignal::Quit | StopSignal::Winch => {
            format!("ExecStop=-+{STOP} {} $MAINPID\n", signal.name())
        }
        StopSignal::Term | StopSignal::Hup | StopSignal::Usr1 | StopSignal::Usr2 => String::new(),
    }
}

/// Returns the lines of [`super::confinement`].
pub(super) fn confinement(snapshot: &Snapshot, manifest: &Manifest, service: &Service) -> String {
    let environment = environment(snapshot, manifest, service);
    format!("{environment}{}{}", limits(&manifest.plan), sandbox(snapshot, manifest, service))
}

/// The variables that the agent gives to every process; those of env replace them, as far as the
/// agent has left them in its file. `PORT` is not here: it comes from a
/// drop-in for a single process.
fn environment(snapshot: &Snapshot, manifest: &Manifest, service: &Service) -> String {
    let variables = [
        format!("PS={}.%i", service.kind),
        format!("HOME={}", home(snapshot, manifest, service)),
        format!("DEPLOY_SHARED={}", path(&snapshot.shared())),
        format!("DEPLOY_APP={}", snapshot.app),
        format!("DEPLOY_ENVIRONMENT={}", manifest.url.environment()),
        format!("DEPLOY_RELEASE={}", manifest.label),
    ];
    let defaults = DEFAULT_VARIABLES.iter().map(|(name, value)| format!("{name}={value}"));
    variables.into_iter().chain(defaults).fold(String::new(), |mut lines, variable| {
        let _ = writeln!(lines, "Environment={variable}");
        lines
    })
}

/// The home of the process: its own, or the shared one if the release has no homes.
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
        // Apps with a shared user may share files: 0.1.0 let them.
        Sandbox::Strict if alone => walls(plan.sandbox, alone) + &own_state_alone(snapshot),
        Sandbox::Strict | Sandbox::Full => walls(plan.sandbox, alone),
        // The mount point lies in a directory in which the app's user may create a link to
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

/// The resource limits of a process.
fn limits(plan: &Plan) -> String {
    let tasks = plan.max_tasks.map(|tasks| format!("TasksMax={tasks}\n"));
    let memory = plan.memory_max.map(|bytes| format!("MemoryMax={bytes}\n"));
    [tasks, memory].into_iter().flatten().collect()
}

/// The restrictions of a process or a build; `alone` if its user is the app's own.
pub(super) fn walls(sandbox: Sandbox, alone: bool) -> String {
    match sandbox {
        Sandbox::Strict if alone => format!("{PROTECTED}{STRICT}{ALONE}"),
        Sandbox::Strict => format!("{PROTECTED}{STRICT}"),
        Sandbox::Full => format!("{PROTECTED}{FULL}"),
        Sandbox::Off => String::new(),
    }
}

/// Hides the state of all other apps.
fn own_state_alone(snapshot: &Snapshot) -> String {
    let apps = snapshot.dir.parent().map(path).unwrap_or_default();
    format!("TemporaryFileSystem={apps}:{HIDDEN}\nBindReadOnlyPaths={}\n", path(&snapshot.dir))
}

/// How systemd detects that a process has started, and that it still works.
fn kind_of_start(plan: &Plan) -> String {
    let mut lines = match plan.ready {
        Readiness::Port => "Type=exec\n".to_owned(),
        // The agent stops and reports a candidate that takes too long, not systemd.
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

/// Formats a duration for systemd.time(7).
fn milliseconds(time: Duration) -> String {
    format!("{}ms", time.as_millis())
}

/// Formats a path for a unit file: every `%` doubled. Settings refuse a state directory whose
/// name would need quotes.
fn path(path: &Path) -> String {
    path.to_string_lossy().replace('%', "%%")
}
