//! The steps, the invariants checked after each, and the release expected to run.

use crate::whole::{self, PUBLISHED};
use std::time::Duration;
use testkit::app::{BUCKET, Release, url};
use testkit::host::Host;
use testkit::hostile;
use testkit::instance::{Output, package};

const GOOD: [&str; 4] = ["g1", "g2", "g3", "g4"];
const PACKAGE: &str = "/srv/agent.deb";
/// Short, so that a long walk takes a bounded time.
const SETTINGS: &str = "DEPLOY_SETTLE=1s\nDEPLOY_STOP_TIMEOUT=2s\n";

/// The events on an instance; times are milliseconds into a deploy.
#[derive(Clone, Debug)]
pub enum Step {
    Deploy(&'static str),
    DeployCrashing,
    DeployBreakingLater,
    DeployHostile,
    Rollback,
    Stop,
    Start,
    Restart,
    KillDaemon(&'static str, u64),
    KillCaller(&'static str, u64),
    KillInstance(&'static str, u64),
    PowerLoss(&'static str, u64),
    Reboot,
    RestartDaemon,
    Upgrade,
    UpgradeWhile(&'static str, u64),
    FillDisk,
    BreakS3,
}

pub struct Walk {
    host: Host,
    random: u64,
    /// The release that must run; `None` before the first deploy.
    current: Option<String>,
    stopped: bool,
}

impl Walk {
    pub fn begin(seed: u64) -> Walk {
        let host = Host::on_disk(1024);
        host.configure(SETTINGS);
        for name in GOOD {
            publish(&host, good(name), name);
        }
        publish(&host, good("crashing").set("BEHAVE=crash"), "crashing");
        let later = good("later").set("BEHAVE=crash-after=1.8 DEPLOY_SETTLE=3s");
        publish(&host, later, "later");
        host.s3().put(BUCKET, "my-app/production/hostile/source.tar.gz", b"no archive".to_vec());
        host.s3().put(BUCKET, "my-app/production/hostile/env", Vec::new());
        host.push(package(), PACKAGE);
        hostile::moves_in(&host);
        host.sh("sync");
        // Never zero, since xorshift would stay at zero.
        Walk { host, random: seed.wrapping_mul(2) + 1, current: None, stopped: false }
    }

    pub fn runs(&self) -> String {
        let current = self.current.as_deref().unwrap_or("nothing");
        if self.stopped { format!("{current}, stopped") } else { current.to_owned() }
    }

    fn below(&mut self, limit: u64) -> u64 {
        // xorshift (G. Marsaglia)
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % limit
    }

    pub fn choose(&mut self) -> Step {
        let good = GOOD[self.below(4) as usize];
        let when = self.below(3500);
        match self.below(24) {
            0..=4 => Step::Deploy(good),
            5 => Step::DeployCrashing,
            6 => Step::DeployBreakingLater,
            7 => Step::DeployHostile,
            8..=9 => Step::Rollback,
            10 => Step::Stop,
            11 => Step::Start,
            12 => Step::Restart,
            13..=14 => Step::KillDaemon(good, when),
            15 => Step::KillCaller(good, when),
            16 => Step::KillInstance(good, when),
            17..=18 => Step::PowerLoss(good, when),
            19 => Step::Reboot,
            20 => Step::RestartDaemon,
            21 => {
                if when.is_multiple_of(2) {
                    Step::Upgrade
                } else {
                    Step::UpgradeWhile(good, when)
                }
            }
            22 => Step::FillDisk,
            _ => Step::BreakS3,
        }
    }

    /// Takes a step, and compares the running release with those that may run afterwards.
    pub fn take(&mut self, step: &Step) -> Result<(), String> {
        let before = self.current.clone();
        let unchanged = vec![before.clone()];
        let may: Vec<Option<String>> = match step {
            Step::Deploy(name) => {
                self.exits(&[&url(name)], &[0])?;
                self.stopped = false;
                vec![Some((*name).to_owned())]
            }
            Step::DeployCrashing => {
                self.exits(&[&url("crashing")], &[12])?;
                unchanged
            }
            Step::DeployBreakingLater => {
                self.exits(&[&url("later")], &[12, 20])?;
                unchanged
            }
            Step::DeployHostile => {
                self.exits(&[&url("hostile")], &[10])?;
                unchanged
            }
            Step::Rollback => self.roll_back()?,
            Step::Stop | Step::Start | Step::Restart => {
                let verb = format!("{step:?}").to_lowercase();
                self.exits(&[&verb, "my-app"], if before.is_some() { &[0] } else { &[2] })?;
                match step {
                    Step::Stop => self.stopped = before.is_some(),
                    Step::Start => self.stopped = false,
                    _ => {}
                }
                unchanged
            }
            Step::KillDaemon(name, when) => {
                self.while_deploying(name, *when, |host| {
                    host.exec(&["systemctl", "kill", "--signal=KILL", "deployd"]).ok();
                });
                either(before, name)
            }
            Step::KillCaller(name, when) => {
                self.while_deploying(name, *when, |host| {
                    host.exec(&["pkill", "-KILL", "-x", "deploy"]);
                });
                either(before, name)
            }
            Step::KillInstance(name, when) => {
                self.while_deploying(name, *when, |host| host.kill_hard());
                self.host.instance.boot();
                either(before, name)
            }
            Step::PowerLoss(name, when) => {
                self.while_deploying(name, *when, |host| host.power_loss());
                self.host.instance.boot();
                either(before, name)
            }
            Step::UpgradeWhile(name, when) => {
                self.while_deploying(name, *when, |host| {
                    host.exec(&["dpkg", "--install", PACKAGE]).ok();
                });
                either(before, name)
            }
            Step::Reboot => {
                self.host.reboot();
                unchanged
            }
            Step::RestartDaemon => {
                self.host.exec(&["systemctl", "restart", "deployd"]).ok();
                unchanged
            }
            Step::Upgrade => {
                self.host.exec(&["dpkg", "--install", PACKAGE]).ok();
                unchanged
            }
            Step::FillDisk => self.on_a_full_disk()?,
            Step::BreakS3 => {
                let mut said = None;
                self.host.interrupt_s3(|host| {
                    said = Some(host.deploy(&["--timeout", "3s", &url("g1")]));
                });
                let said = said.expect("the deploy ran");
                if said.status != Some(11) {
                    return Err(format!("a deploy without S3: {said:?}"));
                }
                unchanged
            }
        };
        self.compare(&may)
    }

    fn compare(&mut self, may: &[Option<String>]) -> Result<(), String> {
        let runs = whole::check(&self.host)?;
        if !may.contains(&runs) {
            return Err(format!("{runs:?} runs, and it may be {may:?}"));
        }
        let status = self.host.exec(&["deploy", "status", "--json"]).stdout;
        let stopped = status.contains("\"state\":\"stopped\"");
        // An interrupted deploy may have started stopped processes.
        if stopped && !self.stopped || !stopped && self.stopped && may.len() == 1 {
            return Err(format!("stopped is {stopped} and should be {}", self.stopped));
        }
        (self.current, self.stopped) = (runs, stopped);
        Ok(())
    }

    fn exits(&self, arguments: &[&str], codes: &[i32]) -> Result<Output, String> {
        let said = self.host.deploy(arguments);
        match said.status.is_some_and(|code| codes.contains(&code)) {
            true => Ok(said),
            false => Err(format!("deploy {arguments:?} is to exit with {codes:?}: {said:?}")),
        }
    }

    fn roll_back(&mut self) -> Result<Vec<Option<String>>, String> {
        let before = self.current.clone();
        let target = match &before {
            Some(_) => self.host.status()["rollback"].as_str().map(str::to_owned),
            None => None,
        };
        match target {
            None => {
                self.exits(&["rollback", "my-app"], &[2])?;
                Ok(vec![before])
            }
            Some(target) => {
                self.exits(&["rollback", "my-app"], &[0])?;
                self.stopped = false;
                Ok(vec![Some(target)])
            }
        }
    }

    /// A deploy on a full disk changes nothing; once there is room again it succeeds.
    fn on_a_full_disk(&mut self) -> Result<Vec<Option<String>>, String> {
        let before = self.current.clone();
        self.host.sh("cat /dev/zero >/srv/filler 2>/dev/null || sync");
        let said = self.host.deploy(&[&url("g2")]);
        let runs = whole::check(&self.host)?;
        self.host.sh("rm -f /srv/filler; sync");
        let expected = if said.status == Some(0) { Some("g2".to_owned()) } else { before };
        if runs != expected {
            return Err(format!("{runs:?} runs on a full disk after {said:?}"));
        }
        self.exits(&[&url("g3")], &[0])?;
        self.stopped = false;
        Ok(vec![Some("g3".to_owned())])
    }

    /// Runs `what` at some moment of a deploy, or after it.
    fn while_deploying(&self, name: &str, when: u64, what: impl FnOnce(&Host)) {
        let mut deploying = self.host.command(&["deploy", &url(name)]).spawn();
        testkit::instance::poll(Duration::from_millis(when), || {
            deploying.has_ended().then_some(())
        });
        what(&self.host);
        deploying.kill();
    }

    /// Returns the output of the commands an operator would use to investigate.
    pub fn circumstances(&self) -> String {
        let look = "deploy status; deploy history | head; systemctl list-units 'deploy-*'
            journalctl --no-pager -n 80";
        self.host.exec(&["bash", "-c", look]).stdout
    }
}

fn either(before: Option<String>, name: &str) -> Vec<Option<String>> {
    vec![before, Some(name.to_owned())]
}

fn good(name: &str) -> Release {
    let nested = format!("of {name}\n");
    let release = Release::new(name).set(&format!("RELEASE_OF_ENV={name}"));
    release.file("lib/deep/nested", nested).file("filler", vec![b'x'; 4 << 20])
}

/// Uploads the release, and keeps its tree on the instance for comparison.
fn publish(host: &Host, release: Release, name: &str) {
    host.publish(&release);
    let dir = format!("{PUBLISHED}/{name}");
    host.write(&format!("/srv/{name}.tar.gz"), release.compressed());
    host.sh(&format!(
        "mkdir -p {dir}; tar -xzf /srv/{name}.tar.gz -C {dir}; rm /srv/{name}.tar.gz"
    ));
}
