//! Fetches, inflates and unpacks at the same time: no archive is ever on the disk, and the data in
//! flight is bounded.

use super::TIME_OVER;
use super::buffer_channel::{Reading, read_buffered, recycled_channel};
use super::disk_space::{self, Need, Reached};
use super::inflate::inflate;
use super::pace::Pace;
use super::unpack::{self, Limits, Owner, Unpacked};
use super::writeback::Writeback;
use crate::events::Events;
use crate::host::disk::{self, Space};
use crate::source::{Download, Resolved};
use crate::timings::Waits;
use bytes::{Buf, Bytes};
use model::error::{Error, Result};
use model::event::Event;
use model::release::compression::Compression;
use model::release::digest::{Hasher, Sha256};
use model::timings::Archive;
use std::io::{self, BufRead, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};

/// How many pieces of the archive, as the network delivers them, are queued for the unpacker.
/// A piece has at most the 400 KiB or so of hyper's read buffer.
const IN_FLIGHT: usize = 16;
/// The shortest interval between two progress reports.
const REPORT: Duration = Duration::from_millis(200);

type Piece = Result<Bytes, Error>;

/// The result of fetching and unpacking an archive.
pub struct Fetched {
    pub unpacked: Unpacked,
    /// Digest of the archive as fetched; `None` if it was not read to its end.
    pub digest: Option<Sha256>,
}

/// What fetching and unpacking may use.
pub struct Bounds {
    pub limits: Limits,
    /// Bytes that are read ahead.
    pub memory: u64,
    pub deadline: Option<Instant>,
    pub pace: Pace,
}

/// Fetches and unpacks the archive of a resolved release into an empty directory.
pub async fn fetch(
    resolved: &Resolved,
    into: OwnedFd,
    owner: Owner,
    bounds: Bounds,
    events: &Events,
) -> Result<Fetched> {
    let Bounds { limits, memory, deadline, pace } = bounds;
    let (pieces, received) = mpsc::channel(IN_FLIGHT);
    let progress = Arc::new(Progress::new(resolved.archive_size(), pace, events.clone()));
    let target = into.try_clone();
    let unpacked = spawn(received, resolved.compression(), into, owner, limits, progress.clone())?;
    let mut archive = resolved.archive(memory);
    let (mut hasher, mut is_whole) = (Hasher::default(), true);
    while let Some(piece) = next(&mut archive, deadline).await {
        if let Ok(bytes) = &piece {
            progress.received(bytes.len());
        }
        // A closed channel: the unpacker has refused the archive and returns the error.
        let bytes = piece.as_ref().ok().cloned();
        let full = Instant::now();
        let sent = pieces.send(piece).await;
        progress.fetching.add(full.elapsed());
        // Hash after sending: the decoder works meanwhile.
        match bytes.filter(|_| sent.is_ok()) {
            Some(bytes) => hasher.update(&bytes),
            None => {
                is_whole = false;
                break;
            }
        }
    }
    drop(pieces);
    let what = || Error::failed("unpack the archive").because("the unpacking thread ended");
    let unpacked = unpacked.await.map_err(|_| what())?;
    reach!("fetch: all is unpacked");
    progress.report();
    events.archive(progress.timings());
    let unpacked = unpacked.map_err(|error| match disk::is_full(&error) {
        true => {
            disk_space::missed(&progress.reached(), target.ok().and_then(Space::at_file), error)
        }
        false => error,
    })?;
    Ok(Fetched { unpacked, digest: is_whole.then(|| hasher.finish()) })
}

/// Returns the next piece, or an error past the deadline, so that the unpacker ends with it.
async fn next(archive: &mut Download, deadline: Option<Instant>) -> Option<Piece> {
    let Some(deadline) = deadline else { return archive.next().await };
    let over = || Error::source("fetch the archive").because(TIME_OVER);
    // `timeout_at` prefers a piece that is ready: a slow disk must not hide the deadline.
    if Instant::now() >= deadline {
        return Some(Err(over()));
    }
    let next = tokio::time::timeout_at(deadline.into(), archive.next());
    next.await.unwrap_or_else(|_| Some(Err(over())))
}

/// Unpacks on a thread of its own: the thread takes the app user's identity and ends with it.
fn spawn(
    pieces: mpsc::Receiver<Piece>,
    how: Compression,
    into: OwnedFd,
    owner: Owner,
    limits: Limits,
    progress: Arc<Progress>,
) -> Result<oneshot::Receiver<Result<Unpacked>>> {
    let (done, unpacked) = oneshot::channel();
    let work = move || {
        let _ = done.send(unpack(pieces, how, into, owner, limits, &progress));
    };
    let thread = thread::Builder::new().name("unpack".into()).spawn(work);
    thread.map_err(|e| Error::failed("start the unpacking thread").because(e))?;
    Ok(unpacked)
}

/// Unpacks while a second thread inflates; both end together.
fn unpack(
    pieces: mpsc::Receiver<Piece>,
    how: Compression,
    into: OwnedFd,
    owner: Owner,
    limits: Limits,
    progress: &Progress,
) -> Result<Unpacked> {
    let (writer, reader) = recycled_channel(&progress.inflating, &progress.unpacking);
    let compressed = Counted { pieces: Pieces::new(pieces), progress };
    let inflating = || match inflate(compressed, how) {
        Ok(tar) => writer.copy(tar, || {
            progress.pace.keep();
            progress.read.load(Ordering::Relaxed)
        }),
        Err(error) => writer.fail(io::Error::other(error)),
    };
    thread::scope(|scope| {
        let thread = thread::Builder::new().name("inflate".into());
        let thread = thread.spawn_scoped(scope, inflating);
        thread.map_err(|e| Error::failed("start the inflating thread").because(e))?;
        let writeback = Writeback::start(&into);
        let entries = |files, bytes| {
            progress.unpacked(files, bytes);
            progress.pace.keep();
            writeback.as_ref().map(|writeback| writeback.unpacked(files, bytes));
        };
        unpack::unpack(reader, into.as_fd(), owner, limits, &entries)
    })
}

/// The fetched pieces as a blocking reader; passes on the error of a failed fetch unchanged.
pub(super) struct Pieces {
    pieces: mpsc::Receiver<Piece>,
    rest: Bytes,
}

impl Pieces {
    pub(super) fn new(pieces: mpsc::Receiver<Piece>) -> Self {
        Pieces { pieces, rest: Bytes::new() }
    }
}

impl BufRead for Pieces {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.rest.is_empty() {
            match self.pieces.blocking_recv() {
                Some(Ok(bytes)) => self.rest = bytes,
                Some(Err(error)) => return Err(io::Error::other(error)),
                None => break,
            }
        }
        Ok(&self.rest)
    }

    fn consume(&mut self, count: usize) {
        self.rest.advance(count.min(self.rest.len()));
    }
}

impl Read for Pieces {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        read_buffered(self, into)
    }
}

/// Counts the bytes that the decoder has read, which are fewer than were fetched.
struct Counted<'a> {
    pieces: Pieces,
    progress: &'a Progress,
}

impl BufRead for Counted<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.progress.inflating.during(|| self.pieces.fill_buf())
    }

    fn consume(&mut self, count: usize) {
        self.pieces.consume(count);
        self.progress.read.fetch_add(count as u64, Ordering::Relaxed);
        #[cfg(feature = "failpoints")]
        self.progress.reach(count as u64);
    }
}

impl Read for Counted<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        read_buffered(self, into)
    }
}

/// Counts on both sides of the pipe; reports at intervals.
struct Progress {
    total: Option<u64>,
    pace: Pace,
    /// Bytes of the archive fetched, and bytes read by the decoder.
    bytes: AtomicU64,
    read: AtomicU64,
    files: AtomicU64,
    unpacked: AtomicU64,
    start: Instant,
    /// Milliseconds from the start to the last report.
    reported: AtomicU64,
    events: Events,
    /// How long each of the three threads has waited for another.
    fetching: Waits,
    inflating: Waits,
    unpacking: Reading,
}

impl Progress {
    fn new(total: Option<u64>, pace: Pace, events: Events) -> Self {
        let zero = || AtomicU64::new(0);
        let start = Instant::now();
        let (bytes, read, files, unpacked) = (zero(), zero(), zero(), zero());
        Progress {
            total,
            pace,
            bytes,
            read,
            files,
            unpacked,
            start,
            reported: zero(),
            events,
            fetching: Waits::default(),
            inflating: Waits::default(),
            unpacking: Reading::default(),
        }
    }

    fn received(&self, bytes: usize) {
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        let now = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        let last = self.reported.load(Ordering::Relaxed);
        if u128::from(now.saturating_sub(last)) >= REPORT.as_millis() {
            self.reported.store(now, Ordering::Relaxed);
            self.report();
        }
    }

    /// Failpoints at the first bytes and at half of the archive.
    #[cfg(feature = "failpoints")]
    fn reach(&self, length: u64) {
        let read = self.read.load(Ordering::Relaxed);
        if read == length && length > 0 {
            reach!("fetch: the first bytes are read");
        }
        let half = self.total.map_or(u64::MAX, |total| total / 2);
        if (read - length..read).contains(&half) {
            reach!("fetch: half of the archive is read");
        }
    }

    fn unpacked(&self, files: u64, bytes: u64) {
        self.files.store(files, Ordering::Relaxed);
        self.unpacked.store(bytes, Ordering::Relaxed);
    }

    fn reached(&self) -> Reached {
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let unpacked = Need { bytes: load(&self.unpacked), inodes: load(&self.files) };
        // Use the unpacker's position: the decoder is ahead of it.
        Reached { read: load(&self.unpacking.reached), total: self.total, unpacked }
    }

    fn timings(&self) -> Archive {
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let seconds = self.start.elapsed().as_secs_f64();
        Archive {
            bytes: load(&self.bytes),
            unpacked_bytes: load(&self.unpacked),
            files: load(&self.files),
            seconds,
            fetch: self.fetching.at_work(seconds),
            inflate: self.inflating.at_work(seconds),
            unpack: self.unpacking.waits.at_work(seconds),
        }
    }

    fn report(&self) {
        let (bytes, files) =
            (self.bytes.load(Ordering::Relaxed), self.files.load(Ordering::Relaxed));
        self.events.push(Event::Progress { bytes, total: self.total, files });
    }
}
