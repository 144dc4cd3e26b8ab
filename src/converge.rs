//! Applies the state on disk to units and ports. Idempotent: the last step of a deploy, the
//! first of the daemon, and the whole of crash recovery.

mod load;
pub mod ports;

pub use load::{load_new_units, load_units};

use crate::context::Context;
use crate::host::seams::Machine;
use crate::host::systemd::Activity;
use crate::store::App;
use model::error::{Error, Result};
use model::installed::Snapshot;
use model::release::name::Label;
use model::units;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::io;
use std::time::{Duration, Instant};

/// How often the connections to a leaving process are counted.
const LOOK: Duration = Duration::from_millis(100);

/// The units to stop and to start so that the wanted ones run.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Changes {
    pub stop: Vec<String>,
    pub start: Vec<String>,
}

impl fmt::Display for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list =
            |units: &[String]| if units.is_empty() { "none".into() } else { units.join(", ") };
        write!(f, "stop {}; start {}", list(&self.stop), list(&self.start))
    }
}

/// Compares the units wanted with those found.
pub fn changes(wanted: &BTreeSet<String>, found: &BTreeMap<String, Activity>) -> Changes {
    let is = |unit: &String, activity| found.get(unit) == Some(&activity);
    let strange = found.keys().filter(|unit| !wanted.contains(*unit));
    Changes {
        stop: strange.filter(|unit| !is(unit, Activity::Down)).cloned().collect(),
        start: wanted.iter().filter(|unit| !is(unit, Activity::Up)).cloned().collect(),
    }
}

/// Makes the units of one app, and the port map, match its `current`.
pub async fn converge(cx: &Context, app: &App) -> Result<()> {
    switch(cx, app).await?;
    let snapshot = app.snapshot()?;
    let leaving: Vec<_> = leaving(&*cx.machine, &snapshot).await?.into_keys().collect();
    cx.machine.stop(&leaving, longest_stop(&snapshot)).await?;
    // A killed process leaves a failed unit, and a crash may have prevented its reset.
    let wanted = units::wanted(&snapshot);
    for unit in cx.machine.consists_of(&units::target(app.name())).await?.keys() {
        if !wanted.contains(unit) {
            cx.machine.reset_failed(unit).await;
        }
    }
    Ok(())
}

/// The same, but leaves processes running that clients may still be connected to: new
/// connections go to `current`, established ones stay.
pub async fn switch(cx: &Context, app: &App) -> Result<()> {
    let snapshot = app.snapshot()?;
    let target = units::target(&snapshot.app);
    let wanted = units::wanted(&snapshot);
    let mapped = units::behind_the_map(&snapshot);
    let found = cx.machine.consists_of(&target).await?;
    let reached = snapshot.current().map(units::with_a_port).unwrap_or_default();
    let runs = |unit: &&String| found.get(*unit) == Some(&Activity::Up);
    if wanted.intersection(&reached).all(|unit| runs(&unit)) {
        // All processes that are to get the traffic are up: no need to wait.
        ports::load(cx).await?;
    }
    load_units(cx, &snapshot).await?;
    let found = cx.machine.consists_of(&target).await?;
    let mut changes = changes(&wanted, &found);
    changes.stop.retain(|unit| !mapped.contains_key(unit));
    if changes != Changes::default() {
        tracing::info!(DEPLOY_APP = %snapshot.app, "converge: {changes}");
    }
    cx.machine.stop(&changes.stop, longest_stop(&snapshot)).await?;
    cx.machine.start(&changes.start).await?;
    ports::load(cx).await?;
    let active = cx.machine.active_state(&target).await? == "active";
    match (wanted.is_empty(), active) {
        (false, false) => cx.machine.begin_start(&target).await,
        (true, true) => cx.machine.stop(&[target], Duration::ZERO).await,
        _ => Ok(()),
    }
}

/// Waits until no client is connected to the leaving processes any more, until `end` at most.
pub async fn drain(cx: &Context, app: &App, end: Instant) -> Result<()> {
    let leaving = leaving(&*cx.machine, &app.snapshot()?).await?;
    let ports: Vec<u16> = leaving.into_values().collect();
    drain_ports(cx, &ports, end).await
}

/// The same for the processes with these private ports.
pub async fn drain_ports(cx: &Context, ports: &[u16], end: Instant) -> Result<()> {
    let mut before = None;
    while Instant::now() < end {
        let count = counted(&*cx.machine, ports);
        if count == 0 {
            break;
        }
        if before.replace(count) != Some(count) {
            cx.events.waiting(format!("{count} connections to what is to stop"));
        }
        tokio::time::sleep(LOOK).await;
    }
    Ok(())
}

/// How many clients are connected to the processes that are no longer to run.
pub async fn clients(cx: &Context, app: &App) -> Result<usize> {
    let leaving = leaving(&*cx.machine, &app.snapshot()?).await?;
    let ports: Vec<u16> = leaving.into_values().collect();
    Ok(counted(&*cx.machine, &ports))
}

/// Where they cannot be counted, somebody may be connected.
fn counted(machine: &dyn Machine, ports: &[u16]) -> usize {
    if ports.is_empty() {
        return 0;
    }
    connections(machine, ports).unwrap_or_else(|error| {
        tracing::warn!("{}", error.chain());
        1
    })
}

/// How many clients are connected to these private ports.
pub fn connections(machine: &dyn Machine, ports: &[u16]) -> Result<usize> {
    let count = ports.iter().map(|port| machine.connections(*port)).sum::<io::Result<usize>>();
    count.map_err(|e| Error::failed("count the open connections").because(e))
}

/// Returns the leaving units behind the port map, with their ports.
pub async fn leaving(machine: &dyn Machine, snapshot: &Snapshot) -> Result<BTreeMap<String, u16>> {
    let found = machine.consists_of(&units::target(&snapshot.app)).await?;
    let stop = changes(&units::wanted(snapshot), &found).stop;
    let mut leaving = units::behind_the_map(snapshot);
    leaving.retain(|unit, _| stop.contains(unit));
    Ok(leaving)
}

/// Removes the units and ports of apps that no longer exist: their removal was interrupted.
pub async fn forget_removed(cx: &Context) -> Result<()> {
    let apps = cx.store.apps()?;
    let ours: Vec<String> = apps.iter().map(|app| part_of(&units::target(app.name()))).collect();
    let of_nobody = |text: &str| {
        text.contains("\nPartOf=deploy-") && !ours.iter().any(|part| text.contains(part))
    };
    let Ok(entries) = fs::read_dir(cx.machine.generated()) else { return Ok(()) };
    let mut services = entries.flatten().filter(|entry| {
        let name = entry.file_name().to_string_lossy().into_owned();
        name.starts_with("deploy-") && name.ends_with(".service")
    });
    if services.any(|entry| fs::read_to_string(entry.path()).is_ok_and(|text| of_nobody(&text))) {
        // Without units nothing starts again, whether the port map can be loaded or not.
        cx.machine.daemon_reload().await?;
        ports::load(cx).await?;
    }
    Ok(())
}

fn part_of(target: &str) -> String {
    format!("PartOf={target}\n")
}

/// The units of the app that run, or are about to run.
pub async fn live(cx: &Context, app: &App) -> Result<Vec<String>> {
    let found = cx.machine.consists_of(&units::target(app.name())).await?;
    let up = found.into_iter().filter(|(_, activity)| *activity != Activity::Down);
    Ok(up.map(|(unit, _)| unit).collect())
}

/// Those of them that belong to one release.
pub async fn live_of(cx: &Context, app: &App, label: &Label) -> Result<Vec<String>> {
    let mut live = live(cx, app).await?;
    let snapshot = app.snapshot()?;
    let own = snapshot.release(label).map(units::unit_names).unwrap_or_default();
    live.retain(|unit| own.contains(unit));
    Ok(live)
}

/// The longest stop timeout of the app's releases.
pub fn longest_stop(snapshot: &Snapshot) -> Duration {
    let times = snapshot.releases.iter().map(|manifest| manifest.plan.stop_timeout);
    times.max().unwrap_or(Duration::from_secs(90))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stops_unwanted_units_and_starts_missing_ones() {
        let wanted = ["new@1", "same@1", "dead@1", "dying@1"].map(str::to_owned).into();
        let found = BTreeMap::from([
            ("old@1".to_owned(), Activity::Up),
            ("older@1".to_owned(), Activity::Stopping),
            ("gone@1".to_owned(), Activity::Down),
            ("same@1".to_owned(), Activity::Up),
            ("dead@1".to_owned(), Activity::Down),
            ("dying@1".to_owned(), Activity::Stopping),
        ]);
        let expected = Changes {
            stop: vec!["old@1".into(), "older@1".into()],
            start: vec!["dead@1".into(), "dying@1".into(), "new@1".into()],
        };
        assert_eq!(changes(&wanted, &found), expected);
    }
}
