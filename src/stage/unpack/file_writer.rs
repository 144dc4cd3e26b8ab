//! A second thread writes the files: for the kernel, creating a file and filling it take about the
//! same time, and neither thread waits for the other.
//!
//! The thread that creates files handles everything about names; this one gets open files. Its
//! errors are about earlier entries than the one being created.

use super::Owner;
use super::directories::Attributes;
use super::entry_error::EntryError;
use super::identity::Identity;
use super::name::Name;
use crate::stage::buffer_channel::BUFFERS;
use bytes::Bytes;
use model::error::Error;
use std::fs::File;
use std::io::Write;
use std::sync::mpsc::{Receiver, Sender, channel};

/// The size of a batch: about this many bytes, or this many chunks of files, which are open.
const BYTES: usize = 256 << 10;
const CHUNKS: usize = 32;
/// Every pending chunk may hold a buffer of the reader. With as many chunks as buffers, reader
/// and writer would wait for each other.
const _: () = assert!(CHUNKS < BUFFERS);
/// The number of batches, in either thread or between them.
const BATCHES: usize = 8;

/// Collects the content of files in batches, and sends them to the [`FileWriter`].
pub(super) struct Files {
    batch: Vec<Chunk>,
    bytes: usize,
    /// A file whose first chunk is not yet added.
    begun: Option<(Name, File)>,
    full: Sender<Vec<Chunk>>,
    empty: Receiver<Vec<Chunk>>,
}

/// Receives the batches and writes the files.
pub(super) struct FileWriter {
    full: Receiver<Vec<Chunk>>,
    empty: Sender<Vec<Chunk>>,
}

/// A part of a file; the chunks of a file follow each other.
struct Chunk {
    /// The file, still empty, if this is its first chunk.
    begins: Option<(Name, File)>,
    content: Bytes,
    /// The file's attributes, if this is its last chunk.
    ends: Option<Attributes>,
}

pub(super) fn pair() -> (Files, FileWriter) {
    let ((full, filled), (used, empty)) = (channel(), channel());
    for _ in 1..BATCHES {
        let _ = used.send(Vec::new());
    }
    let files = Files { batch: Vec::new(), bytes: 0, begun: None, full, empty };
    (files, FileWriter { full: filled, empty: used })
}

impl Files {
    /// Adds an empty file; its content is everything [written](Self::write) until it
    /// [ends](Self::end_file).
    pub(super) fn begin_file(&mut self, name: Name, file: File) {
        self.begun = Some((name, file));
    }

    pub(super) fn write(&mut self, content: Bytes) -> Result<(), EntryError> {
        self.bytes += content.len();
        self.add(content, None)
    }

    pub(super) fn end_file(&mut self, attributes: Attributes) -> Result<(), EntryError> {
        match self.batch.last_mut() {
            Some(last) if self.begun.is_none() => last.ends = Some(attributes),
            _ => self.add(Bytes::new(), Some(attributes))?,
        }
        Ok(())
    }

    /// Sends the last batch.
    pub(super) fn end(self) {
        let _ = self.full.send(self.batch);
    }

    fn add(&mut self, content: Bytes, ends: Option<Attributes>) -> Result<(), EntryError> {
        if self.batch.len() == CHUNKS || self.bytes > BYTES {
            let next = self.empty.recv().map_err(|_| EntryError::Reading(lost()))?;
            // If the writer is gone, the next `recv` fails and reports it.
            let _ = self.full.send(std::mem::replace(&mut self.batch, next));
            self.bytes = content.len();
        }
        self.batch.push(Chunk { begins: self.begun.take(), content, ends });
        Ok(())
    }
}

impl FileWriter {
    /// Writes files, as their owner, until there are no more or a write fails.
    pub(super) fn fill(self, owner: Owner) -> Result<(), Unfilled> {
        let _identity = Identity::take(owner).map_err(Unfilled::All)?;
        let mut open = None;
        while let Ok(mut batch) = self.full.recv() {
            for chunk in batch.drain(..) {
                open = chunk.begins.or(open);
                let Some((name, mut file)) = open.take() else { continue };
                let filled = file.write_all(&chunk.content).map_err(EntryError::writing);
                match filled
                    .and_then(|()| chunk.ends.map_or(Ok(()), |attributes| attributes.date(&file)))
                {
                    Err(error) => return Err(Unfilled::One(name, error)),
                    Ok(()) if chunk.ends.is_none() => open = Some((name, file)),
                    Ok(()) => {}
                }
            }
            let _ = self.empty.send(batch);
        }
        Ok(())
    }
}

/// Why not all files were filled.
pub(super) enum Unfilled {
    All(Error),
    One(Name, EntryError),
}

/// The error if the thread is gone; joining it returns the real reason.
pub(super) fn lost() -> Error {
    Error::failed("unpack the archive").because("the thread that fills its files ended")
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::time::TimeSpec;
    use nix::unistd::{getegid, geteuid};
    use std::fs;
    use std::thread;

    const ATTRIBUTES: Attributes =
        Attributes { mode: 0o644, modified: TimeSpec::new(1_700_000_000, 0) };

    fn myself() -> Owner {
        Owner { uid: geteuid().as_raw(), gid: getegid().as_raw() }
    }

    fn add(files: &mut Files, file: File, name: &str, content: &[u8]) -> Result<(), EntryError> {
        files.begin_file(Name::parse(name.as_bytes()).unwrap(), file);
        content.chunks(100_000).try_for_each(|data| files.write(Bytes::copy_from_slice(data)))?;
        files.end_file(ATTRIBUTES)
    }

    fn content(nth: usize) -> Vec<u8> {
        let length = if nth.is_multiple_of(50) { nth * 5_000 } else { nth * 7 % 20_000 };
        (0..length).map(|at| b'a' + ((nth + at / 1000) % 26) as u8).collect()
    }

    #[test]
    fn each_file_gets_its_own_content_and_time() {
        let dir = tempfile::tempdir().unwrap();
        let path = |nth: usize| dir.path().join(nth.to_string());
        let (mut files, writer) = pair();
        thread::scope(|scope| {
            let thread = scope.spawn(|| writer.fill(myself()));
            for nth in 0..CHUNKS * BATCHES * 3 {
                let file = File::create(path(nth)).unwrap();
                add(&mut files, file, &nth.to_string(), &content(nth)).unwrap();
            }
            files.end();
            assert!(thread.join().unwrap().is_ok());
        });
        for nth in 0..CHUNKS * BATCHES * 3 {
            assert!(fs::read(path(nth)).unwrap() == content(nth), "{nth}");
            let modified = fs::metadata(path(nth)).unwrap().modified().unwrap();
            let since = modified.duration_since(std::time::UNIX_EPOCH).unwrap();
            assert_eq!(since.as_secs(), 1_700_000_000);
        }
    }

    #[test]
    fn stops_at_a_file_that_cannot_be_written_and_names_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("read-only");
        fs::write(&path, "").unwrap();
        let (mut files, writer) = pair();
        thread::scope(|scope| {
            let thread = scope.spawn(|| writer.fill(myself()));
            let read_only = || File::open(&path).unwrap();
            add(&mut files, read_only(), "empty", b"").unwrap();
            let bad =
                (0..).find(|nth| add(&mut files, read_only(), &nth.to_string(), b"x").is_err());
            assert!(bad.unwrap() < CHUNKS * BATCHES * 2);
            match thread.join().unwrap() {
                Err(Unfilled::One(name, EntryError::System { call: "write", .. })) => {
                    assert_eq!(name.bytes(), b"0");
                }
                _ => panic!("it was filled"),
            }
        });
    }
}
