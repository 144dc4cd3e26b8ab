//! One line of history for each attempt, however it ends.

use super::Done;
use crate::error::{Exit, Result};
use crate::instance::Instance;
use crate::release::name::Label;
use crate::release::url::ReleaseUrl;
use crate::store::{Entry, Locked};
use jiff::Timestamp;
use std::time::Instant;

/// A deploy, rollback or recovery under way.
pub(super) struct Attempt {
    action: &'static str,
    url: Option<String>,
    release: Option<Label>,
    before: Option<Label>,
    start: Instant,
}

impl Attempt {
    pub fn begin(action: &'static str, url: Option<&ReleaseUrl>, app: &Locked) -> Result<Attempt> {
        let (url, before) = (url.map(ReleaseUrl::to_string), app.current()?);
        Ok(Attempt { action, url, release: None, before, start: Instant::now() })
    }

    /// The release that it is about is known now.
    pub fn of(&mut self, label: &Label) {
        self.release = Some(label.clone());
    }

    pub fn record(self, instance: &Instance, app: &Locked, result: &Result<Done>) {
        let (exit, message) = match result {
            Ok(done) => (Exit::Done, done.message.clone()),
            Err(error) => (error.exit(), error.chain()),
        };
        let text = |label: Label| label.to_string();
        let entry = Entry {
            at: Timestamp::now(),
            action: self.action.to_owned(),
            who: instance.who.clone(),
            url: self.url,
            release: self.release.map(text),
            before: self.before.map(text),
            after: app.current().ok().flatten().map(text),
            exit,
            message,
            seconds: self.start.elapsed().as_secs_f64(),
        };
        if let Err(error) = app.record(&entry) {
            instance.events.warn(error.chain());
        }
    }
}
