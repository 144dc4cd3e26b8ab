//! What a ship that is killed leaves behind on the machine that it ran on.

use super::formation::Formation;
use super::group::{SETTINGS, WEB, release};
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::time::Duration;
use testkit::instance::poll;

/// Shared connections would end by themselves half a minute after their last use.
const LONGEST: Duration = Duration::from_secs(20);

#[test]
fn no_ssh_and_no_socket_outlives_a_ship_that_was_killed() {
    let group = Formation::boot();
    group.ok(&[&["config", "-e", "production", "set"], &SETTINGS[..]].concat());
    release(&group, "one", WEB);
    assert_eq!(group.ok(&["deploy"]), "r1 runs on 3 instances\n");
    release(&group, "two", WEB);
    let sockets = group.killed_at(&["deploy"], "r2 on web2").expect("its sockets");
    goes_away(&sockets);

    // Of logs that are followed, nobody writes a line by whose loss ssh would end.
    let mut follow = group.start(&["logs", "-f", "-n", "1"]);
    let mut lines = BufReader::new(follow.stdout.take().expect("its stdout")).lines();
    assert!(lines.next().is_some_and(|line| line.is_ok()));
    let sockets = group.sockets();
    assert!(calls(&sockets).len() > 3, "{:#?}", calls(&sockets));
    follow.kill().expect("a kill");
    follow.wait().expect("its end");
    goes_away(&sockets);
}

/// Waits until neither the directory of the sockets is left nor a call of ssh by one of them.
#[track_caller]
fn goes_away(sockets: &Path) {
    let is_gone = || (!sockets.exists() && calls(sockets).is_empty()).then_some(());
    assert!(poll(LONGEST, is_gone).is_some(), "{:#?}", calls(sockets));
}

/// The command lines of all programs that name this directory.
fn calls(sockets: &Path) -> Vec<String> {
    let name = sockets.to_str().expect("a path");
    let processes = fs::read_dir("/proc").expect("/proc").flatten();
    let lines = processes.filter_map(|one| fs::read(one.path().join("cmdline")).ok());
    let lines = lines.map(|words| String::from_utf8_lossy(&words).replace('\0', " "));
    lines.filter(|line| line.contains(name)).map(|line| line.trim().to_owned()).collect()
}
