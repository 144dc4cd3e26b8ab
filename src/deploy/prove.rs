//! The proof: a candidate is started and watched, beside the release that runs or in its place.

use super::Candidate;
use super::join::until_synced;
use super::known::fallback;
use super::rollback::{Failed, failure};
use crate::context::Context;
use crate::converge;
use crate::health::Watch;
use crate::stage::Staged;
use crate::store::Locked;
use model::error::{Exit, Result};
use model::event::Step;
use model::installed::Snapshot;
use model::reason::Reason;
use model::release::manifest::Plan;
use model::release::settings::Strategy;
use model::units;
use std::time::Duration;

/// Starts the candidate and watches it until it is healthy, or not.
pub(super) async fn prove(cx: &Context, app: &Locked, staged: Staged) -> Result<Candidate> {
    let Staged { manifest, sync, .. } = staged;
    let snapshot = app.snapshot()?;
    load(cx, &snapshot, manifest.plan.strategy).await?;
    let before = fallback(app, &manifest)?;
    let most = manifest.plan.health_timeout + manifest.plan.prove;
    cx.events.step_of_at_most(Step::Prove, format!("release {}", manifest.label), most);
    let mut watch = Watch::new(&cx.machine, &manifest);
    if let Some(current) = snapshot.current()
        && !manifest.state.is_good()
    {
        watch.also_serve(current);
    }
    let stopped = snapshot.stopped;
    let mut candidate = Candidate { watch, manifest, sync, before, stopped, touching: None };
    let mut failed = failure(&candidate);
    let proved = match candidate.manifest.plan.strategy {
        Strategy::Handover => beside(cx, app, &mut candidate, &mut failed).await,
        Strategy::Restart => instead(cx, app, &mut candidate, &mut failed).await,
    };
    match proved {
        Ok(()) => {
            candidate.manifest.serves = candidate.watch.serves();
            if candidate.before.is_none()
                && let Some(gap) = candidate.watch.gap()
            {
                cx.events.warn(gap);
            }
            Ok(candidate)
        }
        Err(why) => Err(failed.go_back(cx, app, why).await),
    }
}

/// Loads the candidate's units, and beside that the guard of its private ports. If that fails it is
/// repeated, once there is a way back.
async fn load(cx: &Context, snapshot: &Snapshot, strategy: Strategy) -> Result<()> {
    let units = converge::load_new_units(cx, snapshot);
    match strategy {
        Strategy::Handover => tokio::join!(units, converge::ports::load_whole(cx)).0,
        Strategy::Restart => units.await,
    }
}

/// Strategy `handover`: it is proved on private ports beside the release that
/// runs, which is not touched. Only the types that must never run twice change
/// over here, when everything else is known to be well, and on the disk.
async fn beside(
    cx: &Context,
    app: &Locked,
    candidate: &mut Candidate,
    failed: &mut Failed,
) -> Result<()> {
    let plan = candidate.manifest.plan.clone();
    converge::ports::load_whole(cx).await?;
    candidate.watch.end_the_unhealthy(plan.stop_timeout).await?;
    let timeout = cx.remaining(plan.health_timeout);
    let mut singletons = candidate.watch.split_off(|kind| plan.is_singleton(kind));
    if !plan.private_ports.is_empty() {
        cx.machine.expect_ports();
    }
    start_and_watch(cx, &mut candidate.watch, &plan, timeout).await?;
    if singletons.is_empty() {
        return Ok(());
    }
    until_synced(cx, candidate).await?;
    let old = converge::live(cx, app).await?;
    let snapshot = app.snapshot()?;
    let alone = units::of_types(&snapshot, |kind| plan.is_singleton(kind));
    let old: Vec<String> = old.into_iter().filter(|unit| alone.contains(unit)).collect();
    failed.touches_what_runs();
    candidate.touching = Some(cx.cut.touch());
    cx.machine.stop(&old, converge::longest_stop(&snapshot)).await?;
    // The old singleton is stopped: the caller's deadline no longer applies.
    start_and_watch(cx, &mut singletons, &plan, plan.health_timeout).await?;
    candidate.watch.join(singletons);
    Ok(())
}

/// Strategy `restart`: its processes bind the public port themselves, so the
/// old ones have to stop first; a failure starts them again.
async fn instead(
    cx: &Context,
    app: &Locked,
    candidate: &mut Candidate,
    failed: &mut Failed,
) -> Result<()> {
    let old = converge::live(cx, app).await?;
    failed.touches_what_runs();
    candidate.touching = Some(cx.cut.touch());
    cx.machine.stop(&old, converge::longest_stop(&app.snapshot()?)).await?;
    converge::ports::load_for(cx, &candidate.manifest).await?;
    let plan = &candidate.manifest.plan;
    start_and_watch(cx, &mut candidate.watch, plan, plan.health_timeout).await
}

async fn start_and_watch(
    cx: &Context,
    watch: &mut Watch,
    plan: &Plan,
    timeout: Duration,
) -> Result<()> {
    let starting = cx.events.part("start");
    let units = watch.not_running().await?;
    let started = cx.machine.start(&units).await;
    drop(starting);
    // A job that fails while the candidate starts is the candidate's failure.
    started.map_err(|error| error.with_exit(Exit::Unhealthy).with_reason(Reason::StartFailed))?;
    watch.prove(timeout, &cx.events).await?;
    watch.stay_healthy(plan.prove).await
}
