//! The command during which deployd or the instance dies, and the release that has to run
//! afterwards.

use crate::world::{Kind, World};
use std::fmt;
use testkit::app::url;

/// The single atomic step of a deploy.
const COMMITTED: &str = "my-app/current: renamed";
/// From this point on, the commit survives a power loss.
const COMMITTED_DURABLY: &str = "my-app/current: durable";
const PROOF: &str = "step: prove";
/// From this point on, the release has its name; its files are on the disk from the second on.
const NAMED: &str = "releases/NEW: renamed";
const SYNCED: &str = "NEW/unsynced: durable";
/// From this point on, a crash leaves a record of the running job.
const BEGUN: &str = "my-app/underway.json: renamed";
const BEGUN_DURABLY: &str = "my-app/underway.json: durable";
/// From this point on, the removal is in the history.
const REMOVED: &str = "removed/my-app.jsonl: written";

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scenario {
    /// A good release replaces a good one.
    Upgrade,
    /// The same, but the old release stops before the new one starts.
    Restart,
    /// A release that exits once it is current: the previous release comes back.
    Failing,
    Rollback,
    /// deployd dies after the commit, and again while it recovers from that.
    Recovery,
    /// Nothing is installed yet.
    First,
    /// Nothing is installed yet, and the release exits once it is current.
    FirstFailing,
    /// The old release's worker stops before the new one's starts.
    Singleton,
    /// The old release's processes take long to stop.
    Slow,
    /// A release that exits right after its start, before any client reaches it.
    Unproved,
    /// The same, after the old release has stopped for it.
    UnprovedRestart,
    /// A release that is installed already is deployed once more.
    Again,
    Remove,
}

/// The way to die.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    /// SIGKILL to deployd: systemd starts it again.
    Daemon,
    /// SIGKILL to every process: the instance boots again with the files as written.
    Instance,
    /// Power loss: the instance boots again with the files as synced.
    Power,
    /// The same after an fsync of another file: the journal is on the disk, with every name, and
    /// without the content of files that were not synced.
    Journal,
}

impl Way {
    fn loses_power(self) -> bool {
        matches!(self, Way::Power | Way::Journal)
    }
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Scenario::Upgrade => "upgrade",
            Scenario::Restart => "restart",
            Scenario::Failing => "failing",
            Scenario::Rollback => "rollback",
            Scenario::Recovery => "recovery",
            Scenario::First => "first",
            Scenario::FirstFailing => "first failing",
            Scenario::Singleton => "singleton",
            Scenario::Slow => "slow",
            Scenario::Unproved => "unproved",
            Scenario::UnprovedRestart => "unproved restart",
            Scenario::Again => "again",
            Scenario::Remove => "remove",
        })
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Way::Daemon => "kill deployd",
            Way::Instance => "kill instance",
            Way::Power => "power loss",
            Way::Journal => "names alone",
        })
    }
}

/// Labels of the releases in a scenario.
#[derive(Clone, Debug, Default)]
pub struct Names {
    /// The rollback target at the start.
    pub old: String,
    /// The running release at the start.
    pub base: String,
    /// The release that is deployed.
    pub new: String,
}

impl Names {
    /// Replaces the labels in a point, so that it is the same in every run.
    pub fn general(&self, point: &str) -> String {
        self.pairs().iter().fold(point.to_owned(), |point, (label, name)| match label.is_empty() {
            true => point,
            false => point.replace(*label, name),
        })
    }

    /// Inserts the labels of this run into a general point.
    pub fn particular(&self, point: &str) -> String {
        self.pairs()
            .iter()
            .fold(point.to_owned(), |point, (label, name)| point.replace(name, label))
    }

    fn pairs(&self) -> [(&str, &str); 3] {
        [(&*self.old, "OLD"), (&*self.base, "BASE"), (&*self.new, "NEW")]
    }
}

/// The releases that may run afterwards, and why.
pub struct Expected {
    pub runs: Vec<Option<String>>,
    pub why: &'static str,
    /// The allowed numbers of history entries about the command.
    pub entries: &'static [usize],
}

impl Scenario {
    pub const ALL: [Scenario; 13] = [
        Scenario::Upgrade,
        Scenario::Restart,
        Scenario::Failing,
        Scenario::Rollback,
        Scenario::Recovery,
        Scenario::First,
        Scenario::FirstFailing,
        Scenario::Singleton,
        Scenario::Slow,
        Scenario::Unproved,
        Scenario::UnprovedRestart,
        Scenario::Again,
        Scenario::Remove,
    ];

    /// Whether nothing is installed at the start.
    pub fn is_first(self) -> bool {
        matches!(self, Scenario::First | Scenario::FirstFailing)
    }

    /// Returns the index of the first point that is not also one of an upgrade: up to its
    /// proof, every release that replaces another takes the same steps.
    pub fn first_of_its_own(self, points: &[String]) -> usize {
        let proof = || points.iter().position(|point| point == PROOF).unwrap_or_default();
        match self {
            Scenario::Restart
            | Scenario::Failing
            | Scenario::Singleton
            | Scenario::Slow
            | Scenario::Unproved
            | Scenario::UnprovedRestart => proof(),
            _ => 0,
        }
    }

    /// Whether a point is one of the commit, or the release has its name there and is not on the
    /// disk.
    pub fn is_around_the_commit(points: &[String], at: usize) -> bool {
        let index = |name: &str| points.iter().position(|point| point == name);
        let is_unsynced = index(NAMED).zip(index(SYNCED));
        points[at].starts_with("my-app/current")
            || is_unsynced.is_some_and(|(named, synced)| (named..=synced).contains(&at))
    }

    /// Whether the command fails, so that the old release runs in the end.
    fn fails(self) -> bool {
        matches!(
            self,
            Scenario::Failing
                | Scenario::FirstFailing
                | Scenario::Unproved
                | Scenario::UnprovedRestart
        )
    }

    /// Returns the command line to be killed, and publishes the release that it needs.
    pub fn prepare(self, world: &mut World, names: &mut Names) -> Vec<String> {
        let line = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect();
        let kind = match self {
            Scenario::Upgrade | Scenario::Recovery | Scenario::First | Scenario::Slow => Kind::Good,
            Scenario::Restart => Kind::GoodByRestart,
            Scenario::Singleton => Kind::WithSingleton,
            Scenario::Failing | Scenario::FirstFailing => Kind::FailsWhenCurrent,
            Scenario::Unproved => Kind::FailsAtStart,
            Scenario::UnprovedRestart => Kind::FailsAtRestart,
            Scenario::Rollback => return line(&["deploy", "rollback", "my-app"]),
            Scenario::Again => return line(&["deploy", &url(&names.old)]),
            Scenario::Remove => return line(&["deploy", "remove", "--yes", "my-app"]),
        };
        names.new = world.publish(kind);
        line(&["deploy", &url(&names.new)])
    }

    /// Returns the expected state after a death at the point `at` of `points`.
    pub fn expected(self, points: &[String], at: usize, way: Way, names: &Names) -> Expected {
        let some = |label: &String| Some(label.clone()).filter(|label| !label.is_empty());
        let before = some(&names.base);
        let after = match self {
            Scenario::Rollback | Scenario::Again => some(&names.old),
            Scenario::Remove => None,
            _ if self.fails() => before.clone(),
            _ => some(&names.new),
        };
        let reached = |name: &str| points[..=at].iter().any(|point| point == name);
        let lost =
            |begun: &str, durable: &str| way.loses_power() && reached(begun) && !reached(durable);
        let entries: &[usize] = match reached(BEGUN) {
            _ if self == Scenario::Remove && reached(REMOVED) => &[1],
            _ if self == Scenario::Remove => &[0],
            _ if self == Scenario::Recovery => &[1],
            _ if lost(BEGUN, BEGUN_DURABLY) => &[0, 1],
            true => &[1],
            false => &[0],
        };
        let (runs, why) = match reached(COMMITTED) {
            _ if self == Scenario::Recovery => (vec![after], "was committed"),
            _ if self == Scenario::Remove => (vec![before, after], "is being removed"),
            _ if self.fails() => (vec![before], "the other fails"),
            _ if lost(COMMITTED, COMMITTED_DURABLY) => (vec![before, after], "is being committed"),
            true => (vec![after], "was committed"),
            false => (vec![before], "not committed yet"),
        };
        Expected { runs, why, entries }
    }
}
