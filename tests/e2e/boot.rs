//! A reboot, and what an operator has stopped.

use crate::app::{Release, url};
use crate::host::{Host, SOON};

/// Its units come from the generator and the disk, and from nothing else.
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

    let running = host.sh("pgrep -u deploy-app --full app.py | sort -n");
    host.exec(&["systemctl", "unmask", "deployd.service", "deployd.socket"]).ok();
    host.exec(&["systemctl", "start", "deployd.socket"]).ok();
    let status = host.status();
    assert_eq!((&status["release"], &status["healthy"]), (&"r2".into(), &true.into()));
    let mut pids = host.pids();
    assert_ne!(pids, before);
    pids.sort();
    assert_eq!(running, format!("{}\n{}\n", pids[0], pids[1]), "it was left alone");
    host.deploy(&["rollback"]).exits(0);
    assert_eq!(host.served().as_deref(), Some("r1"));
}

#[test]
fn what_is_stopped_stays_stopped() {
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
    assert_eq!(host.sh("pgrep -u deploy-app || true"), "");

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
