//! The fixtures: three releases, each compressed with gzip and with zstd, in an image that also
//! has the peers' programs.

use crate::images;
use std::path::{Path, PathBuf};
use testkit::app::BUCKET;
use testkit::host::Host;
use testkit::instance::{Image, Instance};

/// Their directory in the image, each below `APP/production/KIND/`.
pub const AT: &str = "/srv/bench";

pub const APPS: [&str; 3] = ["node", "python", "binary"];

const TOOLS: &str = include_str!("../requirements.sh");
const FIXTURES: &str = include_str!("fixtures.sh");

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Gzip,
    Zstd,
}

impl Kind {
    pub const BOTH: [Kind; 2] = [Kind::Gzip, Kind::Zstd];

    /// The name of the release.
    pub fn release(self) -> &'static str {
        match self {
            Kind::Gzip => "gz",
            Kind::Zstd => "zst",
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Kind::Gzip => "gzip",
            Kind::Zstd => "zstd",
        }
    }
}

/// The path of a release's archive in the bucket, and below [`AT`].
pub fn archive(app: &str, kind: Kind) -> String {
    let release = kind.release();
    format!("{app}/production/{release}/source.tar.{release}")
}

/// Programs, then fixtures, then our package: a new package does not rebuild the other layers.
pub fn image() -> Image {
    let dir = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/benches/stage"));
    let trust = Path::new("/etc/ssl/certs/ca-certificates.crt");
    let tools = Image::base().layer("bench-tools", &[trust], TOOLS);
    let lists: Vec<PathBuf> = APPS.iter().map(|app| dir.join(format!("{app}.txt"))).collect();
    let lists: Vec<&Path> = lists.iter().map(|list| &**list).collect();
    let fixtures = tools.layer("bench-fixtures", &lists, FIXTURES);
    Host::image_on(images::programs(fixtures), "bench-agent")
}

/// Uploads the releases of an app to S3.
pub fn publish(host: &Host, app: &str) {
    for kind in Kind::BOTH {
        let path = archive(app, kind);
        host.s3().put(BUCKET, &path, host.read(&format!("{AT}/{path}")));
        host.s3().put(BUCKET, &format!("{app}/production/{}/env", kind.release()), "");
    }
}

/// The number of files of an app, and the bytes of its archives: plain, gzip, zstd.
pub fn sizes(instance: &Instance, app: &str) -> [u64; 4] {
    let text = instance.sh(&format!(
        "cat {AT}/{app}/size; stat --format=%s {AT}/{} {AT}/{}",
        archive(app, Kind::Gzip),
        archive(app, Kind::Zstd)
    ));
    let mut numbers = text.split_whitespace().map(|word| word.parse().expect("a number"));
    std::array::from_fn(|_| numbers.next().expect("four numbers"))
}
