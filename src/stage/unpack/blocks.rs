//! The tar stream as blocks of 512 bytes.

use super::Limits;
use super::entry_error::{EntryError, PACK_AGAIN};
use crate::stage::buffer_channel::Share;
use bytes::Bytes;
use std::io::ErrorKind;

pub(super) const BLOCK: usize = 512;

/// The limit of bytes in the stream per entry, besides the content of files: a header, the padding,
/// and extended headers with two long names and more. No tool writes as much; it bounds the time
/// spent on an archive that consists of headers.
const OVERHEAD: u64 = 16 * 1024;

/// The limit of bytes besides all that: the padding at the end (`tar -b`).
const SLACK: u64 = 16 * 1024 * 1024;

pub(super) struct Blocks<R> {
    input: R,
    position: u64,
    end: u64,
}

impl<R: Share> Blocks<R> {
    pub(super) fn new(input: R, limits: Limits) -> Self {
        let overhead = limits.max_files.saturating_mul(OVERHEAD).saturating_add(SLACK);
        let end = limits.max_bytes.saturating_add(overhead);
        Blocks { input, position: 0, end }
    }

    /// Returns how many bytes were consumed so far.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// Returns the next block, or `None` at the end of the stream.
    pub(super) fn next(&mut self) -> Result<Option<[u8; BLOCK]>, EntryError> {
        if self.fill()?.is_empty() {
            return Ok(None);
        }
        let mut block = Vec::with_capacity(BLOCK);
        self.copy(BLOCK as u64, |data| block.extend_from_slice(data))?;
        block.try_into().map(Some).map_err(|_| truncated())
    }

    /// Returns the next `len` bytes, and skips the padding after them. The caller bounds `len`.
    pub(super) fn take(&mut self, len: u64) -> Result<Vec<u8>, EntryError> {
        let mut taken = Vec::new();
        self.copy(len, |data| taken.extend_from_slice(data))?;
        self.skip_padding(len)?;
        Ok(taken)
    }

    /// Hands the next `len` bytes to `give`, in pieces.
    pub(super) fn share(
        &mut self,
        mut len: u64,
        mut give: impl FnMut(Bytes) -> Result<(), EntryError>,
    ) -> Result<(), EntryError> {
        while len > 0 {
            let count = self.available(len)?.len();
            self.position += count as u64;
            give(self.input.share(count))?;
            len -= count as u64;
        }
        Ok(())
    }

    /// Like [`share`](Self::share), for bytes that are used at once.
    fn copy(&mut self, mut len: u64, mut give: impl FnMut(&[u8])) -> Result<(), EntryError> {
        while len > 0 {
            let data = self.available(len)?;
            give(data);
            let count = data.len();
            self.consume(count);
            len -= count as u64;
        }
        Ok(())
    }

    /// Returns the bytes that are buffered of the next `len`: at least one.
    fn available(&mut self, len: u64) -> Result<&[u8], EntryError> {
        let data = self.fill()?;
        match data.len().min(usize::try_from(len).unwrap_or(usize::MAX)) {
            0 => Err(truncated()),
            count => Ok(&data[..count]),
        }
    }

    /// Skips the padding after a content of `len` bytes.
    pub(super) fn skip_padding(&mut self, len: u64) -> Result<(), EntryError> {
        let block = BLOCK as u64;
        self.copy((block - len % block) % block, |_| ())
    }

    /// Reads to the end of the stream, so that the decoder verifies a checksum there, and refuses
    /// anything but zeros.
    pub(super) fn finish(&mut self) -> Result<(), EntryError> {
        loop {
            let data = self.fill()?;
            if data.is_empty() {
                return Ok(());
            }
            if data.iter().any(|byte| *byte != 0) {
                return Err(EntryError::refused("other data follows the end of the tar archive")
                    .with_help("pack everything into one archive; do not append to it"));
            }
            let count = data.len();
            self.consume(count);
        }
    }

    fn fill(&mut self) -> Result<&[u8], EntryError> {
        if self.position > self.end {
            return Err(EntryError::refused("the archive is larger than its limits allow")
                .with_help(
                    "raise DEPLOY_MAX_UNPACKED or DEPLOY_MAX_FILES in /etc/deploy/agent.env",
                ));
        }
        while let Err(error) = self.input.fill_buf() {
            if error.kind() != ErrorKind::Interrupted {
                return Err(EntryError::reading(error));
            }
        }
        // Returns the buffered bytes without reading.
        self.input.fill_buf().map_err(EntryError::reading)
    }

    fn consume(&mut self, count: usize) {
        self.input.consume(count);
        self.position += count as u64;
    }
}

pub(super) fn truncated() -> EntryError {
    EntryError::refused("the archive is truncated: it ends here").with_help(PACK_AGAIN)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{self, BufReader};

    const LIMITS: Limits = Limits { max_bytes: 1 << 20, max_files: 10 };

    fn blocks(data: &[u8]) -> Blocks<&[u8]> {
        Blocks::new(data, LIMITS)
    }

    #[test]
    fn takes_content_with_its_padding() {
        let data = [vec![7; 600], vec![0; 424], vec![9; 512]].concat();
        let mut blocks = blocks(&data);
        assert_eq!(blocks.take(600).unwrap(), vec![7; 600]);
        assert_eq!(blocks.next().unwrap(), Some([9; 512]));
        assert_eq!(blocks.next().unwrap(), None);
        assert_eq!(blocks.position(), 1536);
    }

    #[test]
    fn an_end_within_a_block_means_a_truncated_archive() {
        let why = |error| match error {
            EntryError::Refused { why, .. } => why,
            other => panic!("{other:?}"),
        };
        assert!(why(blocks(&[1; 511]).next().unwrap_err()).contains("truncated"));
        assert!(why(blocks(&[1; 511]).take(512).unwrap_err()).contains("truncated"));
        assert!(why(blocks(&[1; 600]).take(600).unwrap_err()).contains("truncated"));
    }

    #[test]
    fn only_zeros_may_follow_the_end() {
        assert!(blocks(&[0; 10_000]).finish().is_ok());
        let data = [vec![0; 600_000], vec![1]].concat();
        assert!(blocks(&data).finish().is_err());
    }

    #[test]
    fn gives_up_on_an_endless_stream() {
        let mut endless = Blocks::new(BufReader::new(io::repeat(0)), LIMITS);
        assert!(endless.finish().is_err());
        assert!(endless.position() < 20 << 20);
    }
}
