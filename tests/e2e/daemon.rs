//! deployd itself: its restarts and its memory; and the privileges of the units that it
//! creates.

use std::time::Duration;
use testkit::app::{Release, url};
use testkit::host::{Host, SOON};

/// Memory limit of the idle daemon, in bytes.
const IDLE: u64 = 15 << 20;

#[test]
fn the_app_runs_on_while_deployd_restarts_reloads_and_dies() {
    let host = Host::running_r1();
    let before = host.pids();
    let deployd = || host.sh("systemctl show -P MainPID deployd").trim().to_owned();
    let same = || {
        assert_eq!(host.status()["healthy"], true);
        assert_eq!(host.pids(), before);
    };
    host.exec(&["systemctl", "restart", "deployd"]).ok();
    same();
    let pid = deployd();
    host.exec(&["systemctl", "reload", "deployd"]).ok();
    host.configure("DEPLOY_SETTLE=2s\n");
    same();
    assert_eq!(deployd(), pid);
    // The AWS libraries read their settings at process start, so deployd has to start again.
    host.configure("AWS_REGION=eu-west-1\n");
    host.exec(&["systemctl", "reload", "deployd"]).ok();
    host.wait_for("new deployd", SOON, || (deployd() != pid && deployd() != "0").then_some(()));
    same();
    host.exec(&["systemctl", "kill", "--signal=KILL", "deployd"]).ok();
    same();
    host.publish(&Release::new("r2"));
    host.deploys("r2");
    assert_eq!(host.served().as_deref(), Some("r2"));
    let story = host.sh("systemctl status deployd");
    assert!(story.contains("Status: \"idle\""), "{story}");
}

/// A restart for new settings may wait for the deploy: unlike a stop, it has no one waiting for
/// it.
#[test]
fn finishes_the_running_deploy_before_it_restarts_for_new_settings() {
    let host = Host::running_r1();
    host.publish(&Release::new("r2").waiting());
    let deploying = host.command(&["deploy", &url("r2")]).spawn();
    host.wait_until_working();
    host.configure("AWS_REGION=eu-west-1\n");
    host.exec(&["systemctl", "reload", "deployd"]).ok();
    host.wait_for("its end", SOON, || {
        host.journal(&["-u", "deployd"]).contains("have changed: starting again").then_some(())
    });
    host.go();
    let said = deploying.output().exits(0);
    assert!(said.stdout.starts_with("deployed my-app r2 "), "{said:?}");
    assert_eq!(host.status()["state"], "good");
    assert_eq!(host.served().as_deref(), Some("r2"));
}

/// The caller attaches to the daemon that resumes the deploy.
#[test]
fn resumes_the_deploy_during_which_it_was_killed() {
    let host = Host::running_r1();
    host.publish(&Release::new("r2").set("DEPLOY_SETTLE=6s"));
    let deploying = host.command(&["deploy", &url("r2")]).spawn();
    host.wait_for("commit", SOON, || (host.status()["release"] == "r2").then_some(()));
    host.exec(&["systemctl", "kill", "--signal=KILL", "deployd"]).ok();
    let pids = host.pids();
    let said = deploying.output().exits(0);
    assert!(said.stdout.starts_with("recovered my-app r2 "), "{said:?}");
    assert_eq!(host.status()["state"], "good");
    assert_eq!(host.pids(), pids);
    assert_eq!(host.status()["rollback"], "r1");
    assert_eq!(host.served().as_deref(), Some("r2"));
    let last = &host.json(&["history", "--json"])[0];
    assert_eq!((&last["action"], &last["who"]), (&"deploy".into(), &"root".into()), "{last:#}");
    assert_eq!((&last["before"], &last["after"]), (&"r1".into(), &"r2".into()), "{last:#}");
}

#[test]
fn reports_a_deploy_during_which_it_was_killed_before_any_change() {
    let host = Host::running_r1();
    let before = host.pids();
    host.publish(&Release::new("r2").waiting());
    let deploying = host.command(&["deploy", &url("r2")]).spawn();
    host.wait_until_working();
    let build = "deploy-my-app-build:r2.service";
    host.wait_for("build", SOON, || {
        let state = host.sh(&format!("systemctl show -P ActiveState {build}"));
        (state == "activating\n").then_some(())
    });
    host.exec(&["systemctl", "kill", "--signal=KILL", "deployd"]).ok();
    let said = deploying.output().exits(1);
    let interrupted = format!("deploy {} was interrupted", url("r2"));
    assert!(said.stdout.contains(&interrupted), "{said:?}");
    assert!(said.stdout.contains("release r1 is current, as before"), "{said:?}");
    assert_eq!(host.pids(), before);
    let last = &host.json(&["history", "--json"])[0];
    assert_eq!((&last["exit"], &last["after"]), (&"failed".into(), &"r1".into()), "{last:#}");
    assert_eq!(host.status()["last"]["id"], last["id"]);
    assert_eq!(host.sh("ls -A /var/lib/deploy/apps/my-app/releases"), "r1\n");
    host.go();
    host.deploys("r2");
}

#[test]
fn a_restart_that_is_interrupted_is_in_the_history() {
    let host = Host::boot();
    let slow = "web: sleep 3; exec python3 app.py web\nworker: python3 app.py worker\n";
    host.publish(&Release::new("r1").procfile(slow));
    host.deploys("r1");
    let restarting = |host: &Host| {
        let job = host.command(&["deploy", "restart"]).spawn();
        host.wait_for("the process beside it", SOON, || {
            let state = host.sh("systemctl show -P ActiveState deploy-my-app-web-r1@2");
            (state == "active\n").then_some(())
        });
        job
    };
    let entries = |host: &Host| {
        let history = host.json(&["history", "--json"]);
        let entries = history.as_array().expect("entries").iter();
        entries.filter(|entry| entry["action"] == "restart").cloned().collect::<Vec<_>>()
    };
    let job = restarting(&host);
    host.exec(&["systemctl", "kill", "--signal=KILL", "deployd"]).ok();
    let said = job.output().exits(1);
    assert!(
        said.stdout.contains("restart was interrupted: deployd or the instance ended"),
        "{said:?}"
    );
    let [entry] = &entries(&host)[..] else { panic!("{:?}", entries(&host)) };
    assert_eq!((&entry["exit"], &entry["reason"]), (&"failed".into(), &"interrupted".into()));
    assert_eq!((&entry["who"], &entry["after"]), (&"root".into(), &"r1".into()));
    let message = entry["message"].as_str().expect("text");
    assert!(message.ends_with("release r1 is current, web.1 and worker.1 run"), "{message}");
    assert_eq!(host.served().as_deref(), Some("r1"));

    // deployd is stopped, as for an upgrade, and the instance dies.
    let job = restarting(&host);
    host.exec(&["systemctl", "restart", "deployd"]).ok();
    job.output().exits(1);
    assert_eq!(entries(&host).len(), 2);
    let job = restarting(&host);
    host.kill_hard();
    drop(job);
    host.instance.boot();
    host.wait_for("the entry", SOON, || (entries(&host).len() == 3).then_some(()));
    host.wait_for("the app", SOON, || (host.served().as_deref() == Some("r1")).then_some(()));
    println!("{}", host.deploy(&["history"]).ok());
}

#[test]
fn a_daemon_in_a_crash_loop_touches_no_app() {
    let host = Host::running_r1();
    let before = host.pids();
    for _ in 0..5 {
        let pid = host.sh("systemctl show -P MainPID deployd");
        host.exec(&["systemctl", "kill", "--signal=KILL", "deployd"]).ok();
        host.wait_for("new deployd", SOON, || {
            let now = host.sh("systemctl show -P MainPID deployd");
            (now != pid && now != "0\n").then_some(())
        });
    }
    assert_eq!(host.pids(), before);
    // A daemon that does not start at all.
    host.write(
        "/run/systemd/system/deployd.service.d/broken.conf",
        "[Service]\nExecStart=\nExecStart=/bin/false\n",
    );
    let restarts = || host.sh("systemctl show -P NRestarts deployd").trim().parse::<u32>();
    host.sh("systemctl daemon-reload; systemctl restart --no-block deployd");
    host.wait_for("crash loop", SOON, || restarts().is_ok_and(|n| n >= 3).then_some(()));
    assert_eq!(host.served().as_deref(), Some("r1"));
    host.sh("rm -r /run/systemd/system/deployd.service.d; systemctl daemon-reload
        systemctl restart deployd");
    assert_eq!(host.pids(), before);
}

#[test]
fn needs_little_memory_when_idle() {
    let host = Host::running_r1();
    host.publish(&Release::new("r2").file("filler", vec![7; 32 << 20]));
    host.deploys("r2");
    let resident = || {
        let status = host.sh("cat /proc/$(systemctl show -P MainPID deployd)/status");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") << 10
    };
    let settled = testkit::instance::poll(Duration::from_secs(10), || {
        Some(resident()).filter(|bytes| *bytes < IDLE)
    });
    assert!(settled.is_some(), "{} KiB are resident", resident() >> 10);
}

#[test]
fn its_units_are_accepted_and_safe() {
    let host = Host::boot();
    let odd =
        "web: python3 app.py web\nworker: X=1 python3 app.py worker && echo \"50% $X\" | cat\n";
    host.publish(&Release::new("r1").procfile(odd).set("DEPLOY_CONCURRENCY=worker=2"));
    host.deploys("r1");
    host.publish(&Release::new("r2.0_x").set("DEPLOY_MEMORY_MAX=256M"));
    host.deploys("r2.0_x");
    let said = host.sh("cd /run/systemd/generator
        systemd-analyze verify --man=no deploy-*.service deploy-*.target 2>&1 || echo refused");
    assert_eq!(said, "");
    let units = host.sh("cd /run/systemd/generator; ls -d deploy-*@.service | wc -l");
    assert_eq!(units, "4\n");
    let web = "deploy-my-app-web-r2.0_x@1.service";
    host.sh(&format!("systemd-analyze security --no-pager --threshold=20 {web}"));
}

/// Actions that a process attempts, and whether they work.
const TRIES: [(&str, &str); 12] = [
    ("touch tmp/x log/x \"$HOME/x\" \"$DEPLOY_SHARED/x\" /tmp/x", "yes"),
    ("exec 3<>/dev/tcp/10.77.0.1/9000", "yes"),
    ("touch x", "no"),
    ("touch /etc/x /var/x /usr/x /run/x", "no"),
    ("cat ../env", "no"),
    ("cat /etc/deploy/agent.env", "no"),
    ("ls /root /home/stranger", "no"),
    ("deploy status", "no"),
    ("sudo -n true", "no"),
    ("unshare --user true", "no"),
    ("ps -p 1", "no"),
    ("kill -0 $(cat /run/sshd.pid)", "no"),
];

#[test]
fn a_process_has_the_access_that_it_needs_and_no_more() {
    let host = Host::boot();
    let script: String = TRIES
        .iter()
        .map(|(command, _)| format!("({command}) >&2 && echo yes || echo no\n"))
        .collect();
    let probe = format!(
        "(\n{script}) >\"$DEPLOY_SHARED/new\"\nmv \"$DEPLOY_SHARED/new\" \"$DEPLOY_SHARED/tried\"\nexec sleep 3600\n"
    );
    host.publish(&Release::new("r1").file("probe.sh", probe).procfile("probe: bash probe.sh\n"));
    host.deploys("r1");
    let tried = "/var/lib/deploy/apps/my-app/shared/tried";
    host.wait_for("tries", SOON, || {
        (host.exec(&["test", "-e", tried]).status == Some(0)).then_some(())
    });
    let tried = host.sh(&format!("cat {tried}"));
    let tried: Vec<_> = TRIES.iter().map(|(command, _)| *command).zip(tried.lines()).collect();
    assert_eq!(tried, TRIES);
}
