//! `removed/APP.jsonl`: the end of the history of an app that was removed, so that
//! `deploy history` still says who removed it and what had run. Bounded in size and in number.

use super::history::{add, newest, tail};
use super::{App, Locked, Store, durable};
use model::error::Result;
use model::history::Entry;
use model::release::name::AppName;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// The most bytes that are kept of one app.
const LONGEST: u64 = 64 << 10;

/// The most removed apps whose history is kept.
const MOST: usize = 64;

const EXTENSION: &str = "jsonl";

impl Store {
    fn removed_dir(&self) -> PathBuf {
        self.root().join("removed")
    }

    /// Lists the removed apps whose history is kept, by name.
    pub fn removed(&self) -> Result<Vec<App>> {
        let mut apps: Vec<App> = super::names(&self.removed_dir())?
            .iter()
            .filter_map(|name| name.strip_suffix(".jsonl")?.parse().ok())
            .map(|name| self.app(&name))
            .collect();
        apps.sort_by(|a, b| a.name().cmp(b.name()));
        Ok(apps)
    }

    /// Returns the newest entries from before the app was last removed, oldest first.
    pub fn removed_history(&self, app: &AppName, most: usize) -> Result<Vec<Entry>> {
        newest(&self.kept_path(app), most)
    }

    /// Adds the removal itself to the kept history of an app that is gone.
    pub fn record_removal(&self, app: &AppName, entry: &Entry) -> Result<()> {
        durable::make_dir(&self.removed_dir(), 0o700)?;
        let path = self.kept_path(app);
        durable::append(&path, super::history::MODE, |file| add(file, entry))?;
        self.drop_the_oldest(&path)
    }

    fn kept_path(&self, app: &AppName) -> PathBuf {
        self.removed_dir().join(format!("{app}.{EXTENSION}"))
    }

    /// Removes the histories that were written to longest ago, above the limit.
    fn drop_the_oldest(&self, newest: &Path) -> Result<()> {
        let dir = self.removed_dir();
        let mut kept: Vec<(SystemTime, PathBuf)> = super::names(&dir)?
            .into_iter()
            .map(|name| dir.join(name))
            .filter(|path| path != newest)
            .map(|path| {
                let modified = fs::metadata(&path).and_then(|meta| meta.modified());
                (modified.unwrap_or(SystemTime::UNIX_EPOCH), path)
            })
            .collect();
        kept.sort();
        let surplus = (kept.len() + 1).saturating_sub(MOST);
        kept.iter().take(surplus).try_for_each(|(_, path)| durable::remove(path))
    }
}

impl Locked {
    /// Keeps the end of the history of an app that is about to be removed, after what is kept
    /// from an earlier removal. An app without a history leaves nothing.
    pub fn keep_history(&self, store: &Store) -> Result<()> {
        let own = self.history_path();
        let Ok(own) = tail(&own, LONGEST) else { return Ok(()) };
        let path = store.kept_path(self.name());
        let mut all = tail(&path, LONGEST).unwrap_or_default();
        if !all.is_empty() && !all.ends_with('\n') {
            all.push('\n');
        }
        all.push_str(&own);
        let surplus = all.len().saturating_sub(LONGEST as usize);
        let end = all.get(all.ceil_char_boundary(surplus)..).unwrap_or_default();
        let whole = match surplus {
            0 => end,
            _ => end.split_once('\n').map_or("", |(_, whole)| whole),
        };
        durable::make_dir(&store.removed_dir(), 0o700)?;
        durable::write(&path, whole.as_bytes(), super::history::MODE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;
    use model::error::Exit;
    use model::timings::Timings;

    fn entry(action: &str) -> Entry {
        Entry {
            at: Timestamp::UNIX_EPOCH,
            id: "0a1b".into(),
            action: action.into(),
            who: "root".into(),
            url: None,
            release: None,
            before: None,
            after: None,
            exit: Exit::Done,
            reason: None,
            message: "x".repeat(1000),
            seconds: 1.5,
            timings: Timings::default(),
        }
    }

    fn actions(store: &Store, app: &AppName) -> Vec<String> {
        let entries = store.removed_history(app, 1000).unwrap().into_iter();
        entries.map(|entry| entry.action).collect()
    }

    #[test]
    fn the_history_outlives_its_app_and_the_next_of_that_name() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::at(root.path());
        let name: AppName = "my-app".parse().unwrap();
        for round in ["one", "two"] {
            let app = store.app(&name).lock().unwrap();
            app.record(&entry(round)).unwrap();
            app.keep_history(&store).unwrap();
            app.remove_app().unwrap();
            store.record_removal(&name, &entry("remove")).unwrap();
        }
        assert_eq!(actions(&store, &name), ["one", "remove", "two", "remove"]);
        let removed = store.removed().unwrap();
        assert_eq!(removed.iter().map(App::name).collect::<Vec<_>>(), [&name]);
        assert!(store.apps().unwrap().is_empty());
    }

    #[test]
    fn an_app_without_a_history_leaves_none() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::at(root.path());
        let app = store.app(&"mistyped".parse().unwrap()).lock().unwrap();
        app.keep_history(&store).unwrap();
        assert!(store.removed().unwrap().is_empty());
    }

    #[test]
    fn it_is_bounded_in_size_and_number() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::at(root.path());
        let name: AppName = "my-app".parse().unwrap();
        let app = store.app(&name).lock().unwrap();
        (0..200).for_each(|number| app.record(&entry(&number.to_string())).unwrap());
        app.keep_history(&store).unwrap();
        let kept = actions(&store, &name);
        assert!(fs::metadata(store.kept_path(&name)).unwrap().len() <= LONGEST);
        assert_eq!(kept.last().map(String::as_str), Some("199"));
        assert!(kept.len() > 40, "{}", kept.len());
        for number in 0..MOST + 5 {
            let name = format!("app-{number}").parse().unwrap();
            store.record_removal(&name, &entry("remove")).unwrap();
        }
        assert_eq!(store.removed().unwrap().len(), MOST);
    }
}
