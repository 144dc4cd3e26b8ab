//! Every line that a process writes reaches the journal and, if rsyslog reads the journal,
//! rsyslog's file.

use serde_json::Value;
use testkit::app::{Release, url};
use testkit::host::{Host, SOON};

/// The setup of the package's notes on rsyslog for logs without loss: the default input of
/// Debian's rsyslog drops lines that come faster than it reads.
const READ_THE_JOURNAL: &str = "\
cd /usr/share/doc/deploy-agent/examples/rsyslog
install -D -m 644 journald.conf /etc/systemd/journald.conf.d/zz-no-forward.conf
install -m 644 journal.conf /etc/rsyslog.d/10-journal.conf
systemctl restart systemd-journald rsyslog";

#[test]
fn no_line_of_a_burst_is_lost() {
    const LINES: usize = 20_000;
    let host = Host::boot();
    host.sh(READ_THE_JOURNAL);
    host.publish(&Release::new("r1").set(&format!("BEHAVE_WORKER=lines={LINES}")));
    host.deploys("r1");
    let count = |command: &str| {
        let counted = host.sh(&format!("{command} | grep -c 'line [0-9]* of r1$' || true"));
        counted.trim().parse::<usize>().expect("a number")
    };
    let journal = || count("journalctl -o cat -t my-app.worker.1");
    host.wait_for("last line in the journal", SOON, || (journal() >= LINES).then_some(()));
    assert_eq!(journal(), LINES);
    let syslog = || count("grep -F 'my-app.worker.1[' /var/log/syslog");
    host.wait_for("last line in rsyslog's file", SOON, || (syslog() >= LINES).then_some(()));
    assert_eq!(syslog(), LINES);
    assert_eq!(
        host.sh("grep -ciE 'suppressed|rate.?limit|messages lost' /var/log/syslog || true"),
        "0\n"
    );
}

/// Any process that may write to the journal may write under any identifier.
#[test]
fn lines_that_another_user_forges_under_the_name_of_a_process_are_not_shown() {
    let host = Host::running_r1();
    host.sh("runuser -u stranger -- logger -t my-app.web.1 forged
        systemd-run --quiet --wait logger -t my-app.web.1 forged
        journalctl --sync");
    assert_eq!(host.sh("journalctl -o cat -t my-app.web.1 | grep -c forged"), "2\n");
    for words in [&["logs"][..], &["logs", "my-app"], &["logs", "my-app", "web.1"]] {
        let said = host.deploy(words).ok();
        assert!(said.contains("r1 web begins") && !said.contains("forged"), "{said}");
    }
    // The lines of earlier releases stay.
    host.publish(&Release::new("r2"));
    host.deploys("r2");
    let said = host.deploy(&["logs"]).ok();
    assert!(said.contains("r1 web begins") && said.contains("r2 web begins"), "{said}");
}

/// Two releases, a candidate that fails, and a first release that never succeeds.
#[test]
fn logs_tell_releases_apart_and_know_what_failed() {
    let host = Host::boot();
    let logs = |arguments: &[&str]| host.deploy(&[&["logs"], arguments].concat()).ok();
    host.publish(&Release::new("r0").set("BEHAVE=crash"));
    host.deploy(&[&url("r0")]).exits(12);
    let said = host.wait_for("lines of the first attempt", SOON, || {
        let said = logs(&["my-app"]);
        said.contains("r0 web begins").then_some(said)
    });
    assert!(said.contains("my-app.web.1 r0 (candidate): "), "{said}");

    host.publish(&Release::new("r1"));
    host.deploys("r1");
    host.publish(&Release::new("r2"));
    host.deploys("r2");
    host.publish(&Release::new("r3").set("BEHAVE=crash"));
    host.deploy(&[&url("r3")]).exits(12);
    host.sh("journalctl --sync");
    let said = logs(&[]);
    for mark in ["web.1 r1: r1 web begins", "web.1 r2: r2 web", "web.1 r3 (candidate): r3 web"] {
        assert!(said.contains(mark), "{mark}: {said}");
    }
    let said = logs(&["web", "--release", "r2"]);
    assert!(said.contains("my-app.web.1: r2 web begins"), "{said}");
    assert!(!said.contains("r1") && !said.contains("r3") && !said.contains("worker"), "{said}");

    let said = host.deploy(&["logs", "my-app", "clock"]).exits(2);
    assert!(said.stdout.contains("its processes are web.1, worker.1"), "{said:?}");
    let said = host.deploy(&["logs", "--release", "r9"]).exits(2);
    assert!(said.stdout.contains("its releases are r0, r1, r2, r3"), "{said:?}");

    assert!(logs(&["--since", "1h"]).contains("r0 web begins"));
    assert_eq!(logs(&["--since", "1h", "-n", "2"]).lines().count(), 2);
    host.sh("sleep 2");
    assert_eq!(logs(&["--since", "1s"]), "");
    host.deploy(&["logs", "--since", "nonsense"]).exits(1);
    let said = logs(&["web", "--json"]);
    let first: Value = serde_json::from_str(said.lines().next().expect("a line")).expect("JSON");
    assert_eq!((&first["app"], &first["process"]), (&"my-app".into(), &"web.1".into()));
    assert_eq!((&first["release"], &first["candidate"]), (&"r0".into(), &true.into()));
    let piped = "set -o pipefail; deploy logs --since 1h | head -1; deploy logs -f | head -1";
    let piped = host.exec(&["bash", "-c", piped]).exits(0);
    assert_eq!((piped.stdout.lines().count(), piped.stderr.as_str()), (2, ""), "{piped:?}");
}

/// journalctl writes null in the place of long text, unless it is asked for all.
#[test]
fn a_long_last_line_of_a_failed_process_is_quoted() {
    let host = Host::boot();
    let procfile = "web: python3 -c 'exit(\"x\" * 6000 + \" is the cause\")'\n";
    host.publish(&Release::new("r1").procfile(procfile));
    let said = host.deploy(&[&url("r1")]).exits(12);
    assert!(said.stderr.contains("xxx is the cause"), "{said:?}");
}

#[test]
fn logs_of_several_apps_are_shown_at_once() {
    let host = Host::running_r1();
    Release::new("r7").set("PORT=5001").publish_as(host.s3(), "other");
    host.deploy(&["s3://releases/other/production/r7"]).exits(0);
    host.sh("journalctl --sync");
    let said = host.deploy(&["logs", "my-app", "other"]).ok();
    assert!(said.contains("my-app.web.1: r1 web begins"), "{said}");
    assert!(said.contains("other.web.1: r7 web begins"), "{said}");
    let said = host.deploy(&["logs", "other", "web"]).ok();
    assert!(said.contains("r7 web begins") && !said.contains("my-app"), "{said}");
    let said = host.deploy(&["logs", "othr"]).exits(2);
    assert!(said.stdout.contains("installed here: my-app, other"), "{said:?}");
    let said = host.deploy(&["logs"]).exits(2);
    assert!(said.stdout.contains("there are several: my-app, other"), "{said:?}");
}

#[test]
fn the_history_has_every_command_and_outlives_the_app() {
    let host = Host::running_r1();
    host.deploy(&["restart", "web"]).exits(0);
    host.deploy(&["stop"]).exits(0);
    host.deploy(&["start"]).exits(0);
    host.deploy(&["restart", "nothing"]).exits(2);
    host.deploy(&["rollback", "--to", "r9"]).exits(2);
    host.deploy(&["remove", "my-app", "--yes"]).exits(0);
    let history = host.json(&["history", "my-app", "--json"]);
    let entries = history.as_array().expect("entries").iter().rev();
    let actions: Vec<_> = entries.map(|entry| entry["action"].as_str().expect("text")).collect();
    assert_eq!(actions, ["deploy", "restart web", "stop", "start", "remove"]);
    assert_eq!((&history[0]["who"], &history[0]["app"]), (&"root".into(), &"my-app".into()));
    let said = host.deploy(&["history", "-n", "2"]).ok();
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines.len(), 3, "{said}");
    assert!(lines[1].contains("  start  ") && lines[2].contains("  remove  "), "{said}");
    let said = host.deploy(&["history", "mistyped"]).exits(2);
    assert!(said.stdout.contains("there is a history of my-app"), "{said:?}");
}
