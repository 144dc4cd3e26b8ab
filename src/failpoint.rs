//! Places where the daemon can be made to die: the crash matrix (`make crash-matrix`)
//! lists them by deploying once, and then dies at each of them.
//!
//! They stand in the seams that everything goes through: steps, durable writes, the
//! fetch, what is asked of systemd. So a new step is in the list without being put
//! there. They exist only with the feature `failpoints`, and never in a release
//! build; without it `reach!` leaves nothing in the program.
//!
//! What is to happen stands in [`PLAN`], in three lines: a word that no other plan
//! has, `record`, `kill` or `hold`, and for the last two the point, as `record` has
//! written it to [`REACHED`]. Three more lines are the plan for whoever comes next.

#![expect(clippy::disallowed_methods, reason = "these are not the agent's files")]

#[cfg(not(debug_assertions))]
compile_error!("the feature `failpoints` is for tests: it has no place in a release build");

use nix::sys::signal::{Signal, raise};
use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// The action at a point.
const PLAN: &str = "/run/deploy-failpoints/plan";
/// The points that were reached, one a line, as far as a plan asks for it; whoever
/// plans makes the file.
const REACHED: &str = "/run/deploy-failpoints/reached";

/// How often each point was reached under the plan of this name.
static COUNTS: Mutex<(String, BTreeMap<String, u32>)> =
    Mutex::new((String::new(), BTreeMap::new()));

/// Says that a point is reached, and does what the plan has for it. Of several
/// times the second is `NAME#2`.
pub fn reach(name: String) {
    let Ok(plan) = fs::read_to_string(PLAN) else { return };
    let mut lines = plan.lines();
    let (Some(id), Some(what)) = (lines.next(), lines.next()) else { return };
    let point = match count(id, &name) {
        1 => name,
        nth => format!("{name}#{nth}"),
    };
    let here = lines.next() == Some(&*point);
    match what {
        "record" => say(&point),
        "kill" if here => die(&point, &plan, Signal::SIGKILL),
        "hold" if here => die(&point, &plan, Signal::SIGSTOP),
        _ => {}
    }
}

/// A plan is carried out once: what is left is for the process after this one.
fn die(point: &str, plan: &str, signal: Signal) {
    let rest: String = plan.lines().skip(3).flat_map(|line| [line, "\n"]).collect();
    // Whoever planned made the file: the thread that unpacks could not.
    let written = OpenOptions::new().write(true).truncate(true).open(PLAN);
    let _ = written.and_then(|mut file| file.write_all(rest.as_bytes()));
    say(point);
    // Either of them takes all threads; this one does not come back from the call.
    let _ = raise(signal);
}

fn say(point: &str) {
    if let Ok(mut reached) = OpenOptions::new().append(true).open(REACHED) {
        let _ = reached.write_all(format!("{point}\n").as_bytes());
    }
}

fn count(id: &str, name: &str) -> u32 {
    let mut counts = COUNTS.lock().unwrap_or_else(PoisonError::into_inner);
    if counts.0 != id {
        *counts = (id.to_owned(), BTreeMap::new());
    }
    let count = counts.1.entry(name.to_owned()).or_default();
    *count += 1;
    *count
}

/// A path below the state directory, as far as that tells it from others.
pub fn name(path: &Path) -> String {
    let parts: Vec<_> = path.iter().map(|part| part.to_string_lossy()).collect();
    parts[parts.len().saturating_sub(2)..].join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_are_counted_for_each_plan() {
        assert_eq!([count("one", "a"), count("one", "b"), count("one", "a")], [1, 1, 2]);
        assert_eq!([count("two", "a"), count("one", "a")], [1, 1]);
    }

    #[test]
    fn a_path_is_known_by_its_end() {
        assert_eq!(name(Path::new("/var/apps/my-app/releases/r1/env")), "r1/env");
        assert_eq!(name(Path::new("env")), "env");
    }
}
