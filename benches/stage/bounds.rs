//! Lower bounds on this machine: decompressing the archive without writing it, and writing the
//! files from memory.

use crate::fixtures::{AT, Kind, archive};
use crate::inside::{PROGRAM, SECONDS, WORD};
use crate::sample::Sample;
use crate::site::{DISK, Site};
use crate::table::Rows;
use testkit::app::BUCKET;

/// One signed request; shows how fast the server is, and which clients wait for it.
const SIGNED: &str = "curl --fail --silent --aws-sigv4 aws:amz:eu-central-1:s3 \
    --user $AWS_ACCESS_KEY_ID:$AWS_SECRET_ACCESS_KEY \
    --header 'x-amz-content-sha256: UNSIGNED-PAYLOAD'";

/// Takes one sample of every bound of an app.
pub fn measure(site: &Site, rows: &mut Rows, group: &str, app: &str) {
    for kind in Kind::BOTH {
        let sample = bound(site, &format!("inflate {AT}/{}", archive(app, kind)));
        rows.add(group, &format!("bound, {}: inflate alone", kind.name()), false, sample);
    }
    let igzip = format!("igzip -d <{AT}/{}", archive(app, Kind::Gzip));
    rows.add(group, "bound, gzip: igzip -d alone", false, site.measure(&igzip));
    for kind in Kind::BOTH {
        let path = archive(app, kind);
        let fetch = format!("{SIGNED} {}/{BUCKET}/{path}", site.s3());
        rows.add(
            group,
            &format!("bound, {}: fetch alone, S3", kind.name()),
            false,
            site.measure(&fetch),
        );
        let fetch = format!("curl --fail --silent {}/{path}", site.web());
        rows.add(
            group,
            &format!("bound, {}: fetch alone, HTTP", kind.name()),
            false,
            site.measure(&fetch),
        );
    }
    let dir = format!("{DISK}/peer");
    let sample = bound(site, &format!("create {AT}/{app}/source.tar {dir}"));
    rows.add(group, "bound: create the files alone", false, sample);
    rows.add(
        group,
        "bound: create the files alone",
        true,
        Sample { wall: sample.synced, ..sample },
    );
    site.host.sh(&format!("rm -rf {dir}"));
}

/// Compares `deploy stage` with the bounds: its time as a multiple of the slower of two bounds,
/// none of them synced.
pub fn compare(rows: &mut Rows, group: &str, app: &str) {
    for kind in Kind::BOTH {
        let median = |what: &str| rows.median(group, what, false);
        let ours = median(&format!("S3, {}: deploy stage", kind.name()));
        let inflate = median(&format!("bound, {}: inflate alone", kind.name()));
        let create = median("bound: create the files alone");
        if let (Some(ours), Some(inflate), Some(create)) = (ours, inflate, create) {
            let times = (ours / inflate.max(create) * 100.0).round() / 100.0;
            let name = format!("{app}, {}: staging as a multiple of the slower bound", kind.name());
            rows.fact(&name, times);
        }
    }
}

/// Uses the program's own clock, which excludes reading its input.
fn bound(site: &Site, arguments: &str) -> Sample {
    let sample = site.measure(&format!("{PROGRAM} {WORD} {arguments}"));
    let seconds = String::from_utf8_lossy(&site.host.read(SECONDS)).into_owned();
    let wall: f64 = seconds.parse().expect("seconds");
    Sample { wall, synced: wall + sample.synced - sample.wall, ..sample }
}
