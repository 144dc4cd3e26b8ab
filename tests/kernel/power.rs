//! The power goes while a release is deployed. The machine's disk has a volatile write cache:
//! only writes that the machine has flushed survive.

use crate::machine::Machine;
use ring::digest::{SHA256, digest};
use std::time::Instant;
use testkit::app::{Release, url};

/// The steps of a deploy at whose beginning the power goes.
const STEPS: [&str; 5] = ["stage", "prove", "commit", "converge", "settle"];

const FILES: usize = 40;
const FILE: usize = 128 << 10;

#[test]
fn after_a_power_loss_one_whole_release_runs() {
    let machine = Machine::new();
    let mut releases = vec![release("r0")];
    releases[0].publish(&machine.s3);
    machine.point("r0");
    let began = Instant::now();
    let say = |what: &str| println!("{:6.0} s  {what}", began.elapsed().as_secs_f64());
    machine.is_born();
    machine.serves("r0");

    say("the disk forgets what was not synced");
    machine.sh("echo synced >/var/lib/synced; sync; echo lost >/var/lib/unsynced");
    machine.power_loss();
    machine.boot();
    let kept = machine.sh("cat /var/lib/synced; cat /var/lib/unsynced 2>/dev/null || true");
    assert_eq!(kept, "synced\n");

    let mut runs = runs_one_whole_release(&machine, &releases);
    for (number, step) in (1..).zip(STEPS) {
        let name = format!("r{number}");
        releases.push(release(&name));
        releases[number].publish(&machine.s3);
        say(&format!("the power goes at `{step}` of {name}, {runs} runs"));
        machine.run_until(&["deploy", &url(&name)], step);
        machine.power_loss();
        machine.boot();
        let now = runs_one_whole_release(&machine, &releases);
        assert!(now == runs || now == name, "{now}");
        runs = now;
    }
    say(&format!("{runs} runs; a deploy goes through"));
    machine.deploy(&[&url("r0")]).exits(0);
    assert_eq!(runs_one_whole_release(&machine, &releases), "r0");
    say("the end");
}

/// A release with files that differ from those of each other one.
fn release(name: &str) -> Release {
    // xorshift64 (Marsaglia, 2003)
    let mut state = name
        .bytes()
        .fold(0x9E37_79B9_7F4A_7C15_u64, |state, byte| state.rotate_left(8) ^ u64::from(byte));
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    (0..FILES).fold(Release::new(name), |release, number| {
        let bytes: Vec<u8> = (0..FILE / 8).flat_map(|_| next()).collect();
        release.file(&format!("assets/{number}"), bytes)
    })
}

/// Waits until deployd has recovered; returns the name of the release that runs. Fails unless
/// it is complete, and the only one.
#[track_caller]
fn runs_one_whole_release(machine: &Machine, releases: &[Release]) -> String {
    let status = machine.wait_for("recovery", || {
        let status = machine.status();
        (status["working"].is_null() && status["healthy"] == true).then_some(status)
    });
    assert_eq!(status["state"], "good", "{status:#}");
    let label = status["release"].as_str().expect("a release").to_owned();
    machine.serves(&label);
    let processes = machine.sh("for pid in $(pgrep -u app-my-app); do
            echo $(readlink /proc/$pid/cwd) $(tr '\\0' ' ' </proc/$pid/cmdline)
        done | sort");
    let at = format!("/var/lib/deploy/apps/my-app/releases/{label}/app");
    let expected = ["web", "worker"].map(|kind| format!("{at} python3 app.py {kind}\n")).concat();
    assert_eq!(processes, expected);
    let tree = machine.sh(&format!("cd {at}; find . -type f -printf '%P\\n' | xargs sha256sum"));
    let mut tree: Vec<_> = tree.lines().collect();
    tree.sort_unstable();
    let release = releases.iter().find(|release| release.name() == label);
    assert_eq!(tree, sums(release.expect("a published release")));
    machine.is_up();
    label
}

/// The lines of sha256sum for the files of a release.
fn sums(release: &Release) -> Vec<String> {
    let line = |file: &testkit::app::File| {
        let sum = digest(&SHA256, &file.bytes);
        let sum: String = sum.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{sum}  {}", file.path)
    };
    let mut lines: Vec<_> = release.files().iter().map(line).collect();
    lines.sort_unstable();
    lines
}
