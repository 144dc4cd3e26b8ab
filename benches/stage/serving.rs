//! The time until a release serves: with the agent, and with a script written by hand.

use crate::copying::{self, COPYING};
use crate::images::{self, Images};
use crate::sample::Sample;
use crate::site::{DISK, Site};
use crate::table::{PEER, Rows};
use std::fs;
use std::thread;
use std::time::{Duration, Instant};
use testkit::app::{APP, Release, url};
use testkit::host::SOON;

const PORT: u16 = 5000;
const SCRIPT_PORT: u16 = 5080;
const ALONE_PORT: u16 = 5090;

/// The number of releases in the history at the end.
const MANY: usize = 200;

/// The script of the article that this agent grew from: a new directory, a switched link, a
/// restart, and a wait until the app responds. With `flip` the release exists already, and only
/// the link is switched.
const SCRIPT: &str = r#"#!/bin/bash
set -euo pipefail
cd /var/lib/deploy/script
new=releases/$2
if [ "$1" = deploy ]; then
    from=s3://releases/my-app/production/$2
    mkdir -p "$new/app"
    aws --endpoint-url "$S3" s3 cp --quiet "$from/source.tar.gz" - | tar xz -C "$new/app"
    aws --endpoint-url "$S3" s3 cp --quiet "$from/env" "$new/env"
    # The release phase, if there is one.
    (cd "$new/app" && ${3:-true})
fi
ln -s "$new" next
mv -T next current
systemctl restart script.service
until curl --fail --silent --output /dev/null http://127.0.0.1:5080/; do sleep 0.01; done
"#;

const UNIT: &str = "\
[Unit]
StartLimitIntervalSec=0

[Service]
User=deploy-app
WorkingDirectory=/var/lib/deploy/script/current/app
EnvironmentFile=/var/lib/deploy/script/current/env
Environment=PORT=5080
ExecStart=/usr/bin/python3 app.py web
Restart=always
";

/// The groups of rows that are compared.
const NOT_STAGED: &str = "serving: deploy to the first answer, not staged";
const STAGED: &str = "serving: deploy to the first answer, staged";
const BACK: &str = "serving: rollback to the first answer";
const COLD: &str = "serving: deploy to the first answer, staged, with an empty page cache";
const PHASE: &str = "serving: deploy with a release phase of 1 s, to the first answer";
const NOTHING: &str = "serving: to the end of the command";

const DEPLOY: &str = "deploy URL";
const ROLLBACK: &str = "deploy rollback";
const ALONE: &str = "the app alone";

/// The groups, and the agent's row in each.
pub const COMPARED: [(&str, &str); 4] =
    [(NOT_STAGED, DEPLOY), (STAGED, DEPLOY), (COLD, DEPLOY), (BACK, ROLLBACK)];

pub fn run(site: &Site, rows: &mut Rows, rounds: usize) {
    site.host.configure("DEPLOY_KEEP_RELEASES=5\n");
    site.let_it_sync(true);
    site.host.write("/usr/local/bin/script", SCRIPT);
    site.host.write("/etc/systemd/system/script.service", UNIT);
    site.host.sh(&format!("chmod 755 /usr/local/bin/script; mkdir -p {DISK}/script/releases"));
    copying::install(site);
    site.host.sh("systemctl daemon-reload");
    let images = Images::install(site);
    if images.is_none() {
        rows.note("No row of an image pull: podman or docker-registry is not installed");
    }
    for round in 1..=rounds {
        eprintln!("serving: round {round} of {rounds}");
        whole_round(site, images.as_ref(), rows, round);
    }
    if let Some(images) = images {
        images.stop();
    }
    for round in 1..=rounds.min(5) {
        phase_round(site, rows, round);
    }
    nothing_to_do(site, rows, "5 releases in the history", rounds);
    lengthen_history(site);
    nothing_to_do(site, rows, "200 releases in the history", rounds);
    for round in 1..=rounds {
        let name = staged(site, &format!("h{round}"));
        let sample = ours(site, &name, &["deploy", &url(&name)]);
        rows.add(STAGED, "deploy URL, 200 releases in the history", true, sample);
    }
    for round in 1..=rounds {
        eprintln!("serving: cold round {round} of {rounds}");
        cold_round(site, rows, round);
    }
    compare(rows);
}

/// Deploys a release whose files, and those of the programs, are on the disk alone.
fn cold_round(site: &Site, rows: &mut Rows, round: usize) {
    let ready = staged(site, &format!("c{round}"));
    script(site, &ready, "deploy");
    forget_pages();
    rows.add(COLD, DEPLOY, true, ours(site, &ready, &["deploy", &url(&ready)]));
    script(site, "n1", "flip");
    forget_pages();
    rows.add(COLD, PEER, true, script(site, &ready, "flip"));
    forget_pages();
    rows.add(COLD, ALONE, true, alone(site, &ready));
}

/// Empties the page cache of the whole machine; proc_sys_vm(5).
fn forget_pages() {
    nix::unistd::sync();
    fs::write("/proc/sys/vm/drop_caches", "3").expect("empty the page cache");
}

/// Computes the time that the agent adds to the app's boot.
fn compare(rows: &mut Rows) {
    for (group, ours) in COMPARED {
        let medians = rows.median(group, ours, true).zip(rows.median(group, ALONE, true));
        if let Some((ours, alone)) = medians {
            let added = ((ours - alone) * 1000.0).round();
            rows.fact(&format!("{group}: added to the app's boot, ms"), added);
        }
    }
}

fn whole_round(site: &Site, images: Option<&Images>, rows: &mut Rows, round: usize) {
    let fresh = published(site, &format!("n{round}"));
    let deployed = ours(site, &fresh, &["deploy", &url(&fresh)]);
    let scripted = script(site, &fresh, "deploy");
    rows.add(NOT_STAGED, COPYING, true, copying::deploy(site, &fresh));
    let ready = staged(site, &format!("s{round}"));
    let turned = ours(site, &ready, &["deploy", &url(&ready)]);
    script(site, &ready, "deploy");
    let back = ours(site, &fresh, &["deploy", "rollback"]);
    let flipped = script(site, &fresh, "flip");
    let alone = alone(site, &fresh);
    for (group, ours, script) in
        [(NOT_STAGED, deployed, scripted), (STAGED, turned, flipped), (BACK, back, flipped)]
    {
        rows.add(group, PEER, true, script);
        rows.add(group, if group == BACK { ROLLBACK } else { DEPLOY }, true, ours);
        rows.add(group, ALONE, true, alone);
    }
    if let Some(images) = images {
        rows.add(NOT_STAGED, images::PULL, true, images.deploy(&fresh));
        rows.add(BACK, images::KEPT, true, images.roll_back());
    }
}

/// Deploys a release whose release phase takes a second.
fn phase_round(site: &Site, rows: &mut Rows, round: usize) {
    let name = format!("p{round}");
    let procfile = "web: python3 app.py web\nrelease: sleep 1\n";
    site.host.publish(&release(&name).procfile(procfile));
    let deployed = ours(site, &name, &["deploy", &url(&name), "--run-release"]);
    rows.add(PHASE, DEPLOY, true, deployed);
    let scripted = &["script", "deploy", &name, "sleep 1"];
    rows.add(PHASE, PEER, true, until_answered(site, SCRIPT_PORT, &name, scripted));
    rows.add(PHASE, ALONE, true, alone(site, &name));
}

fn release(name: &str) -> Release {
    let release = Release::empty(name).file("app.py", APP);
    release.file("VERSION", name).procfile("web: python3 app.py web\n")
}

fn published(site: &Site, name: &str) -> String {
    site.host.publish(&release(name));
    name.to_owned()
}

fn staged(site: &Site, name: &str) -> String {
    published(site, name);
    site.host.deploy(&["stage", &url(name)]).ok();
    // The units are loaded after the response; here the release must look staged a while ago.
    site.host.wait_for("units", SOON, || {
        let idle = site.host.sh("systemctl show -P StatusText deployd.service").trim() == "idle";
        idle.then_some(())
    });
    name.to_owned()
}

fn ours(site: &Site, release: &str, command: &[&str]) -> Sample {
    until_answered(site, PORT, release, command)
}

fn script(site: &Site, release: &str, how: &str) -> Sample {
    until_answered(site, SCRIPT_PORT, release, &["script", how, release])
}

/// Starts the app with Python directly.
fn alone(site: &Site, release: &str) -> Sample {
    let dir = format!("{DISK}/script/releases/{release}/app");
    let run = format!("cd {dir} && PORT={ALONE_PORT} exec timeout 1 python3 app.py web");
    until_answered(site, ALONE_PORT, release, &["bash", "-c", &run])
}

/// Measures from the start of the command to the first response of the release; returns when
/// the command has ended as well.
pub fn until_answered(site: &Site, port: u16, release: &str, command: &[&str]) -> Sample {
    let page = format!("http://{}:{port}/", site.host.address());
    let run = site.host.command(command).env("S3", &site.s3());
    let run = crate::site::credentials(run);
    let begin = Instant::now();
    let job = run.spawn();
    let answered = || site.host.network.http_get(&page).is_ok_and(|page| page.body == release);
    while !answered() && begin.elapsed() < SOON {
        thread::sleep(Duration::from_millis(1));
    }
    let wall = begin.elapsed().as_secs_f64();
    let said = job.output();
    // Its timeout ends the app that runs alone.
    let failed = !matches!(said.status, Some(0 | 124)) || begin.elapsed() >= SOON;
    if failed {
        eprintln!("  failed: {command:?}: {said:?}");
    }
    Sample { wall, synced: wall, failed, ..Sample::default() }
}

fn nothing_to_do(site: &Site, rows: &mut Rows, history: &str, rounds: usize) {
    let running = site.host.status()["url"].as_str().expect("a URL").to_owned();
    for _ in 0..rounds * 4 {
        for (what, command) in [
            ("deploy of what runs", format!("deploy {running}")),
            ("deploy status", "deploy status".to_owned()),
        ] {
            rows.add(NOTHING, &format!("{what}, {history}"), true, site.measure(&command));
        }
    }
}

/// Appends as many lines as that number of deploys would have written, copied from the last.
fn lengthen_history(site: &Site) {
    site.host.sh(&format!(
        "cd {DISK}/apps/my-app
        line=$(tail -n 1 history.jsonl)
        for _ in $(seq {MANY}); do echo \"$line\"; done >more
        cat more >>history.jsonl
        rm more"
    ));
}
