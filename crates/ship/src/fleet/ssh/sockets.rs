//! The directory of the sockets by which calls of ssh share a connection.
//!
//! Each ship has one of its own, and holds a lock in it. One that was killed leaves its directory
//! behind; the next ship finds that nobody holds the lock, and removes it.

use model::error::{Error, Result};
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;

/// A directory without a lock that is older than this belongs to a dead ship. A younger one may
/// belong to a ship that is starting.
const OLD: Duration = Duration::from_secs(60);

pub struct Sockets {
    directory: TempDir,
    _lock: File,
}

impl Sockets {
    pub fn new() -> Result<Sockets> {
        let made = parent().and_then(|parent| Sockets::below(&parent));
        made.map_err(|why| Error::failed("make a directory for ssh").because(why))
    }

    fn below(parent: &Path) -> io::Result<Sockets> {
        clear(parent, OLD);
        let directory = tempfile::Builder::new().prefix("run-").tempdir_in(parent)?;
        let lock = File::create(directory.path().join("lock"))?;
        lock.try_lock()?;
        Ok(Sockets { directory, _lock: lock })
    }

    pub fn path(&self) -> &Path {
        self.directory.path()
    }
}

/// Returns the user's own directory for them. The path of a socket may have 104 bytes, so that
/// it must be short.
fn parent() -> io::Result<PathBuf> {
    // A new file has the uid of its process.
    let uid = tempfile::tempfile()?.metadata()?.uid();
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    let path = match runtime.filter(|path| path.is_absolute() && path.is_dir()) {
        Some(runtime) => runtime.join("ship"),
        None => PathBuf::from(format!("/tmp/ship-{uid}")),
    };
    match DirBuilder::new().mode(0o700).create(&path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let found = fs::symlink_metadata(&path)?;
    if !found.is_dir() || found.uid() != uid || found.permissions().mode() & 0o077 != 0 {
        let why = format!("{} is not a private directory of this user", path.display());
        return Err(io::Error::other(why));
    }
    Ok(path)
}

/// Removes the directories of ships that are no more.
fn clear(parent: &Path, age: Duration) {
    let entries = fs::read_dir(parent).into_iter().flatten().flatten();
    for path in entries.map(|entry| entry.path()) {
        let is_old = fs::symlink_metadata(&path)
            .and_then(|found| found.modified())
            .is_ok_and(|at| at.elapsed().is_ok_and(|elapsed| elapsed >= age));
        let is_held = File::open(path.join("lock")).is_ok_and(|lock| lock.try_lock().is_err());
        if is_old && !is_held {
            let _ = fs::remove_dir_all(&path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_directory_of_a_dead_ship_is_removed_by_the_next() {
        let parent = tempfile::tempdir().unwrap();
        let living = Sockets::below(parent.path()).unwrap();
        let mut killed = Sockets::below(parent.path()).unwrap();
        killed.directory.disable_cleanup(true);
        let left = killed.path().to_owned();
        drop(killed);
        assert!(left.is_dir());
        clear(parent.path(), OLD);
        assert!(left.is_dir(), "a ship that starts has no lock yet");
        clear(parent.path(), Duration::ZERO);
        assert!(!left.exists() && living.path().is_dir());
        let path = living.path().to_owned();
        drop(living);
        assert!(!path.exists());
    }
}
