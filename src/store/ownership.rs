//! Transfers the files of a tree from one user to another.

use super::durable::{self, unwritable};
use super::{App, Locked};
use crate::host::user::Ids;
use model::error::Result;
use nix::dir::{Dir, OwningIter};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{FileStat, Mode, SFlag, fchmod, fstat, fstatat};
use nix::unistd::{Gid, Uid, fchownat};
use std::ffi::CStr;
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// The limit of nested directories: no real tree is deeper, and each level takes a descriptor here.
const DEEPEST: usize = 512;

/// How many entries of a cache are made writable for a build, while the app runs.
const MOST: u64 = 100_000;

/// The mode of the root of a tree that belongs to one app.
pub(super) const OWN_TREE: Mode = Mode::from_bits_truncate(0o750);

/// The change that is applied to each entry below a directory.
#[derive(Clone, Copy)]
pub enum Change {
    /// Transfers the entries of the first user to the second.
    Owner(u32, Ids),
    /// Gives the group the rights of the owner, on entries of this user that are not private to
    /// it.
    GroupWrites(u32),
}

impl App {
    /// Whether a transfer of its files to another user was interrupted.
    pub fn is_moving(&self) -> bool {
        self.moving_path().symlink_metadata().is_ok()
    }

    fn moving_path(&self) -> PathBuf {
        self.dir().join("moving")
    }
}

impl Locked {
    /// Transfers all files of the app to its own user: the shared directory, the trees and homes,
    /// and the user of its releases. None of its processes may run meanwhile. If interrupted, it
    /// must be repeated: [`App::is_moving`].
    pub fn move_in(&self, user: &str, from: Ids, to: Ids, uids: &[u32]) -> Result<()> {
        let mut snapshot = self.snapshot()?;
        let own = snapshot
            .releases
            .iter()
            .flat_map(|manifest| [snapshot.tree(&manifest.label), snapshot.homes(&manifest.label)]);
        let all: Vec<PathBuf> = own.chain([self.shared()]).collect();
        let marker = self.moving_path();
        self.write_with_reserve(|| durable::write(&marker, b"", 0o600))?;
        if let Err(error) = self.give_all(&all, from, to) {
            // Revert as much as possible.
            for path in &all {
                let _ = self.change(path, Change::Owner(to.uid, from));
            }
            durable::remove(&marker)?;
            return Err(error);
        }
        // The manifest names the owner, so it is written last.
        let current = snapshot.current.clone();
        snapshot.releases.sort_by_key(|manifest| Some(&manifest.label) == current.as_ref());
        for mut manifest in snapshot.releases {
            manifest.plan.user = user.to_owned();
            manifest.uids = uids.to_vec();
            self.write_manifest(&manifest)?;
        }
        durable::remove(&marker)
    }

    fn give_all(&self, all: &[PathBuf], from: Ids, to: Ids) -> Result<()> {
        all.iter().try_for_each(|path| self.change(path, Change::Owner(from.uid, to)))?;
        for tree in all.iter().filter(|path| path.ends_with("app")) {
            let closed = || fchmod(directory(tree)?, OWN_TREE).map_err(io::Error::from);
            closed().map_err(|e| unwritable(tree, e))?;
        }
        // A build keeps files there, and will do so as another user.
        self.change(&self.shared(), Change::GroupWrites(to.uid))
    }

    fn change(&self, path: &Path, to: Change) -> Result<()> {
        match directory(path).and_then(|tree| change(tree, to)) {
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
            changed => changed.map(drop).map_err(|e| unwritable(path, e)),
        }
    }
}

/// An open directory, with its unread entries.
struct Level {
    directory: OwnedFd,
    entries: OwningIter,
}

impl Level {
    fn open(directory: OwnedFd) -> io::Result<Level> {
        let entries = Dir::from_fd(directory.try_clone()?)?.into_iter();
        Ok(Level { directory, entries })
    }
}

/// Opens a directory; fails if the path ends in a link.
pub fn directory(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    Ok(nix::fcntl::open(path, flags, Mode::empty())?)
}

/// Number and size of the entries below a directory.
#[derive(Clone, Copy, Debug, Default)]
pub struct Held {
    pub files: u64,
    /// Space on the disk.
    pub bytes: u64,
}

/// Changes a directory and everything below it; returns the number and size of the entries. Does
/// not follow links or cross mounts. Entries changed by others meanwhile may be missed.
pub fn change(root: OwnedFd, change: Change) -> io::Result<Held> {
    let mut held = Held::default();
    let here = fstat(&root)?;
    apply(&root, c".", &here, change)?;
    let device = here.st_dev;
    let mut levels = vec![Level::open(root)?];
    while let Some(Level { directory, entries }) = levels.last_mut() {
        let Some(entry) = entries.next().transpose()? else {
            levels.pop();
            continue;
        };
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let found = match fstatat(&*directory, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Err(Errno::ENOENT) => continue,
            found => found?,
        };
        // For a file, overlayfs may report the underlying device.
        if found.st_dev != device && kind(&found) == SFlag::S_IFDIR {
            match change {
                Change::Owner(..) => return Err(io::Error::other(mounted(name))),
                Change::GroupWrites(_) => continue,
            }
        }
        if matches!(change, Change::GroupWrites(_)) && held.files > MOST {
            return Ok(held);
        }
        apply(directory, name, &found, change)?;
        held.files += 1;
        held.bytes += u64::try_from(found.st_blocks).unwrap_or(0).saturating_mul(512);
        if kind(&found) == SFlag::S_IFDIR {
            let below = match (open(directory, name), change) {
                (Ok(below), _) => below,
                (Err(_), Change::GroupWrites(_)) => continue,
                (Err(e), Change::Owner(..)) if e.kind() == io::ErrorKind::NotFound => continue,
                (Err(e), Change::Owner(..)) => return Err(e),
            };
            if levels.len() == DEEPEST {
                let why = format!("directories lie more than {DEEPEST} deep");
                return Err(io::Error::other(why));
            }
            levels.push(Level::open(below)?);
        }
    }
    Ok(held)
}

fn apply(at: &OwnedFd, name: &CStr, found: &FileStat, change: Change) -> io::Result<()> {
    let regular = matches!(kind(found), SFlag::S_IFDIR | SFlag::S_IFREG);
    match change {
        Change::Owner(from, to) if found.st_uid == from => {
            let (uid, gid) = (Uid::from_raw(to.uid), Gid::from_raw(to.gid));
            fchownat(at, name, Some(uid), Some(gid), AtFlags::AT_SYMLINK_NOFOLLOW)?;
        }
        Change::GroupWrites(of) if found.st_uid == of && regular => {
            // The entry may have been replaced meanwhile.
            let Ok(file) = open(at, name) else { return Ok(()) };
            let mode = fstat(&file)?.st_mode & 0o7777;
            let wider = mode | (mode & 0o700) >> 3;
            if wider != mode && mode & 0o070 != 0 {
                fchmod(&file, Mode::from_bits_truncate(wider))?;
            }
        }
        Change::Owner(..) | Change::GroupWrites(_) => {}
    }
    Ok(())
}

fn mounted(name: &CStr) -> String {
    let name = name.to_string_lossy();
    format!("{name}: another file system is mounted there, whose files stay another user's")
}

/// Opens without following links: the user may create one at any time.
fn open(at: &OwnedFd, name: &CStr) -> io::Result<OwnedFd> {
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    Ok(openat(at, name, flags, Mode::empty())?)
}

fn kind(found: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(found.st_mode) & SFlag::S_IFMT
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, File};
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    fn handle(path: &std::path::Path) -> OwnedFd {
        File::open(path).expect("open").into()
    }

    #[test]
    fn the_group_gets_the_owners_rights_and_no_link_is_followed() {
        let (root, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let secret = outside.path().join("secret");
        fs::write(&secret, "").unwrap();
        fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
        fs::create_dir_all(root.path().join("a/b")).unwrap();
        fs::write(root.path().join("a/b/file"), "").unwrap();
        for (path, mode) in [("a", 0o755), ("a/b", 0o755), ("a/b/file", 0o644)] {
            fs::set_permissions(root.path().join(path), fs::Permissions::from_mode(mode)).unwrap();
        }
        let private = root.path().join("a/private");
        fs::write(&private, "").unwrap();
        fs::set_permissions(&private, fs::Permissions::from_mode(0o600)).unwrap();
        symlink(&secret, root.path().join("a/link")).unwrap();
        symlink(outside.path(), root.path().join("a/dir")).unwrap();
        let mode = |path: &std::path::Path| fs::metadata(path).unwrap().mode() & 0o777;
        let uid = fs::metadata(root.path()).unwrap().uid();
        change(handle(root.path()), Change::GroupWrites(uid + 1)).unwrap();
        assert_eq!(mode(&root.path().join("a/b/file")) & 0o020, 0);
        change(handle(root.path()), Change::GroupWrites(uid)).unwrap();
        assert_eq!(mode(&root.path().join("a/b/file")) & 0o660, 0o660);
        assert_eq!(mode(&root.path().join("a/b")) & 0o770, 0o770);
        assert_eq!((mode(&secret), mode(&private)), (0o600, 0o600));
    }

    #[test]
    fn a_tree_that_is_too_deep_is_an_error() {
        let root = tempfile::tempdir().unwrap();
        let mut deep = root.path().to_path_buf();
        (0..DEEPEST + 1).for_each(|_| deep.push("d"));
        fs::create_dir_all(&deep).unwrap();
        let error = change(handle(root.path()), Change::GroupWrites(u32::MAX)).unwrap_err();
        assert!(error.to_string().contains("deep"), "{error}");
    }
}
