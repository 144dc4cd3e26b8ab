//! `history.jsonl`: one line for each deploy. It is bounded, so that neither the
//! disk nor the time to read it grows with the age of the instance.

use super::durable;
use super::{App, Locked};
use model::error::Result;
use model::history::Entry;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// The size in bytes above which the older half is dropped.
const LONGEST: u64 = 1 << 20;

/// Errors may quote private text: `deploy history` is for operators.
pub(super) const MODE: u32 = 0o600;

impl App {
    /// Returns the newest entries, oldest first. Skips a line that a crash has truncated.
    pub fn history(&self, most: usize) -> Result<Vec<Entry>> {
        newest(&self.history_path(), most)
    }

    pub(super) fn history_path(&self) -> std::path::PathBuf {
        self.dir().join("history.jsonl")
    }
}

impl Locked {
    pub fn record(&self, entry: &Entry) -> Result<()> {
        let path = self.history_path();
        if fs::metadata(&path).is_ok_and(|meta| meta.len() > LONGEST) {
            let newer = tail(&path, LONGEST / 2).map_err(|e| super::unreadable(&path, e))?;
            let whole = newer.split_once('\n').map_or("", |(_, whole)| whole);
            self.write_with_reserve(|| durable::write(&path, whole.as_bytes(), MODE))?;
        }
        self.write_with_reserve(|| durable::append(&path, MODE, |file| add(file, entry)))
    }
}

pub(super) fn newest(path: &Path, most: usize) -> Result<Vec<Entry>> {
    let text = match tail(path, LONGEST) {
        Ok(text) => text,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(super::unreadable(path, e)),
    };
    let entries = text.lines().rev().filter_map(|line| serde_json::from_str(line).ok());
    let mut newest: Vec<Entry> = entries.take(most).collect();
    newest.reverse();
    Ok(newest)
}

pub(super) fn add(file: &mut File, entry: &Entry) -> io::Result<()> {
    // 0.1.0 made it world-readable.
    file.set_permissions(fs::Permissions::from_mode(MODE))?;
    let mut line = serde_json::to_vec(entry)?;
    line.push(b'\n');
    if !ends_with_newline(file)? {
        line.insert(0, b'\n');
    }
    file.write_all(&line)
}

/// Whether the file ends with a complete line: after a crash the next entry needs a new one.
fn ends_with_newline(file: &mut File) -> io::Result<bool> {
    if file.metadata()?.len() == 0 {
        return Ok(true);
    }
    file.seek(SeekFrom::End(-1))?;
    let mut last = [0];
    file.read_exact(&mut last)?;
    Ok(last == *b"\n")
}

pub(super) fn tail(path: &Path, bytes: u64) -> io::Result<String> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(bytes)))?;
    let mut text = Vec::new();
    file.take(bytes).read_to_end(&mut text)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Store;
    use jiff::Timestamp;
    use model::error::Exit;
    use model::timings::Timings;
    use std::fs::OpenOptions;

    fn app(root: &Path) -> Locked {
        Store::at(root).app(&"my-app".parse().unwrap()).lock().expect("the lock")
    }

    fn entry(message: impl Into<String>) -> Entry {
        Entry {
            at: Timestamp::UNIX_EPOCH,
            id: "0a1b".into(),
            action: "deploy".into(),
            who: "root".into(),
            url: None,
            release: Some("r1".into()),
            before: None,
            after: None,
            exit: Exit::Done,
            reason: None,
            message: message.into(),
            seconds: 1.5,
            timings: Timings::default(),
        }
    }

    fn messages(app: &App, most: usize) -> Vec<String> {
        app.history(most).unwrap().into_iter().map(|entry| entry.message).collect()
    }

    #[test]
    fn the_newest_entries_come_last() {
        let root = tempfile::tempdir().unwrap();
        let app = app(root.path());
        assert!(app.history(9).unwrap().is_empty());
        for message in ["one", "two\nlines", "three"] {
            app.record(&entry(message)).unwrap();
        }
        assert_eq!(messages(&app, 2), ["two\nlines", "three"]);
        assert_eq!(app.history(9).unwrap()[0], entry("one"));
    }

    #[test]
    fn a_truncated_line_damages_no_other() {
        let root = tempfile::tempdir().unwrap();
        let app = app(root.path());
        app.record(&entry("one")).unwrap();
        app.record(&entry("cut")).unwrap();
        let length = fs::metadata(app.history_path()).unwrap().len();
        let file = OpenOptions::new().write(true).open(app.history_path()).unwrap();
        file.set_len(length - 9).unwrap();
        app.record(&entry("three")).unwrap();
        assert_eq!(messages(&app, 9), ["one", "three"]);
    }

    #[test]
    fn only_root_can_read_it_even_one_of_0_1() {
        let root = tempfile::tempdir().unwrap();
        let app = app(root.path());
        app.record(&entry("one")).unwrap();
        let mode = || fs::metadata(app.history_path()).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(), 0o600);
        fs::set_permissions(app.history_path(), fs::Permissions::from_mode(0o644)).unwrap();
        app.record(&entry("two")).unwrap();
        assert_eq!(mode(), 0o600);
    }

    #[test]
    fn it_is_bounded_and_drops_the_oldest() {
        let root = tempfile::tempdir().unwrap();
        let app = app(root.path());
        let long = "ä".repeat(50 << 10);
        for number in 0..40 {
            app.record(&entry(format!("{number} {long}"))).unwrap();
        }
        let length = fs::metadata(app.history_path()).unwrap().len();
        assert!(length < LONGEST + (200 << 10), "{length} bytes");
        let kept = messages(&app, 100);
        let numbers: Vec<i32> =
            kept.iter().map(|text| text.split(' ').next().unwrap().parse().unwrap()).collect();
        let expected: Vec<i32> = (40 - numbers.len() as i32..40).collect();
        assert!(numbers.len() >= 4 && numbers == expected, "{numbers:?}");
    }
}
