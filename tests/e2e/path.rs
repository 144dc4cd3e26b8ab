//! The path from a new release to one that serves: what is prepared while the candidate starts, and
//! what a deploy does without.

use testkit::app::{Release, url};
use testkit::host::{Host, SOON};

const AHEAD: &str = "deployd-nft-ahead.service";
const CANDIDATE: &str = "deploy-my-app-web-r2@1.service";

/// The rules of the port map, without the guard of private ports, which any release changes.
fn map(host: &Host) -> String {
    host.sh("nft list chain inet deploy public")
}

fn is_active(host: &Host, unit: &str) -> bool {
    let state = host.exec(&["systemctl", "show", "-P", "ActiveState", unit]).stdout;
    matches!(state.trim(), "active" | "activating")
}

#[test]
fn a_candidate_starts_without_a_daemon_reload() {
    let host = Host::running_r1();
    host.publish(&Release::new("r2"));
    host.deploys("r2");
    let log = host.journal(&["--output=cat", "_PID=1"]);
    let (_, since) = log.rsplit_once("Finished deployd-units.service").expect("the units of r2");
    let (until, _) = since.split_once(&format!("Started {CANDIDATE}")).expect("the candidate");
    assert!(!until.contains("Reload"), "{until}");
    assert!(!host.journal(&["--unit=deployd"]).contains("need a daemon-reload"));
    // The target follows `current`, and nothing that runs differs from its file.
    let target = host.sh("systemctl show -P Wants deploy-my-app.target");
    assert!(target.contains(CANDIDATE), "{target}");
    for unit in [CANDIDATE, "deploy-my-app.target"] {
        let stale = host.sh(&format!("systemctl show -P NeedDaemonReload {unit}"));
        assert_eq!(stale.trim(), "no", "{unit}");
    }
    host.reboot();
    host.wait_for("r2", SOON, || host.served().filter(|served| served == "r2"));
}

#[test]
fn the_map_is_loaded_by_the_nft_that_waits_also_after_a_daemon_reload() {
    let host = Host::running_r1();
    host.publish(&Release::new("r2").set("DEPLOY_PROVE=2s"));
    let deploying = host.command(&["deploy", &url("r2")]).spawn();
    host.wait_for("nft", SOON, || is_active(&host, AHEAD).then_some(()));
    let before = map(&host);
    host.sh("systemctl daemon-reload");
    assert!(is_active(&host, AHEAD));
    deploying.output().exits(0);
    assert_ne!(map(&host), before);
    assert_eq!(host.served().as_deref(), Some("r2"));
    assert!(host.journal(&["--unit", AHEAD]).contains("Finished"));
    let log = host.journal(&["--unit=deployd"]);
    assert!(!log.contains("it is tried again"), "{log}");
}

#[test]
fn an_nft_that_waits_ends_with_deployd_and_changes_nothing() {
    let host = Host::running_r1();
    host.publish(&Release::new("r2").set("BEHAVE=hang"));
    let deploying = host.command(&["deploy", &url("r2")]).spawn();
    host.wait_for("nft", SOON, || is_active(&host, AHEAD).then_some(()));
    let before = map(&host);
    host.sh("systemctl kill --signal=KILL deployd.service");
    host.wait_for("its end", SOON, || (!is_active(&host, AHEAD)).then_some(()));
    deploying.output();
    assert_eq!(map(&host), before);
    assert_eq!(host.served().as_deref(), Some("r1"));
    let failed = host.sh("systemctl list-units --failed --plain --no-legend");
    assert!(!failed.contains("deployd-"), "{failed}");
}

#[test]
fn a_map_is_loaded_although_the_nft_that_waited_was_killed() {
    let host = Host::running_r1();
    host.publish(&Release::new("r2").set("DEPLOY_PROVE=2s"));
    let deploying = host.command(&["deploy", &url("r2")]).spawn();
    host.wait_for("nft", SOON, || {
        let pid = host.sh(&format!("systemctl show -P MainPID {AHEAD}"));
        (pid.trim() != "0").then_some(())
    });
    host.sh(&format!("systemctl kill --signal=KILL {AHEAD}"));
    deploying.output().exits(0);
    assert_eq!(host.served().as_deref(), Some("r2"));
}
