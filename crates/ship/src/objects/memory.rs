//! An object store in memory, for tests of logic.

use super::{Condition, Listing, Object, Objects, Written};
use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use model::error::{Error, Exit, Result};
use model::reason::Reason;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Keeps objects with conditions as S3 does. Its clock stands still until it is moved.
#[derive(Default)]
pub struct Memory {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    objects: BTreeMap<String, Object>,
    /// The keys of all writes, in their order.
    writes: Vec<String>,
    clock: SignedDuration,
    /// How many of the next conditional writes S3 cannot decide (409).
    undecided: u32,
    /// How many of the next conditional writes are done without an answer: the SDK repeats them,
    /// and has a conflict with itself.
    unanswered: u32,
    /// Why every request fails, if the store does not respond.
    silent: Option<Reason>,
    /// Whether only reads are answered.
    writes_are_silent: bool,
    /// How many further writes succeed; no limit if none.
    writes_left: Option<u64>,
}

impl Memory {
    /// Moves the clock.
    pub fn pass(&self, time: SignedDuration) {
        self.lock().clock += time;
    }

    /// Refuses all writes after this many.
    pub fn fail_after(&self, writes: u64) {
        self.lock().writes_left = Some(writes);
    }

    /// Stops responding, for this reason; without one, responds again.
    pub fn fall_silent(&self, reason: Option<Reason>) {
        self.lock().silent = reason;
    }

    /// Stops responding to writes alone.
    pub fn fall_silent_for_writes(&self) {
        self.lock().writes_are_silent = true;
    }

    /// Answers the next conditional writes with a conflict, although there is none.
    pub fn leave_undecided(&self, writes: u32) {
        self.lock().undecided = writes;
    }

    /// Does the next conditional writes, and answers with a conflict.
    pub fn lose_answers(&self, writes: u32) {
        self.lock().unanswered = writes;
    }

    pub fn keys(&self) -> Vec<String> {
        self.lock().objects.keys().cloned().collect()
    }

    /// Returns the keys of all writes, in their order.
    pub fn writes(&self) -> Vec<String> {
        self.lock().writes.clone()
    }

    /// Writes as another program does.
    pub fn overwrite(&self, key: &str, text: &str) {
        let written = self.lock().write(key, text.into(), &Condition::Any);
        written.expect("a write");
    }

    pub fn text(&self, key: &str) -> Option<String> {
        let inner = self.lock();
        inner.objects.get(key).map(|object| String::from_utf8_lossy(&object.bytes).into_owned())
    }

    fn asked(&self) -> Result<MutexGuard<'_, Inner>> {
        let inner = self.lock();
        match inner.silent {
            None => Ok(inner),
            Some(reason) => Err(silent(reason)),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn write(&mut self, key: &str, bytes: Vec<u8>, condition: &Condition) -> Result<Written> {
        if let Some(left) = &mut self.writes_left {
            *left = left.checked_sub(1).ok_or_else(|| Error::source(format!("write {key}")))?;
        }
        if self.writes_are_silent {
            return Err(silent(Reason::SourceBusy));
        }
        let now = self.objects.get(key).map(|object| object.etag.as_str());
        let holds = match condition {
            Condition::Any => true,
            Condition::Absent => now.is_none(),
            Condition::Unchanged(etag) => now == Some(etag),
        };
        let takes = |left: &mut u32| *condition != Condition::Any && take(left);
        if !holds || takes(&mut self.undecided) {
            return Ok(Written::Conflict);
        }
        self.writes.push(key.to_owned());
        let etag = format!("\"{}\"", self.writes.len());
        self.objects.insert(key.to_owned(), Object { bytes, etag: etag.clone() });
        match *condition != Condition::Any && take(&mut self.unanswered) {
            true => Ok(Written::Conflict),
            false => Ok(Written::Done(etag)),
        }
    }
}

fn silent(reason: Reason) -> Error {
    let error = Error::new(Exit::NoAgent, "ask the store").with_reason(reason);
    error.because("connection refused")
}

/// Counts down; false at zero.
fn take(left: &mut u32) -> bool {
    let is_left = *left > 0;
    *left = left.saturating_sub(1);
    is_left
}

#[async_trait]
impl Objects for Memory {
    async fn responds(&self, _key: &str) -> Result<()> {
        self.asked().map(drop)
    }

    async fn get(&self, key: &str) -> Result<Option<Object>> {
        Ok(self.asked()?.objects.get(key).cloned())
    }

    async fn put(&self, key: &str, bytes: Vec<u8>, condition: Condition) -> Result<Written> {
        self.asked()?.write(key, bytes, &condition)
    }

    async fn upload(&self, key: &str, file: &Path) -> Result<()> {
        let bytes = std::fs::read(file).map_err(|e| Error::failed("read").because(e))?;
        self.asked()?.write(key, bytes, &Condition::Any).map(drop)
    }

    async fn copy(&self, from: &str, to: &str) -> Result<()> {
        let mut inner = self.asked()?;
        let object = inner.objects.get(from).cloned();
        let object = object.ok_or_else(|| Error::source(format!("copy {from}")))?;
        inner.write(to, object.bytes, &Condition::Any).map(drop)
    }

    async fn delete(&self, key: &str, etag: &str) -> Result<Written> {
        let mut inner = self.asked()?;
        if inner.objects.get(key).is_none_or(|object| object.etag != etag) {
            return Ok(Written::Conflict);
        }
        inner.objects.remove(key);
        Ok(Written::Done(String::new()))
    }

    async fn list(&self, prefix: &str, most: usize) -> Result<Listing> {
        let inner = self.asked()?;
        let below = inner.objects.keys().filter_map(|key| key.strip_prefix(prefix));
        let (mut directories, mut objects) = (BTreeSet::new(), Vec::new());
        for name in below {
            match name.split_once('/') {
                Some((directory, _)) => drop(directories.insert(directory.to_owned())),
                None => objects.push(name.to_owned()),
            }
        }
        let mut directories: Vec<String> = directories.into_iter().collect();
        directories.truncate(most);
        objects.truncate(most);
        Ok(Listing { directories, objects })
    }

    async fn now(&self) -> Result<Timestamp> {
        let start = Timestamp::from_second(1_800_000_000).unwrap_or_default();
        Ok(start + self.asked()?.clock)
    }

    fn url(&self, key: &str) -> String {
        format!("s3://releases/{key}")
    }
}
