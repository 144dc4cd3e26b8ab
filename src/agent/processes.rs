//! Operator commands for an installed app: restart, stop, start, remove.

use super::logs;
use crate::context::{Context, blocking};
use crate::converge::{self, converge};
use crate::formation::{Counts, Formation};
use crate::health::Watch;
use crate::host::transient::STOP_TIMEOUT;
use crate::owner;
use crate::store::{App, Locked};
use model::error::{Error, Exit, Result};
use model::event::Step;
use model::installed::Stopped;
use model::reason::Reason;
use model::release::manifest::{Manifest, Process};
use model::release::name::AppName;
use model::selector;
use std::collections::{BTreeMap, BTreeSet};

/// An app, and perhaps one process type or process of it.
#[derive(Clone, Debug)]
pub struct Selected {
    pub app: AppName,
    pub process: Option<String>,
}

/// Parses `[APP] [PROCESS]`.
pub fn select(apps: &[App], words: &[String]) -> Result<Selected> {
    let selected = selector::select(&logs::known(apps), words)?;
    match selected.apps.as_slice() {
        [app] => Ok(Selected { app: parse(app)?, process: selected.process }),
        apps => {
            let error = Error::usage(format!("choose one of {}", apps.join(", ")));
            Err(error.because("this is done to one app at a time").help("name one app"))
        }
    }
}

pub fn parse(app: &str) -> Result<AppName> {
    app.parse().map_err(|e| Error::usage(format!("find the app {app:?}")).because(e))
}

/// An operation on the processes of an app.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProcessAction {
    Restart,
    Stop,
    Start,
}

impl ProcessAction {
    pub fn name(self) -> &'static str {
        match self {
            ProcessAction::Restart => "restart",
            ProcessAction::Stop => "stop",
            ProcessAction::Start => "start",
        }
    }
}

pub async fn perform(
    action: ProcessAction,
    cx: &Context,
    app: Locked,
    process: Option<&str>,
    own_user: bool,
) -> Result<String> {
    drop(cx.cut.decide(action.name()).await);
    match action {
        ProcessAction::Restart if own_user => move_in(cx, app).await,
        ProcessAction::Restart => restart(cx, app, process).await,
        ProcessAction::Stop => stop(cx, app, process).await,
        ProcessAction::Start => start(cx, app, process).await,
    }
}

/// Restarts processes and waits until they are healthy: those that clients reach one after the
/// other, and never all of them at once.
async fn restart(cx: &Context, app: Locked, process: Option<&str>) -> Result<String> {
    let mut formation = Formation::open(cx, &app, current(&app)?)?;
    let manifest = formation.manifest().clone();
    let mut chosen = choose(&manifest, process)?;
    let snapshot = app.snapshot()?;
    let before = match process {
        Some(_) => {
            unstop(&app, &manifest, &chosen)?;
            None
        }
        None => {
            // A stopped process stays stopped, unless it is named.
            chosen.retain(|process| !snapshot.stopped.covers(&process.to_string()));
            formation.take_over_settings()?
        }
    };
    let with = if before.is_some() { ", with the settings that agent.env has now" } else { "" };
    if let Err(why) = formation.restart(&chosen).await {
        if let Some(before) = before
            && let Err(error) = formation.put_back(before).await
        {
            cx.events.warn(error.chain());
        }
        return Err(why);
    }
    Ok(format!("restarted {} {}{with}", app.name(), names(&chosen)))
}

/// Runs more or fewer processes of some types until another release is deployed.
pub async fn scale(cx: &Context, app: Locked, counts: &BTreeMap<String, u16>) -> Result<String> {
    drop(cx.cut.decide("scale").await);
    let mut formation = Formation::open(cx, &app, current(&app)?)?;
    let plan = &formation.manifest().plan;
    let kinds = || plan.processes.iter().map(|one| one.kind.to_string()).collect::<Vec<_>>();
    let mut wanted = Counts::new();
    for (word, count) in counts {
        let Some(service) = plan.processes.iter().find(|one| one.kind.as_str() == word) else {
            let error = Error::usage(format!("scale {word} of {}", app.name()));
            let error = error.because(format!("its Procfile has {}", kinds().join(", ")));
            return Err(error.help("name one of those").with_reason(Reason::NotFound));
        };
        wanted.insert(service.kind.clone(), *count);
    }
    let changed = formation.scale(&wanted).await?;
    Ok(format!("scaled {}: {changed}", app.name()))
}

/// Gives an app of 0.1.0 its own user; the app restarts whether or not that works.
async fn move_in(cx: &Context, app: Locked) -> Result<String> {
    let snapshot = app.snapshot()?;
    let name = app.name().clone();
    if !owner::may_move(cx, &snapshot) {
        let error = Error::usage(format!("give {name} a user of its own"));
        let why = match cx.settings.user {
            Some(_) => "DEPLOY_USER gives all apps one",
            None => "it has one",
        };
        return Err(error.because(why));
    }
    let moved = async {
        let live: Vec<String> = converge::live(cx, &app).await?.into_iter().collect();
        cx.machine.stop(&live, converge::longest_stop(&snapshot)).await?;
        cx.events.step(Step::Converge, format!("{name} gets a user of its own"));
        owner::move_in(cx, &app).await
    };
    let moved = moved.await;
    converge(cx, &app)
        .await
        .map_err(|error| error.with_exit(Exit::Unhealthy).with_reason(Reason::StartFailed))?;
    moved?;
    let manifest = current(&app)?;
    let mut chosen = choose(&manifest, None)?;
    chosen.retain(|process| !snapshot.stopped.covers(&process.to_string()));
    prove(cx, &manifest, &chosen).await?;
    Ok(format!("restarted {name} as {}", manifest.plan.user))
}

/// Stops processes until they are started again, also across a reboot.
async fn stop(cx: &Context, app: Locked, process: Option<&str>) -> Result<String> {
    let manifest = current(&app)?;
    let chosen = choose(&manifest, process)?;
    let mut stopped = app.snapshot()?.stopped;
    match process {
        None => stopped = Stopped(BTreeSet::from([Stopped::ALL.to_owned()])),
        Some(_) => stopped.0.extend(chosen.iter().map(Process::to_string)),
    }
    app.set_stopped(&stopped)?;
    converge(cx, &app).await?;
    Ok(format!("stopped {} {}", app.name(), names(&chosen)))
}

/// Starts stopped processes and waits until they are healthy.
async fn start(cx: &Context, app: Locked, process: Option<&str>) -> Result<String> {
    let manifest = current(&app)?;
    let chosen = choose(&manifest, process)?;
    unstop(&app, &manifest, &chosen)?;
    converge(cx, &app)
        .await
        .map_err(|error| error.with_exit(Exit::Unhealthy).with_reason(Reason::StartFailed))?;
    prove(cx, &manifest, &chosen).await?;
    Ok(format!("started {} {}", app.name(), names(&chosen)))
}

/// Stops an app and takes it off this instance.
pub async fn remove(cx: &Context, app: Locked) -> Result<String> {
    let name = app.name().clone();
    app.uncommit()?;
    converge(cx, &app).await?;
    // With the slice the one-off commands stop: they would keep the app's user.
    cx.machine.stop(&[model::units::slice(&name)], STOP_TIMEOUT).await?;
    if let Err(error) = app.keep_history(&cx.store) {
        cx.events.warn(error.chain());
    }
    // With the slice the one-off commands stop: they would keep the app's user.
    cx.machine.stop(&[model::units::slice(&name)], STOP_TIMEOUT).await?;
    let left = blocking(|| app.remove_app())?;
    converge::ports::load(cx).await?;
    cx.machine.daemon_reload().await?;
    if let Some(left) = left {
        // The user of the app stays: another app must not get its number while files of this
        // app are left.
        let help = "the app itself is gone: remove what is left by hand, or leave it there; \
                    deployd tries again whenever it starts";
        return Err(Error::failed(format!("remove all of {name}")).because(left).help(help));
    }
    if let Err(error) = owner::remove(cx, &name).await {
        cx.events.warn(error.chain());
    }
    Ok(format!("removed {name}"))
}

/// Removes processes from the list of those that stay stopped.
fn unstop(app: &Locked, manifest: &Manifest, chosen: &[Process]) -> Result<()> {
    let stopped = app.snapshot()?.stopped;
    let still = manifest.plan.instances().map(|process| process.to_string());
    let still = still.filter(|name| stopped.covers(name));
    let started = |name: &String| chosen.iter().any(|process| process.to_string() == *name);
    app.set_stopped(&Stopped(still.filter(|name| !started(name)).collect()))
}

pub(super) fn current(app: &App) -> Result<Manifest> {
    let Some(label) = app.current()? else {
        let what = format!("find the current release of {}", app.name());
        return Err(Error::usage(what)
            .because("none was deployed")
            .help("`deploy URL` deploys one"));
    };
    app.manifest(&label)
}

/// The processes that `web`, `web.1` or no argument selects.
fn choose(manifest: &Manifest, process: Option<&str>) -> Result<Vec<Process>> {
    let all: Vec<Process> = manifest.plan.instances().collect();
    let Some(word) = process else { return Ok(all) };
    let chosen: Vec<Process> = all
        .iter()
        .filter(|process| selector::covers(word, &process.to_string()))
        .cloned()
        .collect();
    if chosen.is_empty() {
        let what = format!("find {word} of {}", manifest.url.app());
        let why = format!("release {} has {}", manifest.label, names(&all));
        return Err(Error::usage(what).because(why).help("name one of those, or a type of them"));
    }
    Ok(chosen)
}

async fn prove(cx: &Context, manifest: &Manifest, chosen: &[Process]) -> Result<()> {
    let mut watch = Watch::new(&cx.machine, manifest);
    watch.retain(|name| chosen.iter().any(|process| process.to_string() == name));
    let proved = watch.prove(manifest.plan.health_timeout, &cx.events).await;
    proved.map_err(|error| error.with_exit(Exit::Unhealthy))
}

fn names(processes: &[Process]) -> String {
    processes.iter().map(Process::to_string).collect::<Vec<_>>().join(", ")
}
