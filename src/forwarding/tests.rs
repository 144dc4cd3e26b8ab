//! The forwarding on a machine in memory.

use super::{Change, Place};
use crate::story::Story;
use model::error::Result;
use model::release::env::Env;
use model::release::settings::SyslogSettings;
use model::syslog::{UNIT, host_of};
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

const PEM: &str = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n";

struct World {
    story: Story,
    dir: TempDir,
    /// Below `dir`; the check of a configuration below `does=fail` fails.
    root: PathBuf,
}

impl World {
    async fn of(name: &str) -> World {
        let dir = TempDir::new().expect("a directory");
        let root = dir.path().join(name);
        let world = World { story: Story::serving_r1().await, dir, root };
        world.write("etc/machine-id", "m1\n");
        world.write("usr/sbin/rsyslogd", "");
        world.write("usr/lib/x86_64-linux-gnu/rsyslog/lmnsd_gtls.so", "");
        world.write("etc/ssl/certs/ca-certificates.crt", PEM);
        world
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.root.join(path);
        fs::create_dir_all(path.parent().expect("a directory")).expect("a directory");
        fs::write(path, text).expect("a file");
    }

    fn remove(&self, path: &str) {
        fs::remove_file(self.root.join(path)).expect("removed");
    }

    fn config(&self) -> String {
        Place::new(&self.root).config().unwrap_or_default()
    }

    async fn converge(&self, lines: &str, host: Option<&str>) -> Result<Change> {
        let settings = SyslogSettings::from_env(&Env::parse(lines.as_bytes()).expect("an env"))?;
        let cx = self.story.cx();
        Place::new(&self.root).converge(&*cx.machine, settings.as_ref(), host).await
    }

    async fn fails(&self, lines: &str) -> String {
        let error = self.converge(lines, None).await.expect_err(lines);
        format!("{}; {}", error.chain(), error.advice().unwrap_or_default())
    }

    async fn is_up(&self) -> bool {
        let state = self.story.cx().machine.active_state(UNIT).await;
        state.expect("a state") == "active"
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_setting_makes_the_unit_run_until_it_is_removed() {
    let world = World::of("root").await;
    assert_eq!(world.converge("", None).await.expect("nothing to do"), Change::None);
    let line = "DEPLOY_SYSLOG=syslog+tls://logs.example.com:6514\n";
    assert_eq!(world.converge(line, None).await.expect("configured"), Change::Configured);
    assert!(world.is_up().await && world.config().contains("%$myhostname%"));
    assert_eq!(world.converge(line, None).await.expect("as it is"), Change::None);
    let id = Some("i-0123");
    assert_eq!(world.converge(line, id).await.expect("a name"), Change::Configured);
    // While the metadata service does not answer, the known id stays.
    assert_eq!(world.converge(line, None).await.expect("as it is"), Change::None);
    assert_eq!(host_of(&world.config()), id);
    assert_eq!(world.converge("", None).await.expect("removed"), Change::Removed);
    assert!(!world.is_up().await && !world.root.join("var/lib/deploy/syslog").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mistake_leaves_the_forwarding_as_it_is() {
    let world = World::of("root").await;
    let line = "DEPLOY_SYSLOG=syslog+tls://logs.example.com:6514\n";
    world.converge(line, None).await.expect("configured");
    let before = world.config();
    for (more, why) in [
        ("DEPLOY_SYSLOG=ftp://logs.example.com:6514\n", "not a scheme"),
        ("DEPLOY_SYSLOG=syslog+tls://logs.example.com\n", "no port"),
        ("DEPLOY_SYSLOG_CA=/missing.pem\n", "No such file"),
        ("DEPLOY_SYSLOG_CA=/etc/machine-id\n", "no certificate in PEM"),
    ] {
        let said = world.fails(&format!("{line}{more}")).await;
        assert!(said.contains(why), "{more}: {said}");
        assert!(world.is_up().await && world.config() == before, "{more}");
    }
    world.remove("usr/lib/x86_64-linux-gnu/rsyslog/lmnsd_gtls.so");
    assert!(world.fails(line).await.contains("no module for TLS; install rsyslog and rsyslog-"));
    world.write("usr/lib64/rsyslog/lmnsd_ossl.so", "");
    world.converge(line, None).await.expect("the other module");
    assert!(world.config().contains("StreamDriver=\"ossl\""));
    world.remove("usr/sbin/rsyslogd");
    assert!(world.fails(line).await.contains("rsyslogd is not there; install rsyslog"));
    assert!(world.is_up().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_that_rsyslogd_refuses_is_not_used() {
    let world = World::of("does=fail").await;
    let said = world.fails("DEPLOY_SYSLOG=syslog+udp://10.0.0.1:514\n").await;
    assert!(said.contains("forward logs to syslog+udp://10.0.0.1:514"), "{said}");
    assert!(!world.is_up().await && world.config().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_are_copied_and_renewed() {
    let world = World::of("root").await;
    world.write("root/ca.pem", PEM);
    let lines = "DEPLOY_SYSLOG=a:1\nDEPLOY_SYSLOG_CA=/root/ca.pem\n";
    world.converge(lines, None).await.expect("configured");
    let copies = || {
        let all = files(&world.dir.path().join("root/var/lib/deploy/syslog/m1"));
        all.into_iter().filter(|name| name.ends_with(".pem")).collect::<Vec<_>>()
    };
    let first = copies();
    assert_eq!(first.len(), 1);
    assert!(world.config().contains(&first[0]));
    world.write("root/ca.pem", &format!("{PEM}{PEM}"));
    assert_eq!(world.converge(lines, None).await.expect("renewed"), Change::Configured);
    let second = copies();
    assert!(second.len() == 1 && second != first && world.config().contains(&second[0]));
}

fn files(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).expect("a directory").flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}
