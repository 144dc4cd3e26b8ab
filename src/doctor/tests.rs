//! Each row that a machine in memory can make fail has been seen to fail.

use super::{Instance, examine};
use crate::forwarding;
use crate::host::journal::Line;
use crate::story::Story;
use model::doctor::{Check, Health, Row};
use model::syslog::{UNIT, heading};
use std::fs;
use std::path::Path;
use tempfile::TempDir;

/// A healthy instance's files.
const FILES: [(&str, &str); 7] = [
    ("sys/fs/cgroup/cgroup.controllers", "cpu memory pids\n"),
    ("proc/sys/net/netfilter/nf_conntrack_count", "10\n"),
    ("proc/sys/net/netfilter/nf_conntrack_max", "1000\n"),
    ("var/log/journal/machine/system.journal", ""),
    ("etc/debian_version", "12\n"),
    ("usr/lib/systemd/system/rsyslog.service", ""),
    ("etc/systemd/system/amazon-ssm-agent.service", ""),
];

fn write(root: &Path, path: &str, text: &str) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().expect("a directory")).expect("a directory");
    fs::write(path, text).expect("a file");
}

fn root() -> TempDir {
    let root = TempDir::new().expect("a directory");
    FILES.iter().for_each(|(path, text)| write(root.path(), path, text));
    root
}

async fn serving() -> Story {
    let story = Story::serving_r1().await;
    for unit in ["rsyslog.service", "amazon-ssm-agent.service"] {
        story.state().active.insert(unit.to_owned(), "active".to_owned());
    }
    story
}

async fn rows(story: &Story, root: &TempDir) -> Vec<Row> {
    examine(Instance::new(story.cx(), None, None, root.path().to_owned())).await
}

async fn row(story: &Story, root: &TempDir, check: Check) -> Row {
    let rows = rows(story, root).await;
    rows.into_iter().find(|row| row.check == check).expect("a row")
}

#[track_caller]
fn has(row: &Row, result: Health, text: &str) {
    assert_eq!(row.result, result, "{row:?}");
    let said = format!("{} {}", row.text, row.remedy.as_deref().unwrap_or_default());
    assert!(said.contains(text), "{row:?}");
    let is_advised = matches!(result, Health::Warning | Health::Failed);
    assert_eq!(row.remedy.is_some(), is_advised, "{row:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_healthy_instance_has_no_fault() {
    let (story, root) = (serving().await, root());
    for row in rows(&story, &root).await {
        // Those of the machine that runs the tests.
        if !matches!(row.check, Check::Disk | Check::Inodes | Check::Sandbox | Check::Metadata) {
            assert!(matches!(row.result, Health::Ok | Health::Skipped), "{row:?}");
        }
    }
    for check in [Check::PortMap, Check::Ports, Check::SettingsTaken, Check::Users] {
        has(&row(&story, &root, check).await, Health::Ok, "");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_of_the_machine_are_named_with_a_remedy() {
    let (story, root) = (serving().await, root());
    story.state().version = Some("247.3".to_owned());
    has(&row(&story, &root, Check::Systemd).await, Health::Failed, "older than 252");
    write(root.path(), "sys/fs/cgroup/cgroup.controllers", "cpu pids\n");
    has(&row(&story, &root, Check::Cgroup).await, Health::Warning, "without memory");
    fs::remove_dir_all(root.path().join("sys")).expect("removed");
    has(&row(&story, &root, Check::Cgroup).await, Health::Warning, "version 1");
    for (count, result) in [("750", Health::Warning), ("950", Health::Failed)] {
        write(root.path(), "proc/sys/net/netfilter/nf_conntrack_count", count);
        has(&row(&story, &root, Check::Conntrack).await, result, "nf_conntrack_max=4000");
    }
    fs::remove_dir_all(root.path().join("proc")).expect("removed");
    has(&row(&story, &root, Check::Conntrack).await, Health::Skipped, "");
    story.state().no_nft = true;
    has(&row(&story, &root, Check::Nftables).await, Health::Failed, "missing");
    story.state().has_nobody = true;
    has(&row(&story, &root, Check::Users).await, Health::Failed, "group deploy");
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_of_the_logs_are_named_with_a_remedy() {
    let (story, root) = (serving().await, root());
    for (forward, imjournal, result, text) in [
        ("yes", true, Health::Warning, "twice"),
        ("no", false, Health::Failed, "gets no lines"),
        ("no", true, Health::Ok, "reads the journal"),
    ] {
        let module = if imjournal { "module(load=\"imjournal\")\n" } else { "# imjournal\n" };
        write(root.path(), "etc/rsyslog.d/10-journal.conf", module);
        let text_of = format!("[Journal]\nForwardToSyslog={forward}\n");
        write(root.path(), "etc/systemd/journald.conf.d/10.conf", &text_of);
        has(&row(&story, &root, Check::Rsyslog).await, result, text);
    }
    // The file of Debian 13, whose name comes after that of most others.
    let vendor = "[Journal]\nForwardToSyslog=yes\n";
    write(root.path(), "usr/lib/systemd/journald.conf.d/syslog.conf", vendor);
    has(&row(&story, &root, Check::Rsyslog).await, Health::Warning, "twice");
    for name in ["zz-no-forward.conf", "syslog.conf"] {
        let path = format!("etc/systemd/journald.conf.d/{name}");
        write(root.path(), &path, "[Journal]\nForwardToSyslog=no\n");
        has(&row(&story, &root, Check::Rsyslog).await, Health::Ok, "reads the journal");
        fs::remove_file(root.path().join(path)).expect("removed");
    }
    for (unit, check) in
        [("rsyslog.service", Check::Rsyslog), ("amazon-ssm-agent.service", Check::SsmAgent)]
    {
        story.state().active.insert(unit.to_owned(), "inactive".to_owned());
        has(&row(&story, &root, check).await, Health::Failed, "is inactive");
    }
    write(root.path(), "etc/systemd/journald.conf", "[Journal]\nStorage=volatile\n");
    has(&row(&story, &root, Check::Journal).await, Health::Warning, "lost at a reboot");
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_of_the_forwarding_are_named_with_a_remedy() {
    let (mut story, root) = (serving().await, root());
    has(&row(&story, &root, Check::Forwarding).await, Health::Skipped, "not set");
    story.set("DEPLOY_SYSLOG=syslog+tls://logs.example.com\n");
    has(&row(&story, &root, Check::Forwarding).await, Health::Failed, "no port");
    story.set("DEPLOY_SYSLOG=syslog+tls://logs.example.com:6514\n");
    has(&row(&story, &root, Check::Forwarding).await, Health::Failed, "rsyslogd is not there");
    write(root.path(), "usr/sbin/rsyslogd", "");
    has(&row(&story, &root, Check::Forwarding).await, Health::Failed, "no module for TLS");
    write(root.path(), "usr/lib64/rsyslog/lmnsd_gtls.so", "");
    has(&row(&story, &root, Check::Forwarding).await, Health::Failed, "install ca-certificates");
    write(root.path(), "etc/pki/tls/certs/ca-bundle.crt", "");
    write(root.path(), "etc/machine-id", "m1\n");
    has(&row(&story, &root, Check::Forwarding).await, Health::Failed, "are not in use");

    let settings = forwarding::settings(&story.cx().agent_env).expect("valid").expect("set");
    let config = format!("{}\n", heading(&settings));
    write(root.path(), "var/lib/deploy/syslog/m1/rsyslog.conf", &config);
    has(&row(&story, &root, Check::Forwarding).await, Health::Failed, "is inactive");
    story.state().active.insert(UNIT.to_owned(), "active".to_owned());
    has(&row(&story, &root, Check::Forwarding).await, Health::Ok, "syslog+tls://logs.example.com");
    let said = "cannot connect to logs.example.com:6514: refused [v8.2302.0 try https://x ]";
    let line = |text: &str| Line {
        identifier: "rsyslogd".to_owned(),
        text: text.to_owned(),
        tells_of_memory: false,
    };
    story.state().log = vec![line(said), line("action 'forward' suspended")];
    write(root.path(), "var/lib/deployd-syslog/m1.cursor", "s=1;i=2;b=3;m=4;t=6612d1646c7bd;x=5");
    let red = row(&story, &root, Check::Forwarding).await;
    has(&red, Health::Failed, "refused; lines of the last");
    story.set("DEPLOY_SYSLOG=\n");
    has(&row(&story, &root, Check::Forwarding).await, Health::Warning, "still forwarded");
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_of_apps_are_named_with_a_remedy() {
    let (mut story, root) = (serving().await, root());
    story.state().strangers.insert(5000);
    has(&row(&story, &root, Check::Ports).await, Health::Failed, "stranger (pid 99) has port 5000");
    story.state().script.clear();
    has(&row(&story, &root, Check::PortMap).await, Health::Failed, "port 5000 of my-app");
    story.set("DEPLOY_CONCURRENCY=web=2\n");
    has(&row(&story, &root, Check::SettingsTaken).await, Health::Warning, "my-app");
    write(&story.app().dir().join(""), "machine", "another machine\n");
    has(&row(&story, &root, Check::Machine).await, Health::Warning, "my-app");
    write(&story.app().dir().join(""), "machine", "");
    has(&row(&story, &root, Check::Machine).await, Health::Failed, "names no machine");
}

#[tokio::test(flavor = "multi_thread")]
async fn signatures_that_are_required_must_be_verifiable() {
    let (story, root) = (serving().await, root());
    let signatures = async || row(&story, &root, Check::Signatures).await;
    has(&signatures().await, Health::Skipped, "not required: there is no");
    let allowed = |text: &str| write(root.path(), "etc/deploy/allowed_signers", text);
    allowed("");
    has(&signatures().await, Health::Failed, "install openssh-client");
    write(root.path(), "usr/bin/ssh-keygen", "");
    has(&signatures().await, Health::Failed, "lists no key");
    allowed("# the team\nada@example.com\n");
    has(&signatures().await, Health::Failed, "line 2: no key after the principals");
    let key = "AAAAC3NzaC1lZDI1NTE5AAAAIAq1ok0GW2Ow0yCQKKCTeGM0sVzsqYm5bCK6BTOBY9Jh";
    allowed(&format!("ada@example.com ssh-ed25519 {key}\n"));
    has(&signatures().await, Health::Ok, "trusted (1)");
    write(root.path(), "etc/deploy/revoked_keys", "");
    has(&signatures().await, Health::Ok, "(1, without those revoked)");
}
