//! Passes bytes from one thread to another through a fixed set of recycled buffers: both threads
//! work at once, in bounded memory.

use crate::timings::Waits;
use bytes::{Buf, Bytes};
use model::error::Error;
use std::io::{self, BufRead, BufReader, ErrorKind, Read};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};

/// Size of each buffer in bytes. Large enough that handing it over costs nothing, small enough
/// that it is still in the processor's cache when it is read.
const SIZE: usize = 128 << 10;
/// Number of buffers. An archive has stretches of many small files and single large ones: as long
/// as one thread is far ahead, the other does not wait.
pub const BUFFERS: usize = 96;

/// A buffer, and the position in the writer's source when it was full.
type Filled = io::Result<(Vec<u8>, u64)>;

/// Returns the two ends of the channel, each with a count of how long it waits for the other.
pub fn recycled_channel<'a>(writing: &'a Waits, reading: &'a Reading) -> (Writer<'a>, Reader<'a>) {
    // One slot more, for an error that follows when all buffers are full.
    let (fill, filled) = sync_channel(BUFFERS + 1);
    let (used, free) = channel();
    for _ in 0..BUFFERS {
        let _ = used.send(Vec::new());
    }
    let writer = Writer { free, fill, waits: writing };
    (writer, Reader { filled, used, buffer: Bytes::new(), ended: false, reading })
}

/// The reader's progress, for other threads.
#[derive(Debug, Default)]
pub struct Reading {
    pub waits: Waits,
    /// The position in the writer's source that belongs to the bytes being read now.
    pub reached: AtomicU64,
}

pub struct Writer<'a> {
    free: Receiver<Vec<u8>>,
    fill: SyncSender<Filled>,
    waits: &'a Waits,
}

impl Writer<'_> {
    /// Sends everything in `from`, and its error if it fails; `reached` returns the position in
    /// the source behind it. Ends early when the reader is gone.
    pub fn copy(self, mut from: impl Read, reached: impl Fn() -> u64) {
        while let Some(mut buffer) = self.waits.during(|| self.free.recv().ok()) {
            let filled = fill(&mut buffer, &mut from);
            let last = buffer.is_empty();
            // Bytes read before an error are sent first; an empty buffer marks the end.
            if (!last || filled.is_ok()) && self.fill.send(Ok((buffer, reached()))).is_err() {
                return;
            }
            match filled {
                Err(error) => return self.fail(error),
                Ok(()) if last => return,
                Ok(()) => {}
            }
        }
    }

    pub fn fail(self, error: io::Error) {
        let _ = self.fill.send(Err(error));
    }
}

/// Fills the buffer, or as much of it as the source has bytes for.
fn fill(buffer: &mut Vec<u8>, from: &mut impl Read) -> io::Result<()> {
    buffer.resize(SIZE, 0);
    let mut length = 0;
    let mut ended = Ok(());
    while let Some(rest) = buffer.get_mut(length..).filter(|rest| !rest.is_empty()) {
        match from.read(rest) {
            Ok(0) => break,
            Ok(count) => length += count,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => {
                ended = Err(error);
                break;
            }
        }
    }
    buffer.truncate(length);
    ended
}

pub struct Reader<'a> {
    filled: Receiver<Filled>,
    used: Sender<Vec<u8>>,
    buffer: Bytes,
    ended: bool,
    reading: &'a Reading,
}

impl BufRead for Reader<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.buffer.is_empty() && !self.ended {
            self.buffer = Bytes::new();
            let filled = self.reading.waits.during(|| self.filled.recv());
            let (bytes, reached) = filled.unwrap_or_else(|_| Err(io::Error::other(cut_short())))?;
            self.reading.reached.store(reached, Ordering::Relaxed);
            self.ended = bytes.is_empty();
            self.buffer = Bytes::from_owner(Buffer { bytes, used: self.used.clone() });
        }
        Ok(&self.buffer)
    }

    fn consume(&mut self, count: usize) {
        self.buffer.advance(count.min(self.buffer.len()));
    }
}

impl Read for Reader<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        read_buffered(self, into)
    }
}

/// Implements `Read::read` in terms of `BufRead`.
pub fn read_buffered(from: &mut impl BufRead, into: &mut [u8]) -> io::Result<usize> {
    let count = from.fill_buf()?.read(into)?;
    from.consume(count);
    Ok(count)
}

/// A buffer that is being read. It is recycled when its last share is dropped.
struct Buffer {
    bytes: Vec<u8>,
    used: Sender<Vec<u8>>,
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // The writer may have ended: then the buffer is not needed.
        let _ = self.used.send(std::mem::take(&mut self.bytes));
    }
}

/// A reader whose bytes can be shared with another thread while it reads on.
pub trait Share: BufRead {
    /// Takes the first `count` bytes of its buffer, or all of it if it has fewer.
    fn share(&mut self, count: usize) -> Bytes;
}

impl Share for Reader<'_> {
    fn share(&mut self, count: usize) -> Bytes {
        self.buffer.split_to(count.min(self.buffer.len()))
    }
}

impl<R: Read> Share for BufReader<R> {
    fn share(&mut self, count: usize) -> Bytes {
        copy(self, self.buffer().len().min(count))
    }
}

impl Share for &[u8] {
    fn share(&mut self, count: usize) -> Bytes {
        copy(self, self.len().min(count))
    }
}

fn copy(from: &mut impl BufRead, count: usize) -> Bytes {
    let bytes = from.fill_buf().ok().and_then(|buffer| buffer.get(..count));
    let bytes = Bytes::copy_from_slice(bytes.unwrap_or_default());
    from.consume(bytes.len());
    bytes
}

/// A writer always sends its end or an error; a writer that vanished must not look like the end.
fn cut_short() -> Error {
    Error::failed("inflate the archive").because("the inflating thread ended")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    /// Reads in pieces that do not divide a buffer evenly, then ends or fails as given.
    struct Pieces(usize, Option<io::Error>);

    impl Read for Pieces {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            let count = self.0.min(into.len()).min(1000);
            self.0 -= count;
            into[..count].fill(7);
            match (count, self.1.take()) {
                (0, Some(error)) => Err(error),
                (_, error) => {
                    self.1 = error;
                    Ok(count)
                }
            }
        }
    }

    fn through(from: Pieces) -> (Vec<u8>, io::Result<usize>) {
        let (waits, reading) = (Waits::default(), Reading::default());
        let (writer, mut reader) = recycled_channel(&waits, &reading);
        thread::scope(|scope| {
            scope.spawn(move || writer.copy(from, || 0));
            let mut read = Vec::new();
            let ended = reader.read_to_end(&mut read);
            (read, ended)
        })
    }

    #[test]
    fn all_bytes_arrive_whatever_the_length() {
        for length in [0, 1, SIZE - 1, SIZE, SIZE * BUFFERS * 3 + 5] {
            let (read, ended) = through(Pieces(length, None));
            assert_eq!((read.len(), ended.unwrap()), (length, length));
            assert!(read.iter().all(|byte| *byte == 7));
        }
    }

    #[test]
    fn an_error_comes_after_the_bytes_read_before_it() {
        for length in [0, 5, SIZE * 2] {
            let (read, ended) = through(Pieces(length, Some(ErrorKind::ConnectionReset.into())));
            assert_eq!(read.len(), length);
            assert_eq!(ended.unwrap_err().kind(), ErrorKind::ConnectionReset);
        }
    }

    #[test]
    fn a_buffer_is_recycled_when_its_last_share_is_dropped() {
        let (waits, reading) = (Waits::default(), Reading::default());
        let (writer, reader) = recycled_channel(&waits, &reading);
        let data: Vec<u8> = (0..SIZE * BUFFERS * 2).map(|at| (at / SIZE) as u8).collect();
        thread::scope(|scope| {
            let mut reader = reader;
            scope.spawn(|| writer.copy(&data[..], || 0));
            let mut share = |_| {
                let address = reader.fill_buf().unwrap().as_ptr();
                (address, [reader.share(10), reader.share(SIZE)])
            };
            let mut shared: Vec<_> = (0..BUFFERS).map(&mut share).collect();
            let all: Vec<_> = shared.iter().flat_map(|(_, parts)| parts.concat()).collect();
            assert!(all == data[..SIZE * BUFFERS]);
            // All other buffers are shared.
            let (free, _) = shared.remove(BUFFERS / 2);
            assert_eq!(share(0).0, free);
            drop(shared);
            assert_eq!(reader.read_to_end(&mut Vec::new()).unwrap(), SIZE * (BUFFERS - 1));
        });
    }

    #[test]
    fn a_vanished_writer_is_an_error_not_the_end() {
        let (waits, reading) = (Waits::default(), Reading::default());
        let (writer, mut reader) = recycled_channel(&waits, &reading);
        drop(writer);
        assert!(reader.fill_buf().is_err());
    }

    #[test]
    fn a_writer_ends_when_its_reader_is_gone() {
        let (waits, reading) = (Waits::default(), Reading::default());
        let (writer, reader) = recycled_channel(&waits, &reading);
        drop(reader);
        writer.copy(io::repeat(0), || 0);
    }

    #[test]
    fn reports_the_source_position_of_the_bytes_being_read() {
        let (waits, reading) = (Waits::default(), Reading::default());
        let (writer, mut reader) = recycled_channel(&waits, &reading);
        let times = AtomicU64::new(0);
        writer.copy(&[7; SIZE * 3][..], || times.fetch_add(1, Ordering::Relaxed) + 1);
        for reached in 1..=3 {
            reader.fill_buf().unwrap();
            assert_eq!(reading.reached.load(Ordering::Relaxed), reached);
            reader.consume(SIZE);
        }
    }
}
