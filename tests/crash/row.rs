//! One row of the matrix: a command is running, the daemon or the instance is killed at one
//! point, comes back, and is checked.

use crate::scenario::{Expected, Names, Scenario, Way};
use crate::whole::{Seen, wait_until_recovered};
use crate::world::{Kind, MISSED, Plan, RECOVERY, World};
use std::panic::{AssertUnwindSafe, catch_unwind};
use testkit::instance::poll;

/// The point of the first death in [`Scenario::Recovery`]: the one that leaves most to recover.
pub const FIRST_DEATH: &str = "my-app/current: durable";

/// How often a row is played until its point is reached.
const TRIES: usize = 5;

/// A scenario, a way to die, and the point of death.
#[derive(Clone, Debug)]
pub struct Row {
    pub scenario: Scenario,
    pub way: Way,
    /// The points of the scenario, and the index of the one at which it dies.
    pub points: std::sync::Arc<Vec<String>>,
    pub at: usize,
}

/// The state after the recovery, and its faults.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    pub ran: String,
    pub said: String,
    pub why: String,
    pub faults: Vec<String>,
}

impl Row {
    pub fn point(&self) -> &str {
        &self.points[self.at]
    }

    /// Plays the row; any fault is a violation. A point that is not reached is tried again:
    /// whether deployd has to stop a process by name, for example, depends on how soon that
    /// process ended with its target.
    pub fn play(&self, world: &mut World) -> Outcome {
        for _ in 1..TRIES {
            let outcome = self.play_once(world);
            if !outcome.faults.iter().any(|fault| fault.starts_with(MISSED)) {
                return outcome;
            }
            world.plan(&[]);
            if world.deploys_another().is_err() {
                return outcome;
            }
        }
        self.play_once(world)
    }

    fn play_once(&self, world: &mut World) -> Outcome {
        let mut outcome = Outcome::default();
        let played = catch_unwind(AssertUnwindSafe(|| self.steps(world, &mut outcome)));
        match played {
            Ok(Ok(())) => {}
            Ok(Err(fault)) => outcome.faults.push(fault),
            Err(panic) => {
                let text = panic.downcast_ref::<String>().cloned();
                let text = text.or_else(|| panic.downcast_ref::<&str>().map(|&text| text.into()));
                outcome.faults.push(text.unwrap_or_else(|| "the harness failed".into()));
            }
        }
        outcome
    }

    fn steps(&self, world: &mut World, outcome: &mut Outcome) -> Result<(), String> {
        let (mut names, before) = begin(world, self.scenario)?;
        let line = self.scenario.prepare(world, &mut names);
        let said = self.die(world, &names, &line)?;
        wait_until_recovered(&world.host, RECOVERY)?;

        let expected = self.scenario.expected(&self.points, self.at, self.way, &names);
        let seen = Seen::of(&world.host)?;
        outcome.ran = names.general(&seen.running());
        outcome.said = names.general(seen.says().unwrap_or("nothing"));
        outcome.why = expected.why.to_owned();
        let mut faults = seen.faults(&world.published);
        judge(&seen, &expected, before.as_deref(), said, &mut faults);
        outcome.faults.extend(faults.iter().map(|fault| names.general(fault)));
        world.deploys_another().map(drop)
    }

    /// Runs the command line and kills it at the point; returns the exit status of the caller,
    /// if it survived.
    fn die(
        &self,
        world: &mut World,
        names: &Names,
        line: &[String],
    ) -> Result<Option<i32>, String> {
        let point = names.particular(self.point());
        let line: Vec<&str> = line.iter().map(String::as_str).collect();
        if self.way == Way::Daemon {
            let mut plans = vec![Plan::Kill(point.clone())];
            if self.scenario == Scenario::Recovery {
                plans.insert(0, Plan::Kill(names.particular(FIRST_DEATH)));
            }
            world.plan(&plans);
            let said = world.host.exec(&line);
            // deployd does some of its work after the caller has left.
            let reached = poll(RECOVERY, || (*world.reached().last()? == point).then_some(()));
            let missed = || format!("{MISSED}: {said:?}");
            return reached.map(|()| said.status).ok_or_else(missed);
        }
        world.plan(&[Plan::Hold(point)]);
        let caller = world.host.command(&line).spawn();
        world.wait_until_held()?;
        match self.way {
            Way::Power => world.host.power_loss(),
            Way::Journal => {
                world.host.sh("echo >/var/lib/other && sync /var/lib/other");
                world.host.power_loss();
            }
            _ => world.host.kill_hard(),
        }
        drop(caller);
        world.host.boot();
        Ok(None)
    }
}

/// Runs the scenario undisturbed, and returns the points that it passes.
pub fn record(world: &mut World, scenario: Scenario) -> Result<Vec<String>, String> {
    let (mut names, _) = begin(world, scenario)?;
    let line = scenario.prepare(world, &mut names);
    let line: Vec<&str> = line.iter().map(String::as_str).collect();
    let mut plans = vec![Plan::Record];
    if scenario == Scenario::Recovery {
        plans.insert(0, Plan::Kill(names.particular(FIRST_DEATH)));
    }
    world.plan(&plans);
    let said = world.host.exec(&line);
    wait_until_recovered(&world.host, RECOVERY)?;
    Seen::of(&world.host)?;
    let mut points: Vec<String> =
        world.reached().iter().map(|point| names.general(point)).collect();
    if scenario == Scenario::Recovery {
        points.remove(0);
    }
    if points.is_empty() {
        return Err(format!("no point was reached: {said:?}"));
    }
    world.plan(&[]);
    world.deploys_another().map(|_| points)
}

/// Prepares a scenario: a good release runs and another is kept for rollback, or nothing is
/// installed. Returns their labels and the newest entry of the history.
fn begin(world: &mut World, scenario: Scenario) -> Result<(Names, Option<String>), String> {
    let mut names = Names::default();
    match scenario {
        Scenario::Slow => drop(world.deploys(Kind::SlowToStop)?),
        // The previous row may have left a release without private ports: removing it would not
        // change the map, so that a point would be missed.
        Scenario::Restart => drop(world.deploys_another()?),
        _ => {}
    }
    loop {
        let seen = Seen::of(&world.host)?;
        match (scenario.is_first(), seen.says(), seen.rollback()) {
            (true, Some(_), _) => {
                // Its history stays, and ends with this.
                world.host.deploy(&["remove", "--yes", "my-app"]).ok();
            }
            (true, None, _) => return Ok((names, newest_entry(&seen))),
            (_, Some(base), Some(old)) => {
                (names.base, names.old) = (base.to_owned(), old.to_owned());
                return Ok((names, newest_entry(&seen)));
            }
            _ => drop(world.deploys_another()?),
        }
    }
}

fn newest_entry(seen: &Seen) -> Option<String> {
    Some(seen.history().first()?["id"].as_str()?.to_owned())
}

/// Checks the running release, the history, and the caller's exit status against each other and
/// against `expected`.
fn judge(
    seen: &Seen,
    expected: &Expected,
    before: Option<&str>,
    said: Option<i32>,
    faults: &mut Vec<String>,
) {
    let runs = seen.says().map(str::to_owned);
    if !expected.runs.contains(&runs) {
        faults.push(format!("{runs:?} is current, and should be {:?}", expected.runs));
    }
    let history = seen.history();
    let entries: Vec<_> = history.iter().take_while(|one| one["id"].as_str() != before).collect();
    if !expected.entries.contains(&entries.len()) {
        faults.push(format!("the history has {} entries of it: {entries:?}", entries.len()));
    }
    for entry in entries {
        if entry["after"].as_str() != runs.as_deref() {
            faults.push(format!("the history says {} runs", entry["after"]));
        }
        let done = entry["exit"] == "done";
        if said.is_some_and(|status| (status == 0) != done) {
            faults.push(format!("its caller got {said:?}, and the history says {entry}"));
        }
    }
}
