//! THE STORY: lock, resolve, stage, release phase, prove, join, commit, converge, settle, finish.
//! Whatever fails, the release that ran before runs on or runs again, and the
//! exit code says which.

mod finish;
mod join;
mod known;
mod prove;
mod rollback;
mod clash;
mod phase;
mod attempt;
mod recover;

pub use recover::{cancelled, recover, was_cancelled};

use crate::context::Context;
use crate::converge;
use crate::cut::Guard;
use crate::health::Watch;
use crate::stage::{self, Found, Staged, Syncing};
use crate::store::Locked;
use crate::{owner, preflight};
use attempt::Attempt;
use finish::finish;
use join::{join, keep_if_synced};
use known::{already, fallback, is_running, other};
use model::error::{Error, Result};
use model::event::Step;
use model::installed::Stopped;
use model::reason::Reason;
use model::release::manifest::Manifest;
use model::release::name::Label;
use model::release::settings::Strategy;
use model::release::url::ReleaseUrl;
use model::units;
use phase::Phase;
pub use phase::RunRelease;
use prove::prove;
use rollback::{Failed, failure};
use std::time::Instant;

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
    /// Its files are still being written to the disk.
    sync: Syncing,
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
    run_release: RunRelease,
) -> Result<Done> {
    let mut attempt = Attempt::begin(cx, &app, "deploy", Some(url))?;
    cx.rollback_window.remember(app.current()?);
    let result = deploy_steps(cx, &app, url, run_release, &mut attempt).await;
    cx.machine.expect_no_ports();
    attempt.join(cx, &app).await;
    match result.is_err() && !attempt.is_begun() && app.is_new() {
        true => forget(cx, app),
        false => {
            attempt.record(cx, &app, &result);
            app.sweep_in_background();
        }
    }
    result
}

async fn deploy_steps(
    cx: &Context,
    app: &Locked,
    url: &ReleaseUrl,
    run_release: RunRelease,
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
    attempt.set_staged(&staged);
    if staged.reused && is_running(cx, app, &staged.manifest).await? {
        phase.pass_over(cx, app, &staged.manifest)?;
        return Ok(already(app, &staged.manifest, &name));
    }
    preflight::in_time(cx, &staged.manifest)?;
    staged.manifest.replaced = other(app, &staged.manifest)?.or(staged.manifest.replaced);
    phase.run(cx, app, &staged.manifest).await?;
    let candidate = prove(cx, app, staged).await?;
    let candidate = join(cx, app, candidate).await?;
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
    cx.machine.expect_no_ports();
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
    let candidate = prove(cx, app, Staged::reused(manifest)).await?;
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
    let Staged { manifest, sync, .. } = stage_steps(cx, &app, found).await?;
    keep_if_synced(cx, &app, &manifest.label, &sync).await?;
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
    let mut found = stage::find(cx, app, resolved).await?;
    if let Some(manifest) = found.installed.take() {
        found.installed = Some(stage::note_signer(app, manifest, found.signed.as_ref())?);
    }
    Ok(found)
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
        if app.current()?.as_ref() != Some(&staged.manifest.label) {
            staged.manifest.forget_scaling();
        }
        preflight::private_ports(cx, app, &mut staged.manifest).await?;
    }
    if let Err(refused) = preflight::release(cx, app, &staged.manifest) {
        if !staged.reused {
            app.retire(&staged.manifest.label)?;
            app.sweep_in_background();
        }
        return Err(refused);
    }
    if staged.manifest.plan.strategy == Strategy::Restart {
        // What runs will be stopped for it.
        keep_if_synced(cx, app, &staged.manifest.label, &staged.sync).await?;
    }
    Ok(staged)
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
    let Candidate { mut manifest, watch, before, stopped, touching: _touching, .. } = candidate;
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
