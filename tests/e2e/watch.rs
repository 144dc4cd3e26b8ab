//! Watch mode: an instance follows its environment's pointer by itself.

use serde_json::Value;
use testkit::app::{BUCKET, Release};
use testkit::host::{Host, SOON};

const POINTER: &str = "my-app/production/current";
const WATCHING: &str = "DEPLOY_WATCH=s3://releases/my-app/production/current\n\
                        DEPLOY_WATCH_INTERVAL=1s\n";

/// A host in watch mode that runs the release named by the pointer.
fn watching(release: &str) -> Host {
    let host = Host::boot();
    host.publish(&Release::new(release));
    point(&host, release);
    host.configure(WATCHING);
    host.exec(&["systemctl", "reload", "deployd"]).ok();
    wait_until_deployed(&host, release);
    host
}

fn point(host: &Host, release: &str) {
    host.s3().put(BUCKET, POINTER, format!("{release}\n"));
}

#[track_caller]
fn wait_until_deployed(host: &Host, release: &str) {
    wait_for_watch(host, &format!("{release} deployed"));
    assert_eq!(host.served().as_deref(), Some(release));
}

/// Waits until `deploy status` reports this for the watched pointer.
#[track_caller]
fn wait_for_watch(host: &Host, said: &str) -> Value {
    host.wait_for(said, 2 * SOON, || {
        let watch = host.status()["watch"].clone();
        watch["text"].as_str().is_some_and(|text| text.contains(said)).then_some(watch)
    })
}

/// Waits for a few more polls of the pointer, all unchanged.
#[track_caller]
fn wait_for_questions(host: &Host) {
    let unchanged = || {
        let asked = host.s3().requests();
        asked.iter().filter(|one| one.path.ends_with(POINTER) && one.status == Some(304)).count()
    };
    let before = unchanged();
    host.wait_for("questions", SOON, || (unchanged() >= before + 3).then_some(()));
}

/// Returns who, release and exit of each history entry, newest first.
fn history(host: &Host) -> Vec<[String; 3]> {
    let entries = host.json(&["history", "my-app", "--json"]);
    let entries = entries.as_array().expect("entries").iter();
    let word = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    entries.map(|entry| [&entry["who"], &entry["release"], &entry["exit"]].map(word)).collect()
}

#[test]
fn follows_the_pointer_with_conditional_requests() {
    let host = watching("r1");
    host.publish(&Release::new("r2"));
    wait_for_questions(&host);
    point(&host, "r2");
    wait_until_deployed(&host, "r2");
    assert_eq!(history(&host), [["watch", "r2", "done"], ["watch", "r1", "done"]]);
    wait_for_questions(&host);
    // Each pointer is read once, and no archive is fetched unnecessarily.
    let asked = host.s3().requests();
    let reads = |end: &str| {
        let whole = asked.iter().filter(|one| one.method == "GET" && one.status == Some(200));
        whole.filter(|one| one.path.ends_with(end)).count()
    };
    assert_eq!((reads(POINTER), reads("source.tar.gz")), (2, 2));
    let text = host.deploy(&["status"]).ok();
    let line = "watch     s3://releases/my-app/production/current: r2 deployed";
    assert!(text.contains(line), "{text}");
}

#[test]
fn a_release_that_failed_here_waits_for_the_pointer_to_change() {
    let host = watching("r2");
    host.publish(&Release::new("r3").set("BEHAVE=crash"));
    point(&host, "r3");
    let watch = wait_for_watch(&host, "r3 failed here (exit 12); not tried again until the");
    assert_eq!(watch["exit"], "unhealthy", "{watch:#}");
    let tried_once = [["watch", "r3", "unhealthy"], ["watch", "r2", "done"]];
    wait_for_questions(&host);
    assert_eq!(history(&host), tried_once);

    host.exec(&["systemctl", "kill", "--signal=KILL", "deployd"]).ok();
    wait_for_questions(&host);
    assert_eq!(history(&host), tried_once);
    host.reboot();
    wait_for_questions(&host);
    assert_eq!(history(&host), tried_once);
    assert_eq!(host.served().as_deref(), Some("r2"));

    host.publish(&Release::new("r4").procfile("web python3\n"));
    point(&host, "r4");
    wait_for_watch(&host, "r4 failed here (exit 10)");
    host.publish(&Release::new("r5"));
    point(&host, "r5");
    wait_until_deployed(&host, "r5");
}

#[test]
fn an_operators_change_stays_until_the_pointer_changes() {
    let host = watching("r1");
    host.publish(&Release::new("r2"));
    point(&host, "r2");
    wait_until_deployed(&host, "r2");
    host.deploy(&["rollback"]).exits(0);
    wait_for_questions(&host);
    assert_eq!(host.served().as_deref(), Some("r1"));
    host.publish(&Release::new("hotfix"));
    host.deploys("hotfix");
    wait_for_questions(&host);
    host.exec(&["systemctl", "restart", "deployd"]).ok();
    wait_for_questions(&host);
    assert_eq!(host.served().as_deref(), Some("hotfix"));
    point(&host, "r1");
    wait_until_deployed(&host, "r1");
}

#[test]
fn failures_of_the_source_are_retried() {
    let host = watching("r1");
    // The pointer is updated before the release that it names is published.
    point(&host, "r2");
    let watch = wait_for_watch(&host, "r2 is no release");
    assert!(watch["error"].as_str().is_some(), "{watch:#}");
    assert_eq!(history(&host).len(), 1);
    host.publish(&Release::new("r2"));
    wait_until_deployed(&host, "r2");
    point(&host, "no name");
    wait_for_watch(&host, "what it holds is not a release name");
    host.s3().delete(BUCKET, POINTER);
    wait_for_watch(&host, "production/current is no release");
    // Without a pointer object, the prefix may hold the release itself.
    host.publish(&Release::new("current"));
    wait_until_deployed(&host, "current");
    let same = history(&host);
    host.publish(&Release::new("current").set("OTHER=1"));
    host.wait_for("another release", SOON, || (history(&host).len() > same.len()).then_some(()));
    wait_for_watch(&host, "current deployed");
    assert_eq!(history(&host)[0], ["watch", "current.2", "done"]);
}

#[test]
fn an_interrupted_deploy_is_retried() {
    let host = watching("r1");
    host.publish(&Release::new("r2").waiting());
    point(&host, "r2");
    wait_for_watch(&host, "r2 is being deployed");
    host.wait_for("build", SOON, || {
        host.journal(&["-u", "deployd"]).contains("build: until").then_some(())
    });
    host.exec(&["systemctl", "kill", "--signal=KILL", "deployd"]).ok();
    wait_for_watch(&host, "r2 is being deployed");
    host.go();
    wait_until_deployed(&host, "r2");
    let history = history(&host);
    assert_eq!(history[0], ["watch", "r2", "done"]);
    assert_eq!(history[1][2], "failed");
}

#[test]
fn a_mistake_in_a_watched_url_is_reported_and_blocks_nothing_else() {
    let host = Host::boot();
    host.configure("DEPLOY_WATCH=s3://releases/my-app/production/r1\n");
    host.exec(&["systemctl", "reload", "deployd"]).ok();
    let why = "DEPLOY_WATCH: a URL that does not end with `current`";
    let said = host.deploy(&["status"]).exits(2);
    assert!(format!("{said:?}").contains(why), "{said:?}");
    host.wait_for("line in the journal", SOON, || {
        host.journal(&["-u", "deployd"]).contains(why).then_some(())
    });
    host.publish(&Release::new("r1"));
    host.deploys("r1");
    let text = host.deploy(&["status"]).ok();
    assert!(text.contains("watch     /etc/deploy/agent.env: DEPLOY_WATCH"), "{text}");

    // A change needs no restart.
    let deployd = || host.sh("systemctl show -P MainPID deployd");
    let pid = deployd();
    host.publish(&Release::new("r2"));
    point(&host, "r2");
    host.configure(WATCHING);
    host.exec(&["systemctl", "reload", "deployd"]).ok();
    wait_until_deployed(&host, "r2");
    host.configure("DEPLOY_WATCH=\n");
    host.wait_for("end of watching", SOON, || host.status()["watch"].is_null().then_some(()));
    assert_eq!(deployd(), pid);
}
