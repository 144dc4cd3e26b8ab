//! Writes that are on the disk when they return: a temporary name, fsync,
//! rename, fsync of the directory.

use crate::error::{Error, Result};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, symlink};
use std::path::Path;

/// Makes a read-only file system or a full disk plain to the operator.
pub(super) fn unwritable(path: &Path, cause: io::Error) -> Error {
    let help = match cause.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            Some("free space, or enlarge the volume")
        }
        io::ErrorKind::ReadOnlyFilesystem => {
            Some("let deployd write there: ReadWritePaths= in a drop-in of deployd.service")
        }
        _ => None,
    };
    let error = Error::failed(format!("write {}", path.display())).because(cause);
    match help {
        Some(help) => error.help(help),
        None => error,
    }
}

/// Writes a whole file under its final name, with exactly this mode.
pub(super) fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    let fresh = path.with_extension("new");
    let write = || {
        match fs::remove_file(&fresh) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&fresh)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&fresh, path)?;
        sync_parent(path)
    };
    write().map_err(|e| unfinished(&fresh, path, e))
}

/// Points a symbolic link somewhere else in one atomic step.
pub(super) fn point(link: &Path, target: &Path) -> Result<()> {
    let fresh = link.with_extension("new");
    let point = || {
        match fs::remove_file(&fresh) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        symlink(target, &fresh)?;
        fs::rename(&fresh, link)?;
        sync_parent(link)
    };
    point().map_err(|e| unfinished(&fresh, link, e))
}

/// What was begun does not stay: it may be the last room there is.
fn unfinished(fresh: &Path, path: &Path, cause: io::Error) -> Error {
    let _ = fs::remove_file(fresh);
    unwritable(path, cause)
}

/// Removes a file or link that may be missing.
pub(super) fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(unwritable(path, e)),
        Ok(()) => sync_parent(path).map_err(|e| unwritable(path, e)),
    }
}

/// Makes a directory and its parents, where they are missing.
pub(super) fn make_dir(path: &Path, mode: u32) -> Result<()> {
    let made = DirBuilder::new().recursive(true).mode(mode).create(path);
    made.map_err(|e| unwritable(path, e))
}

/// Makes a rename, a new name or a removal below the parent last.
pub(super) fn sync_parent(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) => File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}
