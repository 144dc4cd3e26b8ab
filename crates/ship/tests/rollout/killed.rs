//! What a ship that is killed leaves behind on the machine that it ran on.

use super::formation::Formation;
use super::group::{SETTINGS, WEB, release};
use std::io::{BufRead, BufReader};
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
    group.killed_at(&["deploy"], "r2 on web2");
    group.goes_away();

    // Of logs that are followed, nobody writes a line that nobody reads.
    let mut follow = group.start(&["logs", "-f", "-n", "1"]);
    let mut lines = BufReader::new(follow.stdout.take().expect("its stdout")).lines();
    assert!(lines.next().is_some_and(|line| line.is_ok()));
    follow.kill().expect("a kill");
    follow.wait().expect("its end");
    group.goes_away();

    group.ok(&["lock", "-m", "the end"]);
}

impl Formation {
    /// Waits until nothing is left of the connections of a killed ship.
    #[track_caller]
    fn goes_away(&self) {
        assert!(!self.connections().is_empty(), "there was none");
        let gone = poll(LONGEST, || self.connections().is_empty().then_some(()));
        assert!(gone.is_some(), "{:#?}", self.connections());
    }
}
