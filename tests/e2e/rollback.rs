//! Rollback to a release that was good, from the disk alone.

use testkit::app::Release;
use testkit::host::Host;

#[test]
fn rolls_back_and_forth_without_the_network() {
    let mut host = Host::boot();
    for release in ["r1", "r2", "r3"] {
        host.publish(&Release::new(release));
        host.deploys(release);
    }
    host.stop_s3();
    let back = |arguments: &[&str], release: &str| {
        let said = host.deploy(&[&["rollback"], arguments].concat()).exits(0);
        let begins = format!("rolled back to my-app {release} (production) in ");
        assert!(said.stdout.starts_with(&begins), "{said:?}");
        assert_eq!(host.served().as_deref(), Some(release));
        assert_eq!(host.status()["release"], release);
    };
    back(&[], "r2");
    back(&["--to", "r1"], "r1");
    back(&["my-app", "--to", "r3"], "r3");

    let said = host.deploy(&["rollback", "--to", "r4"]).exits(2);
    assert!(
        said.stdout.contains("no such release is installed; good ones: r1, r2, r3"),
        "{said:?}"
    );
    host.deploy(&["rollback", "other-app"]).exits(2);
    assert_eq!(host.served().as_deref(), Some("r3"));
}

#[test]
fn requires_a_release_that_was_good() {
    let host = Host::boot();
    host.deploy(&["rollback"]).exits(2);
    host.publish(&Release::new("r1"));
    host.deploys("r1");
    let before = host.pids();
    let said = host.deploy(&["rollback"]).exits(2);
    assert!(said.stdout.starts_with("deploy rollback failed (exit 2): "), "{said:?}");
    assert!(said.stdout.contains("no earlier release that was good"), "{said:?}");

    let broken = Release::new("r2").set("BEHAVE=crash");
    host.publish(&broken);
    host.deploy(&[&testkit::app::url("r2")]).exits(12);
    host.deploy(&["rollback"]).exits(2);
    host.deploy(&["rollback", "--to", "r2"]).exits(2);
    assert_eq!(host.pids(), before);
}

/// systemd refuses to start a unit that was started too often, unless its counter is reset.
#[test]
fn no_start_limit_blocks_a_rollback() {
    let host = Host::running_r1();
    host.publish(&Release::new("r2"));
    host.deploys("r2");
    host.sh("for _ in $(seq 12); do
            systemctl start deploy-my-app-web-r1@1
            systemctl kill --signal=KILL deploy-my-app-web-r1@1
            systemctl stop deploy-my-app-web-r1@1
        done");
    host.deploy(&["rollback"]).exits(0);
    assert_eq!(host.served().as_deref(), Some("r1"));
}
