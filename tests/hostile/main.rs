//! A release attacks the machine, the agent and other apps as best it can, in its build and at
//! run time, on an instance with ten other apps under load: no request to them fails, the agent
//! stays the same process with bounded memory, and each of them is deployed once more.

#![allow(clippy::disallowed_methods, reason = "the tests are not the agent")]

use std::net::SocketAddr;
use std::time::Duration;
use testkit::app::{BUCKET, Release};
use testkit::graceful::SERVER;
use testkit::host::Host;
use testkit::hostile::MOVES;
use testkit::load::{Load, Running};

const OTHERS: u16 = 10;
/// Memory limit of deployd during the attack; the promise for an idle daemon is 15 MiB.
const MOST_MEMORY: u64 = 128 << 20;
/// The machine's settings limit the build and the attacker.
const SETTINGS: &str = "DEPLOY_MAX_TASKS=256\nDEPLOY_BUILD_MEMORY_MAX=512M\nDEPLOY_MAX_MEMORY=1G\n\
                        DEPLOY_BUILD_TIMEOUT=2m\nDEPLOY_STOP_TIMEOUT=2s\n";

fn url(app: &str, release: &str) -> String {
    format!("s3://{BUCKET}/{app}/production/{release}")
}

fn port(number: u16) -> u16 {
    6000 + number
}

fn other(number: u16, name: &str) -> Release {
    Release::empty(name)
        .file("server.py", SERVER)
        .file("VERSION", format!("{name}\n"))
        .procfile("web: exec python3 server.py\n")
        .set(&format!("PORT={}", port(number)))
        .set("SECRET=the-secret-of-another")
}

fn hostile(name: &str, build: &str, web: &str) -> Release {
    Release::empty(name)
        .file("moves.py", MOVES)
        .file("server.py", SERVER)
        .file("VERSION", format!("{name}\n"))
        .procfile(&format!("{build}web: {web}\n"))
}

/// Main process and restart count of each other app and of deployd.
fn alive(host: &Host) -> String {
    host.sh(
        "systemctl show --value --property=Id,MainPID,NRestarts 'deploy-other*-web-*@1.service' \
         deployd.service dbus.service rsyslog.service systemd-journald.service",
    )
}

fn loads(host: &Host) -> Vec<(u16, Running)> {
    let load = |number| {
        let target = SocketAddr::from((host.address(), port(number)));
        let load = Load::on(&[target]).connections(2).longest(Duration::from_secs(1200));
        (number, host.network.within(|| load.pause(Duration::from_millis(20)).start()))
    };
    (0..OTHERS).map(load).collect()
}

fn memory(host: &Host) -> u64 {
    let status = host.sh("cat /proc/$(systemctl show --value --property=MainPID deployd)/status");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = peak.and_then(|peak| peak.trim().strip_suffix("kB")).map(str::trim);
    kib.and_then(|kib| kib.parse::<u64>().ok()).expect("VmHWM") << 10
}

/// Checks that processes are killed even if they cannot be signalled, by their cgroup alone.
fn nothing_is_left(host: &Host) {
    let left = host.sh("ps -o pid=,args= -u app-hostile,build-hostile || true");
    assert_eq!(left, "", "processes of the removed app");
}

#[test]
fn a_hostile_release_does_not_affect_any_other_app() {
    let host = Host::built(|builder| builder.image(&Host::image()));
    host.configure(SETTINGS);
    for number in 0..OTHERS {
        let app = format!("other{number}");
        other(number, "r1").publish_as(host.s3(), &app);
        other(number, "r2").publish_as(host.s3(), &app);
        host.deploy(&[&url(&app, "r1")]).exits(0);
    }
    let before = alive(&host);
    let loads = loads(&host);
    loads.iter().for_each(|(_, load)| load.wait_for(10));

    let build = "build: python3 moves.py build; exit 1\n";
    hostile("built", build, "exec python3 server.py").publish_as(host.s3(), "hostile");
    let said = host.deploy(&[&url("hostile", "built")]).exits(10);
    assert!(said.stdout.len() + said.stderr.len() < 16 << 20, "build output is not limited");
    assert_eq!(alive(&host), before, "after a hostile build");

    // The attacker is healthy itself, and attacks in the background.
    let web = "(python3 moves.py web; sleep 3600) & exec python3 server.py";
    hostile("runs", "", web).publish_as(host.s3(), "hostile");
    host.deploy(&[&url("hostile", "runs")]).exits(0);
    let last = "descriptors: done";
    host.wait_for("its last move", Duration::from_secs(120), || {
        let log = host.journal(&["-u", "deploy-hostile-web-runs@1.service", "--output=cat"]);
        log.contains(last).then_some(())
    });
    host.deploy(&["status"]);
    assert_eq!(alive(&host), before, "while it runs");

    // Its leftovers hinder neither its next release nor a restart of deployd.
    let leave = "python3 moves.py leave & exec python3 server.py";
    for name in ["left", "again"] {
        hostile(name, "", leave).publish_as(host.s3(), "hostile");
        host.deploy(&[&url("hostile", name)]).exits(0);
    }
    for number in 0..OTHERS {
        host.deploy(&[&url(&format!("other{number}"), "r2")]).exits(0);
    }
    let peak = memory(&host);
    host.exec(&["systemctl", "restart", "deployd"]).exits(0);
    host.deploy(&["status", "other1"]).exits(0);
    host.deploy(&["remove", "hostile", "--yes"]).exits(0);
    nothing_is_left(&host);
    host.exec(&["test", "-e", "/etc/passwd"]).exits(0);

    let mut asked = 0;
    for (number, load) in loads {
        load.wait_for(10);
        let tally = load.stop();
        assert_eq!(tally.failed(), 0, "other{number}: {tally}");
        asked += tally.asked();
    }
    let mib = peak >> 20;
    println!("{asked} requests to {OTHERS} other apps, 0 failed; deployd had {mib} MiB at most");
    assert!(peak <= MOST_MEMORY, "deployd had {mib} MiB");
    host.sh("systemctl --quiet is-active deployd.service");
    let log = host.deploy(&["logs", "other1"]).exits(0);
    assert!(!log.stdout.contains("forged by hostile"), "{log:?}");
}
