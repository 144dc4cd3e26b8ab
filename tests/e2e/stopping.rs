//! A stop of deployd takes seconds whatever job runs, and `deploy cancel` ends a job that is
//! not committed: nothing is lost, and no client notices.

use crate::handover::unnoticed;
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};
use testkit::app::{Release, url};
use testkit::graceful::{graceful, serving_r1};
use testkit::host::{Host, SOON};
use testkit::instance::{Job, Output};
use testkit::s3::Fault;

/// Upper limit for a restart of deployd, on a busy machine too.
const SECONDS: Duration = Duration::from_secs(8);

const NEVER: &str = "until false; do sleep 0.1; done";

/// A host that serves r1, with a deployd that has run no job yet.
fn serving() -> Host {
    let host = serving_r1();
    host.sh("systemctl restart deployd");
    host
}

fn with(name: &str, line: &str) -> Release {
    graceful(name).procfile(&format!("web: python3 server.py\n{line}\n"))
}

/// Helpers of these tests, as methods of the host.
trait Stopping {
    /// Waits until a step begins, in this run of deployd.
    fn wait_for_step(&self, step: &str);
    fn restarts_in_time(&self);
    /// Restarts deployd when a deploy of r2 has reached a step.
    fn restarts_at(&self, step: &str, arguments: &[&str]) -> Output;
    fn staged(&self) -> String;
    fn units_of_r2(&self) -> String;
}

impl Stopping for Host {
    fn wait_for_step(&self, step: &str) {
        self.wait_for(step, SOON, || {
            let log = self.sh("journalctl -o cat \
                 _SYSTEMD_INVOCATION_ID=$(systemctl show -P InvocationID deployd)");
            log.lines().any(|line| line.starts_with(&format!("{step}: "))).then_some(())
        });
    }

    fn restarts_in_time(&self) {
        let start = Instant::now();
        self.exec(&["systemctl", "restart", "deployd"]).ok();
        let took = start.elapsed();
        assert!(took < SECONDS, "{took:?}");
    }

    fn restarts_at(&self, step: &str, arguments: &[&str]) -> Output {
        let r2 = url("r2");
        let deploying = self.command(&[&["deploy", &r2], arguments].concat()).spawn();
        self.wait_for_step(step);
        self.restarts_in_time();
        deploying.output()
    }

    fn staged(&self) -> String {
        self.sh("ls -A /var/lib/deploy/apps/my-app/releases")
    }

    fn units_of_r2(&self) -> String {
        self.sh("systemctl list-units --plain --no-legend '*-r2*' --state=active,activating")
    }
}

fn begun(host: &Host, release: &str) -> Job {
    let job = host.command(&["deploy", &url(release)]).spawn();
    host.wait_until_working();
    job
}

#[track_caller]
fn was_interrupted(host: &Host, said: Output) {
    let said = said.exits(1);
    assert!(said.stdout.contains("was interrupted"), "{said:?}");
    assert!(said.stderr.contains("ask for it again"), "{said:?}");
    assert_eq!(host.units_of_r2(), "");
    assert_eq!(host.status()["release"], "r1");
}

#[test]
fn a_stop_cuts_off_a_stage_a_build_and_a_queued_job() {
    let host = serving();
    unnoticed(&host, || {
        // The download of the archive stalls.
        host.publish(&graceful("r2").file("filler", noise(4 << 20)));
        host.s3().fault("GET", "my-app/production/r2/source.tar.gz", 9, Fault::Stall(1 << 20));
        was_interrupted(&host, host.restarts_at("stage", &[]));
        assert_eq!(host.staged(), "r1\n");
    });
    let host = serving();
    unnoticed(&host, || {
        host.publish(&with("r2", &format!("build: {NEVER}")));
        host.publish(&graceful("r3"));
        let first = begun(&host, "r2");
        host.wait_for_step("build");
        let second = host.command(&["deploy", &url("r3")]).spawn();
        host.wait_for_step("lock");
        host.restarts_in_time();
        was_interrupted(&host, first.output());
        let said = second.output().exits(1);
        assert!(said.stdout.contains("deployd was stopped"), "{said:?}");
        assert!(said.stderr.contains("ask for it again"), "{said:?}");
        assert_eq!(host.staged(), "r1\n");
    });
    host.deploys("r3");
}

#[test]
fn a_stop_cuts_off_a_release_phase_and_a_candidate() {
    let host = serving();
    unnoticed(&host, || {
        host.publish(&with("r2", &format!("release: {NEVER}")));
        was_interrupted(&host, host.restarts_at("release", &["--run-release"]));
    });
    let host = serving();
    unnoticed(&host, || {
        host.publish(&graceful("r2").set("DEPLOY_PROVE=60s"));
        was_interrupted(&host, host.restarts_at("prove", &[]));
    });
    assert_eq!(host.served().as_deref(), Some("r1"));
}

#[test]
fn a_stop_leaves_settle_and_drain_to_recovery() {
    let host = serving();
    unnoticed(&host, || {
        host.publish(&graceful("r2").set("DEPLOY_SETTLE=6s"));
        let said = host.restarts_at("settle", &[]).exits(0);
        assert!(said.stdout.starts_with("recovered my-app r2 "), "{said:?}");
    });
    assert_eq!(host.status()["state"], "good");
    assert_eq!(host.status()["rollback"], "r1");

    let host = serving();
    host.publish(&graceful("r2").set("DEPLOY_DRAIN_TIMEOUT=8s"));
    let address: SocketAddr = format!("{}:5000", host.address()).parse().unwrap();
    let mut held = host.network.within(|| TcpStream::connect(address)).expect("a connection");
    held.write_all(b"GET / HT").unwrap();
    let said = unnoticed(&host, || host.restarts_at("drain", &[])).exits(0);
    assert!(said.stdout.contains("r2 is current"), "{said:?}");
    assert_eq!(host.served().as_deref(), Some("r2"));
    assert_eq!(host.status()["state"], "good");
}

/// No release serves meanwhile: the stop waits for the new one, for a limited time.
#[test]
fn a_stop_waits_for_a_release_that_replaces_the_stopped_one() {
    let host = Host::running_r1();
    host.sh("systemctl restart deployd");
    host.publish(&Release::new("r2").set("DEPLOY_STRATEGY=restart").set("DEPLOY_PROVE=3s"));
    let said = host.restarts_at("prove", &[]);
    said.exits(0);
    assert_eq!(host.served().as_deref(), Some("r2"));
}

#[test]
fn cancel_ends_a_job_that_is_not_committed() {
    let host = serving();
    unnoticed(&host, || {
        host.publish(&with("r2", &format!("build: {NEVER}")));
        host.publish(&graceful("r3").set("DEPLOY_PROVE=60s"));
        let first = begun(&host, "r2");
        host.wait_for_step("build");
        let second = host.command(&["deploy", &url("r3")]).spawn();
        host.wait_for_step("lock");
        let id = host.status()["working_id"].as_str().expect("an id").to_owned();
        let said = host.deploy(&["cancel", &id]).exits(0);
        assert!(said.stdout.contains("root cancelled it"), "{said:?}");
        let said = first.output().exits(43);
        assert!(said.stdout.contains("root cancelled it"), "{said:?}");
        assert_eq!(host.units_of_r2(), "");
        // The other deploy continues.
        host.wait_for_step("prove");
        assert_eq!(host.staged(), "r1\nr3\n");
        host.deploy(&["cancel", "my-app"]).exits(0);
        second.output().exits(43);
    });
    let units = "systemctl list-units --plain --no-legend '*-r3*' --state=active";
    assert_eq!(host.sh(units), "");
    let last = &host.json(&["history", "--json"])[0];
    assert_eq!((&last["exit"], &last["after"]), (&"cancelled".into(), &"r1".into()), "{last:#}");
    let said = host.deploy(&["cancel"]).exits(2);
    assert!(said.stdout.contains("nothing of it waits or is under way"), "{said:?}");
}

/// The cancelled deploy has not changed the running release.
#[test]
fn cancel_does_not_judge_the_running_release() {
    let host = Host::boot();
    host.publish(&Release::new("r1").set("DEPLOY_HEALTH_PATH=/health"));
    host.publish(&Release::new("r2").set("DEPLOY_PROVE=60s"));
    host.deploys("r1");
    let r2 = begun(&host, "r2");
    host.wait_for_step("prove");
    let unit = "deploy-my-app-web-r1@1.service";
    host.sh(&format!("systemctl kill --signal=STOP {unit}"));
    host.deploy(&["cancel", "my-app"]).exits(0);
    r2.output().exits(43);
    host.sh(&format!("systemctl kill --signal=CONT {unit}"));
    assert_eq!(host.served().as_deref(), Some("r1"));
}

#[test]
fn cancel_ends_a_queued_job_and_is_refused_after_the_commit() {
    let host = serving();
    host.publish(&graceful("r2").set("DEPLOY_SETTLE=5s"));
    host.publish(&graceful("r3"));
    let first = begun(&host, "r2");
    host.wait_for_step("settle");
    let second = host.command(&["deploy", &url("r3")]).spawn();
    host.wait_for_step("lock");
    let said = host.deploy(&["cancel", "my-app"]).exits(0);
    assert!(said.stdout.contains("its release is committed"), "{said:?}");
    second.output().exits(43);
    let said = host.deploy(&["cancel"]).exits(2);
    assert!(said.stdout.contains("its release is committed"), "{said:?}");
    assert!(said.stderr.contains("`deploy rollback my-app`"), "{said:?}");
    first.output().exits(0);
    assert_eq!(host.served().as_deref(), Some("r2"));
}

#[test]
fn remove_by_force_cuts_off_the_running_job() {
    let host = serving();
    host.publish(&with("r2", &format!("build: trap '' TERM; {NEVER}")));
    let deploying = begun(&host, "r2");
    host.wait_for_step("build");
    host.deploy(&["remove", "my-app", "--force", "--yes"]).exits(0);
    deploying.output().exits(43);
    assert_eq!(host.sh("ls -A /var/lib/deploy/apps"), "");
    let units = "systemctl list-units --all --plain --no-legend 'deploy-my*'";
    assert_eq!(host.sh(units), "");
}

/// Bytes that no compression makes smaller.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 1u64;
    let next = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 33) as u8
    };
    std::iter::repeat_with(next).take(length).collect()
}
