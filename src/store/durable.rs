//! Writes that are on the disk when they return: a temporary name, fsync,
//! rename, fsync of the directory.

use crate::error::{Error, Result};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, symlink};
use std::path::Path;

/// What the name of a file ends with until it is whole.
const FRESH: &str = "new";

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
    let fresh = path.with_extension(FRESH);
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
    let fresh = link.with_extension(FRESH);
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

/// Makes a directory and its parents, where they are missing, each of them on the
/// disk before there is anything in it.
pub(super) fn make_dir(path: &Path, mode: u32) -> Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        make_dir(parent, mode)?;
    }
    let made = match DirBuilder::new().mode(mode).create(path) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        made => made.and_then(|()| sync_parent(path)),
    };
    made.map_err(|e| unwritable(path, e))
}

/// Removes what a write that was cut short has left in a directory.
pub(super) fn remove_unfinished(dir: &Path) -> Result<()> {
    let fresh = |name: &String| Path::new(name).extension().is_some_and(|end| end == FRESH);
    let mut names = super::names(dir)?;
    names.retain(fresh);
    names.iter().try_for_each(|name| remove(&dir.join(name)))
}

/// Makes a rename, a new name or a removal below the parent last.
pub(super) fn sync_parent(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) => File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_that_was_cut_short_leaves_the_old_file_and_goes_later() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("a/b/release.json");
        make_dir(path.parent().unwrap(), 0o755).unwrap();
        write(&path, b"old", 0o600).unwrap();
        fs::write(path.with_extension(FRESH), "ne").unwrap();
        remove_unfinished(path.parent().unwrap()).unwrap();
        assert_eq!(super::super::names(path.parent().unwrap()).unwrap(), ["release.json"]);
        fs::write(path.with_extension(FRESH), "ne").unwrap();
        write(&path, b"new", 0o600).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
    }

    #[test]
    fn a_write_that_fails_leaves_nothing_beside_the_old_file() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("taken");
        fs::create_dir(&path).unwrap();
        write(&path, b"new", 0o600).unwrap_err();
        point(&path, Path::new("r1")).unwrap_err();
        assert_eq!(super::super::names(root.path()).unwrap(), ["taken"]);
        make_dir(&path, 0o755).unwrap();
        let file = root.path().join("file");
        fs::write(&file, "").unwrap();
        make_dir(&file.join("below"), 0o755).unwrap_err();
    }
}
