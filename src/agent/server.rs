//! The control socket: its routes and their handlers.

use super::caller::{Caller, Peer};
use super::connections::{Bounded, PATIENCE, in_time};
use super::environment::Environment;
use super::health_watch::HealthWatch;
use super::jobs::{Followed, Job, Jobs, Request};
use super::one_offs::{self, OneOffs};
use super::processes::{self, ProcessAction};
use super::respond::{Reply, done, ended_stream, stream};
use super::status::Look;
use super::watch::{self, Watcher};
use super::{cancel, env, exec, history, lifecycle, logs, metrics, plan, remove, status};
use crate::context::Context;
use crate::deploy::RunRelease;
use crate::doctor::{self, Instance};
use crate::events::Events;
use crate::host::linux::Linux;
use crate::host::memory;
use crate::host::seams::Machine;
use crate::store::{App, Locked};
use crate::{deploy, preflight};
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Query, State};
use axum::http::StatusCode;
use axum::middleware::from_fn;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use model::api::{self, AppStatus, EnvStatus, PlanStatus, ReleaseStatus};
use model::doctor::{Ask, Row};
use model::error::{Error, Result};
use model::event::{Event, Outcome};
use model::history::Entry;
use model::reason::Reason;
use model::release::name::AppName;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::UnixListener;

/// The longest request body, in bytes.
const LONGEST: usize = 64 << 10;

/// Serves the control socket until `stop` completes.
pub async fn serve(
    listener: UnixListener,
    jobs: Jobs,
    watcher: Watcher,
    health: HealthWatch,
    environment: Environment,
    one_offs: OneOffs,
    stop: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    let routes = Router::new()
        .route("/v1/status", get(get_status))
        .route("/v1/releases", get(get_releases))
        .route("/v1/history", get(get_history))
        .route("/v1/attach", get(get_attach))
        .route("/v1/plan", post(post_plan))
        .route("/v1/deploy", post(post_deploy))
        .route("/v1/stage", post(post_stage))
        .route("/v1/rollback", post(post_rollback))
        .route("/v1/restart", post(|o, w, b| post_processes(ProcessAction::Restart, o, w, b)))
        .route("/v1/stop", post(|o, w, b| post_processes(ProcessAction::Stop, o, w, b)))
        .route("/v1/start", post(|o, w, b| post_processes(ProcessAction::Start, o, w, b)))
        .route("/v1/scale", post(post_scale))
        .route("/v1/remove", post(post_remove))
        .route("/v1/cancel", post(post_cancel))
        .route("/v1/logs", get(get_logs))
        .route("/v1/doctor", get(get_doctor))
        .route("/v1/exec", post(post_exec).get(get_exec))
        .route("/v1/env", get(get_env))
        .route("/v1/metrics", get(metrics::get_metrics))
        .route("/v1/lifecycle", post(post_lifecycle))
        .layer(DefaultBodyLimit::max(LONGEST))
        .layer(from_fn(|request, next| in_time(PATIENCE, LONGEST, request, next)))
        .layer(Extension(watcher))
        .layer(Extension(health))
        .layer(Extension(environment))
        .layer(Extension(one_offs))
        .with_state(jobs)
        .into_make_service_with_connect_info::<Peer>();
    axum::serve(Bounded::new(listener, PATIENCE), routes).with_graceful_shutdown(stop).await
}

fn body<T: serde::de::DeserializeOwned>(bytes: &Bytes) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|e| Error::usage("read the request").because(e))
}

/// The apps that a query is about: the one named, or all.
fn asked(which: &api::Which) -> Result<Vec<App>> {
    let apps = super::store().apps()?;
    match &which.app {
        None => Ok(apps),
        Some(name) => {
            let name = preflight::which(&apps, Some(processes::parse(name)?))?;
            Ok(apps.into_iter().filter(|app| *app.name() == name).collect())
        }
    }
}

async fn get_status(
    _: Caller,
    State(jobs): State<Jobs>,
    Extension(watcher): Extension<Watcher>,
    Extension(health): Extension<HealthWatch>,
    Query(which): Query<api::Which>,
) -> Reply<Json<Vec<AppStatus>>> {
    let machine: Arc<dyn Machine> = Arc::new(Linux::connect().await?);
    let named = |app: &App| which.app.as_ref().is_none_or(|name| app.name().as_str() == name);
    let mut to_come = watch::to_come(&super::store().apps()?)?;
    to_come.retain(named);
    let mut apps = match which.app.is_some() && !to_come.is_empty() {
        true => Vec::new(),
        false => asked(&which)?,
    };
    apps.append(&mut to_come);
    let mut found = Vec::new();
    for app in apps {
        found.push(status::status(&machine, &jobs, &watcher, &health, &app, Look::Now).await?);
    }
    for one_off in one_offs::running().await? {
        let app = found.iter_mut().find(|app| app.app == one_off.app);
        app.into_iter().for_each(|app| app.one_offs.push(one_off.clone()));
    }
    Ok(Json(found))
}

async fn get_releases(
    _: Caller,
    Query(which): Query<api::Which>,
) -> Reply<Json<Vec<ReleaseStatus>>> {
    let mut found = Vec::new();
    for app in asked(&which)? {
        match status::releases(&app) {
            Ok(releases) => found.extend(releases),
            Err(error) if which.app.is_some() => return Err(error.into()),
            // `deploy status` reports the reason.
            Err(error) => tracing::warn!("{}", error.chain()),
        }
    }
    Ok(Json(found))
}

async fn get_history(
    _: Caller,
    Query(asked): Query<api::History>,
) -> Reply<Json<Vec<api::Recorded>>> {
    Ok(Json(history::newest(&super::store(), &asked)?))
}

async fn get_logs(_: Caller, Query(asked): Query<api::Logs>) -> Reply<Json<Vec<api::Logged>>> {
    Ok(Json(logs::find(&super::store().apps()?, &asked)?))
}

async fn post_plan(
    caller: Caller,
    State(jobs): State<Jobs>,
    Extension(environment): Extension<Environment>,
    bytes: Bytes,
) -> Reply<Json<PlanStatus>> {
    environment.must_be_current(&jobs)?;
    let url = caller.url(&body::<api::Release>(&bytes)?.url)?;
    let cx = Context::open(jobs.common(), jobs.sources(), Events::default(), caller.name).await?;
    let app = cx.store.app(url.app());
    let plan = plan::plan(&cx, &app, &url).await;
    memory::give_back();
    Ok(Json(plan?))
}

async fn post_deploy(
    caller: Caller,
    State(jobs): State<Jobs>,
    Extension(environment): Extension<Environment>,
    bytes: Bytes,
) -> Reply<Response> {
    environment.must_be_current(&jobs)?;
    let asked: api::Deploy = body(&bytes)?;
    let url = caller.url(&asked.url)?;
    let timeout = asked.timeout_ms.map_or(api::TIMEOUT, Duration::from_millis);
    let run_release = RunRelease::new(asked.run_release, asked.release_id)?;
    // A request with the release phase is a different job from one without.
    let what = format!("deploy {url}{run_release}");
    let request = Request {
        no_wait: asked.no_wait,
        // The release that `current` names may have changed since the earlier request.
        joins: !url.is_current(),
        deadline: Instant::now().checked_add(timeout),
        ..Request::new(url.app(), what, caller.name)
    };
    let job = jobs.start(request, move |cx| async move {
        let app = lock(&cx, url.app())?;
        Ok(done(deploy::deploy(&cx, app, &url, run_release).await?))
    })?;
    match asked.detach {
        true => Ok((StatusCode::ACCEPTED, Json(job.begun())).into_response()),
        false => Ok(stream(&job)),
    }
}

/// Follows an earlier job to its outcome.
async fn get_attach(
    _: Caller,
    State(jobs): State<Jobs>,
    Query(asked): Query<api::Attach>,
) -> Reply<Response> {
    match asked.id {
        Some(id) => match jobs.find(&id) {
            Some(Followed::Live(job)) => Ok(stream(&job)),
            Some(Followed::Ended(ended)) => Ok(ended_stream(ended.begun, ended.outcome)),
            None => {
                let entry = recorded(&id)?;
                let begun = Event::Begun { id, what: entry.action.clone(), who: entry.who.clone() };
                Ok(ended_stream(begun, entry.into()))
            }
        },
        None => match jobs.live().as_slice() {
            [job] => Ok(stream(job)),
            live => Err(which_job(live).into()),
        },
    }
}

/// Returns a job that only the history knows.
fn recorded(id: &str) -> Result<Entry> {
    if let Some(entry) = history::of_job(&super::store(), id)? {
        return Ok(entry);
    }
    let error = Error::usage(format!("attach to {id}"));
    let why = "no deploy of this id is under way here, or has ended lately";
    Err(error.because(why).help("`deploy status` and `deploy history` say what was done"))
}

fn which_job(live: &[Arc<Job>]) -> Error {
    let error = Error::usage("attach to what is under way");
    let list: Vec<_> = live.iter().map(|job| format!("{} ({})", job.id, job.what)).collect();
    match list.is_empty() {
        true => error.because("nothing is").help("`deploy history` says what was done"),
        false => error.because(format!("there are several: {}", list.join(", "))).help("name one"),
    }
}

async fn post_stage(
    caller: Caller,
    State(jobs): State<Jobs>,
    Extension(environment): Extension<Environment>,
    bytes: Bytes,
) -> Reply<Response> {
    environment.must_be_current(&jobs)?;
    let url = caller.url(&body::<api::Release>(&bytes)?.url)?;
    let what = format!("stage {url}");
    let request =
        Request { joins: !url.is_current(), ..Request::new(url.app(), what, caller.name) };
    let after = jobs.clone();
    let job = jobs.start(request, move |cx| async move {
        let app = lock(&cx, url.app())?;
        let staged = deploy::stage_only(&cx, app, &url).await?;
        prepare(&after, url.app())?;
        Ok(done(staged))
    })?;
    Ok(stream(&job))
}

/// Prepares the app in a background job, after the response.
fn prepare(jobs: &Jobs, app: &AppName) -> Result<()> {
    let request = Request { is_background: true, ..Request::new(app, "prepare", "deployd") };
    let app = app.clone();
    let background = jobs.start(request, move |cx| async move {
        Ok(done(deploy::prepare(&cx, lock(&cx, &app)?).await?))
    });
    background.map(drop)
}

async fn post_rollback(caller: Caller, State(jobs): State<Jobs>, bytes: Bytes) -> Reply<Response> {
    let asked: api::Rollback = body(&bytes)?;
    let app = asked.app.as_deref().map(processes::parse).transpose()?;
    let app = preflight::which(&super::store().apps()?, app)?;
    let to = match asked.to {
        None => None,
        Some(label) => Some(
            label
                .parse()
                .map_err(|e| Error::usage(format!("roll {app} back to {label:?}")).because(e))?,
        ),
    };
    // In the settle window of a deploy a rollback makes that deploy fail, and is instant.
    let taken_back = || jobs.active(&app)?.rollback_window.take_back(&caller.name);
    let to = to.or_else(taken_back);
    let request = Request::new(&app, "rollback", caller.name);
    let job = jobs.start(request, move |cx| async move {
        let app = lock(&cx, &app)?;
        Ok(done(deploy::roll_back(&cx, app, to).await?))
    })?;
    Ok(stream(&job))
}

async fn post_processes(
    action: ProcessAction,
    caller: Caller,
    State(jobs): State<Jobs>,
    bytes: Bytes,
) -> Reply<Response> {
    let asked: api::Processes = body(&bytes)?;
    let selected = processes::select(&super::store().apps()?, &asked.words)?;
    let request = Request::new(&selected.app, action.name(), caller.name);
    let job = jobs.start(request, move |cx| async move {
        let app = lock(&cx, &selected.app)?;
        let process = selected.process.as_deref();
        let words = [action.name()].into_iter().chain(process).collect::<Vec<_>>().join(" ");
        let work = |app| processes::perform(action, &cx, app, process, asked.own_user);
        Ok(Outcome::done(history::recorded(&cx, app, words, work).await?))
    })?;
    Ok(stream(&job))
}

async fn post_scale(caller: Caller, State(jobs): State<Jobs>, bytes: Bytes) -> Reply<Response> {
    let asked: api::Scale = body(&bytes)?;
    let app = asked.app.as_deref().map(processes::parse).transpose()?;
    let app = preflight::which(&super::store().apps()?, app)?;
    let request = Request::new(&app, "scale", caller.name);
    let job = jobs.start(request, move |cx| async move {
        let work = |app| processes::scale(&cx, app, &asked.counts);
        let words = history::scale(&asked);
        Ok(Outcome::done(history::recorded(&cx, lock(&cx, &app)?, words, work).await?))
    })?;
    Ok(stream(&job))
}

async fn post_remove(caller: Caller, State(jobs): State<Jobs>, bytes: Bytes) -> Reply<Response> {
    let asked: api::Remove = body(&bytes)?;
    let app = preflight::which(&super::store().apps()?, Some(processes::parse(&asked.app)?))?;
    if asked.force {
        jobs.cut_off(&app, &caller.name);
    }
    let request = Request::new(&app, "remove", caller.name);
    let job = jobs.start(request, move |cx| async move {
        let _decided = cx.cut.decide("remove").await;
        let begun = history::Begun::now(&cx, &app, "remove".to_owned());
        let result = match asked.force {
            true => remove::by_force(&cx, cx.store.app(&app)).await,
            false => processes::remove(&cx, lock(&cx, &app)?).await,
        };
        begun.record_removal(&cx, &result);
        Ok(Outcome::done(result?))
    })?;
    Ok(stream(&job))
}

async fn post_cancel(
    caller: Caller,
    State(jobs): State<Jobs>,
    bytes: Bytes,
) -> Reply<Json<Outcome>> {
    let asked: api::Cancel = body(&bytes)?;
    Ok(Json(cancel::cancel(&jobs, &caller, asked.word.as_deref()).await?))
}

async fn get_doctor(
    caller: Caller,
    State(jobs): State<Jobs>,
    Query(asked): Query<Ask>,
) -> Reply<Json<Vec<Row>>> {
    let url = asked.url.as_deref().map(|url| caller.url(url)).transpose()?;
    let instance = Instance::open(jobs.common(), jobs.sources(), url).await?;
    let rows = doctor::examine(instance).await;
    memory::give_back();
    Ok(Json(rows))
}

async fn post_exec(
    caller: Caller,
    Extension(one_offs): Extension<OneOffs>,
    bytes: Bytes,
) -> Reply<Response> {
    Ok(exec::exec(&super::store(), &one_offs, &caller, body(&bytes)?).await?)
}

async fn get_exec(
    caller: Caller,
    Extension(one_offs): Extension<OneOffs>,
    Query(asked): Query<api::Following>,
) -> Reply<Response> {
    Ok(one_offs.follow_again(&caller, &asked.unit).await?)
}

async fn get_env(_: Caller, Query(asked): Query<api::EnvQuery>) -> Reply<Json<EnvStatus>> {
    Ok(Json(env::env(&super::store(), &asked)?))
}

async fn post_lifecycle(
    caller: Caller,
    State(jobs): State<Jobs>,
    Extension(environment): Extension<Environment>,
    bytes: Bytes,
) -> Reply<Json<api::LifecycleAnswer>> {
    match environment.must_be_current(&jobs) {
        Err(error) if error.reason() == Reason::Interrupted => return Err(error.into()),
        // A heartbeat is for the job that is under way: it cannot wait for its end.
        _ => {}
    }
    Ok(Json(lifecycle::lifecycle(&jobs, &caller, &body(&bytes)?).await?))
}

fn lock(cx: &Context, app: &AppName) -> Result<Locked> {
    cx.store.app(app).lock()
}
