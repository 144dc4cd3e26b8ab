//! Restarts and changes of the number of processes while clients are served.

use crate::handover::unnoticed;
use std::time::Duration;
use testkit::app::{Release, url};
use testkit::graceful::{graceful, serving_r1};
use testkit::host::{Host, SOON};

#[test]
fn no_client_notices_a_restart_of_the_only_process_which_boots_in_12_seconds() {
    let host = serving_r1();
    host.publish(&graceful("r2").set("BOOT=12"));
    host.deploys("r2");
    let before = host.pid("web.1");
    unnoticed(&host, || {
        let said = host.deploy(&["restart"]).ok();
        assert!(said.starts_with("restarted my-app web.1"), "{said}");
    });
    assert_ne!(host.pid("web.1"), before);
    assert_eq!(host.status()["processes"].as_array().map(Vec::len), Some(1));
}

#[test]
fn no_client_notices_a_scaling_or_a_restart_of_several_processes() {
    let host = serving_r1();
    let before = host.pid("web.1");
    unnoticed(&host, || {
        let said = host.deploy(&["scale", "web=3"]).ok();
        assert!(said.starts_with("scaled my-app: web from 1 to 3"), "{said}");
        host.deploy(&["restart"]).exits(0);
        host.deploy(&["restart", "web.2"]).exits(0);
        assert_eq!(host.status()["processes"].as_array().map(Vec::len), Some(3));
        let shown = host.deploy(&["status"]).ok();
        assert!(shown.contains("web=3, and the release has 1"), "{shown}");
        host.deploy(&["scale", "my-app", "web=1"]).exits(0);
    });
    assert_ne!(host.pid("web.1"), before);
    assert_eq!(
        host.sh("systemctl list-units --plain --no-legend 'deploy-my-app-web-*' | wc -l"),
        "1\n"
    );
}

#[test]
fn a_restart_applies_agent_env_and_a_new_process_has_a_home() {
    let host = Host::running_r1();
    host.configure("DEPLOY_MEMORY_MAX=300M\n");
    let shown = host.deploy(&["status"]).ok();
    assert!(shown.contains("agent.env changed: `deploy restart my-app` applies it"), "{shown}");
    host.deploy(&["restart"]).exits(0);
    let limit = host.sh("systemctl show -P MemoryMax deploy-my-app-web-r1@1");
    assert_eq!(limit, format!("{}\n", 300u64 << 20));
    assert!(!host.deploy(&["status"]).ok().contains("agent.env changed"));
    host.deploy(&["scale", "web=2"]).exits(0);
    host.sh("cd /var/lib/deploy/apps/my-app/releases/r1/home; test -d web.2; stat -c %U web.2 | grep app-");
}

#[test]
fn an_app_that_goes_bad_after_its_settle_window_is_seen_and_left_alone() {
    let host = Host::boot();
    host.publish(&graceful("r1").set("DEPLOY_HEALTH_PATH=/"));
    host.deploys("r1");
    let pid = host.pid("web.1").expect("a process");
    host.wait_for("a look", SOON, || host.status()["health"]["answered"].as_str().map(|_| ()));
    // It hangs: to systemd it is active.
    host.sh(&format!("kill -STOP {pid}"));
    host.wait_for("the journal", Duration::from_secs(90), || {
        host.journal(&["-u", "deployd"]).contains("my-app r1 is not healthy: web.1").then_some(())
    });
    let said = host.deploy(&["status"]).exits(12);
    assert!(said.stdout.contains("not healthy since"), "{said:?}");
    host.sh(&format!("kill -CONT {pid}"));
    host.wait_for("the journal", Duration::from_secs(60), || {
        host.journal(&["-u", "deployd"]).contains("my-app r1 is healthy again").then_some(())
    });
    assert_eq!(host.pid("web.1"), Some(pid));
}

#[test]
fn an_app_that_accepts_no_connection_is_not_healthy_even_without_a_path() {
    let host = Host::boot();
    host.publish(&graceful("r1"));
    host.deploys("r1");
    let pid = host.pid("web.1").expect("a process");
    let said = host.deploy(&["status"]).exits(0).stdout;
    assert!(said.contains("  health    accepted a connection 0s ago in "), "{said}");
    assert!(said.contains("answers are not checked without DEPLOY_HEALTH_PATH"), "{said}");
    assert_eq!(host.status()["health_path"], serde_json::Value::Null);

    // It hangs: the kernel still accepts connections for it.
    host.sh(&format!("kill -STOP {pid}"));
    host.sh("systemd-run --quiet bash -c 'exec 3<>/dev/tcp/127.0.0.1/5000; sleep 600'");
    let waits = || host.sh("ss -Hnt state established 'dport = :5000'");
    host.wait_for("a client", SOON, || (!waits().is_empty()).then_some(()));
    let said = host.deploy(&["status"]).exits(12).stdout;
    println!("{said}");
    assert!(said.contains("my-app (production): r1, good, not healthy"), "{said}");
    let why = "web.1: it has accepted no connection for 5 s, and 1 client waits";
    assert!(said.contains(why), "{said}");
    assert_eq!(host.status()["healthy"], false);
    host.wait_for("the journal", Duration::from_secs(90), || {
        host.journal(&["-u", "deployd"])
            .contains("my-app r1 is not healthy: web.1: it has accepted no connection")
            .then_some(())
    });
    host.sh(&format!("kill -CONT {pid}"));
    host.wait_for("the journal", Duration::from_secs(60), || {
        host.journal(&["-u", "deployd"]).contains("my-app r1 is healthy again").then_some(())
    });
    host.deploy(&["status"]).exits(0);
    assert_eq!(host.pid("web.1"), Some(pid));
}

#[test]
fn another_region_in_agent_env_counts_for_the_next_deploy() {
    let host = Host::running_r1();
    let before = host.sh("systemctl show -P MainPID deployd");
    host.configure("AWS_REGION=eu-west-9\n");
    host.publish(&Release::new("r2"));
    host.deploys("r2");
    assert_ne!(host.sh("systemctl show -P MainPID deployd"), before);
    let environment =
        host.sh("tr '\\0' '\\n' </proc/$(systemctl show -P MainPID deployd)/environ || true");
    println!("{environment}");
}

#[test]
fn a_mistake_in_agent_env_stops_deploys_and_nothing_else() {
    let host = Host::running_r1();
    host.configure("DEPLOY_SETTLE=soon\n");
    host.publish(&Release::new("r2"));
    let said = host.deploy(&[&url("r2")]).exits(2);
    assert!(said.stdout.contains("agent.env, line "), "{said:?}");
    assert!(said.stdout.contains("DEPLOY_SETTLE=\"soon\": not a duration"), "{said:?}");
    let shown = host.deploy(&["status"]).exits(0).stdout;
    assert!(shown.contains("no deploy until this is mended"), "{shown}");
    host.deploy(&["logs", "-n", "1"]).exits(0);
    host.deploy(&["history"]).exits(0);
    host.deploy(&["releases"]).exits(0);
}

#[test]
fn a_plan_says_what_a_deploy_would_refuse() {
    let host = Host::running_r1();
    Release::new("r1").publish_as(host.s3(), "other");
    let said = host.deploy(&["plan", "s3://releases/other/production/r1"]).exits(10);
    assert!(said.stdout.contains("refused   use port 5000"), "{said:?}");
    assert!(said.stdout.contains("the app my-app has it"), "{said:?}");
    host.publish(&Release::new("r2").set("DEPLOY_CONCURRENCY=web=2"));
    let said = host.deploy(&["plan", &url("r2")]).exits(0);
    assert!(
        said.stdout.contains("web x2 (now x1)") && !said.stdout.contains("refused"),
        "{said:?}"
    );
}

#[test]
fn a_word_that_is_no_command_is_not_taken_for_a_url() {
    let host = Host::boot();
    for (words, meant) in [
        (&["shell"][..], "deploy exec"),
        (&["restrat"], "deploy restart"),
        (&["ps"], "deploy status"),
    ] {
        let said = host.deploy(words).exits(2);
        assert!(said.stderr.contains(meant), "{said:?}");
    }
}
