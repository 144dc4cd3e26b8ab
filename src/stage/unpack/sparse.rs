//! The content of a file: the parts that the archive holds, and the holes between them (GNU tar's
//! old format `S`, and its three pax formats).

use super::blocks::{BLOCK, Blocks};
use super::entry_error::EntryError;
use super::pax::Sparse;
use crate::stage::buffer_channel::Share;
use std::io;
use tar::{GnuExtSparseHeader, GnuHeader, GnuSparseHeader};

/// How many parts a file may have: bounds the memory for the map.
const MAX_PARTS: usize = 65_536;

/// The parts of a file that the archive holds, one after the other, with holes between them.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Content {
    /// The length of the file, holes included.
    pub(super) size: u64,
    pub(super) parts: Vec<Part>,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) offset: u64,
    pub(super) len: u64,
}

impl Content {
    pub(super) fn whole(size: u64) -> Self {
        Content { size, parts: vec![Part { offset: 0, len: size }] }
    }

    pub(super) fn has_holes(&self) -> bool {
        self.stored() != self.size
    }

    /// Returns how many bytes the archive holds.
    pub(super) fn stored(&self) -> u64 {
        self.parts.iter().map(|part| part.len).sum()
    }

    /// Accepts only parts in order, inside the file, that add up to `stored`. Each part but the
    /// last must end on a block: tools disagree on any other layout.
    fn sparse(mut parts: Vec<Part>, size: u64, stored: u64) -> Result<Self, EntryError> {
        parts.retain(|part| part.len > 0);
        let (mut end, mut sum) = (0, 0u64);
        for part in &parts {
            if part.offset < end || !sum.is_multiple_of(BLOCK as u64) {
                return Err(malformed());
            }
            end = part
                .offset
                .checked_add(part.len)
                .filter(|end| *end <= size)
                .ok_or_else(malformed)?;
            sum += part.len;
        }
        match sum == stored {
            true => Ok(Content { size, parts }),
            false => Err(malformed()),
        }
    }

    /// Reads the old format: the first parts are in the header, more in the blocks after it.
    pub(super) fn gnu<R: Share>(
        header: &GnuHeader,
        stored: u64,
        blocks: &mut Blocks<R>,
    ) -> Result<Self, EntryError> {
        let mut parts = Vec::new();
        add(&mut parts, &header.sparse)?;
        let mut more = header.is_extended();
        while more {
            let mut next = GnuExtSparseHeader::new();
            *next.as_mut_bytes() = blocks.next()?.ok_or_else(super::blocks::truncated)?;
            add(&mut parts, next.sparse())?;
            more = next.is_extended();
        }
        Self::sparse(parts, header.real_size().map_err(|_| malformed())?, stored)
    }

    /// Reads the pax formats: the map is in the header (0.0, 0.1) or before the data (1.0).
    pub(super) fn pax<R: Share>(
        sparse: Sparse,
        stored: u64,
        blocks: &mut Blocks<R>,
    ) -> Result<Self, EntryError> {
        let size = sparse.size.ok_or_else(malformed)?;
        let (map, stored) = match sparse.version {
            (0, _) => (sparse.map, stored),
            (1, 0) => map_before_data(blocks, stored)?,
            _ => {
                return Err(EntryError::refused("it is sparse in a way that is not known")
                    .with_help("pack without --sparse"));
            }
        };
        if map.len() > 2 * MAX_PARTS || !map.len().is_multiple_of(2) {
            return Err(malformed());
        }
        let (pairs, _) = map.as_chunks();
        let parts = pairs.iter().map(|&[offset, len]| Part { offset, len }).collect();
        Self::sparse(parts, size, stored)
    }
}

fn add(parts: &mut Vec<Part>, headers: &[GnuSparseHeader]) -> Result<(), EntryError> {
    for header in headers.iter().filter(|header| !header.is_empty()) {
        let part = |header: &GnuSparseHeader| -> io::Result<Part> {
            Ok(Part { offset: header.offset()?, len: header.length()? })
        };
        parts.push(part(header).map_err(|_| malformed())?);
    }
    match parts.len() <= MAX_PARTS {
        true => Ok(()),
        false => Err(malformed()),
    }
}

/// Reads the map of format 1.0: a count and then pairs of numbers, one decimal per line, padded to
/// a block. Returns it with how many of the `stored` bytes are left.
fn map_before_data<R: Share>(
    blocks: &mut Blocks<R>,
    mut stored: u64,
) -> Result<(Vec<u64>, u64), EntryError> {
    let mut count = None;
    let mut map = Vec::new();
    let mut line: Option<u64> = None;
    while count.is_none_or(|count| map.len() < count) {
        stored = stored.checked_sub(BLOCK as u64).ok_or_else(malformed)?;
        for byte in blocks.next()?.ok_or_else(super::blocks::truncated)? {
            if count == Some(map.len()) {
                break;
            }
            match (byte, line) {
                (b'0'..=b'9', _) => {
                    let digit = u64::from(byte - b'0');
                    let number = line.unwrap_or(0).checked_mul(10);
                    line = Some(number.and_then(|n| n.checked_add(digit)).ok_or_else(malformed)?);
                }
                (b'\n', Some(number)) if count.is_none() => {
                    let parts = usize::try_from(number).ok().filter(|parts| *parts <= MAX_PARTS);
                    count = Some(2 * parts.ok_or_else(malformed)?);
                    line = None;
                }
                (b'\n', Some(number)) => {
                    map.push(number);
                    line = None;
                }
                _ => return Err(malformed()),
            }
        }
    }
    Ok((map, stored))
}

fn malformed() -> EntryError {
    EntryError::refused("the map of a sparse file is malformed or too large")
        .with_help("pack without --sparse")
}

#[cfg(test)]
mod tests {
    use super::super::Limits;
    use super::*;

    fn part(offset: u64, len: u64) -> Part {
        Part { offset, len }
    }

    #[test]
    fn accepts_parts_in_order_and_inside_the_file() {
        let parts = vec![part(512, 512), part(4096, 100), part(5000, 0)];
        let content = Content::sparse(parts, 5000, 612).unwrap();
        assert_eq!(content.parts, [part(512, 512), part(4096, 100)]);
        assert_eq!(content.stored(), 612);
    }

    #[test]
    fn refuses_parts_that_overlap_leave_the_file_or_do_not_add_up() {
        for (parts, size, stored) in [
            (vec![part(0, 512), part(511, 512)], 4096, 1024),
            (vec![part(1024, 512), part(0, 512)], 4096, 1024),
            (vec![part(0, 512)], 511, 512),
            (vec![part(u64::MAX, 2)], u64::MAX, 2),
            (vec![part(0, 100), part(512, 100)], 4096, 200),
            (vec![part(0, 512)], 4096, 513),
            (vec![], 4096, 1),
        ] {
            assert!(Content::sparse(parts, size, stored).is_err());
        }
    }

    fn map(text: &[u8], stored: u64) -> Result<(Vec<u64>, u64), EntryError> {
        let mut data = text.to_vec();
        data.resize(data.len().next_multiple_of(BLOCK), 0);
        let limits = Limits { max_bytes: 1 << 20, max_files: 1 };
        map_before_data(&mut Blocks::new(&data[..], limits), stored)
    }

    #[test]
    fn reads_a_map_before_the_data() {
        assert_eq!(map(b"2\n0\n512\n1024\n7\n", 1031).unwrap(), (vec![0, 512, 1024, 7], 519));
        assert_eq!(map(b"0\n", 512).unwrap(), (vec![], 0));
        let long = format!("200\n{}", "1048576\n512\n".repeat(200));
        assert_eq!(map(long.as_bytes(), 8192).unwrap().0.len(), 400);
    }

    #[test]
    fn refuses_a_malformed_map() {
        for text in [
            &b"x\n"[..],
            b"\n",
            b"1\n-1\n5\n",
            b"1\n0\n",
            b"999999999\n",
            b"99999999999999999999\n",
        ] {
            assert!(map(text, 512).is_err(), "{text:?}");
        }
        assert!(map(b"1\n0\n1\n", 511).is_err());
    }
}
