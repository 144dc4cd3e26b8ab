//! The free space of a file system, and errors that mean a full one.

use model::error::{Error, Result};
use nix::errno::Errno;
use nix::sys::statvfs::{Statvfs, fstatvfs, statvfs};
use std::error::Error as StdError;
use std::io::{self, ErrorKind};
use std::os::fd::AsFd;
use std::path::Path;

/// Below these limits (bytes, inodes) the file system counts as full.
const NEXT_TO_NOTHING: (u64, u64) = (256 << 10, 4);

/// Bytes below which space is scarce on a large file system; on a small one it is a twentieth.
const SCARCE: u64 = 64 << 20;
/// Inodes below which they are scarce.
const SCARCE_INODES: u64 = 1024;

/// The space that is left to users without a right to the file system's reserve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    pub bytes: u64,
    /// `None` if the file system has no limit of its own, like btrfs.
    pub inodes: Option<u64>,
    /// The space of the smallest file in bytes.
    pub block: u64,
    /// Total size in bytes, used or not.
    pub size: u64,
}

impl Space {
    /// Reads the space of the file system that `path` is on.
    pub fn at(path: &Path) -> Result<Space> {
        let what = || format!("read the free space at {}", path.display());
        let found = statvfs(path).map_err(|e| Error::failed(what()).because(e))?;
        Ok(Space::of(&found))
    }

    /// Reads the space of an open file's file system; `None` if that fails.
    pub fn at_file(file: impl AsFd) -> Option<Space> {
        fstatvfs(file).ok().as_ref().map(Space::of)
    }

    fn of(found: &Statvfs) -> Space {
        let limited = found.files() > 0;
        Space {
            bytes: found.blocks_available().saturating_mul(found.fragment_size()),
            inodes: limited.then(|| found.files_available()),
            block: found.fragment_size(),
            size: found.blocks().saturating_mul(found.fragment_size()),
        }
    }

    /// Whether the last write may have failed because of this.
    pub fn is_used_up(&self) -> bool {
        let (bytes, inodes) = NEXT_TO_NOTHING;
        self.bytes < bytes || self.has_no_inodes(inodes)
    }

    /// Whether running apps will soon have no space for their own files.
    pub fn is_scarce(&self) -> bool {
        self.bytes < (self.size / 20).min(SCARCE) || self.has_no_inodes(SCARCE_INODES)
    }

    fn has_no_inodes(&self, fewer_than: u64) -> bool {
        self.inodes.is_some_and(|inodes| inodes < fewer_than)
    }

    /// Whether the inodes are used up, and not the bytes.
    pub fn lacks_inodes(&self) -> bool {
        self.has_no_inodes(NEXT_TO_NOTHING.1) && self.bytes >= NEXT_TO_NOTHING.0
    }
}

/// Whether a full disk or quota is among the causes of an error.
pub fn is_full(error: &Error) -> bool {
    let mut reason: Option<&(dyn StdError + 'static)> = error.source();
    while let Some(error) = reason {
        let errno = error.downcast_ref::<Errno>();
        let kind = error.downcast_ref::<io::Error>().map(io::Error::kind);
        if matches!(errno, Some(Errno::ENOSPC | Errno::EDQUOT))
            || matches!(kind, Some(ErrorKind::StorageFull | ErrorKind::QuotaExceeded))
        {
            return true;
        }
        reason = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn room(bytes: u64, inodes: Option<u64>) -> Space {
        Space { bytes, inodes, block: 4096, size: 1 << 30 }
    }

    #[test]
    fn a_file_system_without_an_inode_limit_lacks_none() {
        assert!(!room(1 << 30, None).is_used_up());
        assert!(room(1 << 30, Some(0)).is_used_up() && room(1 << 30, Some(0)).lacks_inodes());
        assert!(room(0, None).is_used_up() && !room(0, None).lacks_inodes());
        assert!(!room(0, Some(0)).lacks_inodes(), "missing bytes are reported first");
    }

    #[test]
    fn the_space_of_a_directory_is_that_of_its_file_system() {
        let root = tempfile::tempdir().expect("a temporary directory");
        let file = std::fs::File::open(root.path()).expect("open");
        let (by_path, by_file) = (Space::at(root.path()).expect("room"), Space::at_file(&file));
        assert_eq!(by_file.map(|room| room.block), Some(by_path.block));
        assert!(by_path.block > 0);
        assert!(Space::at(&root.path().join("gone")).is_err());
    }

    #[test]
    fn finds_a_full_disk_at_any_depth_of_an_error() {
        let full: [Box<dyn StdError + Send + Sync>; 4] = [
            Box::new(io::Error::from_raw_os_error(28)),
            Box::new(io::Error::from_raw_os_error(122)),
            Box::new(Errno::ENOSPC),
            Box::new(Errno::EDQUOT),
        ];
        for reason in full {
            let inner = Error::failed("write env").because(reason);
            assert!(is_full(&Error::unusable("stage r2").because(inner)));
        }
        let other = Error::failed("write env").because(io::Error::from_raw_os_error(5));
        assert!(!is_full(&Error::unusable("stage r2").because(other)));
        assert!(!is_full(&Error::unusable("stage r2")));
    }
}
