//! The entries of a tar archive, one after the other, each with all headers that describe it:
//! ustar, pax, GNU and v7.
//!
//! The `tar` crate reads the fields of a header. Its own iterator is not used: it holds extended
//! headers of any length in memory, cannot read pax sparse files, and accepts an archive without
//! its end mark.

use super::Limits;
use super::blocks::{BLOCK, Blocks, truncated};
use super::entry_error::{EntryError, Place};
use super::pax::{self, Pax};
use super::sparse::Content;
use crate::stage::buffer_channel::Share;
use bytes::Bytes;
use nix::sys::time::TimeSpec;
use tar::{EntryType, Header};

/// The largest extended header that is read: far more than two names need, and
/// enough for the extended attributes that some tools put beside them.
const MAX_EXTENDED: u64 = 1024 * 1024;

/// One entry as the archive has it; nothing in it is checked yet.
pub(super) struct Entry {
    pub(super) name: Vec<u8>,
    pub(super) kind: Kind,
    /// Permissions with setuid, setgid and sticky: `0o7777`.
    pub(super) mode: u32,
    pub(super) modified: TimeSpec,
}

pub(super) enum Kind {
    /// Its content comes next: [`Archive::content`].
    File(Content),
    Directory,
    Symlink(Vec<u8>),
    HardLink(Vec<u8>),
    /// A kind that is never unpacked: devices, fifos, and unknown types.
    Other(EntryType),
}

pub(super) struct Archive<R> {
    blocks: Blocks<R>,
    header_at: u64,
    /// The name of the entry being read; empty until it is known.
    name: Vec<u8>,
}

/// What extended headers state about the entry that follows them.
#[derive(Default)]
struct Extended {
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    pax: Option<Pax>,
}

impl<R: Share> Archive<R> {
    pub(super) fn new(tar: R, limits: Limits) -> Self {
        Archive { blocks: Blocks::new(tar, limits), header_at: 0, name: Vec::new() }
    }

    /// Returns the place in the archive that an error at this point is about.
    pub(super) fn place(&self) -> Place<'_> {
        match self.name.is_empty() {
            true => Place::Byte(self.header_at),
            false => Place::Entry(&self.name),
        }
    }

    /// Returns the next entry, or `None` after the end of the archive, when all of the stream has
    /// been read. The content of the previous entry must have been taken.
    pub(super) fn next(&mut self) -> Result<Option<Entry>, EntryError> {
        let mut extended = Extended::default();
        loop {
            self.name.clear();
            self.header_at = self.blocks.position();
            let Some(header) = self.header()? else {
                if extended.name.is_some() || extended.link.is_some() || extended.pax.is_some() {
                    return Err(EntryError::refused("an extended header has no entry after it"));
                }
                self.blocks.finish()?;
                return Ok(None);
            };
            match header.entry_type() {
                EntryType::GNULongName => set_once(&mut extended.name, self.long_name(&header)?)?,
                EntryType::GNULongLink => set_once(&mut extended.link, self.long_name(&header)?)?,
                EntryType::XHeader => {
                    let pax = Pax::parse(&self.extended(&header)?)?;
                    set_once(&mut extended.pax, pax)?;
                }
                EntryType::XGlobalHeader => pax::check_global(&self.extended(&header)?)?,
                kind if kind.as_byte() == b'V' => {} // the label of `tar -V`: a header alone
                kind => return self.entry(&header, kind, extended).map(Some),
            }
        }
    }

    /// Hands the next `len` bytes of the entry's content to `give`, in pieces.
    pub(super) fn content(
        &mut self,
        len: u64,
        give: impl FnMut(Bytes) -> Result<(), EntryError>,
    ) -> Result<(), EntryError> {
        self.blocks.share(len, give)
    }

    /// Ends the content of an entry after `len` bytes were taken in all.
    pub(super) fn content_end(&mut self, len: u64) -> Result<(), EntryError> {
        self.blocks.skip_padding(len)
    }

    /// The next header, or `None` for the block of zeros that ends the archive.
    fn header(&mut self) -> Result<Option<Header>, EntryError> {
        let block = self.blocks.next()?.ok_or_else(truncated)?;
        if block == [0; BLOCK] {
            return Ok(None);
        }
        let mut header = Header::new_old();
        *header.as_mut_bytes() = block;
        if header.cksum().ok() != Some(checksum(&block)) {
            return Err(match self.header_at {
                0 => EntryError::refused("it is not a tar archive").with_help(
                    "pack the release with tar; the name must tell the compression: .tar.zst, .tar.gz or .tar",
                ),
                _ => EntryError::refused("the checksum of a header does not match: the archive is corrupt"),
            });
        }
        // Some tools omit the version; the name's prefix is valid all the same.
        let bytes = header.as_mut_bytes();
        if bytes[257..].starts_with(b"ustar\0") {
            bytes[263..265].copy_from_slice(b"00");
        }
        Ok(Some(header))
    }

    fn entry(
        &mut self,
        header: &Header,
        kind: EntryType,
        extended: Extended,
    ) -> Result<Entry, EntryError> {
        let mut pax = extended.pax.unwrap_or_default();
        let pax_name = pax.sparse.name.take().or(pax.path.take());
        let name = one_of(extended.name, pax_name, || Some(header.path_bytes().into_owned()))?;
        self.name.clone_from(&name);
        let link = || header.link_name_bytes().map(|name| name.into_owned());
        let stored = match pax.size {
            Some(size) => size,
            None => {
                header.entry_size().map_err(|_| EntryError::refused("its size is not a number"))?
            }
        };
        let kind = match kind {
            EntryType::GNUSparse => {
                let gnu = header
                    .as_gnu()
                    .ok_or_else(|| EntryError::refused("its header is malformed"))?;
                Kind::File(Content::gnu(gnu, stored, &mut self.blocks)?)
            }
            EntryType::Regular | EntryType::Continuous if name.ends_with(b"/") => {
                header_only(stored)?; // how v7 archives have directories
                Kind::Directory
            }
            EntryType::Regular | EntryType::Continuous if pax.sparse != Default::default() => {
                Kind::File(Content::pax(pax.sparse, stored, &mut self.blocks)?)
            }
            EntryType::Regular | EntryType::Continuous => Kind::File(Content::whole(stored)),
            EntryType::Directory => {
                header_only(stored)?;
                Kind::Directory
            }
            EntryType::Symlink => {
                header_only(stored)?;
                Kind::Symlink(one_of(extended.link, pax.link, link)?)
            }
            EntryType::Link => {
                header_only(stored)?;
                Kind::HardLink(one_of(extended.link, pax.link, link)?)
            }
            other => Kind::Other(other),
        };
        let mode =
            header.mode().map_err(|_| EntryError::refused("its mode is not a number"))? & 0o7777;
        // Times before 1970 are negative numbers in 64 bits; an invalid time is no reason to
        // refuse a release.
        let seconds = || header.mtime().unwrap_or(0).cast_signed();
        let modified = pax.modified.unwrap_or_else(|| TimeSpec::new(seconds(), 0));
        Ok(Entry { name, kind, mode, modified })
    }

    /// The content of an extended header.
    fn extended(&mut self, header: &Header) -> Result<Vec<u8>, EntryError> {
        match header.entry_size() {
            Ok(size) if size <= MAX_EXTENDED => self.blocks.take(size),
            Ok(_) => Err(EntryError::refused("an extended header is larger than 1 MiB")
                .with_help("pack with shorter names, without extended attributes")),
            Err(_) => Err(EntryError::refused("the size of an extended header is not a number")),
        }
    }

    /// A GNU long name, which ends with a NUL.
    fn long_name(&mut self, header: &Header) -> Result<Vec<u8>, EntryError> {
        let mut name = self.extended(header)?;
        name.pop_if(|last| *last == 0);
        Ok(name)
    }
}

/// The sum of the header's bytes, with the checksum's own bytes counted as spaces.
fn checksum(block: &[u8; BLOCK]) -> u32 {
    let sum = |bytes: &[u8]| bytes.iter().map(|byte| u32::from(*byte)).sum::<u32>();
    sum(block) - sum(&block[148..156]) + 8 * u32::from(b' ')
}

fn set_once<T>(slot: &mut Option<T>, value: T) -> Result<(), EntryError> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(EntryError::refused("two extended headers of a kind describe one entry")),
    }
}

/// Returns the name from the GNU long form, from pax, or from the header itself. If both long
/// forms are present (commons-compress writes both), they must agree: tools differ on which one
/// counts.
fn one_of(
    gnu: Option<Vec<u8>>,
    pax: Option<Vec<u8>>,
    header: impl Fn() -> Option<Vec<u8>>,
) -> Result<Vec<u8>, EntryError> {
    match (gnu, pax) {
        (Some(gnu), Some(pax)) if gnu == pax => Ok(pax),
        (Some(_), Some(_)) => Err(EntryError::refused("GNU and pax headers name it differently")),
        (Some(name), None) | (None, Some(name)) => Ok(name),
        (None, None) => Ok(header().unwrap_or_default()),
    }
}

/// Refuses a size on a directory or link: tools disagree on whether content follows.
fn header_only(stored: u64) -> Result<(), EntryError> {
    match stored {
        0 => Ok(()),
        _ => {
            Err(EntryError::refused(format!("it has {stored} bytes of content, but is not a file")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { max_bytes: 1 << 40, max_files: 1000 };

    fn header(kind: EntryType, name: &str, size: u64) -> Vec<u8> {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_path(name).unwrap();
        header.set_size(size);
        header.set_mode(0o644);
        header.set_cksum();
        header.as_bytes().to_vec()
    }

    fn first(tar: &[u8]) -> Result<Option<Entry>, String> {
        Archive::new(tar, LIMITS).next().map_err(|error| match error {
            EntryError::Refused { why, .. } => why,
            other => panic!("{other:?}"),
        })
    }

    #[test]
    fn a_huge_extended_header_is_refused_before_it_is_read() {
        for kind in [
            EntryType::GNULongName,
            EntryType::GNULongLink,
            EntryType::XHeader,
            EntryType::XGlobalHeader,
        ] {
            let tar = header(kind, "x", 8 << 30);
            let mut archive = Archive::new(&tar[..], LIMITS);
            assert!(matches!(archive.next(), Err(EntryError::Refused { .. })));
            assert_eq!(archive.blocks.position(), 512);
        }
    }

    #[test]
    fn the_prefix_of_a_name_counts_with_and_without_a_version() {
        let mut header = Header::new_ustar();
        let (front, back) = ("d".repeat(120), "f".repeat(90));
        header.set_path(format!("{front}/{back}")).unwrap();
        header.set_size(0);
        header.set_mode(0o644);
        for version in [b"00", b"\0\0"] {
            header.as_ustar_mut().unwrap().version = *b"00";
            let mut raw = header.clone();
            raw.as_mut_bytes()[263..265].copy_from_slice(version);
            raw.set_cksum();
            let entry = first(raw.as_bytes()).unwrap().unwrap();
            assert_eq!(entry.name, format!("{front}/{back}").as_bytes());
        }
    }

    #[test]
    fn an_error_names_the_entry_or_the_byte() {
        let good = header(EntryType::Regular, "good", 0);
        let tar = [good.clone(), header(EntryType::Directory, "bad", 5)].concat();
        let mut archive = Archive::new(&tar[..], LIMITS);
        archive.next().unwrap();
        assert!(archive.next().is_err());
        assert!(matches!(archive.place(), Place::Entry(b"bad")));

        let tar = [good, vec![1; 512]].concat();
        let mut archive = Archive::new(&tar[..], LIMITS);
        archive.next().unwrap();
        assert!(archive.next().is_err());
        assert!(matches!(archive.place(), Place::Byte(512)));
    }

    #[test]
    fn other_data_is_not_a_tar_archive() {
        assert_eq!(first(&[b'P'; 2048]).err().unwrap(), "it is not a tar archive");
        assert!(first(b"").err().unwrap().contains("truncated"));
    }
}
