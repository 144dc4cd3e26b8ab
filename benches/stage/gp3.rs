//! The disk that an EC2 instance has by default, gp3 with 125 MB/s: the time from the command to
//! the first answer from outside for a release of 36,000 files whose app takes a while to boot.

use crate::fixtures::{AT, Kind, archive};
use crate::sample::Sample;
use crate::serving;
use crate::site::{DISK, Site};
use crate::table::{PEER, Rows};
use std::fs;
use testkit::app::{BUCKET, url};
use testkit::host::SOON;
use testkit::instance::Throttle;

/// Bytes a second, in each direction.
pub const RATE: u64 = 125_000_000;
const SCRIPT_PORT: u16 = 5080;

const GROUP: &str = "gp3: deploy node at 125 MB/s, to the first answer";

/// The program `node` of the release's Procfile: reads the modules that an app of the AWS SDK
/// loads, then uses a core until 1.8 s after its start, and answers with the release's name.
pub const NODE: &str = r#"#!/usr/bin/python3
import glob, http.server, os, time
end = time.monotonic() + 1.8
for path in sorted(glob.glob("node_modules/**/*.js", recursive=True))[:1500]:
    open(path, "rb").read()
while time.monotonic() < end:
    pass
class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = os.environ["NAMED"].encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_):
        pass
http.server.ThreadingHTTPServer(("", int(os.environ["PORT"])), Page).serve_forever()
"#;

/// The script, with a sync before it switches: without one, a power loss leaves empty files.
const SCRIPT: &str = r#"#!/bin/bash
set -euo pipefail
cd /var/lib/deploy/script
new=releases/$1
mkdir -p "$new/app"
from=s3://releases/my-app/production/$1
/opt/awscli/bin/aws --endpoint-url "$S3" s3 cp --quiet "$from/source.tar.gz" - | tar xz -C "$new/app"
/opt/awscli/bin/aws --endpoint-url "$S3" s3 cp --quiet "$from/env" "$new/env"
sync -f .
ln -s "$new" next
mv -T next current
sync -f .
systemctl restart script.service
until curl --fail --silent --output /dev/null http://127.0.0.1:5080/; do sleep 0.01; done
"#;

const UNIT: &str = "\
[Unit]
StartLimitIntervalSec=0

[Service]
WorkingDirectory=/var/lib/deploy/script/current/app
EnvironmentFile=/var/lib/deploy/script/current/env
Environment=PORT=5080
ExecStart=/usr/local/bin/node server.js
Restart=always
";

pub fn run(site: &Site, rows: &mut Rows, rounds: usize) {
    site.reconfigure("DEPLOY_KEEP_RELEASES=1\nDEPLOY_SETTLE=200ms\n");
    for (path, text) in [("/usr/local/bin/node", NODE), ("/usr/local/bin/script", SCRIPT)] {
        site.host.write(path, text);
        site.host.sh(&format!("chmod 755 {path}"));
    }
    site.host.write("/etc/systemd/system/script.service", UNIT);
    site.host.sh(&format!("mkdir -p {DISK}/script/releases; systemctl daemon-reload"));
    let mut megabytes = [0, 0];
    for round in 1..=rounds {
        eprintln!("gp3: round {round} of {rounds}");
        let name = published(site, round);
        let (ours, by_us) = measured(site, 5000, &name, &["deploy", &url(&name)]);
        rows.add(GROUP, "deploy URL", true, ours);
        let (script, by_script) = measured(site, SCRIPT_PORT, &name, &["script", &name]);
        rows.add(GROUP, PEER, true, script);
        megabytes = [by_us, by_script];
        let old = format!("-mindepth 1 -maxdepth 1 ! -name {name}");
        site.host.sh(&format!("find {DISK}/script/releases {old} -exec rm -rf {{}} +"));
    }
    for (what, megabytes) in ["deploy URL", PEER].iter().zip(megabytes) {
        rows.fact(&format!("gp3: {what}: written until all is calm, MB"), megabytes);
    }
    site.host.sh("systemctl stop script.service");
    site.host.deploy(&["remove", "my-app", "--yes"]).ok();
    site.host.sh(&format!("rm -rf {DISK}/script"));
    eprintln!("{}", rows.group(GROUP));
}

/// Publishes the release under another name; its env makes it another release.
fn published(site: &Site, round: usize) -> String {
    let name = format!("g{round}");
    let bytes = site.host.read(&format!("{AT}/{}", archive("node", Kind::Gzip)));
    let at = format!("my-app/production/{name}");
    site.host.s3().put(BUCKET, &format!("{at}/source.tar.gz"), bytes);
    site.host.s3().put(BUCKET, &format!("{at}/env"), format!("NAMED={name}\n"));
    name
}

/// Measures one command on the slow disk, and the megabytes that it writes.
fn measured(site: &Site, port: u16, release: &str, command: &[&str]) -> (Sample, u64) {
    calm(site);
    let before = written(site);
    let throttle = Throttle::of(&site.disk, RATE);
    let sample = serving::until_answered(site, port, release, command);
    calm(site);
    drop(throttle);
    (sample, (written(site) - before) / 1_000_000)
}

/// Waits until the files of old releases are gone, and everything is on the disk.
fn calm(site: &Site) {
    site.host.wait_for("the removal of old releases", SOON, || {
        let left = site.host.sh(&format!("find {DISK} -maxdepth 4 -name '.removing-*'"));
        left.is_empty().then_some(())
    });
    site.host.sh(&format!("sync -f {DISK}"));
    site.warm();
}

/// The bytes that the device has written since it exists.
fn written(site: &Site) -> u64 {
    let stat = fs::read_to_string(format!("/sys/dev/block/{}/stat", site.disk));
    let stat = stat.expect("the statistics of a block device");
    let sectors = stat.split_whitespace().nth(6).and_then(|word| word.parse::<u64>().ok());
    sectors.expect("sectors written") * 512
}
