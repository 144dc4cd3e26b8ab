//! nft(8) fails in the middle of a deploy: the report matches the actual state.

use testkit::app::{Release, url};
use testkit::host::{Host, SOON};

/// An nft that fails after the number of uses in /run/nft-left.
const FAILING: &str = "\
mv /usr/sbin/nft /usr/sbin/nft.real
cat >/usr/sbin/nft <<'END'
#!/bin/sh
if [ -e /run/nft-left ]; then
    left=$(cat /run/nft-left)
    [ \"$left\" -gt 0 ] || { echo 'Error: it is broken' >&2; exit 1; }
    echo $((left - 1)) >/run/nft-left
fi
exec /usr/sbin/nft.real \"$@\"
END
chmod 755 /usr/sbin/nft";

fn host() -> Host {
    let host = Host::boot();
    host.sh(FAILING);
    host
}

fn fail_after(host: &Host, uses: u32) {
    host.write("/run/nft-left", format!("{uses}\n"));
}

fn repair(host: &Host) {
    host.sh("rm -f /run/nft-left");
}

#[test]
fn a_deploy_that_nft_fails_reports_that_the_old_release_runs_on() {
    let host = host();
    host.publish(&Release::new("r1"));
    host.deploys("r1");
    let before = host.pids();
    let mut failed = 0;
    for uses in 0.. {
        let name = format!("r2-{uses}");
        host.publish(&Release::new(&name));
        fail_after(&host, uses);
        let said = host.deploy(&[&url(&name)]);
        if said.status == Some(0) {
            assert_eq!(host.served(), Some(name));
            break;
        }
        failed += 1;
        let said = said.exits(1);
        let what = format!("my-app {name} was not deployed, r1 runs on: load the port map");
        assert!(said.stdout.contains(&what), "{uses}: {said:?}");
        assert!(said.stdout.contains("it is broken"), "{uses}: {said:?}");
        assert_eq!(host.served().as_deref(), Some("r1"), "{uses}");
        assert_eq!(host.pids(), before, "{uses}");
        let status = host.status();
        assert_eq!((&status["release"], &status["healthy"]), (&"r1".into(), &true.into()));
        repair(&host);
    }
    assert_eq!(failed, 2, "to guard the candidate's ports, and to switch");
    repair(&host);
    host.publish(&Release::new("r3"));
    host.deploys("r3");
    assert_eq!(host.served().as_deref(), Some("r3"));
}

#[test]
fn a_rollback_that_nft_fails_reports_that_the_release_runs_on() {
    let host = host();
    for name in ["r1", "r2"] {
        host.publish(&Release::new(name));
        host.deploys(name);
    }
    fail_after(&host, 0);
    let said = host.deploy(&["rollback"]).exits(1);
    assert!(said.stdout.contains("my-app r1 was not deployed, r2 runs on"), "{said:?}");
    assert_eq!(host.served().as_deref(), Some("r2"));
    repair(&host);
    host.deploy(&["rollback"]).exits(0);
    assert_eq!(host.served().as_deref(), Some("r1"));
}

#[test]
fn a_first_deploy_that_nft_fails_does_not_mark_the_release_unhealthy() {
    let host = host();
    host.publish(&Release::new("r1"));
    // Uses: to guard the candidate's ports, and to switch. The first attempt has done the
    // former.
    for uses in [1, 0] {
        fail_after(&host, uses);
        let said = host.deploy(&[&url("r1")]).exits(1);
        assert!(said.stdout.contains("load the port map"), "{said:?}");
        repair(&host);
    }
    host.deploys("r1");
    assert_eq!(host.served().as_deref(), Some("r1"));
}

#[test]
fn a_restart_that_nft_fails_reports_that_the_old_release_runs_again() {
    let host = host();
    host.publish(&Release::new("r1"));
    host.deploys("r1");
    host.publish(&Release::new("r2").set("DEPLOY_STRATEGY=restart"));
    fail_after(&host, 0);
    let said = host.deploy(&[&url("r2")]).exits(20);
    assert!(said.stdout.contains("my-app r2 failed, r1 runs again"), "{said:?}");
    host.wait_for("answer", SOON, || host.served().filter(|served| served == "r1"));
    repair(&host);
    host.deploys("r2");
    assert_eq!(host.served().as_deref(), Some("r2"));
}

#[test]
fn a_later_failure_that_nft_cannot_roll_back_is_reported_as_stuck() {
    let host = host();
    host.configure("DEPLOY_SETTLE=20s\n");
    host.publish(&Release::new("r1"));
    host.deploys("r1");
    host.publish(&Release::new("r2"));
    let deploying = host.command(&["deploy", &url("r2")]).spawn();
    host.wait_for("settle window", SOON, || {
        (host.journal(&["-u", "deployd"]).matches("settle: 20 s").count() == 2).then_some(())
    });
    fail_after(&host, 0);
    let rollback = host.command(&["deploy", "rollback"]).spawn();
    let said = deploying.output().exits(30);
    assert!(said.stdout.contains("could not be brought back"), "{said:?}");
    repair(&host);
    rollback.output();
    host.wait_for("map", SOON, || host.served().filter(|served| served == "r1"));
}
