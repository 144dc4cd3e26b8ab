//! Names in an archive: validation, and display in messages.

use super::entry_error::EntryError;

/// The longest path without its final NUL: `PATH_MAX` - 1.
const MAX_BYTES: usize = 4095;

/// How deep directories may be nested. Far more than packages need, and few enough that removing
/// the tree never runs out of open files.
const MAX_DEPTH: usize = 256;

/// A relative path without `.`, `..`, empty components and NUL, otherwise byte for byte as in the
/// archive. The empty path is the directory of the release itself.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Name(Vec<u8>);

impl Name {
    pub(super) fn parse(raw: &[u8]) -> Result<Name, EntryError> {
        if raw.is_empty() {
            return Err(EntryError::refused("its name is empty"));
        }
        if raw.contains(&0) {
            return Err(EntryError::refused("its name holds a NUL byte"));
        }
        // An entry for the root alone is harmless: Python's `add(d, arcname="/")`.
        if raw.starts_with(b"/") && components(raw).next().is_some() {
            return Err(EntryError::refused("its name is absolute")
                .with_help("pack with relative names: tar -C DIRECTORY -cf source.tar ."));
        }
        if raw.len() > MAX_BYTES {
            return Err(EntryError::refused(format!("its name is longer than {MAX_BYTES} bytes")));
        }
        let mut parts = Vec::new();
        for part in components(raw) {
            if part == b".." {
                return Err(EntryError::refused("its name has a component `..`")
                    .with_help("pack with names below the release's own directory"));
            }
            parts.push(part);
        }
        if parts.len() > MAX_DEPTH {
            return Err(EntryError::refused(format!(
                "it lies more than {MAX_DEPTH} directories deep"
            )));
        }
        Ok(Name(parts.join(&b'/')))
    }

    pub(super) fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Returns the directory, which is empty for the root, and the last component.
    pub(super) fn split(&self) -> (&[u8], &[u8]) {
        split(&self.0)
    }

    /// How many directories lie between the root and the entry.
    pub(super) fn depth(&self) -> usize {
        self.0.iter().filter(|byte| **byte == b'/').count()
    }
}

/// Splits `path` at its last slash, as [`Name::split`] does.
pub(super) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (&[], path),
    }
}

/// Returns the components of a path that are neither empty nor `.`.
pub(super) fn components(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn why(raw: &[u8]) -> String {
        match Name::parse(raw) {
            Err(EntryError::Refused { why, .. }) => why,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn keeps_the_bytes_and_drops_empty_components() {
        for (raw, name) in [
            (&b"a"[..], &b"a"[..]),
            (b"./a//b/./c/", b"a/b/c"),
            (b"./", b""),
            (b"/", b""),
            (b"//", b""),
            (b"/./.", b""),
            (b"caf\xe9/\xff \\ \n", b"caf\xe9/\xff \\ \n"),
            (b"...", b"..."),
            (b"a..b/..c", b"a..b/..c"),
        ] {
            assert_eq!(Name::parse(raw).unwrap().bytes(), name);
        }
    }

    #[test]
    fn refuses_names_that_lead_elsewhere() {
        assert_eq!(why(b""), "its name is empty");
        assert_eq!(why(b"/etc/passwd"), "its name is absolute");
        assert_eq!(why(b"/.."), "its name is absolute");
        assert_eq!(why(b"//./x"), "its name is absolute");
        assert_eq!(why(b"a\0b"), "its name holds a NUL byte");
        for raw in [&b".."[..], b"../a", b"a/../../b", b"a/..", b"./.."] {
            assert_eq!(why(raw), "its name has a component `..`");
        }
        assert_eq!(why(&[b'a'; 4096]), "its name is longer than 4095 bytes");
        assert!(Name::parse(&b"a/".repeat(256)).is_ok());
        assert_eq!(why(&b"a/".repeat(257)), "it lies more than 256 directories deep");
    }

    #[test]
    fn splits_and_counts() {
        let name = Name::parse(b"a/b/c").unwrap();
        assert_eq!(name.split(), (&b"a/b"[..], &b"c"[..]));
        assert_eq!(name.depth(), 2);
        assert_eq!(Name::parse(b"a").unwrap().split(), (&b""[..], &b"a"[..]));
    }
}
