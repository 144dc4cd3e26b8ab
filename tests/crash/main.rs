//! `make crash-matrix`: a deploy is killed at every point that it passes, in every way, and
//! afterwards exactly one release runs, complete.
//!
//! The points are those that deployd itself records in an undisturbed run, so none is
//! forgotten. Without CRASH_MATRIX=full only some rows are played: every point of a deploy with
//! SIGKILL to deployd, and the points around the commit and the sync with the other ways.

#![allow(clippy::disallowed_methods, reason = "the tests are not the agent")]

mod row;
mod scenario;
mod table;
mod whole;
mod world;

use row::{Outcome, Row, record};
use scenario::{Scenario, Way};
use std::collections::VecDeque;
use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::time::Instant;
use std::{env, thread};
use world::World;

/// Number of concurrent instances, unless CRASH_WORKERS is set.
const WORKERS: usize = 2;

fn main() -> ExitCode {
    if !is_meant() {
        return ExitCode::SUCCESS;
    }
    let start = Instant::now();
    let rows = rows(env::var("CRASH_MATRIX").is_ok_and(|how| how == "full"));
    let played = play(rows);
    table::print(&played, start.elapsed())
}

/// `cargo test NAME` runs every test program with NAME as the filter.
fn is_meant() -> bool {
    let words: Vec<String> = env::args().skip(1).collect();
    let names: Vec<_> = words.iter().filter(|word| !word.starts_with('-')).collect();
    let lists = words.iter().any(|word| word == "--list");
    !lists && (names.is_empty() || names.iter().any(|name| "crash_matrix".contains(&***name)))
}

/// Returns the rows to play. Variables select some of them, to play these again.
fn rows(full: bool) -> Vec<Row> {
    let only = |variable: &str, text: &str| {
        env::var(variable).map_or(true, |only| only.split(',').any(|only| text.contains(only)))
    };
    let mut world = World::new();
    let mut rows = Vec::new();
    for scenario in Scenario::ALL {
        let ways = ways(scenario, full);
        if ways.is_empty() || !only("CRASH_SCENARIO", &scenario.to_string()) {
            continue;
        }
        let points = record(&mut world, scenario).unwrap_or_else(|why| panic!("{scenario}: {why}"));
        eprintln!("{scenario}: {} points", points.len());
        let begin = scenario.first_of_its_own(&points);
        let points = Arc::new(points);
        for (way, all) in ways {
            for at in begin..points.len() {
                let row = Row { scenario, way, points: points.clone(), at };
                let is_in = all || Scenario::is_around_the_commit(&points, at);
                if is_in && only("CRASH_WAY", &way.to_string()) && only("CRASH_POINT", row.point())
                {
                    rows.push(row);
                }
            }
        }
    }
    rows
}

/// Returns the ways to kill a scenario, and for each whether it covers all points.
fn ways(scenario: Scenario, full: bool) -> Vec<(Way, bool)> {
    let daemon = (Way::Daemon, true);
    match (scenario, full) {
        (Scenario::Recovery, true) => vec![daemon],
        (Scenario::Upgrade, true) => {
            vec![daemon, (Way::Instance, true), (Way::Power, true), (Way::Journal, true)]
        }
        (Scenario::Rollback, true) => vec![daemon, (Way::Instance, true), (Way::Power, true)],
        (Scenario::Restart | Scenario::Failing | Scenario::First, true) => {
            vec![daemon, (Way::Power, true), (Way::Journal, false)]
        }
        (_, true) => vec![daemon, (Way::Power, false)],
        (Scenario::Upgrade, false) => {
            vec![daemon, (Way::Instance, false), (Way::Power, false), (Way::Journal, false)]
        }
        (_, false) => vec![],
    }
}

/// Plays all rows; an instance is used again until a row fails on it.
fn play(rows: Vec<Row>) -> Vec<(Row, Outcome)> {
    let workers = env::var("CRASH_WORKERS").ok().and_then(|text| text.parse().ok());
    let (count, done) = (rows.len(), Mutex::new(Vec::new()));
    let rows = Mutex::new(VecDeque::from(rows));
    thread::scope(|scope| {
        for _ in 0..workers.unwrap_or(WORKERS) {
            scope.spawn(|| {
                let mut world = None;
                loop {
                    let Some(row) = rows.lock().expect("no panic").pop_front() else { break };
                    let outcome = row.play(world.get_or_insert_with(World::new));
                    if !outcome.faults.is_empty() {
                        table::explain(&row, &outcome, world.take());
                    }
                    let mut done = done.lock().expect("no panic");
                    done.push((row, outcome));
                    table::progress(done.len(), count, &done[done.len() - 1]);
                }
            });
        }
    });
    let mut done = done.into_inner().expect("no panic");
    done.sort_by_key(|(row, _)| (row.scenario, row.at, row.way));
    done
}
