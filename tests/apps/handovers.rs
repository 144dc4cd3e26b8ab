//! The test of each app: handed over back and forth under load from outside, and at the end a
//! release that fails.

use crate::framework::App;
use std::collections::BTreeMap;
use std::env;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;
use testkit::app::BUCKET;
use testkit::host::{Host, SOON};
use testkit::instance::Output;
use testkit::load::{Load, Running};

/// Generous timeouts, as this machine may be slow; but a request to `/slow` (6 s) outlasts the
/// settle window and the drain, so that SIGTERM arrives while it is running.
const SETTINGS: &str = "\
DEPLOY_HEALTH_TIMEOUT=60s
DEPLOY_SETTLE=1s
DEPLOY_DRAIN_TIMEOUT=1s
DEPLOY_STOP_TIMEOUT=20s
";

/// Path of the app's archive in its image.
pub const PACKED: &str = "/srv/source.tar.zst";

/// Handovers in `make test`; `make apps` sets HANDOVERS=10.
const HANDOVERS: usize = 2;

/// Serves `r1`, hands over to `r2` and back again under load, and refuses `r3`.
pub fn play(app: &App) {
    let story = Story::begin(app);
    let handovers = env::var("HANDOVERS").ok().and_then(|text| text.parse().ok());
    let handovers = handovers.unwrap_or(HANDOVERS);
    let loads = if app.is_web { loads(&story.host) } else { Vec::new() };
    loads.iter().for_each(|(_, load)| load.wait_for(2));
    for number in 0..handovers {
        match number % 2 {
            0 => story.deploy("r2").exits(0),
            _ => story.host.deploy(&["rollback", app.name]).exits(0),
        };
        story.serves(["r2", "r1"][number % 2]);
    }
    story.refuses_r3(["r1", "r2"][handovers % 2]);
    loads.iter().for_each(|(_, load)| load.wait_for(2));
    story.unnoticed(loads);
    story.host.deploy(&["stop", app.name]).exits(0);
    story.ended_gracefully(handovers + 1);
}

/// Clients on another machine and on this one. Each `/slow` client always has a request in
/// progress.
fn loads(host: &Host) -> Vec<(&'static str, Running)> {
    let outside = SocketAddr::from((host.address(), 5000));
    let local = SocketAddr::from((Ipv4Addr::LOCALHOST, 5000));
    let load = |target| {
        let load = Load::on(&[target]).patience(Duration::from_secs(30));
        load.connections(2).longest(Duration::from_secs(1200)).pause(Duration::from_millis(30))
    };
    let without = |load: Load| host.network.within(|| load.start());
    vec![
        ("outside, close", without(load(outside))),
        ("outside, keep-alive", without(load(outside).keep_alive())),
        ("outside, slow", without(load(outside).path("/slow"))),
        ("loopback, close", host.instance.within(|| load(local).start())),
    ]
}

/// An app on its own instance, beside the S3 server with its releases.
pub struct Story<'a> {
    app: &'a App,
    pub host: Host,
}

impl Story<'_> {
    /// Returns an instance on which nothing is deployed yet.
    pub fn of(app: &App) -> Story<'_> {
        let host = Host::of(&app.image());
        host.configure(SETTINGS);
        Story { app, host }
    }

    /// Returns an instance that serves `r1`.
    fn begin(app: &App) -> Story<'_> {
        let story = Story::of(app);
        for release in ["r1", "r2"] {
            story.publish(release, PACKED, &format!("export GREETING={release}\n"));
        }
        // A release whose env was forgotten.
        story.publish("r3", PACKED, "");
        story.deploy("r1").exits(0);
        story.serves("r1");
        story
    }

    /// Uploads an archive from the instance, and the app's env with these lines added.
    pub fn publish(&self, release: &str, archive: &str, env: &str) {
        let key = |file: &str| format!("{}/production/{release}/{file}", self.app.name);
        let archive = self.host.read(archive);
        self.host.s3().put(BUCKET, &key("source.tar.zst"), archive);
        self.host.s3().put(BUCKET, &key("env"), self.app.env() + env);
    }

    #[track_caller]
    pub fn deploy(&self, release: &str) -> Output {
        let url = format!("s3://{BUCKET}/{}/production/{release}", self.app.name);
        let command = self.host.command(&["deploy", &url]);
        command.deadline(Duration::from_secs(300)).output()
    }

    #[track_caller]
    pub fn serves(&self, release: &str) {
        if self.app.is_web {
            assert_eq!(self.host.served().as_deref(), Some(release));
        }
        let status = self.host.json(&["status", self.app.name, "--json"]);
        assert_eq!(status[0]["release"], release, "{status:#}");
    }

    /// Returns the main pid and restart count of each running process, by name.
    fn processes(&self) -> BTreeMap<String, (u64, u64)> {
        let status = self.host.json(&["status", self.app.name, "--json"]);
        let processes = status[0]["processes"].as_array().expect("processes");
        let of = |process: &serde_json::Value| {
            let name = process["process"].as_str()?.to_owned();
            Some((name, (process["pid"].as_u64()?, process["restarts"].as_u64()?)))
        };
        processes.iter().filter_map(of).collect()
    }

    /// Checks that a release that cannot start changes nothing.
    fn refuses_r3(&self, serving: &str) {
        let before = self.processes();
        assert!(!before.is_empty() && before.values().all(|(_, restarts)| *restarts == 0));
        let said = self.deploy("r3");
        let failed = match said.status {
            Some(10) => "build of release r3".to_owned(),
            _ => format!("r3 failed, {serving} runs on"),
        };
        assert!(said.stdout.contains(&failed), "{said:#?}");
        assert!(matches!(said.status, Some(10 | 12)), "{said:#?}");
        assert_eq!(self.processes(), before);
        self.serves(serving);
    }

    fn unnoticed(&self, loads: Vec<(&str, Running)>) {
        let tallies: Vec<_> = loads.into_iter().map(|(who, load)| (who, load.stop())).collect();
        for (who, tally) in &tallies {
            println!("{}: {who}: {tally}", self.app.name);
        }
        for (who, tally) in &tallies {
            assert_eq!(tally.failed(), 0, "{who}: {tally}");
            let known = tally.answered_by.keys().all(|body| ["r1", "r2"].contains(&&**body));
            assert!(known && tally.ok > 0, "{who}: {tally}");
        }
    }

    /// Checks in the log that every process was asked to end this many times, and did.
    fn ended_gracefully(&self, ends: usize) {
        let name = self.app.name;
        let env = self.app.env();
        let kind = if self.app.is_web { "web" } else { "worker" };
        let of_kind = || env.split_once(&format!("{kind}="))?.1.split_whitespace().next();
        let processes: usize = of_kind().and_then(|text| text.parse().ok()).unwrap_or(1);
        for number in 1..=processes {
            let identifier = format!("{name}.{kind}.{number}");
            // Processes of r3 ended by themselves, or before they were up.
            let units = format!("deploy-{name}-{kind}-r[12]@{number}.service");
            let log = || self.host.journal(&["-t", &identifier, "-u", &units, "--output=cat"]);
            for (line, times) in self.app.farewells {
                let count = || log().matches(line).count();
                let said = || (count() >= ends * times).then_some(());
                if testkit::instance::poll(SOON, said).is_none() || count() != ends * times {
                    panic!(
                        "{identifier} says {line:?} {} times in {ends} ends:\n{}",
                        count(),
                        log()
                    );
                }
            }
            let log = log();
            let of = |word: &str| log.matches(word).count();
            assert_eq!(of(" begun\n"), of(" done\n"), "{identifier} lost a job:\n{log}");
        }
        let units = format!("deploy-{name}-*");
        let systemd = self.host.journal(&["-t", "systemd", "-u", &units, "--output=cat"]);
        for mishap in ["timed out", "status=9/KILL"] {
            assert!(!systemd.contains(mishap), "{name}: {mishap} in\n{systemd}");
        }
    }
}
