//! Watch mode: polls the pointers that DEPLOY_WATCH names and deploys the releases that they
//! name. A fleet converges with nothing but S3: instances know nothing of each other, and each
//! adds jitter to its interval, so that they do not poll at once.

use super::jobs::{Jobs, Request};
use crate::context;
use crate::deploy::RunRelease;
use crate::source::PointerChange;
use crate::store::{App, Watched};
use crate::{deploy, preflight};
use jiff::Timestamp;
use model::api::WatchStatus;
use model::error::{Error, Exit, Result};
use model::reason::Reason;
use model::release::name::AppName;
use model::release::settings::WatchSettings;
use model::release::url::ReleaseUrl;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::task::JoinSet;

/// The name of the caller in the history.
const WHO: &str = "watch";
/// How often a release is tried if its deploy is cut off, by a crash or the end of the
/// instance: the release may be the cause.
const TRIES: u32 = 3;
/// Backoff of a failure that may be temporary: retries after one interval, then two, four … up
/// to this many.
const LONGEST: u32 = 32;
/// The longest that a source may take to resolve a URL, retries included.
const LONGEST_ASK: Duration = Duration::from_secs(300);
/// The default interval.
const INTERVAL: Duration = Duration::from_secs(30);

#[derive(Clone)]
pub struct Watcher(Arc<Shared>);

struct Shared {
    jobs: Jobs,
    /// Why the last poll of an app's URL failed.
    trouble: Mutex<BTreeMap<AppName, String>>,
    /// The apps that are being polled.
    asking: Mutex<BTreeSet<AppName>>,
    reload: Notify,
}

/// The right to poll an app's URL, until dropped.
struct Turn(Watcher, AppName);

impl Turn {
    fn begin(watcher: &Watcher, app: &AppName) -> Option<Turn> {
        let is_first = watcher.asking().insert(app.clone());
        is_first.then(|| Turn(watcher.clone(), app.clone()))
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.asking().remove(&self.1);
    }
}

impl Watcher {
    pub fn new(jobs: Jobs) -> Watcher {
        let (trouble, asking, reload) = (Mutex::default(), Mutex::default(), Notify::new());
        Watcher(Arc::new(Shared { jobs, trouble, asking, reload }))
    }

    /// Reads the settings and polls at once.
    pub fn reload(&self) {
        self.0.reload.notify_one();
    }

    /// Polls until the task is dropped; jobs that it has started go on.
    pub async fn run(self) {
        let mut said = None;
        let mut asks = JoinSet::new();
        loop {
            let interval = match settings() {
                Ok(settings) => {
                    self.ask_all(&settings, &mut asks);
                    said = None;
                    settings.interval
                }
                Err(error) => {
                    let chain = error.chain();
                    if said.as_ref() != Some(&chain) {
                        tracing::error!("nothing is watched: {chain}");
                    }
                    said = Some(chain);
                    INTERVAL
                }
            };
            tokio::select! {
                () = tokio::time::sleep(jittered(interval)) => {}
                () = self.0.reload.notified() => {}
            }
        }
    }

    /// Begins to poll each URL, unless its last poll is still under way: a source that does not
    /// respond must not delay the others.
    fn ask_all(&self, settings: &WatchSettings, asks: &mut JoinSet<()>) {
        while asks.try_join_next().is_some() {}
        let watched = |app: &AppName| settings.urls.iter().any(|url| url.app() == app);
        self.trouble().retain(|app, _| watched(app));
        for url in &settings.urls {
            let Some(turn) = Turn::begin(self, url.app()) else { continue };
            let (watcher, url, interval) = (self.clone(), url.clone(), settings.interval);
            asks.spawn(async move {
                let _turn = turn;
                watcher.ask_in_time(&url, interval).await;
            });
        }
    }

    async fn ask_in_time(&self, url: &ReleaseUrl, interval: Duration) {
        let asked = tokio::time::timeout(LONGEST_ASK, self.ask(url, interval)).await;
        let late = || {
            let why = format!("nothing came of it in {} s", LONGEST_ASK.as_secs());
            Err(Error::source(format!("ask for {url}")).because(why))
        };
        let trouble = asked.unwrap_or_else(|_| late()).err().map(|error| error.chain());
        let before = match trouble.clone() {
            Some(trouble) => self.trouble().insert(url.app().clone(), trouble),
            None => self.trouble().remove(url.app()),
        };
        if let Some(trouble) = trouble.filter(|now| before.as_ref() != Some(now)) {
            tracing::warn!(DEPLOY_APP = %url.app(), "watching {url}: {trouble}");
        }
    }

    async fn ask(&self, url: &ReleaseUrl, interval: Duration) -> Result<()> {
        let app = super::store().app(url.app());
        if self.0.jobs.active(app.name()).is_some() {
            return Ok(());
        }
        let last = app.watched().filter(|last| last.url == *url);
        let rests = |last: &&Watched| Progress::read(&app, last).rests(last, interval);
        let known = last.as_ref().map(named);
        let rests = last.as_ref().is_some_and(|last| rests(&last));
        let sources = self.0.jobs.sources();
        let news = sources.pointer_change(url, known.as_ref().filter(|_| rests)).await?;
        let Some(news) = news else { return Ok(()) };
        // A URL that is refused here is no deploy yet, and gets no entry in the history.
        preflight::environment(&app, &news.url)?;
        sources.resolve(&news.url).await?;
        let again = last.filter(|_| known.is_some_and(|known| known.is_same(&news)));
        self.start(url, news, again.map_or(1, |last| last.tries + 1))
    }

    fn start(&self, url: &ReleaseUrl, news: PointerChange, tries: u32) -> Result<()> {
        let PointerChange { mark, url: release } = news;
        let request = Request::new(url.app(), format!("deploy {release}"), WHO);
        let url = url.clone();
        let job = self.0.jobs.start(request, move |cx| async move {
            let (id, at) = (cx.id.clone(), Timestamp::now());
            let (exit, reason, message) = (None, None, String::new());
            let mut watched = Watched { url, mark, release, id, tries, exit, reason, message, at };
            let app = cx.store.app(watched.release.app());
            let locked = app.lock()?;
            locked.set_watched(&watched)?;
            let result = deploy::deploy(&cx, locked, &watched.release, RunRelease::No).await;
            (watched.exit, watched.reason, watched.message) = match &result {
                Ok(done) => (Some(Exit::Done), None, done.message.clone()),
                Err(error) => (Some(error.exit()), Some(error.reason()), error.chain()),
            };
            watched.at = Timestamp::now();
            if let Err(error) = app.lock().and_then(|locked| locked.set_watched(&watched)) {
                cx.events.warn(error.chain());
            }
            result.map(super::respond::done)
        });
        job.map(drop)
    }

    /// Returns the state of watch mode for this app, if it is watched.
    pub fn status(&self, app: &App) -> Option<WatchStatus> {
        let settings = match settings() {
            Ok(settings) => settings,
            Err(error) => {
                let text = error.chain();
                let status = WatchStatus { text: text.clone(), error: Some(text), ..none() };
                return Some(status);
            }
        };
        let url = settings.urls.into_iter().find(|url| url.app() == app.name())?;
        let error = self.trouble().get(app.name()).cloned();
        let last = app.watched().filter(|last| last.url == url);
        let text = match (&last, &error) {
            (None, None) => "not asked yet".to_owned(),
            (None, Some(error)) => error.clone(),
            (Some(last), error) => {
                let live = self.0.jobs.active(app.name()).is_some_and(|now| now.id == last.id);
                let progress = if live { Progress::UnderWay } else { Progress::read(app, last) };
                let text = progress.describe(last);
                error.as_ref().map_or_else(|| text.clone(), |error| format!("{text}; now {error}"))
            }
        };
        let (url, release) = (Some(url.to_string()), last.as_ref().map(|l| l.release.to_string()));
        let exit = last.as_ref().and_then(|last| last.exit);
        Some(WatchStatus { url, release, exit, at: last.map(|last| last.at), error, text })
    }

    fn asking(&self) -> MutexGuard<'_, BTreeSet<AppName>> {
        self.0.asking.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn trouble(&self) -> MutexGuard<'_, BTreeMap<AppName, String>> {
        self.0.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The release that the URL named at the last attempt.
fn named(last: &Watched) -> PointerChange {
    PointerChange { mark: last.mark.clone(), url: last.release.clone() }
}

fn none() -> WatchStatus {
    let (url, release, exit, at, error) = (None, None, None, None, None);
    WatchStatus { url, release, exit, at, error, text: String::new() }
}

/// The outcome of the last attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    UnderWay,
    Deployed,
    /// The release would fail again: it is not retried until the URL names another one.
    FailedHere(Exit),
    /// The source, the agent or the machine failed, not the release.
    NotDeployed(Exit),
    CutOff,
}

impl Progress {
    /// Recovery may have completed an attempt that a crash cut off; the history shows it.
    fn read(app: &App, last: &Watched) -> Progress {
        let recorded = || {
            let entries = app.history(super::status::ENTRIES).ok()?;
            let entry = entries.into_iter().rev().find(|entry| entry.id == last.id)?;
            Some(Progress::ended(entry.exit, entry.reason)).filter(|progress| progress.is_final())
        };
        last.exit
            .map(|exit| Progress::ended(exit, last.reason))
            .or_else(recorded)
            .unwrap_or(Progress::CutOff)
    }

    /// What 0.1.0 has recorded has no reason but that of its exit code.
    fn ended(exit: Exit, reason: Option<Reason>) -> Progress {
        let reason = reason.unwrap_or_else(|| Reason::of_exit(exit));
        match exit {
            Exit::Done => Progress::Deployed,
            Exit::Unhealthy | Exit::RolledBack | Exit::RollbackFailed => Progress::FailedHere(exit),
            _ if reason.may_pass() => Progress::NotDeployed(exit),
            _ => Progress::FailedHere(exit),
        }
    }

    fn is_final(self) -> bool {
        matches!(self, Progress::Deployed | Progress::FailedHere(_))
    }

    /// Whether the release is not to be tried now unless the URL names another one.
    fn rests(self, last: &Watched, interval: Duration) -> bool {
        if self.is_final() || (self == Progress::CutOff && last.tries >= TRIES) {
            return true;
        }
        let doubled = 2u32.saturating_pow(last.tries.saturating_sub(1)).min(LONGEST);
        let since = Timestamp::now().duration_since(last.at).unsigned_abs();
        since < interval.saturating_mul(doubled) / 2
    }

    fn describe(self, last: &Watched) -> String {
        let release = last.release.release();
        let until = "not tried again until the pointer changes";
        match self {
            Progress::UnderWay => format!("{release} is being deployed"),
            Progress::Deployed => format!("{release} deployed"),
            Progress::FailedHere(exit) => {
                format!("{release} failed here (exit {}); {until}", exit.code())
            }
            Progress::NotDeployed(exit) => {
                format!("{release} could not be deployed (exit {}); tried again", exit.code())
            }
            Progress::CutOff if last.tries >= TRIES => {
                format!("{release} was cut off {} times; {until}", last.tries)
            }
            Progress::CutOff => format!("{release} was cut off; tried again"),
        }
    }
}

/// Reads the settings of watch mode.
///
/// # Errors
///
/// `Exit::Usage` if the file or one of its values is invalid.
pub fn settings() -> Result<WatchSettings, Error> {
    WatchSettings::from_env(&context::load_env()?)
}

/// Watched apps without any state on this instance yet.
///
/// # Errors
///
/// A mistake in DEPLOY_WATCH, if no app is installed whose status could show it.
pub fn to_come(known: &[App]) -> Result<Vec<App>> {
    let urls = match settings() {
        Ok(settings) => settings.urls,
        Err(error) if known.is_empty() => return Err(error),
        Err(_) => return Ok(Vec::new()),
    };
    let store = super::store();
    let is_known = |url: &ReleaseUrl| known.iter().any(|app| app.name() == url.app());
    let unknown = urls.iter().filter(|url| !is_known(url));
    Ok(unknown.map(|url| store.app(url.app())).collect())
}

/// Returns a random duration between 0.5 and 1.5 times `interval`.
fn jittered(interval: Duration) -> Duration {
    interval.mul_f64(0.5 + fastrand::f64())
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::release::identity::{Mark, Validator};

    const MINUTE: Duration = Duration::from_secs(60);

    fn last(tries: u32, ago: Duration) -> Watched {
        let url: ReleaseUrl = "s3://releases/my-app/production/current".parse().expect("a URL");
        Watched {
            release: url.with_release("r43".parse().expect("a name")),
            url,
            mark: Mark::Pointer(Validator::default()),
            id: "0a1b".into(),
            tries,
            exit: None,
            reason: None,
            message: String::new(),
            at: Timestamp::now() - ago,
        }
    }

    #[test]
    fn only_failures_of_the_release_are_not_retried() {
        let long_ago = last(1, 100 * MINUTE);
        let exits =
            [Exit::Done, Exit::Unusable, Exit::Unhealthy, Exit::RolledBack, Exit::RollbackFailed];
        for exit in exits {
            assert!(Progress::ended(exit, None).rests(&long_ago, MINUTE), "{exit:?}");
        }
        for exit in [Exit::Source, Exit::Failed, Exit::Usage, Exit::Busy] {
            assert!(!Progress::ended(exit, None).rests(&long_ago, MINUTE), "{exit:?}");
        }
        // Neither is to blame: the disk is freed, the other app goes.
        for reason in [Reason::DiskFull, Reason::PortTaken] {
            let ended = Progress::ended(Exit::Unusable, Some(reason));
            assert!(!ended.rests(&long_ago, MINUTE), "{reason:?}");
        }
        let described = Progress::ended(Exit::RolledBack, None).describe(&long_ago);
        assert_eq!(
            described,
            "r43 failed here (exit 20); not tried again until the pointer changes"
        );
    }

    #[test]
    fn retries_temporary_failures_with_a_backoff() {
        let rests = |tries, minutes: u32| {
            Progress::NotDeployed(Exit::Failed).rests(&last(tries, minutes * MINUTE), MINUTE)
        };
        assert!(!rests(1, 1) && rests(3, 1) && !rests(3, 4));
        assert!(rests(99, 15) && !rests(99, 16));
    }

    #[test]
    fn gives_up_a_release_that_is_cut_off_again_and_again() {
        assert!(!Progress::CutOff.rests(&last(2, 100 * MINUTE), MINUTE));
        assert!(Progress::CutOff.rests(&last(3, 100 * MINUTE), MINUTE));
    }

    #[test]
    fn pauses_spread_around_the_interval() {
        let pauses: Vec<_> = (0..200).map(|_| jittered(MINUTE)).collect();
        assert!(pauses.iter().all(|pause| (MINUTE / 2..=MINUTE * 3 / 2).contains(pause)));
        let (least, most) = (pauses.iter().min().unwrap(), pauses.iter().max().unwrap());
        assert!(*most - *least > MINUTE / 2, "{least:?} to {most:?}");
    }
}
