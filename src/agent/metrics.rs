//! Collects the metrics: what `deploy status` knows, the releases on the disk, deployd itself.

use super::caller::Caller;
use super::health_watch::HealthWatch;
use super::jobs::Jobs;
use super::respond::Reply;
use super::status::{self, ENTRIES, Look};
use super::watch::{self, Watcher};
use crate::host::disk::Space;
use crate::host::linux::Linux;
use crate::host::memory;
use crate::host::seams::Machine;
use crate::store::Store;
use axum::Extension;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use model::error::{Error, Result};
use model::history::Entry;
use model::metrics::exposition::MEDIA_TYPE;
use model::metrics::{self, App, Daemon, Disk, Instance};
use nix::time::{ClockId, clock_gettime};
use std::sync::Arc;
use std::time::Duration;

/// The longest collection; Prometheus waits no longer than that either, by default.
const LONGEST: Duration = Duration::from_secs(10);

pub(super) async fn get_metrics(
    _: Caller,
    State(jobs): State<Jobs>,
    Extension(watcher): Extension<Watcher>,
    Extension(health): Extension<HealthWatch>,
) -> Reply<Response> {
    let collected = collect(&jobs, &watcher, &health);
    let Ok(instance) = tokio::time::timeout(LONGEST, collected).await else {
        let why = format!("it took more than {} s", LONGEST.as_secs());
        let error = Error::failed("collect the metrics").because(why);
        return Err(error.help("see `deploy doctor`").into());
    };
    Ok(([(CONTENT_TYPE, MEDIA_TYPE)], metrics::render(&instance?)).into_response())
}

async fn collect(jobs: &Jobs, watcher: &Watcher, health: &HealthWatch) -> Result<Instance> {
    let machine: Arc<dyn Machine> = Arc::new(Linux::connect().await?);
    let store = super::store();
    let mut known = store.apps()?;
    // A mistake in DEPLOY_WATCH is in the status of the apps that are known.
    known.extend(watch::to_come(&known).unwrap_or_default());
    let mut apps = Vec::new();
    for app in known {
        let status = status::status(&machine, jobs, watcher, health, &app, Look::Earlier).await?;
        // Damaged state is in the status.
        let releases = status::releases(&app).unwrap_or_default();
        let history = app.history(ENTRIES).unwrap_or_default();
        let deployed = history.into_iter().rev().find(is_deploy);
        apps.push(App { status, releases, deployed });
    }
    Ok(Instance { host: host_name(), daemon: daemon(), disk: disk(&store), apps })
}

/// Whether it was to change the release, rather than restart, stop or scale processes.
fn is_deploy(entry: &Entry) -> bool {
    matches!(entry.action.as_str(), "deploy" | "rollback" | "recover")
}

/// Returns the host name, as the journal has it.
fn host_name() -> String {
    nix::unistd::gethostname().unwrap_or_default().to_string_lossy().into_owned()
}

fn daemon() -> Daemon {
    let cpu = clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).ok().map(Duration::from);
    Daemon { version: env!("CARGO_PKG_VERSION"), memory: memory::resident(), cpu }
}

fn disk(store: &Store) -> Option<Disk> {
    let dir = store.root().ancestors().find(|dir| dir.is_dir())?;
    let Space { bytes, size, inodes, .. } = Space::at(dir).ok()?;
    Some(Disk { free_bytes: bytes, size_bytes: size, free_inodes: inodes })
}
