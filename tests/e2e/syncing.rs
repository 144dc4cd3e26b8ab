//! A release is written to the disk while its candidate boots, on a disk that takes seconds.

use testkit::app::{Release, url};
use testkit::host::{Host, SOON};
use testkit::instance::Throttle;

const RELEASES: &str = "/var/lib/deploy/apps/my-app/releases";
const UNITS: &str = "/run/systemd/generator";

/// Bytes that no file system makes smaller, and the rate of the disk: a sync takes 3 s.
const NOISE: usize = 12 << 20;
const SLOW: u64 = 4 << 20;

/// r1 serves on a disk that is slow from now on, and r2 has much to be written.
fn on_a_slow_disk() -> (Host, Throttle) {
    let host = Host::on_disk(512);
    host.publish(&Release::new("r1"));
    host.deploys("r1");
    let mut state = 1_u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 33) as u8
    };
    let noise: Vec<u8> = (0..NOISE).map(|_| next()).collect();
    host.publish(&Release::new("r2").file("noise", noise));
    host.sh("sync");
    let throttle = host.throttle_disk(SLOW);
    (host, throttle)
}

fn candidate_runs(host: &Host) {
    host.wait_for("the candidate", SOON, || {
        let runs = host.exec(&["systemctl", "is-active", "deploy-my-app-web-r2@1.service"]);
        (runs.status == Some(0)).then_some(())
    });
}

#[test]
fn a_candidate_runs_before_it_is_on_the_disk_and_serves_after() {
    let (host, _slow) = on_a_slow_disk();
    let deploy = host.command(&["deploy", &url("r2"), "--timings"]).spawn();
    candidate_runs(&host);
    // Also the generator, which made its units, knows that the mark is of this boot.
    host.sh(&format!("test -e {RELEASES}/r2/unsynced; systemctl daemon-reload"));
    host.sh(&format!("test -e {UNITS}/deploy-my-app-web-r2@.service"));
    assert_eq!(host.served().as_deref(), Some("r1"));
    let said = deploy.output().exits(0);
    assert_eq!(host.served().as_deref(), Some("r2"));
    let all = format!("{}{}", said.stdout, said.stderr);
    let waited = all.lines().find_map(|line| line.trim().strip_prefix("sync "));
    assert!(waited.is_some(), "{all}");
    host.exec(&["test", "-e", &format!("{RELEASES}/r2/unsynced")]).exits(1);
}

#[test]
fn a_power_loss_before_it_is_on_the_disk_takes_it_away() {
    let (host, slow) = on_a_slow_disk();
    let deploy = host.command(&["deploy", &url("r2")]).spawn();
    candidate_runs(&host);
    host.power_loss();
    drop((deploy, slow));
    host.boot();
    host.wait_for("r1", SOON, || (host.served().as_deref() == Some("r1")).then_some(()));
    host.wait_for("recovery", SOON, || {
        let left = host.sh(&format!("ls -A {RELEASES}"));
        (left == "r1\n").then_some(())
    });
    host.deploys("r2");
    assert_eq!(host.served().as_deref(), Some("r2"));
}

#[test]
fn a_cancel_before_it_is_on_the_disk_removes_it() {
    let (host, _slow) = on_a_slow_disk();
    let deploy = host.command(&["deploy", &url("r2")]).spawn();
    candidate_runs(&host);
    host.deploy(&["cancel", "my-app"]).exits(0);
    deploy.output().exits(43);
    assert_eq!(host.served().as_deref(), Some("r1"));
    let left = host.deploy(&["releases", "my-app"]).exits(0);
    assert!(!left.stdout.contains("r2"), "{left:?}");
    assert_eq!(host.sh("systemctl list-units --plain --no-legend '*-r2@*'"), "");
}

#[test]
fn a_mark_of_another_boot_hides_a_release_from_the_generator_and_from_a_rollback() {
    let host = Host::boot();
    for release in ["r1", "r2"] {
        host.publish(&Release::new(release));
        host.deploys(release);
    }
    host.sh(&format!("echo another-boot >{RELEASES}/r1/unsynced; systemctl daemon-reload"));
    host.exec(&["test", "-e", &format!("{UNITS}/deploy-my-app-web-r1@.service")]).exits(1);
    host.deploy(&["rollback", "my-app"]).exits(2);
    let listed = host.deploy(&["releases", "my-app"]).exits(0);
    assert!(!listed.stdout.contains("r1"), "{listed:?}");
    host.sh("systemctl restart deployd");
    host.wait_for("recovery", SOON, || {
        (host.sh(&format!("ls {RELEASES}")) == "r2\n").then_some(())
    });
}
