//! Output of the matrix for a reader.

use crate::row::{Outcome, Row};
use crate::world::World;
use std::process::ExitCode;
use std::time::Duration;

/// Prints a row on stderr as soon as it is done.
pub fn progress(done: usize, of: usize, (row, outcome): &(Row, Outcome)) {
    eprintln!("{done}/{of} {}", line(row, outcome));
}

/// Prints the details of a violation, with the end of deployd's log.
pub fn explain(row: &Row, outcome: &Outcome, world: Option<World>) {
    eprintln!("VIOLATION {} | {} | {}", row.scenario, row.point(), row.way);
    for fault in &outcome.faults {
        eprintln!("  {fault}");
    }
    let Some(world) = world else { return };
    if world.host.is_running() {
        let log = world.host.exec(&["journalctl", "--no-pager", "-n", "60"]);
        eprintln!("{}", log.stdout);
    }
}

/// Prints the whole table on stdout, with one line of JSON last.
pub fn print(rows: &[(Row, Outcome)], took: Duration) -> ExitCode {
    println!("OLD, BASE: the releases before; BASE runs. NEW: the one that is deployed.\n");
    println!("{}", columns("what", "died at", "how", "ran", "status said", "", "why"));
    for (row, outcome) in rows {
        println!("{}", line(row, outcome));
        for fault in &outcome.faults {
            println!("    {fault}");
        }
    }
    let violations = rows.iter().filter(|(_, outcome)| !outcome.faults.is_empty()).count();
    println!("\n{} rows in {} s", rows.len(), took.as_secs());
    println!("{{\"rows\":{},\"violations\":{violations}}}", rows.len());
    match violations {
        0 if !rows.is_empty() => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

fn line(row: &Row, outcome: &Outcome) -> String {
    let verdict = if outcome.faults.is_empty() { "ok" } else { "VIOLATION" };
    let (scenario, way) = (row.scenario.to_string(), row.way.to_string());
    columns(&scenario, row.point(), &way, &outcome.ran, &outcome.said, verdict, &outcome.why)
}

fn columns(
    what: &str,
    at: &str,
    how: &str,
    ran: &str,
    said: &str,
    verdict: &str,
    why: &str,
) -> String {
    let line =
        format!("{what:16} | {at:68} | {how:13} | {ran:7} | {said:11} | {verdict:9} | {why}");
    line.trim_end().to_owned()
}
