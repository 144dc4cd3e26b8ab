//! THE STORY: lock, resolve, stage, prove, commit, converge, settle, finish.
//! Whatever fails, the release that ran before runs on, and the exit code says so.

use crate::converge::{self, converge};
use crate::error::{Error, Exit, Result};
use crate::event::Step;
use crate::health::Watch;
use crate::instance::Instance;
use crate::release::manifest::{Manifest, State};
use crate::release::name::Label;
use crate::release::settings::Strategy;
use crate::release::url::ReleaseUrl;
use crate::stage::{self, Staged};
use crate::store::{Entry, Locked, Stopped};
use crate::{admit, units};
use std::time::Instant;

/// How many of its last lines a process that failed is quoted with.
const LAST_LINES: usize = 20;

/// What was done, for the operator.
#[derive(Debug)]
pub struct Done {
    pub message: String,
    pub release: Label,
}

/// A staged release that was started and found healthy.
struct Candidate {
    manifest: Manifest,
    watch: Watch,
    /// What is current until the commit, if it is another one.
    before: Option<Label>,
}

/// A release that is current.
struct Committed {
    manifest: Manifest,
    watch: Watch,
    /// What is committed again if this one fails.
    before: Option<Label>,
}

/// Deploys the release at `url`.
pub async fn deploy(instance: &Instance, app: Locked, url: &ReleaseUrl) -> Result<Done> {
    let start = Instant::now();
    let before = app.current()?;
    let mut release = None;
    let result = deploy_steps(instance, &app, url, &mut release).await;
    record(instance, &app, "deploy", Some(url), release, before, start, &result);
    forget_untouched(app);
    result
}

async fn deploy_steps(
    instance: &Instance,
    app: &Locked,
    url: &ReleaseUrl,
    release: &mut Option<Label>,
) -> Result<Done> {
    let start = Instant::now();
    admit::environment(app, url)?;
    instance.events.step(Step::Resolve, url.to_string());
    let resolved = stage::resolve(instance, url).await?;
    let mut staged = stage::stage(instance, app, resolved).await?;
    *release = Some(staged.manifest.label.clone());
    if staged.reused && is_running(instance, app, &staged.manifest).await? {
        return Ok(already(app, staged.manifest));
    }
    admit::release(instance, app, &staged.manifest)?;
    admit::in_time(instance, &staged.manifest)?;
    staged.manifest.replaced = other(app, &staged.manifest)?.or(staged.manifest.replaced);
    let candidate = prove(instance, app, staged).await?;
    let committed = commit(instance, app, candidate).await?;
    let settled = settle(instance, app, committed).await?;
    Ok(finish(instance, app, settled, "deployed", start).await)
}

/// Goes back to a release that was good here; needs no network.
pub async fn roll_back(instance: &Instance, app: Locked, to: Option<Label>) -> Result<Done> {
    let start = Instant::now();
    let before = app.current()?;
    let mut release = None;
    let result = roll_back_steps(instance, &app, to, &mut release).await;
    record(instance, &app, "rollback", None, release, before, start, &result);
    result
}

async fn roll_back_steps(
    instance: &Instance,
    app: &Locked,
    to: Option<Label>,
    release: &mut Option<Label>,
) -> Result<Done> {
    let start = Instant::now();
    let manifest = admit::rollback(app, to)?;
    *release = Some(manifest.label.clone());
    if is_running(instance, app, &manifest).await? {
        return Ok(already(app, manifest));
    }
    let candidate = prove(instance, app, Staged { manifest, reused: true }).await?;
    let committed = commit(instance, app, candidate).await?;
    Ok(finish(instance, app, committed, "rolled back to", start).await)
}

/// Brings a release onto the disk and checks it, for a deploy that comes later.
pub async fn stage_only(instance: &Instance, app: Locked, url: &ReleaseUrl) -> Result<Done> {
    let staged = async {
        admit::environment(&app, url)?;
        instance.events.step(Step::Resolve, url.to_string());
        let resolved = stage::resolve(instance, url).await?;
        let staged = stage::stage(instance, &app, resolved).await?;
        admit::release(instance, &app, &staged.manifest)?;
        Ok(staged.manifest)
    }
    .await;
    let message = |manifest: &Manifest| format!("staged {} {}", app.name(), manifest.label);
    let done = staged.map(|manifest| Done { message: message(&manifest), release: manifest.label });
    forget_untouched(app);
    done
}

/// Takes an app up where a crash, an upgrade or a reboot left it: what is
/// current runs, and a settle window that was not over is watched to its end.
pub async fn recover(instance: &Instance, app: Locked) -> Result<String> {
    stage::abandon(instance, &app).await?;
    converge(instance, &app).await?;
    let Some(label) = app.current()? else {
        return Ok(format!("{}: nothing is current", app.name()));
    };
    let manifest = app.manifest(&label)?;
    if manifest.state == State::Proved {
        let mut watch = Watch::new(&manifest);
        watch.prove(&instance.systemd, manifest.plan.health_timeout).await?;
        let before = manifest.replaced.clone();
        settle(instance, &app, Committed { manifest, watch, before }).await?;
        app.set_state(&label, State::Good)?;
    }
    Ok(format!("{} {label} is current", app.name()))
}

/// Starts the candidate and watches it until it is healthy, or not.
///
/// With strategy `restart` its processes bind the public port themselves, so the
/// old ones have to stop first; a failure starts them again. Strategy `handover`
/// starts it beside the old release, on private ports, and is not built yet.
async fn prove(instance: &Instance, app: &Locked, staged: Staged) -> Result<Candidate> {
    let manifest = staged.manifest;
    let watch = Watch::new(&manifest);
    converge::load_units(instance, &app.snapshot()?).await?;
    let since = jiff::Timestamp::now().as_second();
    let before = other(app, &manifest)?;
    let mut candidate = Candidate { manifest, watch, before };
    let proved = match candidate.manifest.plan.strategy {
        Strategy::Restart => restart(instance, app, &mut candidate).await,
        Strategy::Handover => Err(Error::usage("DEPLOY_STRATEGY=handover is not available yet")),
    };
    match proved {
        Ok(()) => Ok(candidate),
        Err(why) => {
            let why = quote_log(instance, &candidate.manifest, since, why).await;
            Err(go_back(instance, app, &candidate.manifest, why).await)
        }
    }
}

/// The old processes stop, the candidate's start: no other order is possible on
/// one port.
async fn restart(instance: &Instance, app: &Locked, candidate: &mut Candidate) -> Result<()> {
    let manifest = &candidate.manifest;
    instance.events.step(Step::Prove, format!("release {}", manifest.label));
    let found = instance.systemd.consists_of(&units::target(app.name())).await?;
    let live = found.into_iter().filter(|(_, live)| *live).map(|(unit, _)| unit);
    let longest = converge::longest_stop(&app.snapshot()?);
    instance.systemd.stop(&live.collect::<Vec<_>>(), longest).await?;
    instance.systemd.start(&candidate.watch.units()).await.map_err(unhealthy)?;
    let timeout = instance.remaining(manifest.plan.health_timeout);
    candidate.watch.prove(&instance.systemd, timeout).await
}

/// Makes the candidate what runs here, now and after a reboot.
async fn commit(instance: &Instance, app: &Locked, candidate: Candidate) -> Result<Committed> {
    let Candidate { mut manifest, watch, before } = candidate;
    instance.events.step(Step::Commit, format!("release {}", manifest.label));
    if manifest.state != State::Good {
        manifest.state = State::Proved;
    }
    let committed = async {
        app.write_manifest(&manifest)?;
        app.commit(&manifest.label)?;
        app.set_stopped(&Stopped::default())?;
        instance.events.step(Step::Converge, units::target(app.name()));
        converge(instance, app).await
    };
    match committed.await {
        Ok(()) => Ok(Committed { manifest, watch, before }),
        Err(why) => Err(undo(instance, app, &manifest, before, why).await),
    }
}

/// Watches the release that is current now; a failure commits the previous again.
async fn settle(instance: &Instance, app: &Locked, mut committed: Committed) -> Result<Committed> {
    let window = committed.manifest.plan.settle;
    instance.events.step(Step::Settle, format!("{} s", window.as_secs_f32()));
    let since = jiff::Timestamp::now().as_second();
    match committed.watch.settle(&instance.systemd, window).await {
        Ok(()) => Ok(committed),
        Err(why) => {
            let Committed { manifest, before, .. } = committed;
            let why = quote_log(instance, &manifest, since, why).await;
            Err(undo(instance, app, &manifest, before, why).await)
        }
    }
}

/// The release is good: what is no longer needed goes. From here on nothing can
/// fail the deploy; what cannot be tidied is a warning.
async fn finish(
    instance: &Instance,
    app: &Locked,
    committed: Committed,
    verb: &str,
    start: Instant,
) -> Done {
    let label = committed.manifest.label;
    if let Err(error) = tidy(instance, app, &label).await {
        instance.events.warn(error.chain());
    }
    let target = app.snapshot().ok().and_then(|snapshot| {
        snapshot
            .rollback_target()
            .map(|manifest| format!("; {} is kept for rollback", manifest.label))
    });
    let environment = committed.manifest.url.environment();
    let (name, seconds) = (app.name(), start.elapsed().as_secs_f32());
    let kept = target.unwrap_or_default();
    let message = format!("{verb} {name} {label} ({environment}) in {seconds:.1} s{kept}");
    Done { message, release: label }
}

async fn tidy(instance: &Instance, app: &Locked, label: &Label) -> Result<()> {
    instance.events.step(Step::Finish, "prune old releases");
    app.set_state(label, State::Good)?;
    for old in Locked::prunable(&app.snapshot()?, instance.settings.keep_releases) {
        app.remove_release(&old)?;
    }
    converge::load_units(instance, &app.snapshot()?).await
}

/// Commits what was current before again, or nothing if that was so.
async fn undo(
    instance: &Instance,
    app: &Locked,
    failed: &Manifest,
    before: Option<Label>,
    why: Error,
) -> Error {
    let undone = match before {
        Some(label) => app.commit(&label),
        None if failed.state == State::Good => Ok(()),
        None => app.uncommit(),
    };
    match undone {
        Ok(()) => go_back(instance, app, failed, why).await,
        Err(error) => stuck(app, failed, why, error),
    }
}

/// Makes what runs follow `current` again, after the candidate failed, and says
/// how that went.
async fn go_back(instance: &Instance, app: &Locked, failed: &Manifest, why: Error) -> Error {
    let current = app.current().ok().flatten();
    let next = match &current {
        Some(label) if *label != failed.label => format!("{label} starts again"),
        _ => "it is stopped".to_owned(),
    };
    instance.events.step(Step::RollBack, format!("release {} failed; {next}", failed.label));
    if failed.state != State::Good
        && let Err(error) = app.set_state(&failed.label, State::Failed)
    {
        instance.events.warn(error.chain());
    }
    match restore(instance, app, current.as_ref()).await {
        Err(error) => stuck(app, failed, why, error),
        Ok(()) => match current.filter(|label| *label != failed.label) {
            Some(label) => {
                let what = format!("{} {} failed, {label} runs again", app.name(), failed.label);
                Error::new(Exit::RolledBack, what).because(why)
            }
            None => {
                let what = format!("{} {} failed", app.name(), failed.label);
                Error::unhealthy(what).because(why)
            }
        },
    }
}

/// Starts what is current again and waits until it is healthy.
async fn restore(instance: &Instance, app: &Locked, current: Option<&Label>) -> Result<()> {
    converge(instance, app).await?;
    let Some(label) = current else { return Ok(()) };
    let manifest = app.manifest(label)?;
    let mut watch = Watch::new(&manifest);
    let snapshot = app.snapshot()?;
    watch.retain(|process| !snapshot.stopped.covers(process));
    watch.prove(&instance.systemd, manifest.plan.health_timeout).await
}

/// Neither release could be brought up: the operator has to look.
fn stuck(app: &Locked, failed: &Manifest, why: Error, error: Error) -> Error {
    let what = format!(
        "{} {} failed ({}) and the previous release could not be brought back",
        app.name(),
        failed.label,
        why.chain()
    );
    let help = format!(
        "look at `deploy status {0}` and `deploy logs {0}`, then `deploy rollback {0} --to LABEL` \
         or `deploy start {0}`",
        app.name()
    );
    Error::new(Exit::Stuck, what).because(error).help(help)
}

/// What is current, if it is another release.
fn other(app: &Locked, manifest: &Manifest) -> Result<Option<Label>> {
    Ok(app.current()?.filter(|label| *label != manifest.label))
}

/// A job that failed while the candidate starts is the candidate's failure.
fn unhealthy(error: Error) -> Error {
    error.with_exit(Exit::Unhealthy)
}

/// Adds the last lines that the candidate's processes wrote.
async fn quote_log(instance: &Instance, candidate: &Manifest, since: i64, why: Error) -> Error {
    let mut lines = Vec::new();
    for process in candidate.plan.instances() {
        let app = candidate.url.app();
        // The old release's process of this name has the same identifier.
        let unit = units::service(app, &candidate.label, &process);
        let identifier = format!("{app}.{process}");
        let last = instance.systemd.last_lines(&unit, &identifier, since, LAST_LINES).await;
        lines.extend(last.into_iter().map(|line| format!("{process}: {line}")));
    }
    why.with_log(lines)
}

async fn is_running(instance: &Instance, app: &Locked, manifest: &Manifest) -> Result<bool> {
    let snapshot = app.snapshot()?;
    if snapshot.current.as_ref() != Some(&manifest.label) || snapshot.stopped != Stopped::default()
    {
        return Ok(false);
    }
    Watch::new(manifest).is_healthy(&instance.systemd).await
}

fn already(app: &Locked, manifest: Manifest) -> Done {
    let message = format!("{} {} is already running", app.name(), manifest.label);
    Done { message, release: manifest.label }
}

/// A deploy that failed before anything was installed leaves no trace of the app.
fn forget_untouched(app: Locked) {
    if app.is_untouched()
        && let Err(error) = app.remove_app()
    {
        tracing::warn!("{}", error.chain());
    }
}

#[expect(clippy::too_many_arguments, reason = "the columns of a history entry")]
fn record(
    instance: &Instance,
    app: &Locked,
    action: &str,
    url: Option<&ReleaseUrl>,
    release: Option<Label>,
    before: Option<Label>,
    start: Instant,
    result: &Result<Done>,
) {
    let (exit, message) = match result {
        Ok(done) => (Exit::Done, done.message.clone()),
        Err(error) => (error.exit(), error.chain()),
    };
    let text = |label: Label| label.to_string();
    let entry = Entry {
        at: jiff::Timestamp::now(),
        action: action.to_owned(),
        who: instance.who.clone(),
        url: url.map(ReleaseUrl::to_string),
        release: release.map(text),
        before: before.map(text),
        after: app.current().ok().flatten().map(text),
        exit,
        message,
        seconds: start.elapsed().as_secs_f64(),
    };
    if let Err(error) = app.record(&entry) {
        instance.events.warn(error.chain());
    }
}
