//! What is done when deployd or the instance dies, and which release has to run
//! when it is back.

use crate::world::{Kind, World};
use std::fmt;
use testkit::app::url;

/// The one atomic step of a deploy.
const COMMITTED: &str = "my-app/current: renamed";
/// From here on it is on the disk too.
const COMMITTED_DURABLY: &str = "my-app/current: durable";
const PROOF: &str = "step: prove";
/// From here on a crash leaves a trace of what was under way.
const BEGUN: &str = "my-app/underway.json: renamed";
const BEGUN_DURABLY: &str = "my-app/underway.json: durable";

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scenario {
    /// A good release replaces a good one.
    Upgrade,
    /// The same, but the old one stops before the new one starts.
    Restart,
    /// A release that ends when it is current: the one before it comes back.
    Failing,
    Rollback,
    /// deployd dies after the commit, and again while it recovers from that.
    Recovery,
    /// There is nothing on the instance yet.
    First,
    /// Nor here, and the release ends when it is current.
    FirstFailing,
    /// The worker of the old one stops before that of the new one starts.
    Singleton,
    /// The processes of the old one take their time to stop.
    Slow,
    /// A release that ends as soon as it begins, before any client reaches it.
    Unproved,
    /// The same, when the old one has stopped for it.
    UnprovedRestart,
    /// A release that is installed already is deployed once more.
    Again,
    Remove,
}

/// How it dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    /// SIGKILL to deployd: systemd starts it again.
    Daemon,
    /// SIGKILL to every process: it boots again with what was written.
    Instance,
    /// The power is cut: it boots again with what was synced.
    Power,
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
        })
    }
}

/// What a scenario begins with: the labels of what is installed.
#[derive(Clone, Debug, Default)]
pub struct Names {
    /// What a rollback goes to.
    pub old: String,
    /// What runs.
    pub base: String,
    /// What is deployed.
    pub new: String,
}

impl Names {
    /// A point as it is in every run, whatever the releases are called.
    pub fn general(&self, point: &str) -> String {
        self.pairs().iter().fold(point.to_owned(), |point, (label, name)| match label.is_empty() {
            true => point,
            false => point.replace(*label, name),
        })
    }

    /// The same point in this run.
    pub fn particular(&self, point: &str) -> String {
        self.pairs()
            .iter()
            .fold(point.to_owned(), |point, (label, name)| point.replace(name, label))
    }

    fn pairs(&self) -> [(&str, &str); 3] {
        [(&*self.old, "OLD"), (&*self.base, "BASE"), (&*self.new, "NEW")]
    }
}

/// What may run afterwards, and why.
pub struct Expected {
    pub runs: Vec<Option<String>>,
    pub why: &'static str,
    /// How many lines of the history may be about it.
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

    /// Whether nothing is installed when it begins.
    pub fn is_first(self) -> bool {
        matches!(self, Scenario::First | Scenario::FirstFailing)
    }

    /// The first point that is not one of an upgrade too: up to its proof every release
    /// that replaces another one is brought in the same way.
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

    /// Whether what it asks for fails, and the old release runs in the end.
    fn fails(self) -> bool {
        matches!(
            self,
            Scenario::Failing
                | Scenario::FirstFailing
                | Scenario::Unproved
                | Scenario::UnprovedRestart
        )
    }

    /// The command line that is under way when it dies; publishes what it needs.
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

    /// What is expected when it dies at the point `at` of `points`.
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
            |begun: &str, durable: &str| way == Way::Power && reached(begun) && !reached(durable);
        let entries: &[usize] = match reached(BEGUN) {
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
