//! After a crash, an upgrade, a reboot: there is no log to replay, recovery is
//! the last steps of a deploy again.

use super::attempt::Attempt;
use super::join::drop_unsynced;
use super::{Candidate, Committed, Done, Failed, commit, fallback, finish, rollback, settle};
use crate::context::{Context, blocking};
use crate::converge::{self, converge};
use crate::formation;
use crate::health::Watch;
use crate::owner;
use crate::stage::{self, Syncing};
use crate::store::Locked;
use model::error::{Error, Exit, Result};
use model::reason::Reason;
use model::release::manifest::Manifest;
use std::time::Instant;

/// Takes an app up where a crash, an upgrade or a reboot left it: what is
/// current runs, a settle window that was not over is watched to its end, and
/// the history says how it went on with what was under way.
pub async fn recover(cx: &Context, app: Locked) -> Result<Done> {
    let result = recover_steps(cx, &app).await;
    drop_unsynced(cx, &app).await;
    result
}

async fn recover_steps(cx: &Context, app: &Locked) -> Result<Done> {
    if app.is_moving() {
        finish_moving(cx, app).await;
    }
    if blocking(|| app.adopt())? {
        if let Err(error) = owner::settle_in(cx, app).await {
            cx.events.warn(error.chain());
        }
        let what = "its state is another machine's: its releases are staged here, none runs";
        cx.events.warn(format!("{}: {what}", app.name()));
    }
    for abandoned in [stage::abandon(cx, app).await, stop_phase(cx, app).await] {
        if let Err(error) = abandoned {
            cx.events.warn(error.chain());
        }
    }
    formation::recover(app)?;
    let current = app.current()?.map(|label| app.manifest(&label)).transpose()?;
    let (interrupted, settling) = match (Attempt::interrupted(app)?, current) {
        (None, current) if current.as_ref().is_none_or(|now| !now.state.is_settling()) => {
            converge(cx, app).await?;
            return Ok(current_is(app, current));
        }
        found => found,
    };
    let mut attempt = match interrupted {
        Some(attempt) => attempt,
        None => Attempt::begin(cx, app, "recover", None)?,
    };
    let result = match settling {
        Some(manifest) if manifest.state.is_settling() => {
            attempt.set_release(&manifest.label);
            settle_again(cx, app, manifest).await
        }
        Some(manifest) if attempt.is_of_processes() => {
            attempt.set_release(&manifest.label);
            go_on_with_processes(cx, app, &attempt, &manifest).await
        }
        current => interrupted_at(cx, app, &attempt, current).await,
    };
    attempt.record(cx, app, &result);
    result
}

/// Goes on with a move to a user of its own that was cut short: what ran is stopped, since
/// some of its files are that user's by now.
async fn finish_moving(cx: &Context, app: &Locked) {
    let moved = async {
        let live: Vec<String> = converge::live(cx, app).await?.into_iter().collect();
        cx.machine.stop(&live, converge::longest_stop(&app.snapshot()?)).await?;
        owner::move_in(cx, app).await
    };
    if let Err(error) = moved.await {
        cx.events.warn(error.chain());
    }
}

/// Undoes what a deploy has done that was cancelled before its commit: whatever ran before
/// it runs again. What is staged by then, and on the disk, stays so.
pub async fn cancelled(cx: &Context, app: Locked, what: &str, who: &str) -> Error {
    let error = undo(cx, &app, what, who).await;
    drop_unsynced(cx, &app).await;
    error
}

async fn undo(cx: &Context, app: &Locked, what: &str, who: &str) -> Error {
    for abandoned in [stage::abandon(cx, app).await, stop_phase(cx, app).await] {
        if let Err(error) = abandoned {
            cx.events.warn(error.chain());
        }
    }
    let attempt = match Attempt::interrupted(app) {
        Ok(Some(attempt)) => attempt,
        Ok(None) => {
            // Nothing was begun: the history alone is told, which watch mode asks.
            let error = Err(was_cancelled(what, who));
            if let Ok(attempt) = Attempt::begin(cx, app, "deploy", None) {
                attempt.record(cx, app, &error);
            }
            return error.err().unwrap_or_else(|| was_cancelled(what, who));
        }
        Err(error) => return error,
    };
    let current = app.current().ok().flatten();
    // Unhealthy as it may be: the deploy has done nothing to it.
    let restored = match rollback::runs_on(cx, app).await {
        true => converge(cx, app).await,
        false => rollback::restore(cx, app, current.as_ref()).await,
    };
    let error = match restored {
        Ok(()) => was_cancelled(what, who),
        Err(why) => stuck(app, what.to_owned(), why),
    };
    let result = Err(error);
    attempt.record(cx, app, &result);
    result.err().unwrap_or_else(|| was_cancelled(what, who))
}

/// The error for the caller of a job that somebody has cancelled.
pub fn was_cancelled(what: &str, who: &str) -> Error {
    let error = Error::new(Exit::Cancelled, what).because(format!("{who} cancelled it"));
    error.help("ask for it again if that was a mistake")
}

fn stuck(app: &Locked, what: String, why: Error) -> Error {
    let help = format!("look at `deploy status {0}` and `deploy logs {0}`", app.name());
    Error::new(Exit::RollbackFailed, what).because(why).help(help)
}

/// Stops the release phase of a deploy that was cut off; it is not run again.
async fn stop_phase(cx: &Context, app: &Locked) -> Result<()> {
    match app.under_way() {
        Some(_) => stage::phase::stop(cx, app).await,
        None => Ok(()),
    }
}

/// The settle window of what was committed begins again.
async fn settle_again(cx: &Context, app: &Locked, manifest: Manifest) -> Result<Done> {
    let start = Instant::now();
    let (before, stopped) = (fallback(app, &manifest)?, app.snapshot()?.stopped);
    let watch = Watch::new(&cx.machine, &manifest);
    let sync = Syncing::of_nothing();
    let candidate = Candidate { watch, manifest, sync, before, stopped, touching: None };
    let mut committed = commit(cx, app, candidate).await?;
    let timeout = committed.manifest.plan.health_timeout;
    if let Err(why) = committed.watch.prove(timeout, &cx.events).await {
        let Committed { manifest, before, stopped, .. } = committed;
        return Err(Failed::new(manifest, before, stopped).undo(cx, app, why).await);
    }
    let settled = settle(cx, app, committed).await?;
    Ok(finish(cx, app, settled, "recovered", start).await)
}

/// Ends a job that had not committed its release yet, or had nothing left to do.
async fn interrupted_at(
    cx: &Context,
    app: &Locked,
    attempt: &Attempt,
    current: Option<Manifest>,
) -> Result<Done> {
    let label = current.as_ref().map(|manifest| &manifest.label);
    let restored = rollback::restore(cx, app, label).await;
    let what = format!("{} was interrupted: deployd or the instance ended", attempt.what());
    match (restored, label) {
        (Err(why), _) => Err(stuck(app, what, why)),
        (Ok(()), Some(label)) if Some(label) != attempt.before() => Ok(current_is(app, current)),
        (Ok(()), label) => {
            let runs = label.map_or("nothing".into(), |label| format!("release {label}"));
            let error = Error::failed(what).because(format!("{runs} is current, as before"));
            Err(error.help("ask for it again"))
        }
    }
}

/// Ends a restart, stop, start or scaling that was cut off: the processes that are to run do.
async fn go_on_with_processes(
    cx: &Context,
    app: &Locked,
    attempt: &Attempt,
    manifest: &Manifest,
) -> Result<Done> {
    let what = format!("{} was interrupted: deployd or the instance ended", attempt.what());
    if let Err(why) = converge(cx, app).await {
        return Err(stuck(app, what, why));
    }
    let stopped = app.snapshot()?.stopped;
    let (run, rest): (Vec<_>, Vec<_>) = manifest
        .plan
        .instances()
        .map(|process| process.to_string())
        .partition(|process| !stopped.covers(process));
    let list = |names: &[String], one: &str, several: &str| match names {
        [] => String::new(),
        [name] => format!(", {name} {one}"),
        names => format!(", {} {several}", names.join(" and ")),
    };
    let (runs, stays) = (list(&run, "runs", "run"), list(&rest, "stays stopped", "stay stopped"));
    let why = format!("release {} is current{runs}{stays}", manifest.label);
    let help =
        format!("`deploy status {}` says how it is; ask for it again if need be", app.name());
    Err(Error::failed(what).because(why).help(help).with_reason(Reason::Interrupted))
}

fn current_is(app: &Locked, current: Option<Manifest>) -> Done {
    let release = current.map(|manifest| manifest.label);
    let what = release.as_ref().map_or("nothing".into(), |label| format!("release {label}"));
    Done { message: format!("{}: {what} is current", app.name()), release }
}
