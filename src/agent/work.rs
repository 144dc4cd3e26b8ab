//! Work that outlives its caller: each piece is a task of the daemon, one at a
//! time for each app, and a caller only follows its events.

use crate::error::{Error, Exit, Result};
use crate::event::{Event, Events, Outcome, Step};
use crate::host::memory;
use crate::instance::Instance;
use crate::release::name::AppName;
use crate::source::Sources;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use tokio::sync::{OwnedMutexGuard, watch};
use tracing::Instrument;

/// All the work of the daemon.
#[derive(Clone)]
pub struct Work(Arc<Shared>);

struct Shared {
    sources: Arc<Sources>,
    apps: Mutex<HashMap<AppName, Queue>>,
    /// How many pieces are under way, waiting ones included.
    under_way: watch::Sender<usize>,
}

#[derive(Default)]
struct Queue {
    turn: Arc<tokio::sync::Mutex<()>>,
    /// What holds the turn, in words for `deploy status`.
    working: Option<String>,
    /// Those who hold the turn or wait for it; none: the queue can go.
    users: usize,
}

/// What is to be done, and for whom.
pub struct Request {
    pub app: AppName,
    /// For `deploy status`, such as `deploy s3://…`.
    pub what: String,
    pub who: String,
    /// Fail with [`Exit::Busy`] rather than wait for other work on the app.
    pub no_wait: bool,
    pub deadline: Option<Instant>,
}

impl Work {
    pub fn new(sources: Arc<Sources>) -> Self {
        let (apps, under_way) = (Mutex::default(), watch::Sender::new(0));
        Work(Arc::new(Shared { sources, apps, under_way }))
    }

    pub fn sources(&self) -> Arc<Sources> {
        self.0.sources.clone()
    }

    /// Starts a piece of work; it goes on whether or not its events are followed.
    pub fn start<F, Fut>(&self, request: Request, work: F) -> Events
    where
        F: FnOnce(Instance) -> Fut + Send + 'static,
        Fut: Future<Output = Result<Outcome>> + Send + 'static,
    {
        let (events, this) = (Events::default(), self.clone());
        let (follow, start) = (events.clone(), Instant::now());
        let app = request.app.to_string();
        let span = tracing::info_span!("work", DEPLOY_APP = %app);
        self.0.under_way.send_modify(|count| *count += 1);
        tokio::spawn(async move {
            let (inner, own) = (this.clone(), events.clone());
            let work = async move { inner.perform(request, &own, work).await };
            let result = tokio::spawn(work.instrument(span)).await;
            let result = result.unwrap_or_else(|panic| {
                let error = Error::failed("do the work").because(panic);
                Err(error.help("this is a bug of deployd: see `journalctl -u deployd`"))
            });
            let mut outcome = result.unwrap_or_else(|error| Outcome::from(&error));
            outcome.app = Some(app);
            outcome.seconds = start.elapsed().as_secs_f64();
            report(&outcome);
            events.push(Event::Ended { outcome });
            this.0.under_way.send_modify(|count| *count -= 1);
            memory::give_back();
        });
        follow
    }

    async fn perform<F, Fut>(&self, request: Request, events: &Events, work: F) -> Result<Outcome>
    where
        F: FnOnce(Instance) -> Fut,
        Fut: Future<Output = Result<Outcome>>,
    {
        let _turn = self.take_turn(&request, events).await?;
        let (sources, who) = (self.sources(), request.who);
        let mut instance = Instance::open(sources, events.clone(), who).await?;
        instance.deadline = request.deadline;
        let name = request.app;
        let mut outcome = match work(instance.clone()).await {
            Ok(outcome) => outcome,
            Err(error) => Outcome::from(&error),
        };
        let current = instance.store.app(&name).current().ok().flatten();
        outcome.current = current.map(|label| label.to_string());
        Ok(outcome)
    }

    async fn take_turn(&self, request: &Request, events: &Events) -> Result<Turn> {
        let (turn, working) = {
            let mut apps = self.apps();
            let queue = apps.entry(request.app.clone()).or_default();
            queue.users += 1;
            (queue.turn.clone(), queue.working.clone())
        };
        // From here on dropping `waiting` gives the place in the queue back.
        let mut waiting = Turn { work: self.clone(), app: request.app.clone(), held: None };
        let held = match turn.clone().try_lock_owned() {
            Ok(held) => held,
            Err(_) => {
                let other = working.unwrap_or_else(|| "other work".to_owned());
                if request.no_wait {
                    return Err(busy(request, &other));
                }
                events.step(Step::Lock, format!("waiting for {other}"));
                wait(turn, request, &other).await?
            }
        };
        waiting.held = Some(held);
        if let Some(queue) = self.apps().get_mut(&request.app) {
            queue.working = Some(request.what.clone());
        }
        self.0.under_way.send_modify(|_| {});
        Ok(waiting)
    }

    /// What is being done with an app now.
    pub fn working(&self, app: &AppName) -> Option<String> {
        self.apps().get(app).and_then(|queue| queue.working.clone())
    }

    /// A short line for `systemctl status deployd`.
    pub fn story(&self) -> String {
        let apps = self.apps();
        let busy: Vec<_> = apps.values().filter_map(|queue| queue.working.clone()).collect();
        if busy.is_empty() { "idle".to_owned() } else { busy.join("; ") }
    }

    /// Changes whenever work begins or ends.
    pub fn watch(&self) -> watch::Receiver<usize> {
        self.0.under_way.subscribe()
    }

    /// Waits until nothing is under way.
    pub async fn finished(&self) {
        let _ = self.watch().wait_for(|count| *count == 0).await;
    }

    fn apps(&self) -> MutexGuard<'_, HashMap<AppName, Queue>> {
        self.0.apps.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place in an app's queue, and the turn once it has come.
struct Turn {
    work: Work,
    app: AppName,
    held: Option<OwnedMutexGuard<()>>,
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut apps = self.work.apps();
        if let Some(queue) = apps.get_mut(&self.app) {
            queue.users -= 1;
            if self.held.is_some() {
                queue.working = None;
            }
            if queue.users == 0 {
                apps.remove(&self.app);
            }
        }
    }
}

/// Waits for the turn, no longer than the caller would.
async fn wait(
    turn: Arc<tokio::sync::Mutex<()>>,
    request: &Request,
    other: &str,
) -> Result<OwnedMutexGuard<()>> {
    let Some(deadline) = request.deadline else { return Ok(turn.lock_owned().await) };
    let waited = tokio::time::timeout_at(deadline.into(), turn.lock_owned()).await;
    waited.map_err(|_| busy(request, other))
}

/// Another piece of work has the app.
pub fn busy(request: &Request, other: &str) -> Error {
    let error = Error::new(Exit::Busy, request.what.clone());
    let why = format!("{other} of {} is under way", request.app);
    error.because(why).help("wait until it is done: `deploy status`")
}

fn report(outcome: &Outcome) {
    let app = outcome.app.as_deref().unwrap_or_default();
    let release = outcome.release.as_deref().unwrap_or_default();
    let (code, message) = (outcome.exit.code(), &outcome.message);
    match outcome.exit {
        Exit::Done => {
            tracing::info!(DEPLOY_APP = app, DEPLOY_RELEASE = release, "{message}");
        }
        _ => {
            tracing::error!(
                DEPLOY_APP = app,
                DEPLOY_RELEASE = release,
                DEPLOY_EXIT = code,
                "{message} (exit {code})"
            );
        }
    }
}
