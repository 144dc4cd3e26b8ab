//! How long an instance takes from power on until it serves and is in service, with the release
//! staged in the image and without.

use crate::fleet::Fleet;
use crate::image::{image, image_with};
use crate::user_data;
use std::time::Duration;
use testkit::app::{Release, url};
use testkit::instance::Image;

const RUNS: usize = 3;

/// The bytes of the release that do not compress.
const WEIGHT: usize = 64 << 20;

#[test]
fn times_from_boot_to_healthy() {
    // One S3 for all: a release is known by its validators.
    let fleet = Fleet::of(1);
    release().publish(&fleet.s3);
    fleet.point("my-app", "r1");
    let staged = image_with(&url("r1"), &fleet);
    fleet.group("my-app", 2 * RUNS, &user_data::cloud_config());
    let rows = [
        ("fetched by user-data", times(&fleet, 21, &image(), true)),
        ("staged in the image", times(&fleet, 31, &staged, false)),
    ];
    println!("\nseconds from power on");
    println!("{:21} {:10} {:>6} {:>6} {:>6} {:>7}", "release", "until", "1", "2", "3", "median");
    for (name, times) in rows {
        let (healthy, in_service) = times.into_iter().unzip();
        print_row(name, "healthy", healthy);
        print_row(name, "InService", in_service);
    }
}

fn print_row(release: &str, until: &str, mut times: Vec<Duration>) {
    let shown: String = times.iter().map(|time| format!(" {:>6.1}", time.as_secs_f64())).collect();
    times.sort();
    println!("{release:21} {until:10}{shown} {:>7.1}", times[RUNS / 2].as_secs_f64());
}

/// Launches instances one after the other, each at an address of its own, whose archive is
/// downloaded, or not.
fn times(fleet: &Fleet, first: u8, image: &Image, downloaded: bool) -> Vec<(Duration, Duration)> {
    let run = |host| {
        let before = downloads(fleet);
        let launched = fleet.launch(image, host);
        assert_eq!(downloads(fleet) > before, downloaded, "{}", launched.output());
        let healthy = launched.healthy.unwrap_or_else(|| panic!("{}", launched.output()));
        (healthy, launched.in_service.expect("to be in service"))
    };
    (first..).take(RUNS).map(run).collect()
}

/// How many requests for the archive there were.
fn downloads(fleet: &Fleet) -> usize {
    let archive = "my-app/production/r1/source.tar.gz";
    let requests = fleet.s3.requests();
    requests.iter().filter(|asked| asked.method == "GET" && asked.path.ends_with(archive)).count()
}

/// A release of 64 MiB whose build makes a virtual environment.
fn release() -> Release {
    // xorshift64: the same bytes in each run.
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    let bytes: Vec<u8> = (0..WEIGHT / 8).flat_map(|_| next()).collect();
    Release::new("r1")
        .procfile("build: python3 -m venv venv\nweb: venv/bin/python app.py web\n")
        .file("assets", bytes)
}
