//! Jobs that outlive their callers: each is a task of the daemon, one at a time per app in the
//! order of the requests. A caller only follows the events of its job.

use crate::context::{Common, Context, blocking};
use crate::cut::{Cut, Why};
use crate::deploy;
use crate::events::Events;
use crate::host::linux::Linux;
use crate::host::memory;
use crate::rollback_window::RollbackWindow;
use crate::source::Sources;
use crate::stage;
use crate::store::App;
use model::api::TIMEOUT;
use model::error::{Error, Exit, Result};
use model::event::{Event, Outcome, Step};
use model::release::name::AppName;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tracing::Instrument;

/// How many outcomes are kept for `deploy attach`; older ones are in the history.
const ENDED: usize = 32;

/// All jobs of the daemon.
#[derive(Clone)]
pub struct Jobs(Arc<Shared>);

struct Shared {
    common: Arc<Common>,
    sources: Arc<Sources>,
    queue: Mutex<Queue>,
    /// Counts starts and ends of jobs, to notify watchers; never changed while `queue` is locked.
    changed: watch::Sender<u64>,
}

#[derive(Default)]
struct Queue {
    /// In the order of the requests. The first job of each app has the turn.
    live: Vec<Arc<Job>>,
    ended: VecDeque<Ended>,
    /// The daemon is shutting down: a job that begins now ends at once.
    stopping: bool,
}

/// How a job began and ended; its other events are gone.
#[derive(Clone)]
pub struct Ended {
    pub begun: Event,
    pub outcome: Outcome,
}

impl Queue {
    fn of<'a>(&'a self, app: &'a AppName) -> impl DoubleEndedIterator<Item = &'a Arc<Job>> {
        self.live.iter().filter(move |job| job.app == *app)
    }
}

/// One job, waiting or under way.
#[derive(Debug)]
pub struct Job {
    /// For `deploy attach`; unique on this instance.
    pub id: String,
    pub app: AppName,
    pub what: String,
    pub who: String,
    pub events: Events,
    pub rollback_window: RollbackWindow,
    pub cut: Cut,
    is_background: bool,
}

impl Job {
    /// Whether the daemon began the job for itself, without a request.
    pub fn is_background(&self) -> bool {
        self.is_background
    }

    /// The error for the caller of a job that was cut off before it changed anything.
    fn cut_off(&self, why: &Why) -> Error {
        match why {
            Why::Stop => {
                let error = Error::failed(self.what.clone()).because("deployd was stopped");
                error.help("ask for it again")
            }
            Why::Cancelled(who) | Why::Removed(who) => deploy::was_cancelled(&self.what, who),
        }
    }

    /// The first event of its stream.
    pub fn begun(&self) -> Event {
        Event::Begun { id: self.id.clone(), what: self.what.clone(), who: self.who.clone() }
    }
}

/// A request for a job.
pub struct Request {
    pub app: AppName,
    /// For `deploy status`, such as `deploy s3://…`.
    pub what: String,
    pub who: String,
    /// The id of a job that another run of the daemon began.
    pub id: Option<String>,
    /// Fail with [`Exit::Busy`] rather than wait for other work on the app.
    pub no_wait: bool,
    /// A short job without a request: no reason for [`Exit::Busy`].
    pub is_background: bool,
    /// Follow the last requested job of the app instead, if it is the same and not done yet.
    pub joins: bool,
    pub deadline: Option<Instant>,
}

impl Request {
    pub fn new(app: &AppName, what: impl Into<String>, who: impl Into<String>) -> Request {
        let (app, what, who) = (app.clone(), what.into(), who.into());
        let deadline = Instant::now().checked_add(TIMEOUT);
        let (no_wait, is_background, joins) = (false, false, false);
        Request { app, what, who, id: None, no_wait, is_background, joins, deadline }
    }

    fn busy(&self, other: &str) -> Error {
        let error = Error::new(Exit::Busy, self.what.clone());
        let why = format!("{other} of {} is under way", self.app);
        error.because(why).help("`deploy attach` follows it; `deploy status` says how it is")
    }
}

/// The stream of events that a caller follows.
pub enum Followed {
    Live(Arc<Job>),
    Ended(Box<Ended>),
}

impl Jobs {
    pub fn new(sources: Arc<Sources>) -> Self {
        let (queue, changed) = (Mutex::default(), watch::Sender::new(0));
        Jobs(Arc::new(Shared { common: Arc::default(), sources, queue, changed }))
    }

    /// The values that all jobs share.
    pub fn common(&self) -> Arc<Common> {
        self.0.common.clone()
    }

    pub fn sources(&self) -> Arc<Sources> {
        self.0.sources.clone()
    }

    /// Starts a job, or joins the one that does the same; it goes on
    /// whether or not its events are followed.
    pub fn start<F, Fut>(&self, request: Request, work: F) -> Result<Arc<Job>>
    where
        F: FnOnce(Context) -> Fut + Send + 'static,
        Fut: Future<Output = Result<Outcome>> + Send + 'static,
    {
        let job = {
            let mut queue = self.queue();
            let last = queue.of(&request.app).next_back();
            let same = |last: &&Arc<Job>| {
                request.joins && last.what == request.what && !last.cut.is_asked()
            };
            match last.filter(same) {
                Some(same) => return Ok(same.clone()),
                None if request.no_wait => {
                    if let Some(first) = queue.of(&request.app).find(|job| !job.is_background) {
                        return Err(request.busy(&first.what));
                    }
                }
                None => {}
            }
            let job = Arc::new(Job {
                id: request.id.clone().unwrap_or_else(new_id),
                app: request.app.clone(),
                what: request.what.clone(),
                who: request.who.clone(),
                events: Events::default(),
                rollback_window: RollbackWindow::default(),
                cut: Cut::default(),
                is_background: request.is_background,
            });
            if queue.stopping {
                job.cut.stop();
            }
            queue.live.push(job.clone());
            job
        };
        self.0.changed.send_modify(|count| *count += 1);
        tokio::spawn(self.clone().carry(job.clone(), request, work));
        Ok(job)
    }

    /// Runs the job in a task of its own, so that it has an outcome even if it panics.
    async fn carry<F, Fut>(self, job: Arc<Job>, request: Request, work: F)
    where
        F: FnOnce(Context) -> Fut + Send + 'static,
        Fut: Future<Output = Result<Outcome>> + Send + 'static,
    {
        let start = Instant::now();
        let span = tracing::info_span!("work", DEPLOY_APP = %job.app);
        let (this, own) = (self.clone(), job.clone());
        let work = async move { this.perform(&own, request, work).await };
        let result = tokio::spawn(work.instrument(span)).await;
        let result = result.unwrap_or_else(|panic| {
            let error = Error::failed("do the work").because(panic);
            Err(error.help("this is a bug of deployd: see `journalctl -u deployd`"))
        });
        let ended = result.unwrap_or_else(|error| Some(Outcome::from(&error)));
        let Some(mut outcome) = ended else { return self.leave(&job) };
        outcome.id = Some(job.id.clone());
        outcome.app = Some(job.app.to_string());
        outcome.seconds = start.elapsed().as_secs_f64();
        outcome.timings = job.events.timings();
        report(&outcome);
        self.end(&job, outcome.clone());
        job.events.push(Event::Ended { outcome });
        memory::give_back();
    }

    /// Drops a job that recovery in the next run of the daemon continues and reports.
    fn leave(&self, job: &Arc<Job>) {
        tracing::info!(DEPLOY_APP = %job.app, "{}: left to the next run", job.what);
        self.queue().live.retain(|live| !Arc::ptr_eq(live, job));
        self.0.changed.send_modify(|count| *count += 1);
        job.events.close();
    }

    fn end(&self, job: &Arc<Job>, outcome: Outcome) {
        let mut queue = self.queue();
        queue.live.retain(|live| !Arc::ptr_eq(live, job));
        queue.ended.push_back(Ended { begun: job.begun(), outcome });
        if queue.ended.len() > ENDED {
            queue.ended.pop_front();
        }
        drop(queue);
        self.0.changed.send_modify(|count| *count += 1);
    }

    /// Returns none if the daemon is stopped and recovery will report the outcome.
    async fn perform<F, Fut>(&self, job: &Job, request: Request, work: F) -> Result<Option<Outcome>>
    where
        F: FnOnce(Context) -> Fut,
        Fut: Future<Output = Result<Outcome>>,
    {
        self.wait_for_turn(job, &request).await?;
        let (sources, events) = (self.sources(), job.events.clone());
        let mut cx = Context::open(self.common(), sources, events, request.who).await?;
        cx.id = job.id.clone();
        cx.rollback_window = job.rollback_window.clone();
        cx.cut = job.cut.clone();
        cx.deadline = request.deadline;
        let app = cx.store.app(&job.app);
        let mut doing = Box::pin(work(cx.clone()));
        let ended = tokio::select! {
            biased;
            why = job.cut.due() => Err(why),
            result = &mut doing => Ok(result),
        };
        let result = match ended {
            Ok(result) => result,
            Err(why) => {
                end_commands(&cx, &app).await;
                blocking(|| drop(doing));
                match why {
                    Why::Stop if is_under_way(&app, job) => return Ok(None),
                    Why::Cancelled(who) => Err(undo(&cx, &app, job, &who).await),
                    why => Err(job.cut_off(&why)),
                }
            }
        };
        let mut outcome = result.unwrap_or_else(|error| Outcome::from(&error));
        let current = app.current().ok().flatten();
        outcome.current = current.map(|label| label.to_string());
        Ok(Some(outcome))
    }

    /// Waits for every earlier job of the app, until the deadline of the request at most.
    async fn wait_for_turn(&self, job: &Job, request: &Request) -> Result<()> {
        let ahead = || self.active(&job.app).filter(|first| first.id != job.id);
        let Some(other) = ahead() else { return Ok(()) };
        if !other.is_background {
            job.events.step(Step::Lock, format!("waiting for {}", other.what));
        }
        let mut changes = self.watch();
        let turn = changes.wait_for(|_| ahead().is_none());
        let over = async {
            match request.deadline {
                Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            why = job.cut.due() => Err(job.cut_off(&why)),
            _ = turn => Ok(()),
            () = over => Err(request.busy(&other.what)),
        }
    }

    /// Returns the job that is under way for an app.
    pub fn active(&self, app: &AppName) -> Option<Arc<Job>> {
        self.queue().of(app).next().cloned()
    }

    /// All jobs that wait or are under way, in the order of the requests.
    pub fn live(&self) -> Vec<Arc<Job>> {
        self.queue().live.clone()
    }

    /// The job with this id, if it is live or has ended lately.
    pub fn find(&self, id: &str) -> Option<Followed> {
        let queue = self.queue();
        if let Some(live) = queue.live.iter().find(|job| job.id == id) {
            return Some(Followed::Live(live.clone()));
        }
        let mut ended = queue.ended.iter().rev();
        let found = ended.find(|ended| ended.outcome.id.as_deref() == Some(id));
        found.map(|ended| Followed::Ended(Box::new(ended.clone())))
    }

    /// A short line for `systemctl status deployd`.
    pub fn story(&self) -> String {
        let live = self.live();
        let story: Vec<_> = live.iter().map(|job| job.what.as_str()).collect();
        if story.is_empty() { "idle".to_owned() } else { story.join("; ") }
    }

    /// Returns a channel that changes whenever a job begins or ends.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.0.changed.subscribe()
    }

    /// Cuts off all jobs, and waits until they have ended, for `grace` at most.
    pub async fn stop(&self, grace: Duration) {
        let live = {
            let mut queue = self.queue();
            queue.stopping = true;
            queue.live.clone()
        };
        live.iter().for_each(|job| job.cut.stop());
        if tokio::time::timeout(grace, self.finished()).await.is_err() {
            tracing::warn!("{}: left to the next run", self.story());
            self.live().iter().for_each(|job| job.events.close());
        }
    }

    /// Cuts off all jobs of an app that is removed by force.
    pub fn cut_off(&self, app: &AppName, who: &str) {
        self.queue().of(app).for_each(|job| job.cut.remove(who));
    }

    /// Waits until all of these jobs have ended.
    pub async fn ended(&self, queue: &[Arc<Job>]) {
        let is_live = |job: &Arc<Job>| self.live().iter().any(|live| Arc::ptr_eq(live, job));
        let _ = self.watch().wait_for(|_| !queue.iter().any(is_live)).await;
    }

    /// Waits until no job is under way.
    pub async fn finished(&self) {
        let _ = self.watch().wait_for(|_| self.live().is_empty()).await;
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.0.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Stops the programs that a job has started, before the files that it created for them are
/// removed.
///
/// Uses a connection of its own: the job is suspended where it was cut off, and may hold a lock
/// of its connection.
async fn end_commands(cx: &Context, app: &App) {
    let ended = async {
        let cx = Context { machine: Arc::new(Linux::connect().await?), ..cx.clone() };
        let build = stage::stop_build(&cx, app).await;
        build.and(stage::phase::stop(&cx, app).await)
    };
    if let Err(error) = ended.await {
        cx.events.warn(error.chain());
    }
}

/// Whether the job is recorded as under way, so that recovery continues it.
fn is_under_way(app: &App, job: &Job) -> bool {
    app.under_way().is_some_and(|work| work.id == job.id)
}

async fn undo(cx: &Context, app: &App, job: &Job, who: &str) -> Error {
    match app.lock() {
        Ok(locked) => deploy::cancelled(cx, locked, &job.what, who).await,
        Err(error) => error,
    }
}

/// 48 random bits: enough for an instance's history.
fn new_id() -> String {
    format!("{:012x}", fastrand::u64(..1 << 48))
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
