//! The memory of the idle agent, and its size on disk.

use crate::fixtures::{self, Kind};
use crate::site::Site;
use crate::table::Rows;
use std::thread;
use std::time::Duration;
use testkit::app::BUCKET;

/// How long after the last job the agent counts as idle.
const REST: Duration = Duration::from_secs(60);

pub fn run(site: &Site, rows: &mut Rows) {
    site.reconfigure("");
    rows.fact("deployd a minute after it began, MiB", at_rest(site));
    let app = "node";
    fixtures::publish(&site.host, app);
    let url = format!("s3://{BUCKET}/{app}/production/{}", Kind::Gzip.release());
    site.measure(&format!("deploy stage {url}"));
    rows.fact("deployd a minute after it staged node, MiB", at_rest(site));
    site.host.deploy(&["remove", app, "--yes"]).ok();
    for program in [
        "/usr/bin/deploy",
        "/usr/bin/deployd",
        "/usr/lib/systemd/system-generators/deploy-generator",
    ] {
        let size = site.host.sh(&format!("stat --format=%s {program}"));
        let bytes: f64 = size.trim().parse().expect("a number");
        let name = program.rsplit('/').next().unwrap_or(program);
        rows.fact(&format!("{name}, MB"), (bytes / 1e5).round() / 10.0);
    }
}

/// The resident memory of the idle agent in MiB.
fn at_rest(site: &Site) -> f64 {
    eprintln!("footprint: at rest for {REST:?}");
    thread::sleep(REST);
    let resident = site
        .host
        .sh("awk '/VmRSS/ { print $2 }' /proc/$(systemctl show -P MainPID deployd.service)/status");
    let kib: f64 = resident.trim().parse().expect("a number");
    (kib / 102.4).round() / 10.0
}
