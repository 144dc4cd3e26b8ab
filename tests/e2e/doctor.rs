//! `deploy doctor` on booted instances that are broken one fault at a time.

use crate::metadata::Metadata;
use serde_json::Value;
use std::time::{Duration, Instant};
use testkit::app::{Release, url};
use testkit::host::{ACCESS_KEY, Host, SOON};
use testkit::s3::Fault;

/// More requests than a test sends.
const ALWAYS: usize = 10_000;

/// Every row has a deadline, and all run side by side; the rest is for a busy machine.
const LONGEST: Duration = Duration::from_secs(20);

/// The rows of one run.
struct Page {
    rows: Vec<Value>,
    exit: Option<i32>,
}

impl Page {
    fn of(host: &Host, arguments: &[&str]) -> Page {
        let begun = Instant::now();
        let output = host.deploy(&[&["doctor", "--json"], arguments].concat());
        assert!(begun.elapsed() < LONGEST, "it took {:?}", begun.elapsed());
        let rows = serde_json::from_str(&output.stdout);
        Page { rows: rows.unwrap_or_else(|e| panic!("{e}: {output:?}")), exit: output.status }
    }

    fn row(&self, check: &str) -> &Value {
        let row = self.rows.iter().find(|row| row["check"] == check);
        row.unwrap_or_else(|| panic!("no {check} in {:#?}", self.rows))
    }

    /// Asserts the result of a row, and a word of its text or remedy.
    #[track_caller]
    fn has(&self, check: &str, result: &str, word: &str) {
        let row = self.row(check);
        assert_eq!(row["result"], result, "{row:#}");
        assert!(format!("{} {}", row["text"], row["remedy"]).contains(word), "{row:#}");
        let is_advised = matches!(result, "warning" | "failed");
        assert_eq!(row["remedy"].is_string(), is_advised, "{row:#}");
        if result == "failed" {
            assert_eq!(self.exit, Some(1), "{row:#}");
        }
    }
}

fn of(host: &Host) -> Page {
    Page::of(host, &[])
}

#[test]
fn a_healthy_instance_gets_a_page_without_faults() {
    let host = Host::running_r1();
    let page = Page::of(&host, &[&url("r1")]);
    for check in [
        "deployd",
        "settings",
        "settings_taken",
        "machine",
        "users",
        "disk",
        "inodes",
        "systemd",
        "nftables",
        "port_map",
        "ports",
        "rsyslog",
        "credentials",
        "clock",
        "list_bucket",
        "get_env",
        "get_archive",
        "release",
    ] {
        page.has(check, "ok", "");
    }
    assert_eq!(page.exit, Some(0), "{:#?}", page.rows);
    for check in ["pointer", "ssm_agent", "metadata"] {
        page.has(check, "skipped", "");
    }
    let page = host.deploy(&["doctor", &url("r1")]).ok();
    println!("{page}");
    assert!(page.contains("ok       s3:ListBucket    allowed"), "{page}");
    for columns in [80, 60] {
        let inside = format!("stty cols {columns} rows 24; deploy doctor {}", url("r1"));
        let page = host.exec(&["script", "-qec", &inside, "/dev/null"]).ok();
        println!("{page}");
        let fits = |line: &str| line.trim_end().chars().count() <= columns;
        // A URL has no place to break a line at.
        assert!(page.lines().all(|line| fits(line) || line.contains("s3://")), "{page}");
    }
    let page = host.deploy_as("deployer", &["doctor"]).ok();
    assert!(page.contains("ok       deployd "), "{page}");
}

#[test]
fn faults_of_the_instance_are_named() {
    let host = Host::running_r1();
    host.sh("systemctl stop syslog.socket rsyslog");
    of(&host).has("rsyslog", "failed", "systemctl enable --now rsyslog");
    host.sh("systemctl start rsyslog");
    host.write("/etc/systemd/journald.conf.d/zz.conf", "[Journal]\nForwardToSyslog=no\n");
    of(&host).has("rsyslog", "failed", "gets no lines");
    host.sh("rm -rf /etc/systemd/journald.conf.d /var/log/journal");
    of(&host).has("journal", "warning", "lost at a reboot");

    host.write("/etc/systemd/system/amazon-ssm-agent.service", "[Service]\nExecStart=/bin/true\n");
    of(&host).has("ssm_agent", "failed", "SSM does not reach");

    host.write("/etc/sysctl.d/99-hard.conf", "user.max_user_namespaces=0\n");
    of(&host).has("sandbox", "warning", "PrivateUsers");

    host.sh("systemd-run --quiet --unit=stranger python3 -m http.server 5000");
    host.wait_for("the stranger", SOON, || {
        host.sh("ss -Hltn 'sport = 5000'").contains("LISTEN").then_some(())
    });
    of(&host).has("ports", "failed", "has port 5000 of my-app");
    host.sh("systemctl stop stranger");

    host.sh("userdel build-my-app");
    of(&host).has("users", "failed", "build-my-app");
    host.sh("sed -i '/^deploy:/d' /etc/group");
    of(&host).has("users", "failed", "no group deploy");

    host.sh("echo other >/var/lib/deploy/apps/my-app/machine");
    of(&host).has("machine", "warning", "my-app");

    host.sh("mv /usr/sbin/nft /usr/sbin/nft.gone");
    of(&host).has("nftables", "failed", "install nftables");
}

#[test]
fn settings_that_are_wrong_or_not_in_use_are_named() {
    let host = Host::running_r1();
    host.configure("DEPLOY_CONCURRENCY=web=2\n");
    of(&host).has("settings_taken", "warning", "my-app");
    host.configure("DEPLOY_SETTLE=soon\n");
    let page = of(&host);
    page.has("settings", "failed", "DEPLOY_SETTLE");
    page.has("machine", "ok", "");
    host.configure("DEPLOY_SETTLE=1s\nwhat is this\n");
    of(&host).has("settings", "failed", "line ");
}

#[test]
fn a_full_disk_is_named() {
    let host = Host::on_disk(512);
    host.sh("fallocate -l 4G /filler || true; dd if=/dev/zero of=/more bs=1M 2>/dev/null || true");
    of(&host).has("disk", "failed", "DEPLOY_KEEP_RELEASES");
}

#[test]
fn each_permission_and_the_clock_are_tried() {
    let mut host = Host::boot();
    for name in ["r1", "denied-env", "denied-archive", "clock", "silent"] {
        host.publish(&Release::new(name));
    }
    let s3 = host.s3();
    s3.fault("*", "denied-env/env", ALWAYS, Fault::ACCESS_DENIED);
    s3.fault("*", "denied-archive/source", ALWAYS, Fault::ACCESS_DENIED);
    s3.fault("*", "/clock/", ALWAYS, Fault::ClockSkew(Duration::from_secs(3600)));
    s3.fault("*", "/silent/", ALWAYS, Fault::Silence);

    let page = Page::of(&host, &[&url("denied-env")]);
    page.has("get_env", "failed", "s3:GetObject");
    page.has("get_archive", "ok", "");
    page.has("release", "failed", "denies access");
    let page = Page::of(&host, &[&url("denied-archive")]);
    page.has("get_archive", "failed", "s3:GetObject");
    page.has("get_env", "ok", "");
    assert_eq!(page.row("get_archive")["reason"], "access_denied");
    Page::of(&host, &[&url("clock")]).has("clock", "failed", "behind the store's");
    let page = Page::of(&host, &[&url("silent")]);
    page.has("get_env", "failed", "no answer within");
    assert_eq!(page.row("get_env")["reason"], "no_answer");
    let page = Page::of(&host, &[&url("nothing")]);
    page.has("get_env", "failed", "upload is complete");

    Page::of(&host, &[&url("current")]).has("pointer", "failed", "current");
    host.s3().put("releases", "my-app/production/current", "two words");
    let page = Page::of(&host, &[&url("current")]);
    page.has("pointer", "failed", "not a release name");
    page.has("get_env", "skipped", "pointer");
    host.s3().put("releases", "my-app/production/current", "r1\n");
    let page = Page::of(&host, &[&url("current")]);
    page.has("pointer", "ok", "r1");
    page.has("get_env", "ok", "");
    host.s3().deny_listing();
    Page::of(&host, &[&url("r1")]).has("list_bucket", "warning", "allow s3:ListBucket on");

    host.stop_s3();
    let page = Page::of(&host, &[&url("r1")]);
    page.has("get_env", "failed", "refused");
    page.has("clock", "skipped", "");
}

#[test]
fn missing_credentials_and_a_missing_role_are_named() {
    let host = Host::boot();
    host.sh("sed -i '/^AWS_ACCESS_KEY_ID/d; /^AWS_SECRET_ACCESS_KEY/d' /etc/deploy/agent.env");
    host.configure("AWS_EC2_METADATA_DISABLED=true\n");
    host.sh("systemctl restart deployd");
    let page = Page::of(&host, &[&url("r1")]);
    page.has("credentials", "failed", "attach a role");
    page.has("metadata", "skipped", "AWS_EC2_METADATA_DISABLED");

    let metadata = Metadata::start(&host.network, ACCESS_KEY);
    host.sh("sed -i '/^AWS_EC2_METADATA_DISABLED/d' /etc/deploy/agent.env");
    host.sh("systemctl restart deployd");
    let page = Page::of(&host, &[&url("r1")]);
    page.has("metadata", "warning", "no role");
    page.has("credentials", "failed", "attach a role");
    metadata.attach_role();
    let page = Page::of(&host, &[&url("r1")]);
    page.has("metadata", "ok", "a-role");
    page.has("credentials", "ok", "eu-central-1");
}

#[test]
fn without_deployd_it_says_why_and_examines_what_it_can() {
    let host = Host::running_r1();
    host.sh("systemctl stop deployd.socket deployd");
    let page = of(&host);
    page.has("deployd", "failed", "deployd.socket is inactive");
    page.has("deployd", "failed", "journalctl -u deployd");
    assert_eq!(page.row("deployd")["reason"], "no_agent");
    for check in ["settings", "disk", "ports", "rsyslog"] {
        page.has(check, "ok", "");
    }
    println!("{}", host.deploy(&["doctor"]).exits(1).stdout);
    let said = host.deploy_as("stranger", &["doctor"]).exits(1);
    assert_eq!(said.stdout.lines().next().map(|line| &line[..6]), Some("FAILED"), "{said:?}");
}
