//! A reboot, and apps that an operator has stopped.

use serde_json::json;
use testkit::app::{Release, url};
use testkit::host::{Host, SOON};

/// Units come from the generator and the disk alone.
#[test]
fn the_app_is_up_after_a_reboot_without_deployd() {
    let host = Host::running_r1();
    host.publish(&Release::new("r2"));
    host.deploys("r2");
    let before = host.pids();
    host.exec(&["systemctl", "mask", "deployd.service", "deployd.socket"]).ok();
    host.reboot();
    host.wait_for("answer", SOON, || host.served().filter(|served| served == "r2"));
    let deployd = host.sh("systemctl show -P ActiveState -P ActiveEnterTimestamp deployd");
    assert_eq!(deployd.trim(), "inactive");
    host.exec(&["pgrep", "-x", "deployd"]).exits(1);
    host.deploy(&["status"]).exits(41);
    assert_eq!(host.exec(&["systemctl", "is-system-running"]).ok(), "running\n");

    let running = host.sh("pgrep -u app-my-app --full app.py | sort -n");
    host.exec(&["systemctl", "unmask", "deployd.service", "deployd.socket"]).ok();
    host.exec(&["systemctl", "start", "deployd.socket"]).ok();
    let status = host.status();
    assert_eq!((&status["release"], &status["healthy"]), (&"r2".into(), &true.into()));
    let mut pids = host.pids();
    assert_ne!(pids, before);
    pids.sort();
    assert_eq!(running, format!("{}\n{}\n", pids[0], pids[1]), "the processes were not restarted");
    host.deploy(&["rollback"]).exits(0);
    assert_eq!(host.served().as_deref(), Some("r1"));
}

#[test]
fn stopped_processes_stay_stopped() {
    let host = Host::running_r1();
    let [web, worker] = host.pids();
    let said = host.deploy(&["stop", "worker"]).exits(0);
    assert_eq!(said.stdout, "stopped my-app worker.1\n");
    let only_web = || {
        assert_eq!((host.pid("web.1").is_some(), host.pid("worker.1")), (true, None));
        let status = host.status();
        assert_eq!(status["healthy"], true, "{status:#}");
        assert_eq!(status["processes"][1]["state"], "stopped", "{status:#}");
    };
    only_web();
    assert_eq!(host.pid("web.1"), Some(web));
    host.exec(&["systemctl", "restart", "deployd"]).ok();
    only_web();
    host.reboot();
    host.wait_for("answer", SOON, || host.served());
    only_web();

    host.deploy(&["stop"]).exits(0);
    assert_eq!(host.served(), None);
    host.exec(&["systemctl", "restart", "deployd"]).ok();
    assert_eq!((host.pid("web.1"), host.pid("worker.1")), (None, None));
    host.reboot();
    assert_eq!((host.pid("web.1"), host.pid("worker.1")), (None, None));
    assert_eq!(host.sh("pgrep -u app-my-app || true"), "");

    host.deploy(&["start", "web.1"]).exits(0);
    assert_eq!(host.served().as_deref(), Some("r1"));
    only_web();
    host.deploy(&["start", "my-app"]).exits(0);
    assert_ne!(host.pids(), [web, worker]);
    // A deploy starts everything again.
    host.deploy(&["stop"]).exits(0);
    host.deploy(&[&url("r1")]).exits(0);
    host.pids();
}

/// Bakes an image with `deploy stage`, and boots an instance from it.
#[test]
fn a_baked_release_is_deployed_without_fetching_it_again() {
    let host = Host::boot();
    host.publish(&Release::new("r1"));
    host.deploy(&["stage", &url("r1")]).exits(0);
    host.reboot();
    let fetches = || {
        let requests = host.s3().requests();
        requests.iter().filter(|r| r.method == "GET" && r.path.contains("source.tar")).count()
    };
    assert_eq!((fetches(), host.sh("pgrep -u app-my-app || true")), (1, String::new()));
    assert_eq!(host.deploys("r1").stdout.split(' ').next(), Some("deployed"));
    assert_eq!((fetches(), host.served().as_deref()), (1, Some("r1")));
    // A release of the same name with other content is not the baked one.
    host.publish(&Release::new("r1").file("more", "of it"));
    host.deploys("r1");
    assert_eq!((fetches(), &host.status()["release"]), (2, &"r1.2".into()));
}

/// An image made from an instance that served: nothing was deployed on this machine.
#[test]
fn a_release_deployed_on_another_machine_does_not_start_here() {
    let host = Host::running_r1();
    host.publish(&Release::new("r2"));
    host.deploys("r2");
    host.sh("systemctl stop deployd.service deployd.socket
        systemctl mask deployd.service deployd.socket
        echo 0123456789abcdef0123456789abcdef >/var/lib/deploy/apps/my-app/machine");
    // They do not start without the agent either.
    host.reboot();
    assert_eq!(host.sh("pgrep -u app-my-app || true"), "");
    host.sh("systemctl unmask deployd.service deployd.socket; systemctl start deployd.socket");
    let status = host.status();
    assert_eq!((&status["release"], &status["rollback"]), (&json!(null), &json!(null)));
    host.reboot();
    assert_eq!(host.sh("pgrep -u app-my-app || true"), "");
    let warned = host.journal(&["-u", "deployd"]);
    assert!(warned.contains("its state is another machine's"), "{warned}");
    let said = host.deploy(&["rollback"]).exits(2);
    assert!(said.stdout.contains("no earlier release that was good"), "{said:?}");
    let releases = host.json(&["releases", "--json"]);
    let states: Vec<_> = releases.as_array().unwrap().iter().map(|r| &r["state"]).collect();
    assert_eq!(states, ["staged", "staged"]);
    host.deploys("r2");
    assert_eq!(host.served().as_deref(), Some("r2"));
    host.reboot();
    host.wait_for("answer", SOON, || host.served().filter(|served| served == "r2"));
}
