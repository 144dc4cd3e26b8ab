//! The release phase: the Procfile's `release`, which runs on request.

use testkit::app::{Release, url};
use testkit::host::{Host, SOON};
use testkit::instance::Output;

const UNIT: &str = "deploy-my-app-release:r2.service";

/// File to which each run of the release phase adds a line.
const RAN: &str = "/var/lib/deploy/apps/my-app/shared/ran";

/// Adds a line to RAN, and prints its user, directory, process name and greeting.
fn migrates() -> String {
    format!("echo $DEPLOY_RELEASE >>{RAN}; echo migrates as $(id -un) in $PWD, $PS, $GREETING")
}

fn with_phase(name: &str, command: &str) -> Release {
    let text =
        format!("web: python3 app.py web\nworker: python3 app.py worker\nrelease: {command}\n");
    Release::new(name).procfile(&text)
}

/// Helpers of these tests, as methods of the host.
trait Phase {
    /// Returns the releases whose release phase has run, in order.
    fn migrated(&self) -> String;
    fn releases_with_phase(&self, release: &str) -> Output;
    fn wait_for_the_phase(&self);
}

impl Phase for Host {
    fn migrated(&self) -> String {
        self.sh(&format!("cat {RAN} 2>/dev/null || true")).replace('\n', " ")
    }

    #[track_caller]
    fn releases_with_phase(&self, release: &str) -> Output {
        self.deploy(&[&url(release), "--run-release"]).exits(0)
    }

    fn wait_for_the_phase(&self) {
        self.wait_for("release phase", SOON, || {
            let state = self.sh(&format!("systemctl show -P ActiveState {UNIT}"));
            (state == "activating\n").then_some(())
        });
    }
}

/// Returns the line of a step in the deploy's output, and its number.
fn step<'a>(said: &'a Output, name: &str) -> Option<(usize, &'a str)> {
    said.stderr.lines().enumerate().find_map(|(at, line)| {
        let text = line.strip_prefix(name)?.strip_prefix(' ')?;
        Some((at, text.trim_start()))
    })
}

#[test]
fn the_release_phase_runs_once_in_each_deploy_that_requests_it() {
    let host = Host::boot();
    for name in ["r1", "r2", "r3"] {
        host.publish(&with_phase(name, &migrates()).set("GREETING=hello"));
    }
    let said = host.deploys("r1");
    let (_, text) = step(&said, "release").expect("a line about it");
    assert_eq!(text, format!("not run, which `deploy --run-release` does: {}", migrates()));
    assert_eq!(host.migrated(), "");

    let said = host.releases_with_phase("r2");
    let at = ["stage", "release", "prove"].map(|name| step(&said, name).expect(name).0);
    assert!(at.is_sorted(), "{said:?}");
    let place = "/var/lib/deploy/apps/my-app/releases/r2/app";
    let output = format!("  | migrates as app-my-app in {place}, release.1, hello");
    assert!(said.stderr.lines().any(|line| line == output), "{said:?}");
    assert_eq!((host.migrated().as_str(), host.served().as_deref()), ("r2 ", Some("r2")));
    let logged = host.journal(&["DEPLOY_STAGE=release", "DEPLOY_RELEASE=r2", "-o", "cat"]);
    assert!(logged.contains("migrates as app-my-app"), "{logged}");

    // The running release has had its release phase.
    let said = host.releases_with_phase("r2");
    assert_eq!(step(&said, "release").expect("a line").1, "not run: my-app r2 is already running");
    host.deploy(&["rollback"]).exits(0);
    assert_eq!((host.migrated().as_str(), host.served().as_deref()), ("r2 ", Some("r1")));
    // Every deploy with the option runs it, also for a release that is installed already.
    host.releases_with_phase("r2");
    host.deploy(&["stage", &url("r3")]).exits(0);
    assert_eq!(host.migrated(), "r2 r2 ");
    host.releases_with_phase("r3");
    host.exec(&["systemctl", "restart", "deployd"]).ok();
    host.wait_for("deployd", SOON, || host.status()["healthy"].as_bool().filter(|is| *is));
    assert_eq!(host.migrated(), "r2 r2 r3 ");
    let said = host.deploy(&["history"]).ok();
    assert!(said.contains("deployed my-app r3"), "{said}");
}

#[test]
fn an_app_on_one_instance_can_run_its_release_phase_in_every_deploy() {
    let host = Host::running_r1();
    host.publish(&with_phase("r2", &migrates()).set("DEPLOY_RELEASE_PHASE=always"));
    host.deploys("r2");
    host.deploy(&["rollback"]).exits(0);
    assert_eq!(host.migrated(), "r2 ");
    // A deploy by watch mode counts as a deploy too.
    host.s3().put("releases", "my-app/production/current", "r2\n");
    host.configure("DEPLOY_WATCH=s3://releases/my-app/production/current\n");
    host.configure("DEPLOY_WATCH_INTERVAL=1s\n");
    host.exec(&["systemctl", "reload", "deployd"]).ok();
    let watched = |release| {
        host.wait_for(release, SOON, || (host.served().as_deref() == Some(release)).then_some(()));
        host.wait_for("end of the deploy", SOON, || {
            let status = host.status();
            (status["state"] == "good" && status["working"].is_null()).then_some(())
        });
    };
    watched("r2");
    assert_eq!(host.migrated(), "r2 r2 ");
    host.publish(&with_phase("r3", &migrates()));
    host.s3().put("releases", "my-app/production/current", "r3\n");
    watched("r3");
    assert_eq!(host.migrated(), "r2 r2 ");
}

#[test]
fn a_failed_release_phase_leaves_the_running_release_alone() {
    let host = Host::running_r1();
    let pids = host.pids();
    host.publish(&with_phase("r2", "echo no database at $DB >&2; exit 3").set("DB=db1"));
    for _ in ["staged now", "staged before"] {
        let said = host.deploy(&[&url("r2"), "--run-release"]).exits(10);
        let why = format!("release phase of my-app r2 ({UNIT}): exit-code, exit status 3");
        assert!(said.stdout.contains(&why), "{said:?}");
        assert!(said.stderr.contains("  | no database at db1\n"), "{said:?}");
        assert!(said.stderr.contains("help: correct it and publish"), "{said:?}");
        assert!(step(&said, "prove").is_none(), "{said:?}");
        assert_eq!((host.pids(), host.served().as_deref()), (pids, Some("r1")));
        let releases = host.json(&["releases", "--json"]);
        let r2 = releases.as_array().and_then(|all| all.iter().find(|one| one["release"] == "r2"));
        assert_eq!(r2.expect("r2")["state"], "failed");
    }
    host.deploy(&["rollback", "--to", "r2"]).exits(2);
    // The release may be deployed without its release phase.
    host.deploys("r2");
    assert_eq!(host.served().as_deref(), Some("r2"));
    // A good release stays a rollback target.
    let pids = host.pids();
    host.publish(&Release::new("r3"));
    host.deploys("r3");
    host.deploy(&[&url("r2"), "--run-release"]).exits(10);
    assert_ne!(host.pids(), pids);
    assert_eq!(host.status()["rollback"], "r2");
    let said = host.deploy(&[&url("r1"), "--run-release"]).exits(0);
    assert!(said.stderr.contains("warning: --run-release: the Procfile has no `release`"));
}

#[test]
fn a_hung_release_phase_ends_in_time_with_all_its_processes() {
    let host = Host::running_r1();
    let hangs = "setsid bash -c \"trap '' TERM; while :; do sleep 4711; done\" & trap '' TERM; \
                 while :; do sleep 4712; done";
    host.publish(&with_phase("r2", hangs).set("DEPLOY_BUILD_TIMEOUT=2s"));
    let said = host.deploy(&[&url("r2"), "--run-release"]).exits(10);
    assert!(said.stdout.contains(&format!("({UNIT}): timeout")), "{said:?}");
    assert!(said.stderr.contains("DEPLOY_BUILD_TIMEOUT"), "{said:?}");
    host.exec(&["pgrep", "-f", "sleep 47"]).exits(1);
    host.publish(&with_phase("r2", &format!("{hangs}; true")).set("DEPLOY_HEALTH_TIMEOUT=1s"));
    let said = host.deploy(&[&url("r2"), "--run-release", "--timeout", "6s"]).exits(11);
    assert!(said.stdout.contains("the time given with --timeout is over"), "{said:?}");
    host.exec(&["pgrep", "-f", "sleep 47"]).exits(1);
    // The release is not marked as failed.
    let releases = host.json(&["releases", "--json"]).to_string();
    assert!(releases.contains("staged") && !releases.contains("failed"), "{releases}");
    assert_eq!(host.served().as_deref(), Some("r1"));
}

#[test]
fn a_release_phase_whose_deployd_was_killed_is_stopped_and_not_run_again() {
    let host = Host::running_r1();
    let pids = host.pids();
    let waits = format!("{}; while :; do sleep 4711; done", migrates());
    host.publish(&with_phase("r2", &waits));
    let deploying = host.command(&["deploy", &url("r2"), "--run-release"]).spawn();
    host.wait_for_the_phase();
    host.wait_for("line", SOON, || (host.migrated() == "r2 ").then_some(()));
    host.exec(&["systemctl", "kill", "--signal=KILL", "deployd"]).ok();
    let said = deploying.output().exits(1);
    assert!(said.stdout.contains(&format!("deploy {} was interrupted", url("r2"))), "{said:?}");
    assert!(said.stdout.contains("release r1 is current, as before"), "{said:?}");
    host.exec(&["pgrep", "-f", "sleep 4711"]).exits(1);
    assert_eq!((host.migrated().as_str(), host.pids()), ("r2 ", pids));
    let releases = host.json(&["releases", "--json"]).to_string();
    assert!(releases.contains("staged"), "{releases}");
}

/// The properties that confine a process, as `systemctl show` names them.
const CONFINES: &str = "User,NoNewPrivileges,PrivateTmp,PrivateDevices,ProtectHome,ProtectSystem,\
ProtectKernelTunables,ProtectKernelModules,ProtectKernelLogs,ProtectControlGroups,ProtectClock,\
ProtectHostname,ProtectProc,RestrictRealtime,RestrictSUIDSGID,RestrictNamespaces,\
RestrictAddressFamilies,LockPersonality,CapabilityBoundingSet,AmbientCapabilities,PrivateMounts,\
SystemCallFilter,SystemCallErrorNumber,SystemCallArchitectures,RemoveIPC,MemoryMax,Slice,\
ReadWritePaths,WorkingDirectory";

#[test]
fn the_release_phase_is_confined_like_the_processes() {
    let host = Host::boot();
    for sandbox in ["strict", "full", "off"] {
        let waits = "until [ -e /var/lib/deploy/apps/my-app/shared/go ]; do sleep 0.1; done";
        let release = with_phase("r2", waits).set(&format!("DEPLOY_SANDBOX={sandbox}"));
        host.publish(&release.set("DEPLOY_MEMORY_MAX=300M"));
        let deploying = host.command(&["deploy", &url("r2"), "--run-release"]).spawn();
        host.wait_for_the_phase();
        let show = |unit: &str| host.sh(&format!("systemctl show --property={CONFINES} {unit}"));
        let phase = show(UNIT);
        host.go();
        deploying.output().exits(0);
        // Each has its own home; that is the only difference.
        let phase = phase.replace("/home/release.1", "/home/web.1");
        assert_eq!(phase, show("deploy-my-app-web-r2@1.service"), "{sandbox}");
        let seccomp = phase.contains("SystemCallFilter=") && phase.contains(" read ");
        assert_eq!(seccomp, sandbox == "strict", "{phase}");
        host.deploy(&["remove", "my-app", "--yes"]).exits(0);
    }
}

#[test]
fn a_plan_lists_the_types_that_will_be_started_and_those_that_will_not() {
    let host = Host::boot();
    let lines = "clock: true\nconsole: bash\nbuild: make all\nrelease: ./migrate --all\n";
    let formation = "DEPLOY_CONCURRENCY=clock=2,console=0";
    host.publish(&Release::new("r1").procfile(lines).set(formation));
    let shown = host.deploy(&["plan", &url("r1")]).ok();
    for line in [
        "  build     make all",
        "  release   only with --run-release: ./migrate --all",
        "  runs      clock x2",
        "  not run   console, by DEPLOY_CONCURRENCY: bash",
        "  no web    no port is opened: a process is healthy while it stays up",
    ] {
        assert!(shown.lines().any(|one| one == line), "{line}: {shown}");
    }
    let release = Release::new("r2").procfile(&format!("web: true\n{lines}")).set(formation);
    host.publish(&release.set("DEPLOY_RELEASE_PHASE=always"));
    let plan = host.json(&["plan", &url("r2"), "--json"]);
    assert_eq!((&plan["types"][0]["type"], &plan["types"][1]["count"]), (&"web".into(), &2.into()));
    assert_eq!(plan["release_phase"]["always"], true);
    let shown = host.deploy(&["plan", &url("r2")]).ok();
    assert!(
        shown.contains("  runs      web x1, clock x2\n") && !shown.contains("no web"),
        "{shown}"
    );
    assert!(shown.contains("  release   before the start: ./migrate --all\n"), "{shown}");
}

#[test]
fn a_request_with_an_id_may_be_repeated_and_runs_the_release_phase_once() {
    let host = Host::running_r1();
    host.publish(&with_phase("r2", &migrates()).set("BEHAVE=crash"));
    let id = "--run-release=5b1f03c2";
    for _ in 0..2 {
        host.deploy(&[&url("r2"), id]).exits(12);
        assert_eq!(host.migrated(), "r2 ");
    }
    host.publish(&with_phase("r3", "exit 1"));
    for why in ["exit status 1", "it failed before, for another"] {
        let said = host.deploy(&["release", "--run-release=another", &url("r3")]).exits(10);
        assert!(said.stdout.contains(why), "{said:?}");
    }
    host.deploy(&[&url("r3"), "--run-release=$(id)"]).exits(2);
    assert_eq!(host.served().as_deref(), Some("r1"));
}
