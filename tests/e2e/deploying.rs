//! A release is deployed, another replaces it, a broken one does not.

use serde_json::Value;
use testkit::app::{BUCKET, Release, url};
use testkit::host::{Host, SOON};

#[test]
fn deploys_a_release_serves_it_and_replaces_it() {
    let host = Host::boot();
    Release::new("r1").publish(host.s3());
    Release::new("r2").publish_zstd(host.s3());

    let said = host.deploys("r1");
    assert_eq!(said.stdout.lines().count(), 1, "{said:?}");
    assert!(said.stdout.starts_with("deployed my-app r1 (production) in "), "{said:?}");
    assert_eq!(host.served().as_deref(), Some("r1"));
    for process in ["web", "worker"] {
        let identifier = format!("my-app.{process}.1");
        let logged = format!("r1 {process} begins");
        let journal = host.journal(&["-o", "cat", "-t", &identifier]);
        assert_eq!(journal.trim(), logged);
        host.wait_for("line in rsyslog's file", SOON, || {
            let log = host.sh("cat /var/log/syslog");
            log.lines()
                .any(|line| line.contains(&identifier) && line.ends_with(&logged))
                .then_some(())
        });
    }

    let before = host.pids();
    let said = host.deploys("r1");
    assert_eq!(said.stdout, "my-app r1 is already running\n");
    assert_eq!(host.pids(), before);

    host.deploys("r2");
    assert_eq!(host.served().as_deref(), Some("r2"));
    for pid in before {
        host.exec(&["test", "-e", &format!("/proc/{pid}")]).exits(1);
    }
    let status = host.status();
    assert_eq!((&status["release"], &status["healthy"]), (&"r2".into(), &true.into()));
    assert_eq!(status["rollback"], "r1");
}

/// The candidate is proved on a port without clients; the running release is not touched.
#[test]
fn a_broken_release_leaves_the_running_one_alone() {
    let host = Host::running_r1();
    let before = host.pids();
    refuses_broken_releases(&host, 12);
    assert_eq!(host.pids(), before);
}

/// Without a port map the previous release has to stop, and is started again.
#[test]
fn a_broken_release_gives_way_to_the_previous_one() {
    let host = Host::boot();
    host.configure("DEPLOY_STRATEGY=restart\n");
    host.publish(&Release::new("r1"));
    host.deploys("r1");
    refuses_broken_releases(&host, 20);
}

fn refuses_broken_releases(host: &Host, exit: i32) {
    let broken = [
        ("crash", "BEHAVE=crash", "web.1 did not stay up"),
        ("worker-crash", "BEHAVE_WORKER=crash", "worker.1 did not stay up"),
        ("late-crash", "BEHAVE=crash-after=1.5 DEPLOY_PROVE=20s", "web.1 did not stay up"),
        ("wrong-port", "BEHAVE=port=5001", "it listens on 0.0.0.0:5001, not on port "),
        ("status-500", "BEHAVE=status=500 DEPLOY_HEALTH_PATH=/health", "answered 500"),
        ("hang", "BEHAVE=hang", "it does not listen on port "),
    ];
    for (name, env, why) in broken {
        host.publish(&Release::new(name).set(env).set("DEPLOY_HEALTH_TIMEOUT=5s"));
        let said = host.deploy(&[&url(name)]).exits(exit);
        assert!(said.stdout.contains(why), "{name}: {said:?}");
        assert_eq!(said.stdout.lines().count(), 1, "{name}: {said:?}");
        let logged = match name {
            "worker-crash" => format!("  | worker.1: {name} worker is broken"),
            "crash" => format!("  | web.1: {name} web is broken"),
            "late-crash" => format!("  | web.1: {name} web gives up"),
            _ => format!("  | web.1: {name} web begins"),
        };
        assert!(said.stderr.contains(&logged), "{name}: {said:?}");
        assert!(!said.stderr.contains(".1: r1 "), "{name}: quotes the other release: {said:?}");
        assert_eq!(host.served().as_deref(), Some("r1"), "{name}");
        let status = host.status();
        assert_eq!((&status["release"], &status["healthy"]), (&"r1".into(), &true.into()));
        let units = host.sh("systemctl list-units --plain --no-legend 'deploy-my-app-*@*'");
        let other = units.lines().find(|line| !line.contains("-r1@") && line.contains(" running "));
        assert_eq!(other, None, "{name}");
    }
    let history = host.deploy(&["history", "-n", "100"]).ok();
    assert_eq!(history.matches("  r1    root  ").count(), broken.len(), "{history}");
}

/// A release that fails in the settle window has had the traffic already.
#[test]
fn a_release_that_breaks_after_the_switch_gives_way_to_the_previous_one() {
    let host = Host::running_r1();
    let [web, _] = host.pids();
    let late = Release::new("r2").set("BEHAVE=crash-after=1.5 DEPLOY_SETTLE=20s");
    host.publish(&late);
    let said = host.deploy(&[&url("r2")]).exits(20);
    assert!(said.stdout.contains("my-app r2 failed, r1 runs again"), "{said:?}");
    assert!(said.stderr.contains("  | web.1: r2 web gives up"), "{said:?}");
    assert_eq!(host.served().as_deref(), Some("r1"));
    assert_eq!(host.pid("web.1"), Some(web), "web.1 was not restarted");
}

#[test]
fn a_broken_first_release_leaves_nothing_running() {
    let host = Host::boot();
    host.publish(&Release::new("r1").set("BEHAVE=crash"));
    host.deploy(&[&url("r1")]).exits(12);
    assert_eq!(host.served(), None);
    assert_eq!(host.sh("pgrep -u app-my-app || true"), "");
    let status = host.status();
    assert_eq!((&status["release"], &status["healthy"]), (&().into(), &false.into()));
    // The repaired release has the same name, and takes the place of the failed one.
    host.publish(&Release::new("r1"));
    let said = host.deploys("r1");
    assert!(said.stdout.contains("my-app r1 (production)"), "{said:?}");
    assert_eq!(host.served().as_deref(), Some("r1"));
}

#[test]
fn a_process_that_ignores_sigterm_delays_no_deploy() {
    let host = Host::boot();
    host.publish(&Release::new("r1").set("BEHAVE=ignore-term DEPLOY_STOP_TIMEOUT=1s"));
    host.deploys("r1");
    let [old, _] = host.pids();
    host.publish(&Release::new("r2"));
    host.deploys("r2");
    host.exec(&["test", "-e", &format!("/proc/{old}")]).exits(1);
    assert_eq!(host.served().as_deref(), Some("r2"));
}

#[test]
fn follows_the_prefix_named_current_and_a_directory() {
    let host = Host::boot();
    host.publish(&Release::new("current"));
    host.deploys("current");
    assert_eq!(host.served().as_deref(), Some("current"));
    host.publish(&Release::new("current").file("VERSION", "newer"));
    let said = host.deploys("current");
    assert!(said.stdout.contains("my-app current.2 "), "{said:?}");
    assert_eq!(host.served().as_deref(), Some("newer"));

    let directory = "/srv/releases/my-app/production/r3";
    host.write(&format!("{directory}/source.tar.gz"), Release::new("r3").compressed());
    host.write(&format!("{directory}/env"), "");
    let said = host.deploy(&["--json", &format!("file://{directory}")]).exits(0);
    let events: Vec<Value> =
        said.stdout.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let outcome = &events.last().expect("an event")["outcome"];
    assert_eq!((&outcome["exit"], &outcome["current"]), (&"done".into(), &"r3".into()), "{said:?}");
    assert_eq!(said.stderr, "");
    assert_eq!(host.served().as_deref(), Some("r3"));
}

#[test]
fn follows_the_pointer_object() {
    let host = Host::boot();
    let point = |to: &str| host.s3().put(BUCKET, "my-app/production/current", format!("{to}\n"));
    for release in ["r1", "r2"] {
        host.publish(&Release::new(release));
        point(release);
        let said = host.deploys("current");
        assert!(said.stdout.contains(&format!("my-app {release} ")), "{said:?}");
        assert_eq!(host.served().as_deref(), Some(release));
    }
    let before = host.pids();
    assert_eq!(host.deploys("current").stdout, "my-app r2 is already running\n");
    assert_eq!(host.pids(), before);
}
