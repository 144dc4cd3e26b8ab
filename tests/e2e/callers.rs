//! Which users may send requests, and what happens to a job when its caller leaves or another
//! caller arrives.

use testkit::app::{Release, url};
use testkit::host::{Host, SOON};

#[test]
fn only_root_and_the_group_deploy_may_send_requests() {
    let host = Host::running_r1();
    let before = host.state();
    for user in ["stranger", "nobody"] {
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

#[test]
fn root_names_the_person_it_acts_for_and_others_are_who_they_are() {
    let host = Host::boot();
    host.publish(&Release::new("r1"));
    let said = host.deploy(&[&url("r1"), "--by", "Ada\u{e9} L."]).exits(0);
    assert!(said.stderr.contains("for Ada\u{e9} L. (root)"), "{said:?}");
    let commands: [&[&str]; 4] = [
        &["restart", "my-app", "web.1"],
        &["stop", "my-app"],
        &["start", "my-app"],
        &["scale", "my-app", "worker=2"],
    ];
    for command in commands {
        host.deploy(&[command, &["--by", "bob\u{1b}[2J"]].concat()).exits(0);
        let history = host.json(&["history", "--json"]);
        assert_eq!(history[0]["who"], "bob [2J (root)", "{command:?}");
    }
    let status = host.status();
    assert_eq!(status["last"]["who"], "bob [2J (root)", "{status:#}");
    host.deploy(&["restart", "--by", " "]).exits(2);
    let said = host.deploy_as("deployer", &["restart", "--by", "root"]).exits(2);
    assert!(said.stderr.contains("leave it out"), "{said:?}");
    host.deploy_as("deployer", &["restart"]).exits(0);
    assert_eq!(host.json(&["history", "--json"])[0]["who"], "deployer");
}

/// The mode of the socket is one guard, the check of the peer's credentials another.
#[test]
fn a_socket_open_to_all_still_serves_no_stranger() {
    let host = Host::running_r1();
    let before = host.state();
    host.exec(&["chmod", "666", "/run/deploy/deployd.sock"]).ok();
    for arguments in [&["stop"][..], &["status"]] {
        let said = host.deploy_as("nobody", arguments);
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
    // The socket alone is enough to start it again.
    host.exec(&["systemctl", "start", "deployd.socket"]).ok();
    assert_eq!(host.status()["healthy"], true);
}

#[test]
fn two_concurrent_deploys_run_one_after_the_other() {
    let host = Host::running_r1();
    host.publish(&Release::new("r2").waiting());
    host.publish(&Release::new("r3"));
    let (r2, r3) = (url("r2"), url("r3"));
    let first = host.command(&["deploy", &r2]).spawn();
    host.wait_until_working();
    let said = host.deploy(&["--no-wait", &r3]).exits(40);
    assert!(said.stdout.contains(&format!("deploy {r2} of my-app is under way")), "{said:?}");
    assert!(said.stderr.contains("`deploy attach` follows it"), "{said:?}");
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

/// Loading the units of a staged release happens after the response, in the background.
#[test]
fn background_work_after_a_stage_delays_no_request() {
    let host = Host::running_r1();
    host.publish(&Release::new("r2"));
    host.deploy(&["stage", &url("r2")]).exits(0);
    let said = host.deploy(&["--no-wait", &url("r2")]).exits(0);
    assert!(said.stdout.starts_with("deployed my-app r2 "), "{said:?}");
    assert!(!said.stderr.contains("waiting for"), "{said:?}");
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
        (status["state"] == "good" && status["working"].is_null() && status["release"] == "r2")
            .then_some(())
    });
    assert_eq!(host.served().as_deref(), Some("r2"));
    assert_eq!(host.json(&["history", "--json"])[0]["exit"], "done");
}

/// A closed SSH connection, and a pipe without a reader.
#[test]
fn a_hangup_and_a_full_pipe_change_nothing() {
    let host = Host::running_r1();
    host.publish(&Release::new("r2").waiting());
    // Tests started with nohup pass an ignored SIGHUP on to every program.
    let caller = ["env", "--default-signal=HUP", "deploy", &url("r2")];
    let caller = host.command(&caller).spawn();
    host.wait_until_working();
    host.exec(&["pkill", "-HUP", "-x", "deploy"]).ok();
    drop(caller.output());
    let chatty = "build: for n in $(seq 30000); do echo \"line $n of what nobody reads\"; done";
    let procfile = format!("web: python3 app.py web\nworker: python3 app.py worker\n{chatty}\n");
    host.publish(&Release::new("r3").procfile(&procfile));
    let unread = format!("deploy --json {} | sleep 3600", url("r3"));
    let caller = host.command(&["bash", "-c", &unread]).spawn();
    host.go();
    host.wait_for("good r3", SOON * 2, || {
        let status = host.status();
        (status["state"] == "good" && status["working"].is_null() && status["release"] == "r3")
            .then_some(())
    });
    let history = host.json(&["history", "--json"]);
    let exits: Vec<_> = history.as_array().expect("entries").iter().map(|e| &e["exit"]).collect();
    assert_eq!(exits, ["done", "done", "done"]);
    caller.kill();
}

#[test]
fn a_detached_deploy_is_followed_by_its_id() {
    let host = Host::running_r1();
    host.deploy(&["attach"]).exits(2);
    host.publish(&Release::new("r2").waiting());
    let said = host.deploy(&["--detach", &url("r2")]).exits(0);
    let id = said.stdout.trim();
    assert!(said.stderr.contains(&format!("`deploy attach {id}`")), "{said:?}");
    let text = host.deploy(&["status"]).ok();
    assert!(text.contains(&format!("deploy {} (`deploy attach {id}`)", url("r2"))), "{text}");
    let [first, second] = [&["deploy", "attach"][..], &["deploy", "attach", id]]
        .map(|line| host.command(line).spawn());
    host.go();
    for follower in [first, second] {
        let said = follower.output().exits(0);
        assert!(said.stdout.starts_with("deployed my-app r2 "), "{said:?}");
        assert!(said.stderr.contains("prove "), "the steps from the beginning: {said:?}");
    }
    // A finished deploy keeps its outcome, also after a restart of deployd.
    for _ in 0..2 {
        let said = host.deploy(&["attach", id]).exits(0);
        assert!(said.stdout.starts_with("deployed my-app r2 "), "{said:?}");
        host.exec(&["systemctl", "restart", "deployd"]).ok();
    }
    assert_eq!(host.json(&["history", "--json"])[0]["id"], id);
    let said = host.deploy(&["attach", "nosuchid"]).exits(2);
    assert!(said.stdout.contains("no deploy of this id"), "{said:?}");
}

#[test]
fn a_second_request_for_the_same_release_joins_the_first() {
    let host = Host::running_r1();
    host.publish(&Release::new("r2").set("BEHAVE=crash").waiting());
    let first = host.command(&["deploy", &url("r2")]).spawn();
    host.wait_until_working();
    let second = host.command(&["deploy", "--no-wait", &url("r2")]).spawn();
    let third = host.command(&["runuser", "-u", "deployer", "--", "deploy", &url("r2")]).spawn();
    host.wait_for("three callers", SOON, || {
        let connections = host.sh("ss --no-header -x state established | grep -c deployd.sock");
        (connections.trim() == "3").then_some(())
    });
    host.go();
    let outcomes = [first, second, third].map(|caller| caller.output().exits(12).stdout);
    assert!(outcomes[0].contains("r1 runs on"), "{outcomes:?}");
    assert!(outcomes.iter().all(|outcome| *outcome == outcomes[0]), "{outcomes:?}");
    let history = host.json(&["history", "--json"]);
    assert_eq!(history.as_array().map(Vec::len), Some(2), "{history:#}");
}

/// Ten URLs, each deployed twice in a row: every caller gets the outcome of its own release,
/// and the deploys run in the order of the requests.
#[test]
fn twenty_concurrent_deploys_each_get_their_own_outcome() {
    let host = Host::running_r1();
    host.configure("DEPLOY_SETTLE=0s\n");
    host.publish(&Release::new("r2").waiting());
    let names: Vec<String> = (2..12).map(|n| format!("r{n}")).collect();
    for (n, name) in names.iter().enumerate().skip(1) {
        let behaviour = if n % 4 == 0 { "BEHAVE=crash" } else { "BEHAVE=" };
        host.publish(&Release::new(name).set(behaviour));
    }
    let mut callers = Vec::new();
    for name in &names {
        let ids: Vec<_> = (0..2).map(|_| host.deploy(&["--detach", &url(name)]).ok()).collect();
        assert_eq!(ids[0], ids[1], "the second follows the first");
        for id in ids {
            callers.push((name, host.command(&["deploy", "attach", id.trim()]).spawn()));
        }
    }
    host.go();
    let mut expected = vec!["r1".to_owned()];
    for (n, name) in names.iter().enumerate() {
        if n == 0 || n % 4 != 0 {
            expected.push(name.clone());
        }
    }
    for (name, caller) in callers {
        let said = caller.output();
        let good = expected.contains(name);
        assert_eq!(said.status, Some(if good { 0 } else { 12 }), "{name}: {said:?}");
        let word = if good { format!("deployed my-app {name} ") } else { format!("{name} failed") };
        assert!(said.stdout.contains(&word), "{said:?}");
    }
    let history = host.json(&["history", "--json"]);
    let entries = history.as_array().expect("entries");
    let asked: Vec<_> = entries.iter().rev().map(|e| e["release"].as_str().unwrap()).collect();
    assert_eq!(asked[1..], names.iter().map(String::as_str).collect::<Vec<_>>());
    let mut after: Vec<_> = entries.iter().rev().map(|e| e["after"].as_str().unwrap()).collect();
    after.dedup();
    assert_eq!(after, expected);
    assert_eq!(host.served().as_ref(), expected.last());
}

#[test]
fn gives_up_a_deploy_that_takes_longer_than_its_caller_allows() {
    let host = Host::running_r1();
    let before = host.pids();
    host.publish(&Release::new("r2").set("BEHAVE=hang"));
    let said = host.deploy(&["--timeout", "3s", &url("r2")]).exits(11);
    assert!(said.stdout.contains("too little of the time given with --timeout"), "{said:?}");
    assert_eq!(host.pids(), before, "nothing was stopped");
    let said = host.deploy(&["--timeout", "15s", &url("r2")]).exits(12);
    assert!(said.stdout.contains("r1 runs on"), "{said:?}");
    assert_eq!(host.pids(), before);
    assert_eq!(host.served().as_deref(), Some("r1"));
}
