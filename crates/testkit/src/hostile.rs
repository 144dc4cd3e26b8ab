//! A hostile release that runs beside the app under test, for as long as the instance exists.

use crate::app::{BUCKET, Release};
use crate::host::Host;

/// The program with its hostile moves: `python3 moves.py WHERE`.
pub const MOVES: &str = include_str!("moves.py");

/// Deploys it: an app without a port, so that a test's assertions on ports stay valid.
pub fn moves_in(host: &Host) {
    let release = Release::empty("r1")
        .file("moves.py", MOVES)
        .procfile("nuisance: exec python3 moves.py beside\n")
        .set("DEPLOY_MEMORY_MAX=64M DEPLOY_SETTLE=0s DEPLOY_STOP_TIMEOUT=1s");
    release.publish_as(host.s3(), "neighbour");
    host.deploy(&[&format!("s3://{BUCKET}/neighbour/production/r1")]).exits(0);
    host.wait_for("the hostile neighbour", crate::host::SOON, || {
        let log = host.journal(&["-u", "deploy-neighbour-nuisance-r1@1.service", "--output=cat"]);
        log.contains("kill_everybody: done").then_some(())
    });
}
