//! Questions about what is installed and what runs.

use super::health_watch::HealthWatch;
use super::jobs::{Job, Jobs};
use super::watch::Watcher;
use crate::context;
use crate::converge;
use crate::formation;
use crate::health::Watch;
use crate::host::seams::Machine;
use crate::host::service_status::ServiceStatus;
use crate::host::systemd::monotonic;
use crate::store::{App, Seen};
use crate::switched::Restored;
use jiff::Timestamp;
use model::api::{AppStatus, Leaving, ProcessStatus, ReleaseStatus};
use model::error::Result;
use model::history::Entry;
use model::installed::Snapshot;
use model::release::manifest::{Manifest, Process};
use model::units;
use std::sync::Arc;
use std::time::Duration;

/// Whether the processes are probed for the answer.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Look {
    Now,
    /// The answer has what deployd's own last look found.
    Earlier,
}

/// How many entries of the history are shown.
pub const ENTRIES: usize = 50;
/// Restarts from which a process that is not up for long is in a crash loop.
const CRASHES: u32 = 3;
const STEADY: Duration = Duration::from_secs(60);

pub async fn status(
    machine: &Arc<dyn Machine>,
    jobs: &Jobs,
    watcher: &Watcher,
    health: &HealthWatch,
    app: &App,
    look: Look,
) -> Result<AppStatus> {
    let Seen { snapshot, damage, .. } = app.seen();
    let damaged = damage.map(|damage| match damage.advice() {
        Some(help) => format!("{} ({help})", damage.chain()),
        None => damage.chain(),
    });
    let snapshot =
        snapshot.unwrap_or_else(|| Snapshot::of_nothing(app.name().clone(), app.dir().to_owned()));
    let working = jobs.active(app.name());
    let mut status = AppStatus {
        app: app.name().to_string(),
        environment: None,
        release: snapshot.current.as_ref().map(ToString::to_string),
        url: None,
        state: None,
        healthy: false,
        fault: None,
        damaged: None,
        port: snapshot.current().filter(|m| m.plan.has_web()).map(|m| m.plan.port.get()),
        port_map: port_map(jobs, &snapshot),
        processes: Vec::new(),
        one_offs: Vec::new(),
        scaled: None,
        settings: None,
        health: None,
        health_path: snapshot.current().and_then(|manifest| manifest.plan.health_path.clone()),
        leaving: leaving(&**machine, &snapshot, working.as_deref()).await?,
        rollback: snapshot.rollback_target().map(|manifest| manifest.label.to_string()),
        working: working.as_ref().map(|job| job.what.clone()),
        working_id: working.map(|job| job.id.clone()),
        last: app.history(1).unwrap_or_default().pop(),
        watch: watcher.status(app),
    };
    if let Some(manifest) = snapshot.current() {
        status.environment = Some(manifest.url.environment().to_string());
        status.url = Some(manifest.url.to_string());
        status.state = Some(manifest.state);
        for process in manifest.plan.instances() {
            status.processes.push(one(&**machine, &snapshot, manifest, &process).await?);
        }
        let mut watch = Watch::new(machine, manifest);
        watch.retain(|process| !snapshot.stopped.covers(process));
        if look == Look::Now && !watch.is_empty() {
            let look = watch.look().await?;
            health.record(app.name(), manifest.label.as_str(), look.fault.clone(), look.slowest);
            status.fault = look.fault;
        }
        status.health = health.of(app.name(), manifest.label.as_str());
        if look == Look::Earlier {
            status.fault = status.health.as_ref().and_then(|health| health.fault.clone());
        }
        status.healthy = status.fault.is_none();
        status.scaled = scaled(manifest);
        status.settings = settings(app, manifest);
    }
    if damaged.is_some() {
        (status.healthy, status.damaged) = (false, damaged);
    }
    Ok(status)
}

/// Who knows that another program flushes the port map now and then can make it stop.
fn port_map(jobs: &Jobs, snapshot: &Snapshot) -> Option<String> {
    snapshot.current().filter(|manifest| !manifest.plan.private_ports.is_empty())?;
    let Restored { times, last } = converge::ports::restored(&jobs.common())?;
    let at = last.strftime("%Y-%m-%d %H:%M:%SZ");
    Some(format!("flushed by another program, and loaded again: {times} times, last at {at}"))
}

/// Describes the counts that differ from those of the release.
fn scaled(manifest: &Manifest) -> Option<String> {
    let one = |(kind, now, staged)| format!("{kind}={now}, and the release has {staged}");
    let all: Vec<String> = manifest.deviations().into_iter().map(one).collect();
    (!all.is_empty()).then(|| all.join("; "))
}

/// Describes what the processes do not run by yet.
fn settings(app: &App, manifest: &Manifest) -> Option<String> {
    let now = context::load_settings();
    match now.and_then(|(env, _)| formation::unapplied(&env, app, manifest)) {
        Ok(unapplied) => unapplied,
        Err(error) => Some(format!("no deploy until this is mended: {}", error.chain())),
    }
}

async fn leaving(
    machine: &dyn Machine,
    snapshot: &Snapshot,
    working: Option<&Job>,
) -> Result<Option<Leaving>> {
    let Some(until) = working.and_then(|job| job.rollback_window.until()) else { return Ok(None) };
    let leaving = converge::leaving(machine, snapshot).await?;
    let ports: Vec<u16> = leaving.values().copied().collect();
    let connections = converge::connections(machine, &ports).unwrap_or_default();
    Ok(Some(Leaving { units: leaving.into_keys().collect(), connections, until }))
}

async fn one(
    machine: &dyn Machine,
    snapshot: &Snapshot,
    manifest: &Manifest,
    process: &Process,
) -> Result<ProcessStatus> {
    let unit = units::service(&snapshot.app, &manifest.label, process);
    let found = machine.status(&unit).await?;
    let micros = i64::try_from(found.active_since).unwrap_or(0);
    let since = Timestamp::from_microsecond(micros).ok();
    let stopped = snapshot.stopped.covers(&process.to_string()) && !found.is_running();
    Ok(ProcessStatus {
        process: process.to_string(),
        unit,
        state: if stopped { "stopped".into() } else { found.sub_state.clone() },
        pid: (found.main_pid != 0).then_some(found.main_pid),
        since: since.filter(|_| found.is_running()),
        restarts: found.n_restarts,
        memory: found.memory,
        port: process.port,
        addresses: addresses(machine, &found, process).await,
        ended: (!stopped && !found.is_running() && found.exec_main_code != 0)
            .then(|| found.ending()),
        crash_loop: is_crash_loop(&found),
        cpu_seconds: found.cpu.map(|cpu| cpu.as_secs_f64()),
        connections: process.port.and_then(|port| machine.connections(port).ok()),
    })
}

/// Where the process listens on its port.
async fn addresses(machine: &dyn Machine, found: &ServiceStatus, process: &Process) -> Vec<String> {
    let Some(port) = process.port.filter(|_| found.is_running()) else { return Vec::new() };
    let all = machine.endpoints(&found.control_group).await;
    all.iter().filter(|one| one.port == port).map(ToString::to_string).collect()
}

/// Whether a service ends again and again: it was restarted, and is not up for long.
fn is_crash_loop(found: &ServiceStatus) -> bool {
    let up = Duration::from_micros(monotonic().saturating_sub(found.active_since_monotonic));
    found.n_restarts >= CRASHES && (!found.is_running() || up < STEADY)
}

/// The installed releases of an app, newest first.
pub fn releases(app: &App) -> Result<Vec<ReleaseStatus>> {
    let seen = app.seen();
    let snapshot = match (seen.snapshot, seen.damage) {
        (Some(snapshot), _) => snapshot,
        (None, Some(damage)) => return Err(damage),
        (None, None) => return Ok(Vec::new()),
    };
    let back = snapshot.rollback_target().map(|manifest| &manifest.label);
    let release = |manifest: &Manifest| ReleaseStatus {
        app: app.name().to_string(),
        release: manifest.label.to_string(),
        url: manifest.url.to_string(),
        state: manifest.state,
        current: snapshot.current.as_ref() == Some(&manifest.label),
        rollback: back == Some(&manifest.label),
        staged_at: manifest.staged_at,
        files: manifest.files,
        bytes: manifest.bytes,
        why: model::variant::why(manifest, &snapshot.releases),
        signed_by: manifest.signed_by.clone(),
    };
    Ok(snapshot.releases.iter().rev().map(release).collect())
}

/// The newest entries of an app's history, newest first.
pub fn history(app: &App) -> Result<Vec<Entry>> {
    let mut entries = app.history(ENTRIES)?;
    entries.reverse();
    Ok(entries)
}
