//! A bad network: recoverable failures are retried, all others refused, and the deployed
//! release is complete to the last byte.

use crate::metadata::Metadata;
use crate::terminal::AtTerminal;
use std::time::{Duration, Instant};
use testkit::app::{BUCKET, Release, url};
use testkit::host::{ACCESS_KEY, Host, SOON};
use testkit::s3::Fault;

const ARCHIVE: &str = "r2/source.tar.gz";
const PAYLOAD: &str = "/var/lib/deploy/apps/my-app/current/app/payload";
/// Bytes of the archive before the fault.
const SOME: usize = 300_000;

/// A release with a file that no compression makes smaller.
fn large(name: &str) -> Release {
    Release::new(name).file("payload", payload(name))
}

fn payload(name: &str) -> Vec<u8> {
    let mut state = name.bytes().fold(1u64, |state, byte| state * 31 + u64::from(byte));
    let byte = || {
        // xorshift64
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    std::iter::repeat_with(byte).take(2 << 20).collect()
}

#[test]
fn a_release_arrives_complete_through_every_fault() {
    let host = Host::running_r1();
    host.publish(&large("r2"));
    let fault = |times, fault| host.s3().fault("GET", ARCHIVE, times, fault);
    host.s3().fault("HEAD", "r2/", 1, Fault::SLOW_DOWN);
    fault(1, Fault::Reset(SOME));
    fault(2, Fault::INTERNAL_ERROR);
    fault(1, Fault::Truncate(SOME));
    fault(2, Fault::SLOW_DOWN);
    fault(1, Fault::Stall(SOME));
    fault(1, Fault::IgnoreRange);
    let said = host.deploys("r2");
    assert!(said.stdout.starts_with("deployed my-app r2 "), "{said:?}");
    assert!(host.read(PAYLOAD) == payload("r2"), "other bytes");
    assert_eq!(host.served().as_deref(), Some("r2"));
    let reads = host.s3().requests();
    let reads = reads.iter().filter(|read| read.method == "GET" && read.path.ends_with(ARCHIVE));
    assert_eq!(reads.count(), 8);
}

#[test]
fn a_download_survives_the_loss_of_dns() {
    let mut host = Host::running_r1();
    host.sh("echo 10.77.0.1 s3.test >>/etc/hosts");
    host.configure("AWS_ENDPOINT_URL=http://s3.test:9000\n");
    host.exec(&["systemctl", "reload", "deployd"]).ok();
    host.publish(&large("r2"));
    let trickle = Fault::Trickle(SOME, Duration::from_millis(500));
    host.s3().fault("GET", ARCHIVE, 1, trickle);
    let deploying = host.command(&["deploy", &url("r2")]).spawn();
    host.wait_for("download", SOON, || {
        let asked = host.s3().requests();
        asked.iter().any(|read| read.method == "GET" && read.path.ends_with(ARCHIVE)).then_some(())
    });
    host.sh("sed '/s3.test/d' /etc/hosts >/tmp/hosts; cat /tmp/hosts >/etc/hosts");
    host.interrupt_s3(|host| {
        host.wait_for("loss of DNS", SOON, || {
            host.journal(&["-u", "deployd"]).contains("name cannot be resolved").then_some(())
        })
    });
    host.sh("echo 10.77.0.1 s3.test >>/etc/hosts");
    deploying.output().exits(0);
    assert!(host.read(PAYLOAD) == payload("r2"), "other bytes");
}

#[test]
fn an_archive_replaced_during_the_download_is_refused() {
    let host = Host::running_r1();
    let before = host.state();
    host.publish(&large("r2"));
    host.s3().fault("GET", ARCHIVE, 1, Fault::Reset(SOME));
    host.s3().fault("GET", ARCHIVE, 1, Fault::Replaced(large("r3").compressed()));
    let said = host.deploy(&[&url("r2")]).exits(11);
    assert!(said.stdout.contains("source.tar.gz changed while it was being read"), "{said:?}");
    assert_eq!(host.state(), before);
    assert_eq!(host.sh("ls -A /var/lib/deploy/apps/my-app/releases"), "r1\n");
    assert_eq!(host.served().as_deref(), Some("r1"));
    // The replacement is a release as well.
    host.deploys("r2");
    assert!(host.read(PAYLOAD) == payload("r3"), "other bytes");
}

const WAITING: &str = "waiting for this instance to finish booting";

/// Waits until a deploy reports that it waits for `what`.
#[track_caller]
fn wait_for_waiting(host: &Host, what: &str) {
    host.wait_for(what, Duration::from_secs(60), || {
        let journal = host.journal(&["-u", "deployd"]);
        journal.lines().any(|line| line.contains(WAITING) && line.contains(what)).then_some(())
    });
}

#[test]
fn a_deploy_at_boot_waits_for_the_network_and_dns() {
    let host = Host::boot();
    host.publish(&Release::new("r1"));
    host.configure("DEPLOY_BOOT_TIMEOUT=5m\nAWS_ENDPOINT_URL=http://s3.test:9000\n");
    host.exec(&["systemctl", "reload", "deployd"]).ok();
    host.unplug();
    let deploying = host.command(&["deploy", &url("r1")]).spawn();
    wait_for_waiting(&host, "name cannot be resolved");
    host.sh("echo 10.77.0.1 s3.test >>/etc/hosts");
    wait_for_waiting(&host, "no route to the server");
    host.plug();
    let said = deploying.output().exits(0);
    assert!(said.stdout.starts_with("deployed my-app r1 "), "{said:?}");
    assert_eq!(said.stderr.matches(WAITING).count(), 2, "each wait is reported once: {said:?}");
    assert_eq!(host.served().as_deref(), Some("r1"));
}

#[test]
fn a_deploy_at_boot_waits_for_the_role_of_the_instance() {
    let host = Host::boot();
    host.publish(&Release::new("r1"));
    host.s3().put(BUCKET, "my-app/production/current", "r1\n");
    host.sh("sed -i '/AWS_ACCESS_KEY_ID/d; /AWS_SECRET/d' /etc/deploy/agent.env");
    host.configure("DEPLOY_BOOT_TIMEOUT=5m\n");
    host.exec(&["systemctl", "restart", "deployd"]).ok();
    // At first nothing listens, then there is no role yet.
    let deploying = host.command(&["deploy", &url("current")]).spawn();
    wait_for_waiting(&host, "without AWS credentials");
    let metadata = Metadata::start(&host.network, ACCESS_KEY);
    host.wait_for("question", SOON, || (metadata.denied() > 0).then_some(()));
    metadata.attach_role();
    deploying.output().exits(0);
    assert_eq!(host.served().as_deref(), Some("r1"));
}

#[test]
fn a_region_that_nobody_has_set_is_an_error_at_once_after_a_boot_too() {
    let host = Host::boot();
    host.sh("sed -i '/AWS_ENDPOINT_URL/d; /AWS_REGION/d' /etc/deploy/agent.env");
    host.configure("DEPLOY_BOOT_TIMEOUT=5m\n");
    host.reboot();
    let begun = Instant::now();
    let said = host.deploy(&[&url("r1")]).exits(11);
    println!("{said:?} after {:?}", begun.elapsed());
    assert!(begun.elapsed() < Duration::from_secs(45), "{:?}: {said:?}", begun.elapsed());
    assert!(said.stdout.contains("S3 cannot be asked without a region"), "{said:?}");
    assert!(said.stderr.contains("set AWS_REGION to the bucket's region"), "{said:?}");
    // The network is not there yet: that is waited for, with a countdown at a terminal.
    host.configure("AWS_REGION=eu-central-1\nAWS_ENDPOINT_URL=http://s3.test:9000\n");
    let deploy = format!("deploy --timeout 6s {}", url("r1"));
    let screens = host.at_terminal(100, "LANG=C.UTF-8", &deploy);
    let is_shown =
        |left: &u32| screens.showed(&["resolve", &format!("at most {left} s more: s3://")]);
    assert!((1..=6).filter(is_shown).count() >= 2, "no countdown: {}", screens.last());
}

#[test]
fn a_deploy_fails_on_anything_still_missing_after_the_boot_timeout() {
    let host = Host::boot();
    host.configure("DEPLOY_BOOT_TIMEOUT=20s\nAWS_ENDPOINT_URL=http://s3.test:9000\n");
    host.exec(&["systemctl", "reload", "deployd"]).ok();
    let said = host.deploy(&[&url("r1")]).exits(11);
    assert!(said.stderr.contains(WAITING), "{said:?}");
    assert!(said.stdout.contains("the server's name cannot be resolved"), "{said:?}");
    let said = host.deploy(&[&url("r1")]).exits(11);
    assert!(!said.stderr.contains(WAITING), "{said:?}");

    host.configure("DEPLOY_BOOT_TIMEOUT=1h\n");
    let said = host.deploy(&["--timeout", "2s", &url("r1")]).exits(11);
    assert!(said.stdout.contains("in the time given with --timeout"), "{said:?}");
    assert!(said.stdout.contains("name cannot be resolved"), "{said:?}");
}
