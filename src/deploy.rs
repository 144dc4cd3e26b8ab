//! THE STORY: lock, resolve, stage, release phase, prove, commit, converge, settle, finish.
//! Whatever fails, the release that ran before runs on or runs again, and the
//! exit code says which.

mod rollback;
mod clash;
mod phase;
mod attempt;
mod recover;

pub use recover::{cancelled, recover, was_cancelled};

use crate::context::Context;
use crate::converge::{self, converge};
use crate::cut::Guard;
use crate::health::Watch;
use crate::stage::{self, Found, Staged};
use crate::store::Locked;
use crate::{owner, preflight};
use attempt::Attempt;
use model::error::{Error, Exit, Result};
use model::event::Step;
use model::installed::Stopped;
use model::reason::Reason;
use model::release::manifest::{Manifest, Plan};
use model::release::name::{Label, ReleaseName};
use model::release::settings::Strategy;
use model::release::state::State;
use model::release::url::ReleaseUrl;
use model::retention;
use model::units;
use phase::Phase;
use rollback::Failed;
use std::time::{Duration, Instant};

/// The result of a job, for the operator.
#[derive(Debug)]
pub struct Done {
    pub message: String,
    pub release: Option<Label>,
}

/// A staged release that was started and found healthy.
struct Candidate {
    manifest: Manifest,
    watch: Watch,
    /// What is committed again if this one fails, and what was stopped of it.
    before: Option<Label>,
    stopped: Stopped,
    /// Where what ran before is stopped for it: a stop of the daemon waits until it is
    /// committed.
    touching: Option<Guard>,
}

/// A release that is current.
struct Committed {
    manifest: Manifest,
    watch: Watch,
    before: Option<Label>,
    stopped: Stopped,
    /// When new connections began to come to it.
    since: Instant,
}

/// Deploys the release at `url`, with its release phase where the caller or its settings
/// want that.
pub async fn deploy(
    cx: &Context,
    app: Locked,
    url: &ReleaseUrl,
    run_release: bool,
) -> Result<Done> {
    let mut attempt = Attempt::begin(cx, &app, "deploy", Some(url))?;
    cx.rollback_window.remember(app.current()?);
    let result = deploy_steps(cx, &app, url, run_release, &mut attempt).await;
    match result.is_err() && !attempt.is_begun() && app.is_new() {
        true => forget(cx, app),
        false => attempt.record(cx, &app, &result),
    }
    result
}

async fn deploy_steps(
    cx: &Context,
    app: &Locked,
    url: &ReleaseUrl,
    run_release: bool,
    attempt: &mut Attempt,
) -> Result<Done> {
    let start = Instant::now();
    let found = resolve_steps(cx, app, url).await?;
    let phase = Phase::new(&found.settings, run_release);
    if let Some(manifest) = &found.installed
        && is_running(cx, app, manifest).await?
    {
        attempt.set_release(&manifest.label);
        phase.pass_over(cx, app, manifest)?;
        return Ok(already(app, manifest, found.resolved.name()));
    }
    attempt.under_way(app)?;
    let name = found.resolved.name().clone();
    let mut staged = stage_steps(cx, app, found).await?;
    attempt.set_release(&staged.manifest.label);
    if staged.reused && is_running(cx, app, &staged.manifest).await? {
        phase.pass_over(cx, app, &staged.manifest)?;
        return Ok(already(app, &staged.manifest, &name));
    }
    preflight::in_time(cx, &staged.manifest)?;
    staged.manifest.replaced = other(app, &staged.manifest)?.or(staged.manifest.replaced);
    phase.run(cx, app, &staged.manifest).await?;
    let candidate = prove(cx, app, staged).await?;
    let committed = commit(cx, app, candidate).await?;
    let settled = settle(cx, app, committed).await?;
    let Committed { manifest, before, .. } = &settled;
    clash::warn_of_missing_ports(cx, app, manifest, before.as_ref()).await;
    Ok(finish(cx, app, settled, "deployed", start).await)
}

/// Nothing stays of an app that never was: its name was most likely mistyped.
fn forget(cx: &Context, app: Locked) {
    if let Err(error) = app.remove_app() {
        cx.events.warn(error.chain());
    }
}

/// Goes back to a release that was good here; needs no network.
pub async fn roll_back(cx: &Context, app: Locked, to: Option<Label>) -> Result<Done> {
    let mut attempt = Attempt::begin(cx, &app, "rollback", None)?;
    let result = roll_back_steps(cx, &app, to, &mut attempt).await;
    attempt.record(cx, &app, &result);
    result
}

async fn roll_back_steps(
    cx: &Context,
    app: &Locked,
    to: Option<Label>,
    attempt: &mut Attempt,
) -> Result<Done> {
    let start = Instant::now();
    let mut manifest = preflight::rollback(app, to)?;
    attempt.set_release(&manifest.label);
    if is_running(cx, app, &manifest).await? {
        return Ok(already(app, &manifest, manifest.url.release()));
    }
    attempt.under_way(app)?;
    preflight::private_ports(cx, app, &mut manifest).await?;
    preflight::release(cx, app, &manifest)?;
    let candidate = prove(cx, app, Staged { manifest, reused: true }).await?;
    let committed = commit(cx, app, candidate).await?;
    Ok(finish(cx, app, committed, "rolled back to", start).await)
}

/// Brings a release onto the disk and checks it, for a deploy that comes later.
pub async fn stage_only(cx: &Context, app: Locked, url: &ReleaseUrl) -> Result<Done> {
    let found = match resolve_steps(cx, &app, url).await {
        Err(error) if app.is_new() => {
            forget(cx, app);
            return Err(error);
        }
        found => found?,
    };
    let manifest = stage_steps(cx, &app, found).await?.manifest;
    let message = format!("staged {} {}", app.name(), manifest.label);
    Ok(Done { message, release: Some(manifest.label) })
}

/// Loads the units and the port map of staged releases in the background, so that their
/// deploy need not wait for it.
pub async fn prepare(cx: &Context, app: Locked) -> Result<Done> {
    converge::load_units(cx, &app.snapshot()?).await?;
    converge::ports::load(cx).await?;
    Ok(Done { message: format!("{} has its units", app.name()), release: None })
}

/// Resolve: which release it is, and whether it is here already.
async fn resolve_steps(cx: &Context, app: &Locked, url: &ReleaseUrl) -> Result<Found> {
    preflight::names(app.name())?;
    preflight::environment(app, url)?;
    cx.events.step(Step::Resolve, url.to_string());
    if url.is_plain_http() {
        cx.events.warn(format!(
            "{url} is read over http: whoever is on the way can change the release, and read its \
             env; use https or S3"
        ));
    }
    let resolved = stage::resolve(cx, url).await?;
    stage::find(cx, app, resolved).await
}

/// Preflight and stage: nothing that runs is touched, and a release that is
/// refused does not stay.
async fn stage_steps(cx: &Context, app: &Locked, found: Found) -> Result<Staged> {
    let builds = owner::identities(cx, app).await?.builder.ids.uid;
    converge::ports::let_builds(cx, app.name(), builds, found.settings.metadata).await?;
    let staged = stage::stage(cx, app, found).await;
    if staged.is_err()
        && let Err(error) = converge::load_units(cx, &app.snapshot()?).await
    {
        // Releases may have gone to make room: their units have to go too.
        cx.events.warn(error.chain());
    }
    let mut staged = staged?;
    if staged.reused {
        preflight::private_ports(cx, app, &mut staged.manifest).await?;
    }
    if let Err(refused) = preflight::release(cx, app, &staged.manifest) {
        if !staged.reused {
            app.retire(&staged.manifest.label)?;
            app.sweep_in_background();
        }
        return Err(refused);
    }
    Ok(staged)
}

/// Starts the candidate and watches it until it is healthy, or not.
async fn prove(cx: &Context, app: &Locked, staged: Staged) -> Result<Candidate> {
    let manifest = staged.manifest;
    let snapshot = app.snapshot()?;
    converge::load_units(cx, &snapshot).await?;
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
    let mut candidate = Candidate { watch, manifest, before, stopped, touching: None };
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

fn failure(candidate: &Candidate) -> Failed {
    let Candidate { manifest, before, stopped, .. } = candidate;
    Failed::new(manifest.clone(), before.clone(), stopped.clone())
}

/// Strategy `handover`: it is proved on private ports beside the release that
/// runs, which is not touched. Only the types that must never run twice change
/// over here, when everything else is known to be well.
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
    start_and_watch(cx, &mut candidate.watch, &plan, timeout).await?;
    if singletons.is_empty() {
        return Ok(());
    }
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

/// Makes the candidate what runs here, now and after a reboot.
async fn commit(cx: &Context, app: &Locked, candidate: Candidate) -> Result<Committed> {
    let failed = failure(&candidate);
    let order = cx.common.committing.lock().await;
    if let Err(taken) = preflight::public_ports(cx, app, &candidate.manifest) {
        drop(order);
        return Err(failed.go_back(cx, app, taken).await);
    }
    let _decided = cx.cut.decide("its release is committed").await;
    let Candidate { mut manifest, watch, before, stopped, touching: _touching } = candidate;
    cx.events.step(Step::Commit, format!("release {}", manifest.label));
    manifest.state = manifest.state.proved();
    let committed = async {
        app.write_manifest(&manifest)?;
        app.commit(&manifest.label)?;
        drop(order);
        app.set_stopped(&Stopped::default())?;
        cx.events.step(Step::Converge, units::target(app.name()));
        converge::switch(cx, app).await?;
        app.keep_known();
        Ok(())
    };
    match committed.await {
        Ok(()) => Ok(Committed { manifest, watch, before, stopped, since: Instant::now() }),
        Err(why) => Err(failed.undo(cx, app, why).await),
    }
}

/// Watches the release that is current now; a failure commits the previous again.
async fn settle(cx: &Context, app: &Locked, mut committed: Committed) -> Result<Committed> {
    let window = committed.manifest.plan.settle;
    cx.events.step_of_at_most(Step::Settle, format!("{} s", window.as_secs_f32()), window);
    let Committed { manifest, before, stopped, .. } = &committed;
    let failed = Failed::new(manifest.clone(), before.clone(), stopped.clone());
    let settled = async {
        tokio::select! {
            settled = committed.watch.settle(window) => settled,
            who = cx.rollback_window.taken_back(committed.before.as_ref(), window) => Err(taken_back(&who)),
        }
    };
    match settled.await {
        Ok(()) => Ok(committed),
        Err(why) => Err(failed.undo(cx, app, why).await),
    }
}

/// A rollback in the settle window does not wait for its end.
fn taken_back(who: &str) -> Error {
    let error = Error::unhealthy("it was taken back").with_reason(Reason::TakenBack);
    error.because(format!("{who} asked for a rollback"))
}

/// The release is good: what is no longer needed goes. From here on nothing can
/// fail the deploy; what cannot be tidied is a warning.
async fn finish(
    cx: &Context,
    app: &Locked,
    committed: Committed,
    verb: &str,
    start: Instant,
) -> Done {
    cx.rollback_window.remember(None);
    for tidied in [
        app.set_state(&committed.manifest.label, State::Good),
        retire(cx, app, &committed).await,
        prune(cx, app).await,
    ] {
        if let Err(error) = tidied {
            cx.events.warn(error.chain());
        }
    }
    let label = committed.manifest.label;
    let snapshot = app.snapshot().ok();
    let target = snapshot.as_ref().and_then(|snapshot| snapshot.rollback_target());
    let kept = target.map(|manifest| format!("; {} is kept for rollback", manifest.label));
    let environment = committed.manifest.url.environment();
    let (name, seconds) = (app.name(), start.elapsed().as_secs_f32());
    let kept = kept.unwrap_or_default();
    let message = format!("{verb} {name} {label} ({environment}) in {seconds:.1} s{kept}");
    Done { message, release: Some(label) }
}

/// Stops the processes that the release has replaced, once nobody is connected
/// to them any more.
async fn retire(cx: &Context, app: &Locked, committed: &Committed) -> Result<()> {
    let timeout = committed.manifest.plan.drain_timeout;
    let end = committed.since + timeout;
    let left = end.saturating_duration_since(Instant::now());
    if converge::clients(cx, app).await? > 0 {
        let text = format!("at most {} s", timeout.as_secs_f32());
        cx.events.step_of_at_most(Step::Drain, text, left);
    }
    let _draining = cx.rollback_window.draining(left);
    converge::drain(cx, app, end).await?;
    converge(cx, app).await
}

async fn prune(cx: &Context, app: &Locked) -> Result<()> {
    cx.events.step(Step::Finish, "prune old releases");
    for old in retention::prunable(&app.snapshot()?, cx.settings.keep_releases) {
        app.retire(&old)?;
    }
    app.sweep_in_background();
    converge::load_units(cx, &app.snapshot()?).await?;
    converge::ports::load(cx).await
}

/// Returns the current release, if it is another one.
fn other(app: &Locked, manifest: &Manifest) -> Result<Option<Label>> {
    Ok(app.current()?.filter(|label| *label != manifest.label))
}

/// Returns the release to go back to if this one fails: the current one, or, where that is
/// this very release, the good one that it replaced.
fn fallback(app: &Locked, manifest: &Manifest) -> Result<Option<Label>> {
    let other = other(app, manifest)?;
    if other.is_some() || manifest.state.is_good() {
        return Ok(other);
    }
    let snapshot = app.snapshot()?;
    let replaced = manifest.replaced.as_ref().and_then(|label| snapshot.release(label));
    Ok(replaced.filter(|found| found.state.is_good()).map(|found| found.label.clone()))
}

async fn is_running(cx: &Context, app: &Locked, manifest: &Manifest) -> Result<bool> {
    let snapshot = app.snapshot()?;
    let current = snapshot.current.as_ref() == Some(&manifest.label);
    if !current || !manifest.state.is_good() || snapshot.stopped != Stopped::default() {
        return Ok(false);
    }
    converge::ports::restore(cx).await?;
    let mut watch = Watch::new(&cx.machine, manifest);
    if watch.fault().await?.is_some() {
        return Ok(false);
    }
    if manifest.serves.is_none() {
        watch.ask_for_reach(manifest);
        if let Some(fault) = watch.fault().await? {
            cx.events.warn(format!("it runs as version 0.1 has proved it, but {fault}"));
        }
    }
    Ok(true)
}

fn already(app: &Locked, manifest: &Manifest, name: &ReleaseName) -> Done {
    let message = match name == manifest.url.release() {
        true => format!("{} {} is already running", app.name(), manifest.label),
        false => {
            let (app, label) = (app.name(), &manifest.label);
            format!("{app} {name} is the same content as {label}, which is already running")
        }
    };
    Done { message, release: Some(manifest.label.clone()) }
}
