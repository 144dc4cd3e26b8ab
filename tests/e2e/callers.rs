//! Who may ask, and what becomes of the work when its caller goes or another
//! one comes.

use crate::app::{Release, url};
use crate::host::{Host, SOON};

#[test]
fn only_root_and_the_group_deploy_may_ask() {
    let host = Host::running_r1();
    let before = host.state();
    for user in ["stranger", "deploy-app", "nobody"] {
        for arguments in [&["rollback"][..], &["status"], &[&url("r1")]] {
            let said = host.deploy_as(user, arguments).exits(41);
            assert!(said.stdout.contains("Permission denied"), "{said:?}");
            assert!(said.stderr.contains("run it with sudo, or join the group deploy"), "{said:?}");
        }
    }
    assert_eq!(host.state(), before);
    host.publish(&Release::new("r2"));
    let said = host.deploy_as("deployer", &[&url("r2")]).exits(0);
    assert!(said.stdout.starts_with("deployed my-app r2"), "{said:?}");
    assert_eq!(host.json(&["history", "--json"])[0]["who"], "deployer");
}

/// The mode of the socket is one guard, the check of the peer another.
#[test]
fn an_open_socket_still_serves_no_stranger() {
    let host = Host::running_r1();
    let before = host.state();
    host.exec(&["chmod", "666", "/run/deploy/deployd.sock"]).ok();
    for arguments in [&["stop"][..], &["status"]] {
        let said = host.deploy_as("deploy-app", arguments);
        assert_ne!(said.status, Some(0), "{said:?}");
        assert!(said.stdout.contains("only root and the group deploy may ask"), "{said:?}");
    }
    assert_eq!(host.state(), before);
}

#[test]
fn without_deployd_there_is_an_error_and_the_app_runs_on() {
    let host = Host::running_r1();
    host.exec(&["systemctl", "stop", "deployd.socket", "deployd.service"]).ok();
    for arguments in [&["rollback"][..], &["status"], &[&url("r1")]] {
        let said = host.deploy(arguments).exits(41);
        assert!(said.stdout.contains("/run/deploy/deployd.sock"), "{said:?}");
        assert!(said.stderr.contains("systemctl"), "{said:?}");
    }
    assert_eq!(host.served().as_deref(), Some("r1"));
    // The socket alone is enough to bring it back.
    host.exec(&["systemctl", "start", "deployd.socket"]).ok();
    assert_eq!(host.status()["healthy"], true);
}

#[test]
fn two_deploys_at_once_come_one_after_the_other() {
    let host = Host::running_r1();
    host.publish(&Release::new("r2").waiting());
    host.publish(&Release::new("r3"));
    let (r2, r3) = (url("r2"), url("r3"));
    let first = host.command(&["deploy", &r2]).spawn();
    host.wait_until_working();
    let said = host.deploy(&["--no-wait", &r3]).exits(40);
    assert!(said.stdout.contains(&format!("deploy {r2} of my-app is under way")), "{said:?}");
    let second = host.command(&["deploy", &r3]).spawn();
    host.wait_for("queue", SOON, || {
        host.journal(&["-u", "deployd"]).contains("lock: waiting for").then_some(())
    });
    host.go();
    let second = second.output().exits(0);
    let first = first.output().exits(0);
    assert!(first.stdout.starts_with("deployed my-app r2 "), "{first:?}");
    assert!(second.stdout.starts_with("deployed my-app r3 "), "{second:?}");
    assert!(second.stderr.contains(&format!("waiting for deploy {r2}")), "{second:?}");
    let history = host.json(&["history", "--json"]);
    let after: Vec<_> = history.as_array().expect("entries").iter().map(|e| &e["after"]).collect();
    assert_eq!(after, ["r3", "r2", "r1"]);
    assert_eq!(host.served().as_deref(), Some("r3"));
}

#[test]
fn a_deploy_outlives_its_caller() {
    let host = Host::running_r1();
    host.publish(&Release::new("r2").waiting());
    let caller = host.command(&["deploy", &url("r2")]).spawn();
    host.wait_until_working();
    caller.kill();
    host.wait_for("end of the caller", SOON, || {
        (host.exec(&["pgrep", "-x", "deploy"]).status == Some(1)).then_some(())
    });
    host.go();
    host.wait_for("good r2", SOON, || {
        let status = host.status();
        (status["release"] == "r2" && status["state"] == "good").then_some(())
    });
    assert_eq!(host.served().as_deref(), Some("r2"));
    assert_eq!(host.json(&["history", "--json"])[0]["exit"], "done");

    host.publish(&Release::new("r3"));
    let said = host.deploy(&["--detach", &url("r3")]).exits(0);
    assert_eq!(said.stdout, "the deploy has begun\n");
    host.wait_for("good r3", SOON, || {
        let status = host.status();
        (status["release"] == "r3" && status["state"] == "good").then_some(())
    });
}

#[test]
fn gives_up_a_deploy_that_takes_longer_than_its_caller_allows() {
    let host = Host::running_r1();
    let before = host.pids();
    host.publish(&Release::new("r2").set("BEHAVE=hang"));
    let said = host.deploy(&["--timeout", "3s", &url("r2")]).exits(11);
    assert!(said.stdout.contains("too little of the time given with --timeout"), "{said:?}");
    assert_eq!(host.pids(), before, "nothing was stopped");
    let said = host.deploy(&["--timeout", "15s", &url("r2")]).exits(20);
    assert!(said.stdout.contains("r1 runs again"), "{said:?}");
    assert_eq!(host.served().as_deref(), Some("r1"));
}
