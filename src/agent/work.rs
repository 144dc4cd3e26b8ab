//! Work that outlives its caller: each piece is a task of the daemon, one at a
//! time for each app and in the order of asking, and a caller only follows its
//! events.

use crate::context::{Common, Context, Warm, blocking};
use crate::cut::{Cut, Why};
use crate::deploy;
use crate::events::Events;
use crate::host::linux::Linux;
use crate::host::memory;
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

/// All the work of the daemon.
#[derive(Clone)]
pub struct Work(Arc<Shared>);

struct Shared {
    common: Arc<Common>,
    sources: Arc<Sources>,
    pieces: Mutex<Pieces>,
    /// How many pieces there have been; sent whenever one begins or ends, and
    /// never while `pieces` is locked.
    changed: watch::Sender<u64>,
}

#[derive(Default)]
struct Pieces {
    /// In the order of asking. Of each app's pieces the first has the turn.
    live: Vec<Arc<Piece>>,
    ended: VecDeque<Ended>,
    /// The daemon ends: what is begun now ends at once.
    stopping: bool,
}

/// How a piece began and ended; its other events are gone.
#[derive(Clone)]
pub struct Ended {
    pub begun: Event,
    pub outcome: Outcome,
}

impl Pieces {
    fn of<'a>(&'a self, app: &'a AppName) -> impl DoubleEndedIterator<Item = &'a Arc<Piece>> {
        self.live.iter().filter(move |piece| piece.app == *app)
    }
}

/// One piece of work, waiting or under way.
#[derive(Debug)]
pub struct Piece {
    /// For `deploy attach`; unique on this instance.
    pub id: String,
    pub app: AppName,
    pub what: String,
    pub who: String,
    pub events: Events,
    pub warm: Warm,
    pub cut: Cut,
    is_chore: bool,
}

impl Piece {
    /// Whether it was asked for, and not begun by the daemon for itself.
    pub fn is_chore(&self) -> bool {
        self.is_chore
    }

    /// The error for the caller of a job that was ended before it did anything to undo.
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
    /// Of work that another run of the daemon began.
    pub id: Option<String>,
    /// Fail with [`Exit::Busy`] rather than wait for other work on the app.
    pub no_wait: bool,
    /// It takes a moment, and nobody has asked for it: no reason to be [`Exit::Busy`].
    pub is_chore: bool,
    /// Where the same was the last to be asked for and is not done yet, follow that.
    pub joins: bool,
    pub deadline: Option<Instant>,
}

impl Request {
    pub fn new(app: &AppName, what: impl Into<String>, who: impl Into<String>) -> Request {
        let (app, what, who) = (app.clone(), what.into(), who.into());
        let deadline = Instant::now().checked_add(TIMEOUT);
        let (no_wait, is_chore, joins) = (false, false, false);
        Request { app, what, who, id: None, no_wait, is_chore, joins, deadline }
    }

    fn busy(&self, other: &str) -> Error {
        let error = Error::new(Exit::Busy, self.what.clone());
        let why = format!("{other} of {} is under way", self.app);
        error.because(why).help("`deploy attach` follows it; `deploy status` says how it is")
    }
}

/// The stream of events that a caller follows.
pub enum Followed {
    Live(Arc<Piece>),
    Ended(Box<Ended>),
}

impl Work {
    pub fn new(sources: Arc<Sources>) -> Self {
        let (pieces, changed) = (Mutex::default(), watch::Sender::new(0));
        Work(Arc::new(Shared { common: Arc::default(), sources, pieces, changed }))
    }

    /// The values that all jobs share.
    pub fn common(&self) -> Arc<Common> {
        self.0.common.clone()
    }

    pub fn sources(&self) -> Arc<Sources> {
        self.0.sources.clone()
    }

    /// Starts a piece of work, or joins the one that does the same; it goes on
    /// whether or not its events are followed.
    pub fn start<F, Fut>(&self, request: Request, work: F) -> Result<Arc<Piece>>
    where
        F: FnOnce(Context) -> Fut + Send + 'static,
        Fut: Future<Output = Result<Outcome>> + Send + 'static,
    {
        let piece = {
            let mut pieces = self.pieces();
            let last = pieces.of(&request.app).next_back();
            match last.filter(|last| request.joins && last.what == request.what) {
                Some(same) => return Ok(same.clone()),
                None if request.no_wait => {
                    if let Some(first) = pieces.of(&request.app).find(|piece| !piece.is_chore) {
                        return Err(request.busy(&first.what));
                    }
                }
                None => {}
            }
            let piece = Arc::new(Piece {
                id: request.id.clone().unwrap_or_else(new_id),
                app: request.app.clone(),
                what: request.what.clone(),
                who: request.who.clone(),
                events: Events::default(),
                warm: Warm::default(),
                cut: Cut::default(),
                is_chore: request.is_chore,
            });
            if pieces.stopping {
                piece.cut.stop();
            }
            pieces.live.push(piece.clone());
            piece
        };
        self.0.changed.send_modify(|count| *count += 1);
        tokio::spawn(self.clone().carry(piece.clone(), request, work));
        Ok(piece)
    }

    /// Does the piece in a task of its own, so that it has an outcome whatever happens.
    async fn carry<F, Fut>(self, piece: Arc<Piece>, request: Request, work: F)
    where
        F: FnOnce(Context) -> Fut + Send + 'static,
        Fut: Future<Output = Result<Outcome>> + Send + 'static,
    {
        let start = Instant::now();
        let span = tracing::info_span!("work", DEPLOY_APP = %piece.app);
        let (this, own) = (self.clone(), piece.clone());
        let work = async move { this.perform(&own, request, work).await };
        let result = tokio::spawn(work.instrument(span)).await;
        let result = result.unwrap_or_else(|panic| {
            let error = Error::failed("do the work").because(panic);
            Err(error.help("this is a bug of deployd: see `journalctl -u deployd`"))
        });
        let ended = result.unwrap_or_else(|error| Some(Outcome::from(&error)));
        let Some(mut outcome) = ended else { return self.leave(&piece) };
        outcome.id = Some(piece.id.clone());
        outcome.app = Some(piece.app.to_string());
        outcome.seconds = start.elapsed().as_secs_f64();
        outcome.timings = piece.events.timings();
        report(&outcome);
        self.end(&piece, outcome.clone());
        piece.events.push(Event::Ended { outcome });
        memory::give_back();
    }

    /// Recovery goes on with it, and has its outcome.
    fn leave(&self, piece: &Arc<Piece>) {
        tracing::info!(DEPLOY_APP = %piece.app, "{}: left to the next run", piece.what);
        self.pieces().live.retain(|live| !Arc::ptr_eq(live, piece));
        self.0.changed.send_modify(|count| *count += 1);
        piece.events.close();
    }

    fn end(&self, piece: &Arc<Piece>, outcome: Outcome) {
        let mut pieces = self.pieces();
        pieces.live.retain(|live| !Arc::ptr_eq(live, piece));
        pieces.ended.push_back(Ended { begun: piece.begun(), outcome });
        if pieces.ended.len() > ENDED {
            pieces.ended.pop_front();
        }
        drop(pieces);
        self.0.changed.send_modify(|count| *count += 1);
    }

    /// None where the daemon is stopped and recovery will have the outcome.
    async fn perform<F, Fut>(
        &self,
        piece: &Piece,
        request: Request,
        work: F,
    ) -> Result<Option<Outcome>>
    where
        F: FnOnce(Context) -> Fut,
        Fut: Future<Output = Result<Outcome>>,
    {
        self.wait_for_turn(piece, &request).await?;
        let (sources, events) = (self.sources(), piece.events.clone());
        let mut cx = Context::open(self.common(), sources, events, request.who).await?;
        cx.id = piece.id.clone();
        cx.warm = piece.warm.clone();
        cx.cut = piece.cut.clone();
        cx.deadline = request.deadline;
        let app = cx.store.app(&piece.app);
        let mut doing = Box::pin(work(cx.clone()));
        let ended = tokio::select! {
            biased;
            why = piece.cut.due() => Err(why),
            result = &mut doing => Ok(result),
        };
        let result = match ended {
            Ok(result) => result,
            Err(why) => {
                end_commands(&cx, &app).await;
                blocking(|| drop(doing));
                match why {
                    Why::Stop if is_under_way(&app, piece) => return Ok(None),
                    Why::Cancelled(who) => Err(undo(&cx, &app, piece, &who).await),
                    why => Err(piece.cut_off(&why)),
                }
            }
        };
        let mut outcome = result.unwrap_or_else(|error| Outcome::from(&error));
        let current = app.current().ok().flatten();
        outcome.current = current.map(|label| label.to_string());
        Ok(Some(outcome))
    }

    /// Waits until every earlier piece of the app is done, no longer than the caller would.
    async fn wait_for_turn(&self, piece: &Piece, request: &Request) -> Result<()> {
        let ahead = || self.working(&piece.app).filter(|first| first.id != piece.id);
        let Some(other) = ahead() else { return Ok(()) };
        if !other.is_chore {
            piece.events.step(Step::Lock, format!("waiting for {}", other.what));
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
            why = piece.cut.due() => Err(piece.cut_off(&why)),
            _ = turn => Ok(()),
            () = over => Err(request.busy(&other.what)),
        }
    }

    /// Returns the job that is under way for an app.
    pub fn working(&self, app: &AppName) -> Option<Arc<Piece>> {
        self.pieces().of(app).next().cloned()
    }

    /// Everything that waits or is under way, in the order of asking.
    pub fn live(&self) -> Vec<Arc<Piece>> {
        self.pieces().live.clone()
    }

    /// The piece with this id, if it is live or has ended lately.
    pub fn find(&self, id: &str) -> Option<Followed> {
        let pieces = self.pieces();
        if let Some(live) = pieces.live.iter().find(|piece| piece.id == id) {
            return Some(Followed::Live(live.clone()));
        }
        let mut ended = pieces.ended.iter().rev();
        let found = ended.find(|ended| ended.outcome.id.as_deref() == Some(id));
        found.map(|ended| Followed::Ended(Box::new(ended.clone())))
    }

    /// A short line for `systemctl status deployd`.
    pub fn story(&self) -> String {
        let live = self.live();
        let story: Vec<_> = live.iter().map(|piece| piece.what.as_str()).collect();
        if story.is_empty() { "idle".to_owned() } else { story.join("; ") }
    }

    /// Changes whenever work begins or ends.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.0.changed.subscribe()
    }

    /// Cuts off all the work, and waits until it has ended, no longer than `grace`.
    pub async fn stop(&self, grace: Duration) {
        let live = {
            let mut pieces = self.pieces();
            pieces.stopping = true;
            pieces.live.clone()
        };
        live.iter().for_each(|piece| piece.cut.stop());
        if tokio::time::timeout(grace, self.finished()).await.is_err() {
            tracing::warn!("{}: left to the next run", self.story());
            self.live().iter().for_each(|piece| piece.events.close());
        }
    }

    /// Cuts off all the work of an app that is removed by force.
    pub fn cut_off(&self, app: &AppName, who: &str) {
        self.pieces().of(app).for_each(|piece| piece.cut.remove(who));
    }

    /// Waits until all of these have ended.
    pub async fn ended(&self, pieces: &[Arc<Piece>]) {
        let is_live = |piece: &Arc<Piece>| self.live().iter().any(|live| Arc::ptr_eq(live, piece));
        let _ = self.watch().wait_for(|_| !pieces.iter().any(is_live)).await;
    }

    /// Waits until nothing is under way.
    pub async fn finished(&self) {
        let _ = self.watch().wait_for(|_| self.live().is_empty()).await;
    }

    fn pieces(&self) -> MutexGuard<'_, Pieces> {
        self.0.pieces.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Stops the programs that a job has started, before the files that it made for them are
/// removed.
///
/// By a connection of its own: the work stands still where it was cut off, and may do so with
/// a lock of its connection.
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

/// Whether recovery takes it up.
fn is_under_way(app: &App, piece: &Piece) -> bool {
    app.under_way().is_some_and(|work| work.id == piece.id)
}

async fn undo(cx: &Context, app: &App, piece: &Piece, who: &str) -> Error {
    match app.lock() {
        Ok(locked) => deploy::cancelled(cx, locked, &piece.what, who).await,
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
