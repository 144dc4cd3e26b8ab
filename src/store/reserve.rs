//! Disk space in reserve, so that a full disk prevents no rollback, no restart and no record of
//! them: file systems have no reserve of inodes, and some none of blocks.

use super::Locked;
use crate::host::disk;
use model::error::Result;
use nix::fcntl::posix_fallocate;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

/// How many files one operation may write: underway.json, a link or a release.json beside the old
/// one, the stopped processes, the history's next block.
const FILES: u32 = 4;
/// The size of each in bytes.
const SIZE: i64 = 16 << 10;

impl Locked {
    /// Recreates the missing parts of the reserve, if there is space.
    pub(super) fn keep_reserve(&self) {
        if let Err(error) = self.parts().try_for_each(|part| keep(&part)) {
            tracing::debug!("keep {} free: {error}", self.reserve_dir().display());
        }
    }

    /// Runs a necessary write; on a full disk, frees parts of the reserve for it.
    #[expect(clippy::disallowed_methods, reason = "what is lost of it is made again")]
    pub(super) fn write_with_reserve<T>(&self, write: impl Fn() -> Result<T>) -> Result<T> {
        let mut written = write();
        for part in self.parts() {
            match &written {
                Err(error) if disk::is_full(error) => {}
                _ => return written,
            }
            if fs::remove_file(part).is_ok() {
                written = write();
            }
        }
        written
    }

    fn parts(&self) -> impl Iterator<Item = PathBuf> + use<> {
        let dir = self.reserve_dir();
        (1..=FILES).map(move |number| dir.join(number.to_string()))
    }

    fn reserve_dir(&self) -> PathBuf {
        self.dir().join("reserve")
    }
}

#[expect(clippy::disallowed_methods, reason = "what is lost of it is made again")]
fn keep(part: &PathBuf) -> io::Result<()> {
    let has = |meta: fs::Metadata| meta.blocks() * 512 >= SIZE.unsigned_abs();
    if fs::metadata(part).is_ok_and(has) {
        return Ok(());
    }
    if let Some(dir) = part.parent() {
        fs::create_dir_all(dir)?;
    }
    let file = File::create(part)?;
    posix_fallocate(&file, 0, SIZE)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::store::Store;
    use model::error::Error;
    use nix::errno::Errno;
    use std::cell::Cell;

    #[test]
    fn a_full_disk_gets_only_as_much_of_the_reserve_as_the_write_needs() {
        let root = tempfile::tempdir().unwrap();
        let app = Store::at(root.path()).app(&"my-app".parse().unwrap()).lock().unwrap();
        let parts = || app.parts().filter(|part| part.exists()).count();
        assert_eq!(parts(), 4);
        let times = Cell::new(0);
        let full = |fails: u32, errno: Errno| {
            times.set(0);
            app.write_with_reserve(|| match times.replace(times.get() + 1) {
                time if time < fails => Err(Error::failed("write").because(errno)),
                _ => Ok(()),
            })
        };
        full(2, Errno::ENOSPC).unwrap();
        assert_eq!(parts(), 2);
        full(9, Errno::EIO).unwrap_err();
        assert_eq!((parts(), times.get()), (2, 1), "a broken disk is not a full one");
        full(9, Errno::ENOSPC).unwrap_err();
        assert_eq!(parts(), 0);
        app.keep_reserve();
        assert_eq!(parts(), 4);
    }
}
