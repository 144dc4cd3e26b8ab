//! One line of history for each attempt, however it ends.

use super::Done;
use super::join::keep_if_soon_synced;
use crate::context::Context;
use crate::stage::{Staged, Syncing};
use crate::store::{Locked, UnderWay};
use jiff::Timestamp;
use model::error::{Exit, Result};
use model::history::Entry;
use model::release::name::Label;
use model::release::url::ReleaseUrl;
use std::time::Instant;

/// A deploy, rollback or recovery under way.
pub(super) struct Attempt {
    work: UnderWay,
    release: Option<Label>,
    sync: Syncing,
    /// Whether more was done than to ask the source.
    is_begun: bool,
    /// None where another run of the daemon began it.
    start: Option<Instant>,
}

impl Attempt {
    pub fn begin(
        cx: &Context,
        app: &Locked,
        action: &str,
        url: Option<&ReleaseUrl>,
    ) -> Result<Attempt> {
        let work = UnderWay {
            id: cx.id.clone(),
            action: action.to_owned(),
            who: cx.who.clone(),
            url: url.map(ReleaseUrl::to_string),
            before: app.current()?,
            since: Timestamp::now(),
            of_processes: false,
        };
        Ok(Attempt {
            work,
            release: None,
            sync: Syncing::of_nothing(),
            is_begun: false,
            start: Some(Instant::now()),
        })
    }

    /// Returns the attempt that the end of the daemon interrupted, if there was one.
    pub fn interrupted(app: &Locked) -> Result<Option<Attempt>> {
        let Some(work) = app.under_way() else {
            // A file that is none must not keep recovery from the app.
            if let Err(error) = app.nothing_under_way() {
                tracing::warn!("{}", error.chain());
            }
            return Ok(None);
        };
        Ok(Some(Attempt {
            work,
            release: None,
            sync: Syncing::of_nothing(),
            is_begun: true,
            start: None,
        }))
    }

    /// From here on a crash leaves a trace of it.
    pub fn under_way(&mut self, app: &Locked) -> Result<()> {
        self.is_begun = true;
        app.set_under_way(&self.work)
    }

    pub fn is_begun(&self) -> bool {
        self.is_begun
    }

    /// Describes the attempt in the words of its caller.
    pub fn what(&self) -> String {
        let UnderWay { action, url, .. } = &self.work;
        url.as_ref().map_or_else(|| action.clone(), |url| format!("{action} {url}"))
    }

    /// Whether it was about processes of the current release.
    pub fn is_of_processes(&self) -> bool {
        self.work.of_processes
    }

    pub fn before(&self) -> Option<&Label> {
        self.work.before.as_ref()
    }

    /// The release that it is about is known now.
    pub fn set_release(&mut self, label: &Label) {
        self.release = Some(label.clone());
    }

    /// The same for a release that may have to be written to the disk.
    pub fn set_staged(&mut self, staged: &Staged) {
        self.set_release(&staged.manifest.label);
        self.sync = staged.sync.clone();
    }

    /// Waits a while for the release to be on the disk also where the deploy has failed before;
    /// then it need not be fetched again.
    pub async fn join(&self, cx: &Context, app: &Locked) {
        let Some(label) = self.release.as_ref().filter(|label| app.is_unsynced(label)) else {
            return;
        };
        if let Err(error) = keep_if_soon_synced(cx, app, label, &self.sync).await {
            cx.events.warn(error.chain());
        }
    }

    /// Adds the attempt to the history, unless it was a typing error: a request that made no
    /// sense, and began nothing.
    pub fn record(self, cx: &Context, app: &Locked, result: &Result<Done>) {
        if !self.is_begun && result.as_ref().is_err_and(|error| error.exit() == Exit::Usage) {
            return;
        }
        let (exit, reason, message) = match result {
            Ok(done) => (Exit::Done, None, done.message.clone()),
            Err(error) => (error.exit(), Some(error.reason()), error.chain()),
        };
        let (now, work) = (Timestamp::now(), self.work);
        // The clock may be set meanwhile, as at boot.
        let since = || now.duration_since(work.since).as_secs_f64().max(0.0);
        let seconds = self.start.map_or_else(since, |start| start.elapsed().as_secs_f64());
        let text = |label: Label| label.to_string();
        let entry = Entry {
            at: now,
            id: work.id,
            action: work.action,
            who: work.who,
            url: work.url,
            release: self.release.map(text),
            before: work.before.map(text),
            after: app.current().ok().flatten().map(text),
            exit,
            reason,
            message,
            seconds,
            timings: cx.events.timings(),
        };
        for error in
            [app.record(&entry), app.nothing_under_way()].into_iter().filter_map(Result::err)
        {
            cx.events.warn(error.chain());
        }
    }
}
