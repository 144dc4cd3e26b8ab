//! The history as `deploy history` asks for it, and the entries of commands that deploy nothing:
//! restart, stop, start, scale, remove.

use super::processes;
use super::status::ENTRIES;
use crate::context::Context;
use crate::store::{App, Locked, Store, UnderWay};
use jiff::Timestamp;
use model::api::{History, Recorded, Scale};
use model::error::{Error, Exit, Result};
use model::history::Entry;
use model::reason::Reason;
use model::release::name::{AppName, Label};
use std::collections::BTreeMap;
use std::time::Instant;

/// How many entries are returned where the caller gives no number.
const USUAL: usize = 50;

/// Returns the newest entries of one app or of all, newest first. Apps that were removed are
/// among them.
pub(super) fn newest(store: &Store, asked: &History) -> Result<Vec<Recorded>> {
    let all = store.apps()?.into_iter().chain(store.removed()?);
    let mut apps: BTreeMap<AppName, App> = all.map(|app| (app.name().clone(), app)).collect();
    if let Some(word) = &asked.app {
        let name = processes::parse(word)?;
        if !apps.contains_key(&name) {
            return Err(unknown(&name, &apps));
        }
        apps.retain(|app, _| *app == name);
    }
    let most = asked.most.unwrap_or(USUAL);
    let mut found = Vec::new();
    for (name, app) in &apps {
        match both(store, app, most) {
            Ok(entries) => {
                let recorded = |entry| Recorded { app: name.to_string(), entry };
                found.extend(entries.into_iter().map(recorded));
            }
            Err(error) if asked.app.is_some() => return Err(error),
            Err(error) => tracing::warn!("{}", error.chain()),
        }
    }
    found.sort_by_key(|recorded| std::cmp::Reverse(recorded.entry.at));
    found.truncate(most);
    Ok(found)
}

/// Returns the entry of a job that has ended lately, also one that has removed its app.
pub(super) fn of_job(store: &Store, id: &str) -> Result<Option<Entry>> {
    let entries = |app: App| both(store, &app, ENTRIES).unwrap_or_default();
    let mut entries = store.apps()?.into_iter().chain(store.removed()?).flat_map(entries);
    Ok(entries.find(|entry| entry.id == id))
}

/// The entries of an app, and those from before it was removed, newest first.
fn both(store: &Store, app: &App, most: usize) -> Result<Vec<Entry>> {
    let mut entries = store.removed_history(app.name(), most)?;
    entries.extend(app.history(most)?);
    entries.reverse();
    Ok(entries)
}

fn unknown(name: &AppName, apps: &BTreeMap<AppName, App>) -> Error {
    let names: Vec<&str> = apps.keys().map(AppName::as_str).collect();
    let why = match names.as_slice() {
        [] => "there is no history yet".to_owned(),
        _ => format!("there is a history of {}", names.join(", ")),
    };
    let error = Error::usage(format!("find the app {name}")).because(why);
    error.help("name one of those, or none for all").with_reason(Reason::NotFound)
}

/// Describes a request to scale in the words of its caller.
pub(super) fn scale(asked: &Scale) -> String {
    let counts = asked.counts.iter().map(|(kind, count)| format!(" {kind}={count}"));
    format!("scale{}", counts.collect::<String>())
}

/// Does work on the processes of an app, and adds it to the history, however it ends: if this
/// daemon does not live to see that, the next one adds it.
pub async fn recorded<F, Fut>(cx: &Context, app: Locked, words: String, work: F) -> Result<String>
where
    F: FnOnce(Locked) -> Fut,
    Fut: Future<Output = Result<String>>,
{
    drop(cx.cut.decide("it has begun").await);
    let begun = Begun::now(cx, app.name(), words);
    if let Err(error) = app.set_under_way(&begun.under_way(cx)) {
        cx.events.warn(error.chain());
    }
    let result = work(app).await;
    begun.record(cx, &result);
    result
}

/// A command under way.
pub(super) struct Begun {
    app: App,
    action: String,
    before: Option<Label>,
    start: Instant,
}

impl Begun {
    pub fn now(cx: &Context, app: &AppName, action: String) -> Begun {
        let app = cx.store.app(app);
        let before = app.current().ok().flatten();
        Begun { app, action, before, start: Instant::now() }
    }

    fn record(self, cx: &Context, result: &Result<String>) {
        let app = self.app.clone();
        let entry = self.entry(cx, result);
        let recorded = app.lock().and_then(|locked| {
            entry.map_or(Ok(()), |entry| locked.record(&entry))?;
            locked.nothing_under_way()
        });
        if let Err(error) = recorded {
            cx.events.warn(error.chain());
        }
    }

    fn under_way(&self, cx: &Context) -> UnderWay {
        UnderWay {
            id: cx.id.clone(),
            action: self.action.clone(),
            who: cx.who.clone(),
            url: None,
            before: self.before.clone(),
            since: Timestamp::now(),
            of_processes: true,
        }
    }

    /// Records the removal of the app, if its directory is gone.
    pub fn record_removal(self, cx: &Context, result: &Result<String>) {
        let app = self.app.clone();
        if app.dir().is_dir() {
            return;
        }
        let Some(entry) = self.entry(cx, result) else { return };
        if let Err(error) = cx.store.record_removal(app.name(), &entry) {
            cx.events.warn(error.chain());
        }
    }

    /// Returns none for a typing error, which has changed nothing.
    fn entry(self, cx: &Context, result: &Result<String>) -> Option<Entry> {
        let (exit, reason, message) = match result {
            Ok(message) => (Exit::Done, None, message.clone()),
            Err(error) if error.exit() == Exit::Usage => return None,
            Err(error) => (error.exit(), Some(error.reason()), error.chain()),
        };
        let text = |label: &Label| label.to_string();
        let after = self.app.current().ok().flatten();
        Some(Entry {
            at: Timestamp::now(),
            id: cx.id.clone(),
            action: self.action,
            who: cx.who.clone(),
            url: None,
            release: self.before.as_ref().map(text),
            before: self.before.as_ref().map(text),
            after: after.as_ref().map(text),
            exit,
            reason,
            message,
            seconds: self.start.elapsed().as_secs_f64(),
            timings: cx.events.timings(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::timings::Timings;

    fn entry(id: &str) -> Entry {
        Entry {
            at: Timestamp::UNIX_EPOCH,
            id: id.to_owned(),
            action: "deploy".to_owned(),
            who: "root".to_owned(),
            url: None,
            release: None,
            before: None,
            after: None,
            exit: Exit::Done,
            reason: None,
            message: String::new(),
            seconds: 1.0,
            timings: Timings::default(),
        }
    }

    #[test]
    fn a_job_is_found_also_if_it_has_removed_its_app() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::at(root.path());
        let name: AppName = "my-app".parse().unwrap();
        let app = store.app(&name).lock().unwrap();
        app.record(&entry("0a")).unwrap();
        assert_eq!(of_job(&store, "0a").unwrap(), Some(entry("0a")));
        app.keep_history(&store).unwrap();
        app.remove_app().unwrap();
        store.record_removal(&name, &entry("0b")).unwrap();
        for (id, is_known) in [("0a", true), ("0b", true), ("0c", false)] {
            assert_eq!(of_job(&store, id).unwrap().is_some(), is_known, "{id}");
        }
    }
}
