//! An instance whose deployd can be killed at a point, and the releases published for it.

use crate::whole::Published;
use std::collections::BTreeMap;
use std::time::Duration;
use testkit::app::{Release, url};
use testkit::host::Host;
use testkit::hostile;
use testkit::instance::{Image, package_of};

/// The directory from which deployd reads its plan: src/failpoint.rs.
const DIR: &str = "/run/deploy-failpoints";
/// Incompressible bytes in each release, enough for a download in several parts.
const NOISE: usize = 512 << 10;
/// Size in MiB.
const DISK: u64 = 1024;

/// Enough for a recovery with all its timeouts, on a busy machine.
pub const RECOVERY: Duration = Duration::from_secs(60);

/// The behaviour of a release.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Good,
    /// Good, but started only after the previous release has stopped.
    GoodByRestart,
    /// Exits as soon as it is current.
    FailsWhenCurrent,
    /// Exits right after its start.
    FailsAtStart,
    /// The same, but started only after the previous release has stopped.
    FailsAtRestart,
    /// Good; its worker never runs twice.
    WithSingleton,
    /// Good; only SIGKILL ends it.
    SlowToStop,
}

/// The error for a point that was not reached.
pub const MISSED: &str = "the point was not reached";

pub struct World {
    pub host: Host,
    /// The published releases by label.
    pub published: BTreeMap<String, Published>,
    serial: u32,
    plans: u32,
    noise: Vec<u8>,
}

impl World {
    pub fn new() -> World {
        let package = package_of("DEPLOY_DEB_FAILPOINTS", "failpoints-deb");
        let image = Host::image_with(Image::base(), "failpoints-agent", &package);
        let image = image.layer("failpoints", &[], &furnish());
        let host = Host::built(|builder| builder.image(&image).disk(DISK));
        hostile::moves_in(&host);
        World { host, published: BTreeMap::new(), serial: 0, plans: 0, noise: noise(NOISE) }
    }

    /// Publishes a release under a new label, and returns the label.
    pub fn publish(&mut self, kind: Kind) -> String {
        self.serial += 1;
        let label = format!("r{:04}", self.serial);
        let release = release(&label, kind, &self.noise);
        self.host.publish(&release);
        self.published.insert(label.clone(), Published::of(&release));
        label
    }

    /// Deploys a good release, which must succeed and serve; returns its label.
    pub fn deploys_another(&mut self) -> Result<String, String> {
        self.deploys(Kind::Good)
    }

    /// Does the same with another kind that succeeds.
    pub fn deploys(&mut self, kind: Kind) -> Result<String, String> {
        let label = self.publish(kind);
        let said = self.host.deploy(&[&url(&label)]);
        if said.status != Some(0) {
            return Err(format!("the next deploy failed: {said:?}"));
        }
        match self.host.served() {
            Some(served) if served == label => Ok(label),
            served => Err(format!("the next deploy serves {served:?}, not {label}")),
        }
    }

    /// Writes deployd's plans. Each further plan applies after the death caused by the previous
    /// one.
    pub fn plan(&mut self, plans: &[Plan]) {
        let mut text = String::new();
        for plan in plans {
            self.plans += 1;
            let (what, point) = match plan {
                Plan::Record => ("record", ""),
                Plan::Kill(point) => ("kill", point.as_str()),
                Plan::Hold(point) => ("hold", point.as_str()),
            };
            text += &format!("{}\n{what}\n{point}\n", self.plans);
        }
        // The unpacking thread, which accesses the disk as the app's user, writes these files
        // too.
        let write = format!(
            "cd {DIR}; : >reached; cat >plan.new; chmod 666 reached plan.new; mv plan.new plan"
        );
        self.host.command(&["bash", "-euc", &write]).input(text).output().ok();
    }

    /// Returns the points that were reached and that the plan asks for.
    pub fn reached(&self) -> Vec<String> {
        let reached = self.host.read(&format!("{DIR}/reached"));
        String::from_utf8_lossy(&reached).lines().map(str::to_owned).collect()
    }

    /// Waits until deployd holds at the planned point.
    pub fn wait_until_held(&self) -> Result<(), String> {
        let script = format!(
            "for try in $(seq 3000); do [ ! -s {DIR}/reached ] || exit 0; sleep 0.02; done; exit 1"
        );
        match self.host.exec(&["bash", "-c", &script]).status {
            Some(0) => Ok(()),
            _ => Err(MISSED.to_owned()),
        }
    }
}

/// The action of deployd at a point.
#[derive(Clone, Debug)]
pub enum Plan {
    Record,
    Kill(String),
    /// Holds, so that the harness can act on the instance.
    Hold(String),
}

fn release(label: &str, kind: Kind, noise: &[u8]) -> Release {
    let release = Release::new(label)
        .file_of_mode(0o755, "bin/run", "#!/bin/sh\nexec python3 app.py \"$@\"\n")
        .file_of_mode(0o600, "config/of/depth/private", "kept as it is\n")
        .file("assets/empty", "")
        .file("assets/noise", noise)
        .procfile(
            "web: python3 app.py web\nworker: python3 app.py worker\n\
             build: mkdir -p made/by && cp VERSION made/by/build\n",
        )
        .set("TEXT='of two\nlines, and $signs'")
        .set(&format!("OF={label}"));
    match kind {
        Kind::Good => release.set("DEPLOY_SETTLE=200ms"),
        Kind::GoodByRestart => release.set("DEPLOY_SETTLE=200ms DEPLOY_STRATEGY=restart"),
        Kind::FailsWhenCurrent => release.set("DEPLOY_SETTLE=1500ms BEHAVE=crash-when-current"),
        Kind::FailsAtStart => release.set("BEHAVE=crash"),
        Kind::FailsAtRestart => release.set("BEHAVE=crash DEPLOY_STRATEGY=restart"),
        Kind::WithSingleton => release.set("DEPLOY_SETTLE=200ms DEPLOY_SINGLETON=worker"),
        Kind::SlowToStop => release
            .set("DEPLOY_SETTLE=200ms DEPLOY_STOP_TIMEOUT=2s")
            .set("BEHAVE=ignore-term BEHAVE_WORKER=ignore-term"),
    }
}

/// Lets deployd write to the directory and restart within a second.
fn furnish() -> String {
    format!(
        "mkdir -p /etc/systemd/system/deployd.service.d
        printf '[Service]\\nReadWritePaths=-{DIR}\\nRestartSec=100ms\\n' \
            >/etc/systemd/system/deployd.service.d/failpoints.conf
        echo 'd {DIR} 0777 root root' >/etc/tmpfiles.d/failpoints.conf
        echo 'DEPLOY_KEEP_RELEASES=1' >>/etc/deploy/agent.env
        "
    )
}

/// xorshift64 (Marsaglia, 2003).
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}
