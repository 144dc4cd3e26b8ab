//! `history.jsonl`: one line for each deploy. It is bounded, so that neither the
//! disk nor the time to read it grows with the age of the instance.

use super::durable::unwritable;
use super::{App, Locked};
use crate::error::{Exit, Result};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// When the file is longer than this, the older half goes; bytes.
const LONGEST: u64 = 1 << 20;

/// One deploy or rollback, and how it ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    pub at: Timestamp,
    /// `deploy` or `rollback`.
    pub action: String,
    /// Who asked for it: the user's name.
    pub who: String,
    pub url: Option<String>,
    /// The label that was asked for, where it came that far.
    pub release: Option<String>,
    /// What was current before.
    pub before: Option<String>,
    /// What is current after.
    pub after: Option<String>,
    pub exit: Exit,
    pub message: String,
    pub seconds: f64,
}

impl App {
    /// The newest entries, oldest first. A line that a crash cut short is skipped.
    pub fn history(&self, most: usize) -> Result<Vec<Entry>> {
        let path = self.history_path();
        let text = match tail(&path, LONGEST) {
            Ok(text) => text,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(super::unreadable(&path, e)),
        };
        let entries = text.lines().rev().filter_map(|line| serde_json::from_str(line).ok());
        let mut newest: Vec<Entry> = entries.take(most).collect();
        newest.reverse();
        Ok(newest)
    }

    fn history_path(&self) -> std::path::PathBuf {
        self.dir().join("history.jsonl")
    }
}

impl Locked {
    pub fn record(&self, entry: &Entry) -> Result<()> {
        let path = self.history_path();
        append(&path, entry).map_err(|e| unwritable(&path, e))
    }
}

fn append(path: &Path, entry: &Entry) -> io::Result<()> {
    if fs::metadata(path).is_ok_and(|meta| meta.len() > LONGEST) {
        let newer = tail(path, LONGEST / 2)?;
        let fresh = path.with_extension("new");
        fs::write(&fresh, newer.split_once('\n').map_or("", |(_, whole)| whole))?;
        fs::rename(&fresh, path)?;
    }
    let mut file =
        OpenOptions::new().read(true).append(true).create(true).mode(0o644).open(path)?;
    let mut line = serde_json::to_vec(entry)?;
    line.push(b'\n');
    if !ends_with_newline(&mut file)? {
        line.insert(0, b'\n');
    }
    file.write_all(&line)?;
    file.sync_all()
}

/// A crash may have cut the last line; the next one must not be glued to it.
fn ends_with_newline(file: &mut File) -> io::Result<bool> {
    if file.metadata()?.len() == 0 {
        return Ok(true);
    }
    file.seek(SeekFrom::End(-1))?;
    let mut last = [0];
    file.read_exact(&mut last)?;
    Ok(last == *b"\n")
}

fn tail(path: &Path, bytes: u64) -> io::Result<String> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(bytes)))?;
    let mut text = Vec::new();
    file.take(bytes).read_to_end(&mut text)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}
