//! Every line that a process writes reaches the journal and, if rsyslog reads the journal,
//! rsyslog's file.

use testkit::app::Release;
use testkit::host::{Host, SOON};

/// The setup of the package's notes on rsyslog for logs without loss: the default input of
/// Debian's rsyslog drops lines that come faster than it reads.
const READ_THE_JOURNAL: &str = "\
cd /usr/share/doc/deploy-agent/examples/rsyslog
install -D -m 644 journald.conf /etc/systemd/journald.conf.d/10-no-forward.conf
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
