//! Writes that are on the disk when they return: a temporary name, fsync, rename, fsync of the
//! directory. Nothing else changes the agent's own files (see `clippy.toml`), so that each stage
//! of each write is a failpoint.

#![expect(clippy::disallowed_methods, reason = "this is where they are allowed")]

use super::removal;
use model::error::{Error, Result};
use nix::errno::Errno;
use nix::unistd::{UnlinkatFlags, unlinkat};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, symlink};
use std::path::Path;

/// Suffix of a file's name until the file is complete.
const FRESH: &str = "new";

/// Explains a read-only file system or a full disk to the operator.
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
        remove_old(&fresh)?;
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&fresh)?;
        reach!(fresh, "made");
        file.write_all(bytes)?;
        reach!(fresh, "written");
        file.sync_all()?;
        reach!(fresh, "synced");
        rename(&fresh, path)
    };
    write().map_err(|e| unfinished(&fresh, path, e))
}

/// Writes a new file that is durable, and complete, only once its directory is: a later syncfs(2)
/// covers all of it.
pub(super) fn write_for_later(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
        reach!(path, "made");
        file.write_all(bytes)?;
        reach!(path, "written");
        Ok(())
    };
    write().map_err(|e| unwritable(path, e))
}

/// Changes the target of a symbolic link atomically.
pub(super) fn replace_symlink(link: &Path, target: &Path) -> Result<()> {
    let fresh = link.with_extension(FRESH);
    let point = || {
        remove_old(&fresh)?;
        symlink(target, &fresh)?;
        reach!(fresh, "made");
        rename(&fresh, link)
    };
    point().map_err(|e| unfinished(&fresh, link, e))
}

/// Removes the temporary file of an interrupted write.
fn remove_old(fresh: &Path) -> io::Result<()> {
    match fs::remove_file(fresh) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

/// Removes the unfinished file: it may occupy the last free space.
fn unfinished(fresh: &Path, path: &Path, cause: io::Error) -> Error {
    let _ = fs::remove_file(fresh);
    unwritable(path, cause)
}

/// Renames a file, link or directory that is already on the disk, within its directory.
pub(super) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)?;
    reach!(to, "renamed");
    sync_parent(to)
}

/// Renames a directory within its parent; durable once the file system is synced.
pub(super) fn rename_for_later(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)?;
    reach!(to, "renamed");
    Ok(())
}

/// Removes a file by the handle of its directory, which may have lost its name meanwhile. Both the
/// file and the directory may be gone.
pub(super) fn remove_beneath(dir: &File, path: &Path) -> io::Result<()> {
    match unlinkat(dir, path.file_name().unwrap_or_default(), UnlinkatFlags::NoRemoveDir) {
        Err(Errno::ENOENT) => {}
        removed => removed?,
    }
    reach!(path, "removed");
    dir.sync_all()?;
    reach!(path, "durable");
    Ok(())
}

/// Appends to a file, which is created with this mode if missing.
pub(super) fn append(
    path: &Path,
    mode: u32,
    add: impl FnOnce(&mut File) -> io::Result<()>,
) -> Result<()> {
    let append = || {
        let is_new = !path.exists();
        let mut open = OpenOptions::new();
        let mut file = open.read(true).append(true).create(true).mode(mode).open(path)?;
        reach!(path, "opened");
        add(&mut file)?;
        reach!(path, "written");
        file.sync_all()?;
        reach!(path, "synced");
        if is_new { sync_parent(path) } else { Ok(()) }
    };
    append().map_err(|e| unwritable(path, e))
}

/// Removes a file or link, which may be missing.
pub(super) fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        removed => removed.map_err(|e| unwritable(path, e))?,
    }
    reach!(path, "removed");
    sync_parent(path).map_err(|e| unwritable(path, e))
}

/// Removes a directory, which may be missing, with everything in it. A crash may leave any part of
/// it: first rename it to a name that marks it for removal.
pub(super) fn remove_tree(path: &Path) -> Result<()> {
    if matches!(path.symlink_metadata(), Err(e) if e.kind() == io::ErrorKind::NotFound) {
        return Ok(());
    }
    reach!(path, "to be removed");
    removal::remove(path)
        .map_err(|e| Error::failed(format!("remove {}", path.display())).because(e))?;
    reach!(path, "removed");
    Ok(())
}

/// Creates a directory, unless it exists; durable once the file system is synced.
pub(super) fn make_dir_for_later(path: &Path, mode: u32) -> Result<()> {
    match DirBuilder::new().mode(mode).create(path) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        made => made.map_err(|e| unwritable(path, e)),
    }
}

/// Creates a directory and its missing parents; each is on the disk before it has entries.
pub(super) fn make_dir(path: &Path, mode: u32) -> Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        make_dir(parent, mode)?;
    }
    let made = match DirBuilder::new().mode(mode).create(path) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        made => made.and_then(|()| {
            reach!(path, "made");
            sync_parent(path)
        }),
    };
    made.map_err(|e| unwritable(path, e))
}

/// Removes the temporary files of interrupted writes from a directory.
pub(super) fn remove_unfinished(dir: &Path) -> Result<()> {
    let fresh = |name: &String| Path::new(name).extension().is_some_and(|end| end == FRESH);
    let mut names = super::names(dir)?;
    names.retain(fresh);
    names.iter().try_for_each(|name| remove(&dir.join(name)))
}

/// Makes a rename, a new name or a removal in the parent durable.
fn sync_parent(path: &Path) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        File::open(parent)?.sync_all()?;
    }
    reach!(path, "durable");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interrupted_write_keeps_the_old_file_and_is_cleaned_up_later() {
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
    fn a_failed_write_leaves_only_the_old_file() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("taken");
        fs::create_dir(&path).unwrap();
        write(&path, b"new", 0o600).unwrap_err();
        replace_symlink(&path, Path::new("r1")).unwrap_err();
        assert_eq!(super::super::names(root.path()).unwrap(), ["taken"]);
        make_dir(&path, 0o755).unwrap();
        let file = root.path().join("file");
        fs::write(&file, "").unwrap();
        make_dir(&file.join("below"), 0o755).unwrap_err();
    }
}
