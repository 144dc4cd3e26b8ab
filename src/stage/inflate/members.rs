//! One compressed stream made of several: members of gzip (pigz, concatenated files), frames of
//! zstd, and the zeros that some tools append.

use crate::stage::buffer_channel::read_buffered;
use flate2::bufread::GzDecoder;
use model::error::Error;
use model::release::compression::Compression;
use std::io::{self, BufRead, ErrorKind, Read};

/// How many zeros may follow the last member. `tar -c -z -f -` of macOS and FreeBSD pads its last
/// block of 10 KiB with them; the largest block that tar can write has 16 MiB (`-b 32767`).
const MAX_PADDING: u64 = 16 * 1024 * 1024;

/// The largest window a zstd frame may ask for, as a power of two: 128 MiB. It is
/// what `zstd --ultra -22` needs, and the limit of the `zstd` program itself.
const WINDOW_LOG_MAX: u32 = 27;

/// Reads members one after the other as one stream.
pub(super) struct Members<R: BufRead> {
    how: Format,
    /// `None` after the last member.
    member: Option<Member<Patient<R>>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Gzip,
    Zstd,
}

/// A decoder that reads one member and nothing after it.
enum Member<R: BufRead> {
    Gzip(Box<GzDecoder<R>>),
    Zstd(zstd::Decoder<'static, R>),
}

impl Format {
    /// Whether a member may begin with this byte: RFC 1952 (2.3.1) and RFC 8878 (3.1),
    /// whose skippable frames have a range of them.
    fn may_begin_with(self, byte: u8) -> bool {
        match self {
            Format::Gzip => byte == 0x1f,
            Format::Zstd => matches!(byte, 0x28 | 0x50..=0x5f),
        }
    }

    fn compression(self) -> Compression {
        match self {
            Format::Gzip => Compression::Gzip,
            Format::Zstd => Compression::Zstd,
        }
    }
}

impl<R: BufRead> Members<R> {
    pub(super) fn new(compressed: R, how: Format) -> io::Result<Self> {
        let member = Some(Member::new(Patient(compressed), how)?);
        Ok(Members { how, member })
    }

    /// Starts the next member, if there is one.
    fn next_member(&mut self) -> io::Result<()> {
        let Some(ended) = self.member.take() else { return Ok(()) };
        let mut rest = ended.into_inner();
        match rest.fill_buf()?.first().copied() {
            None => Ok(()),
            Some(0) => self.skip_padding(rest),
            Some(byte) if self.how.may_begin_with(byte) => {
                self.member = Some(Member::new(rest, self.how)?);
                Ok(())
            }
            Some(_) => Err(self.refuse("the bytes there begin no other stream")),
        }
    }

    /// Reads zeros up to the end of the input; gzip(1), GNU tar, Python and busybox ignore them.
    /// Refuses a member after zeros: those tools disagree on it.
    fn skip_padding(&self, mut rest: impl BufRead) -> io::Result<()> {
        let mut skipped = 0;
        loop {
            let data = rest.fill_buf()?;
            let count = data.len();
            if count == 0 {
                return Ok(());
            }
            if data.iter().any(|byte| *byte != 0) {
                return Err(self.refuse("they are not all zero"));
            }
            rest.consume(count);
            skipped += count as u64;
            if skipped > MAX_PADDING {
                return Err(self.refuse("there are more than 16 MiB of zeros"));
            }
        }
    }

    fn refuse(&self, why: &str) -> io::Error {
        let name = self.how.compression().archive_name();
        let refused = Error::unusable(format!("{name} has other bytes after its end"));
        io::Error::other(refused.because(why).help(super::AGAIN))
    }
}

impl<R: BufRead> Read for Members<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while let Some(member) = &mut self.member {
            let count = match member {
                Member::Gzip(decoder) => decoder.read(buffer)?,
                Member::Zstd(decoder) => decoder.read(buffer)?,
            };
            if count > 0 || buffer.is_empty() {
                return Ok(count);
            }
            self.next_member()?;
        }
        Ok(0)
    }
}

impl<R: BufRead> Member<R> {
    fn new(compressed: R, how: Format) -> io::Result<Self> {
        Ok(match how {
            Format::Gzip => Member::Gzip(Box::new(GzDecoder::new(compressed))),
            Format::Zstd => {
                let mut decoder = zstd::Decoder::with_buffer(compressed)?.single_frame();
                decoder.window_log_max(WINDOW_LOG_MAX)?;
                Member::Zstd(decoder)
            }
        })
    }

    fn into_inner(self) -> R {
        match self {
            Member::Gzip(decoder) => decoder.into_inner(),
            Member::Zstd(decoder) => decoder.finish(),
        }
    }
}

/// Retries an interrupted read: a decoder that is interrupted within a header cannot continue.
struct Patient<R>(R);

impl<R: BufRead> BufRead for Patient<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while let Err(error) = self.0.fill_buf() {
            if error.kind() != ErrorKind::Interrupted {
                return Err(error);
            }
        }
        // Returns the buffered bytes without reading.
        self.0.fill_buf()
    }

    fn consume(&mut self, count: usize) {
        self.0.consume(count);
    }
}

impl<R: BufRead> Read for Patient<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        read_buffered(self, into)
    }
}
