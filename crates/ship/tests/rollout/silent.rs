//! S3 is down, and the group goes back.

use super::formation::{Ended, Formation};
use super::group::{SETTINGS, WEB, release};
use std::time::{Duration, Instant};
use testkit::s3::Fault;

/// The longest time until ship knows that S3 is down, with the rollback of three instances.
const SOON: Duration = Duration::from_secs(45);

#[test]
fn a_group_goes_back_while_s3_is_down_without_a_failed_request() {
    let mut group = Formation::boot();
    group.ok(&[&["config", "-e", "production", "set"], &SETTINGS[..]].concat());
    release(&group, "one", WEB);
    assert_eq!(group.ok(&["deploy"]), "r1 runs on 3 instances\n");
    release(&group, "two", WEB);
    assert_eq!(group.ok(&["deploy"]), "r2 runs on 3 instances\n");
    let load = group.first.network.within(|| group.load().start());
    load.wait_for(100);

    // A refusal is no silence.
    let pointer = "my-app/production/current";
    group.first.s3().fault("GET", pointer, 3, Fault::ACCESS_DENIED);
    let ended = group.ship(&["rollback", "--to", "r1"]);
    assert_eq!(ended.code, 11, "{}", ended.stderr);

    let start = group.first.pause_s3();
    assert_eq!(group.ship(&["deploy", "production", "r1"]).code, 41);
    let plan = group.ok(&["rollback", "--dry-run"]);
    assert!(plan.starts_with("batch 1: r1 on web1\n"), "{plan}");
    let Ended { code, stdout, stderr } = group.ship(&["rollback"]);
    assert_eq!(
        (code, stdout.as_str()),
        (42, "r1 runs on 3 instances; current could not be moved\n"),
        "{stderr}"
    );
    for said in [
        "the store does not respond: ",
        "goes on without the lock",
        "most likely r2",
        "repeat `ship rollback production --to r1`",
    ] {
        assert!(stderr.contains(said), "{said}: {stderr}");
    }
    assert_eq!(group.served(), ["one"; 3]);

    // One that no instance has.
    let ended = group.ship(&["rollback", "--to", "r9"]);
    assert_eq!(ended.code, 41, "{}", ended.stderr);
    let said = "r9 is on the disk of none of web1, web2, web3";
    assert!(ended.stdout.contains(said), "{}", ended.stdout);
    assert_eq!(group.served(), ["one"; 3]);

    // Each now goes back to r2, and its S3 takes requests and never answers them.
    start(&mut group.first);
    group.first.s3().fault("GET", pointer, 99, Fault::Silence);
    let begun = Instant::now();
    let (code, raw) = group.at_terminal((24, 80), "rollback --to r2");
    println!("{raw}");
    assert_eq!(code, 42, "{raw}");
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
    assert_eq!(group.served(), ["two"; 3]);

    // It responds again, and a rollback to the release moves the pointer.
    let start = group.first.pause_s3();
    start(&mut group.first);
    assert_eq!(group.ship(&["ps"]).code, 0);
    assert_eq!(group.ok(&["rollback", "--to", "r1"]), "r1 runs on 3 instances\n");
    assert_eq!(group.served(), ["one"; 3]);
    // None of them differs from `current`.
    group.ok(&["ps"]);
    let tally = load.stop();
    assert_eq!(tally.failed(), 0, "{tally}");
    println!("{tally}");
}
