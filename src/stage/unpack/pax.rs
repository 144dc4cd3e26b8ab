//! Extended headers of the pax format, which change the next entry.
//!
//! The format is `LENGTH KEY=VALUE\n`, LENGTH counting the whole record (POSIX.1
//! `pax`, "pax Extended Header"). A value may hold any byte, newlines too, so the
//! length alone says where a record ends.

use super::entry_error::EntryError;
use nix::sys::time::TimeSpec;

/// The records of an extended header that are used. Owners, extended attributes, access times and
/// comments are ignored.
#[derive(Debug, Default)]
pub(super) struct Pax {
    pub(super) path: Option<Vec<u8>>,
    pub(super) link: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) modified: Option<TimeSpec>,
    pub(super) sparse: Sparse,
}

/// GNU tar's records for a file with holes (`tar --sparse --format=pax`); its manual, "Storing
/// Sparse Files", describes the versions 0.0, 0.1 and 1.0.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Sparse {
    pub(super) version: (u64, u64),
    pub(super) name: Option<Vec<u8>>,
    /// The length of the file, holes included.
    pub(super) size: Option<u64>,
    /// Offset and length of each part that is not a hole, alternating (0.0 and 0.1).
    pub(super) map: Vec<u64>,
}

impl Pax {
    pub(super) fn parse(header: &[u8]) -> Result<Pax, EntryError> {
        let mut pax = Pax::default();
        for record in records(header) {
            let (key, value) = record?;
            pax.set(key, value)?;
        }
        Ok(pax)
    }

    fn set(&mut self, key: &[u8], value: &[u8]) -> Result<(), EntryError> {
        match key {
            b"path" => self.path = non_empty(value),
            b"linkpath" => self.link = non_empty(value),
            b"size" => self.size = Some(number(value)?),
            b"mtime" => self.modified = time(value),
            b"GNU.sparse.name" => self.sparse.name = non_empty(value),
            b"GNU.sparse.major" => self.sparse.version.0 = number(value)?,
            b"GNU.sparse.minor" => self.sparse.version.1 = number(value)?,
            b"GNU.sparse.size" | b"GNU.sparse.realsize" => self.sparse.size = Some(number(value)?),
            b"GNU.sparse.map" => {
                self.sparse.map =
                    value.split(|byte| *byte == b',').map(number).collect::<Result<_, _>>()?;
            }
            b"GNU.sparse.offset" if self.sparse.map.len().is_multiple_of(2) => {
                self.sparse.map.push(number(value)?);
            }
            b"GNU.sparse.numbytes" if !self.sparse.map.len().is_multiple_of(2) => {
                self.sparse.map.push(number(value)?);
            }
            b"GNU.sparse.offset" | b"GNU.sparse.numbytes" => {
                return Err(malformed("the map of a sparse file is out of order"));
            }
            _ => {}
        }
        Ok(())
    }
}

/// Refuses a global header that changes what is unpacked (`git archive` writes one with the
/// commit): tools disagree on its effect on the entries after it.
pub(super) fn check_global(header: &[u8]) -> Result<(), EntryError> {
    for record in records(header) {
        let (key, _) = record?;
        if matches!(key, b"path" | b"linkpath" | b"size") || key.starts_with(b"GNU.sparse.") {
            return Err(malformed("a global pax header sets the name or size of every entry"));
        }
    }
    Ok(())
}

/// Returns the records as keys and values; ends after the first malformed one.
fn records(mut header: &[u8]) -> impl Iterator<Item = Result<(&[u8], &[u8]), EntryError>> {
    std::iter::from_fn(move || {
        if header.is_empty() {
            return None;
        }
        let Some((key, value, rest)) = record(header) else {
            header = &[];
            return Some(Err(malformed("a pax header is malformed")));
        };
        header = rest;
        Some(Ok((key, value)))
    })
}

fn record(header: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = header.iter().position(|byte| *byte == b' ')?;
    let length = usize::try_from(number(header.get(..space)?).ok()?).ok()?;
    let (record, rest) = header.split_at_checked(length)?;
    let body = record.get(space + 1..)?.strip_suffix(b"\n")?;
    let equals = body.iter().position(|byte| *byte == b'=')?;
    Some((body.get(..equals)?, body.get(equals + 1..)?, rest))
}

/// An empty value clears an earlier one.
fn non_empty(value: &[u8]) -> Option<Vec<u8>> {
    (!value.is_empty()).then(|| value.to_vec())
}

fn number(value: &[u8]) -> Result<u64, EntryError> {
    let digits = std::str::from_utf8(value).ok().filter(|text| !text.starts_with('+'));
    digits
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| malformed("a number in a pax header is malformed"))
}

/// Seconds since 1970, possibly negative or with a fraction. `None` for an invalid time, which is
/// no reason to refuse a release.
fn time(value: &[u8]) -> Option<TimeSpec> {
    let text = std::str::from_utf8(value).ok()?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds: i64 = whole.parse().ok()?;
    if !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let digits: String = fraction.chars().chain("000000000".chars()).take(9).collect();
    let nanos: i64 = digits.parse().ok()?;
    match whole.starts_with('-') && nanos > 0 {
        true => Some(TimeSpec::new(seconds.checked_sub(1)?, 1_000_000_000 - nanos)),
        false => Some(TimeSpec::new(seconds, nanos)),
    }
}

fn malformed(why: &str) -> EntryError {
    EntryError::refused(why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_records_by_their_length_alone() {
        let header =
            b"17 path=a\nb = c\xff\n23 SCHILY.xattr.x=\0\n\n=\n30 mtime=1700000000.123456789\n";
        let pax = Pax::parse(header).unwrap();
        assert_eq!(pax.path.unwrap(), b"a\nb = c\xff");
        assert_eq!(pax.modified, Some(TimeSpec::new(1_700_000_000, 123_456_789)));
    }

    #[test]
    fn refuses_malformed_records() {
        for header in [
            &b"path=a\n"[..],
            b"99 path=a\n",
            b"10 path=a",
            b"8 path=a\n",
            b"3 \n",
            b"0 \n",
            b"+10 path=a\n",
            b"11 path=a\n",
            b"18446744073709551616 path=a\n",
            b"10 size=x\n",
            b"11 size=-1\n",
            b"\n",
            b"10 path:a\n",
        ] {
            assert!(Pax::parse(header).is_err(), "{header:?}");
        }
    }

    #[test]
    fn reads_times_before_1970_and_ignores_nonsense() {
        assert_eq!(time(b"-1.25"), Some(TimeSpec::new(-2, 750_000_000)));
        assert_eq!(time(b"-3"), Some(TimeSpec::new(-3, 0)));
        assert_eq!(time(b"5.1234567891"), Some(TimeSpec::new(5, 123_456_789)));
        for nonsense in [&b"soon"[..], b"", b"1.x", b"99999999999999999999", b"1.-5"] {
            assert_eq!(time(nonsense), None);
        }
    }

    #[test]
    fn reads_all_ways_to_write_a_sparse_map() {
        let old = Pax::parse(
            b"22 GNU.sparse.size=10\n23 GNU.sparse.offset=4\n25 GNU.sparse.numbytes=2\n",
        );
        assert_eq!(
            (old.as_ref().unwrap().sparse.size, &old.unwrap().sparse.map[..]),
            (Some(10), &[4, 2][..])
        );
        let pax = Pax::parse(b"26 GNU.sparse.map=4,2,8,1\n21 GNU.sparse.name=n\n").unwrap();
        assert_eq!(pax.sparse.map, [4, 2, 8, 1]);
        assert_eq!(pax.sparse.name.unwrap(), b"n");
        assert!(Pax::parse(b"25 GNU.sparse.numbytes=2\n").is_err());
    }

    #[test]
    fn a_global_header_may_comment_but_not_rename() {
        assert!(check_global(b"16 comment=abcd\n").is_ok());
        assert!(check_global(b"10 path=a\n").is_err());
        assert!(check_global(b"garbage").is_err());
    }
}
