//! The apps of `examples/`, each packed as its README says, deployed, handed over under load
//! and rolled back.

use std::net::SocketAddr;
use std::time::Duration;
use testkit::app::BUCKET;
use testkit::host::{Host, SOON};
use testkit::instance::{Image, poll};
use testkit::load::Load;
use testkit::runtime::{Runtime, packed};

/// What a process writes when it has answered its last request.
const ANSWERED: &str = "has answered everyone and ends";

macro_rules! examples {
    ($($name:ident: $runtime:ident, $farewell:expr;)*) => {
        $(
            #[test]
            fn $name() {
                play(stringify!($name), Runtime::$runtime, $farewell);
            }
        )*
    };
}

examples! {
    go: Go, ANSWERED;
    java: Java, ANSWERED;
    node: Node, ANSWERED;
    python: Base, ANSWERED;
    ruby: Ruby, "Gracefully stopping, waiting for requests to finish";
    static_files: Base, ANSWERED;
}

/// Hands over from r1 to r2 and back while clients on another machine send requests.
fn play(name: &str, runtime: Runtime, farewell: &str) {
    let directory = name.trim_end_matches("_files");
    let app = format!("hello-{directory}");
    let host = Host::of(&image(directory, runtime));
    for release in ["r1", "r2"] {
        let key = |file: &str| format!("{app}/production/{release}/{file}");
        let archive = host.read(&format!("/srv/{release}.tar.gz"));
        host.s3().put(BUCKET, &key("source.tar.gz"), archive);
        host.s3().put(BUCKET, &key("env"), host.read("/srv/example/env"));
    }
    let serves = |release: &str| {
        assert_eq!(host.served(), Some(format!("Hello from {release}\n")), "{name}");
    };
    let url = |release: &str| format!("s3://{BUCKET}/{app}/production/{release}");

    host.deploy(&[&url("r1")]).exits(0);
    serves("r1");
    let outside = SocketAddr::from((host.address(), 5000));
    let load = Load::on(&[outside]).patience(SOON).connections(2);
    let load = load.longest(Duration::from_secs(300)).pause(Duration::from_millis(30));
    let load = host.network.within(|| load.start());
    load.wait_for(2);
    host.deploy(&[&url("r2")]).exits(0);
    serves("r2");
    host.deploy(&["rollback", &app]).exits(0);
    serves("r1");
    load.wait_for(2);
    let tally = load.stop();
    println!("{name}: {tally}");
    assert_eq!(tally.failed(), 0, "{name}: {tally}");

    host.deploy(&["stop", &app]).exits(0);
    let log = || host.journal(&["-t", &format!("{app}.web.1"), "--output=cat"]);
    let ended = || (log().matches(farewell).count() == 3).then_some(());
    assert!(poll(SOON, ended).is_some(), "{name} ends gracefully three times:\n{}", log());
}

/// Returns an image with both archives and our package, built once.
fn image(directory: &str, runtime: Runtime) -> Image {
    Host::image_on(packed(directory, runtime), &format!("example-{directory}-agent"))
}
