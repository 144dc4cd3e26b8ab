//! Removes a directory that an app or a build has filled.
//!
//! Its content is untrusted: tens of thousands of nested directories, mounts, names that change
//! meanwhile. So nothing here recurses; a bounded number of directories is open at once, and
//! deeper ones are moved to the top and removed from there. Everything is reached by handle, no
//! link is followed and no mount is crossed. Everything that can be removed is; the rest stays.

use nix::dir::{Dir, Entry, OwningIter, Type};
use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2, renameat};
use nix::sys::stat::Mode;
use nix::unistd::{UnlinkatFlags, unlinkat};
use std::ffi::{CStr, CString};
use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, Instant};

/// The limit of directories open at once, each with two descriptors.
const DEEPEST: usize = 16;
/// How often a directory is read again because it was filled meanwhile.
const READS: u32 = 8;
/// The longest removal: a million files take 10 to 20 s on ext4.
const LONGEST: Duration = Duration::from_secs(300);

/// The reason why entries of a directory are left.
#[derive(Debug)]
pub struct Leftover {
    /// The first entry that could not be removed, below the directory.
    name: CString,
    why: Errno,
    /// How many could not be removed.
    count: u64,
}

impl fmt::Display for Leftover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name: String = self.name.to_string_lossy().chars().take(80).collect();
        write!(f, "{}: {}", name.escape_debug(), io::Error::from(self.why))?;
        match self.count {
            0 | 1 => Ok(()),
            count => write!(f, ", and {} more", count - 1),
        }
    }
}

impl From<Leftover> for io::Error {
    fn from(left: Leftover) -> Self {
        io::Error::new(io::Error::from(left.why).kind(), left.to_string())
    }
}

/// Removes a file or a directory, which may be missing, with everything in it.
///
/// # Errors
///
/// The error of the first entry that could not be removed; all others were.
pub fn remove(path: &Path) -> io::Result<()> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let name = CString::new(name.as_bytes())?;
    let parent: OwnedFd = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => match File::open(parent) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            opened => opened?.into(),
        },
        _ => File::open(".")?.into(),
    };
    Ok(Removal::new(parent, name, Instant::now() + LONGEST).run()?)
}

/// A directory that is being removed, and the progress.
struct Removal {
    parent: OwnedFd,
    name: CString,
    /// The open directories, from the root of the removal to the deepest.
    levels: Vec<Level>,
    /// The numbers of the directories that were moved to the top and wait for removal there.
    moved: std::ops::Range<u64>,
    left: Option<Leftover>,
    end: Instant,
}

/// An open directory, with its unread entries.
struct Level {
    name: CString,
    directory: OwnedFd,
    entries: OwningIter,
    reads: u32,
    /// An entry in it cannot be removed.
    is_stuck: bool,
}

impl Level {
    fn open(beneath: &OwnedFd, name: &CStr) -> Result<Level, Errno> {
        let directory = open(beneath, name)?;
        let entries = entries(&directory)?;
        Ok(Level { name: name.to_owned(), directory, entries, reads: 1, is_stuck: false })
    }

    /// Returns the next entry except `.` and `..`.
    fn next(&mut self) -> Option<Result<Entry, Errno>> {
        let is_own = |entry: &Result<Entry, Errno>| match entry {
            Ok(entry) => matches!(entry.file_name().to_bytes(), b"." | b".."),
            Err(_) => false,
        };
        self.entries.by_ref().find(|entry| !is_own(entry))
    }
}

impl Removal {
    fn new(parent: OwnedFd, name: CString, end: Instant) -> Removal {
        Removal { parent, name, levels: Vec::new(), moved: 0..0, left: None, end }
    }

    fn run(mut self) -> Result<(), Leftover> {
        let name = self.name.clone();
        self.remove(&name, None);
        while let Some(level) = self.levels.last_mut() {
            if Instant::now() >= self.end {
                self.fail(&name, Errno::ETIMEDOUT);
                break;
            }
            match level.next() {
                Some(Ok(entry)) => self.remove(entry.file_name(), entry.file_type()),
                Some(Err(errno)) => {
                    self.fail(c".", errno);
                    self.close();
                }
                None => self.close(),
            }
        }
        self.left.map_or(Ok(()), Err)
    }

    /// Removes an entry of the deepest open directory, or opens it.
    fn remove(&mut self, name: &CStr, kind: Option<Type>) {
        let here = self.levels.last().map_or(&self.parent, |level| &level.directory);
        if kind != Some(Type::Directory) {
            match unlinkat(here, name, UnlinkatFlags::NoRemoveDir) {
                Ok(()) | Err(Errno::ENOENT) => return,
                Err(Errno::EISDIR) => {}
                Err(errno) => return self.fail(name, errno),
            }
        }
        // Most deep directories are empty, or soon will be.
        let deep = self.levels.len() >= DEEPEST;
        match unlinkat(here, name, UnlinkatFlags::RemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => return,
            Err(Errno::ENOTEMPTY | Errno::EEXIST) => {}
            Err(errno) => return self.fail(name, errno),
        }
        let opened = match deep {
            true => return self.move_up(name),
            false => Level::open(here, name),
        };
        match opened {
            Ok(level) => self.levels.push(level),
            Err(Errno::ENOENT) => {}
            Err(errno) => self.fail(name, errno),
        }
    }

    /// Moves a directory that is too deep to the top, for removal from there.
    fn move_up(&mut self, name: &CStr) {
        let (Some(top), Some(here)) = (self.levels.first(), self.levels.last()) else { return };
        let moved = loop {
            let number = self.moved.end;
            self.moved.end += 1;
            match renameat(&here.directory, name, &top.directory, &*moved_name(number)) {
                // An earlier removal has moved an entry to this name; it is removed as well.
                Err(Errno::ENOTEMPTY | Errno::EEXIST | Errno::ENOTDIR) => {}
                moved => break moved,
            }
        };
        match moved {
            Ok(()) | Err(Errno::ENOENT) => {}
            Err(errno) => self.fail(name, errno),
        }
    }

    /// Closes and removes the deepest open directory after its last entry.
    fn close(&mut self) {
        if self.levels.len() == 1
            && let Some(number) = self.moved.next()
        {
            return self.remove(&moved_name(number), Some(Type::Directory));
        }
        let Some(mut level) = self.levels.pop() else { return };
        let above = self.levels.last().map_or(&self.parent, |above| &above.directory);
        match unlinkat(above, &*level.name, UnlinkatFlags::RemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => {}
            // It was filled again, or the read skipped some entries.
            Err(Errno::ENOTEMPTY | Errno::EEXIST) if !level.is_stuck && level.reads < READS => {
                match entries(&level.directory) {
                    Ok(entries) => {
                        level.entries = entries;
                        level.reads += 1;
                        self.levels.push(level);
                    }
                    Err(errno) => self.fail(&level.name, errno),
                }
            }
            // The failure was recorded for the entry in it.
            Err(Errno::ENOTEMPTY | Errno::EEXIST) if level.is_stuck => self.stick(),
            Err(errno) => self.fail(&level.name, errno),
        }
    }

    fn fail(&mut self, name: &CStr, why: Errno) {
        self.stick();
        match &mut self.left {
            Some(left) => left.count += 1,
            None => self.left = Some(Leftover { name: name.to_owned(), why, count: 1 }),
        }
    }

    fn stick(&mut self) {
        if let Some(level) = self.levels.last_mut() {
            level.is_stuck = true;
        }
    }
}

fn moved_name(number: u64) -> CString {
    CString::new(format!(".deep-{number}")).unwrap_or_default()
}

/// Opens a directory by name, unless it is a link or a mount point.
fn open(beneath: &OwnedFd, name: &CStr) -> Result<OwnedFd, Errno> {
    let how = OpenHow::new()
        .flags(OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_NO_SYMLINKS | ResolveFlag::RESOLVE_NO_XDEV);
    openat2(beneath, name, how)
}

fn entries(directory: &OwnedFd) -> Result<OwningIter, Errno> {
    let again =
        nix::fcntl::openat(directory, c".", OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
    Ok(Dir::from_fd(again)?.into_iter())
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::fcntl::openat;
    use nix::mount::{MsFlags, mount, umount};
    use nix::sys::stat::mkdirat;
    use std::fs;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread;

    /// Creates nested directories to this depth, with a file in the last.
    fn nest(at: &Path, depth: usize) {
        fs::create_dir(at).unwrap();
        let mut directory: OwnedFd = File::open(at).unwrap().into();
        for _ in 0..depth {
            mkdirat(&directory, c"d", Mode::S_IRWXU).unwrap();
            let flags = OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
            directory = openat(&directory, c"d", flags, Mode::empty()).unwrap();
        }
        let flags = OFlag::O_CREAT | OFlag::O_WRONLY;
        drop(openat(&directory, c"file", flags, Mode::S_IRUSR).unwrap());
    }

    #[test]
    fn removes_a_directory_of_any_depth() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("tree");
        for depth in [0, 1, DEEPEST - 1, DEEPEST, DEEPEST + 1, 2_000] {
            nest(&path, depth);
            // Removal must work with the small stack of its threads.
            let small = thread::Builder::new().stack_size(64 << 10);
            let path = path.clone();
            small.spawn(move || remove(&path).unwrap()).unwrap().join().unwrap();
            assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0, "{depth}");
        }
        remove(&path).unwrap();
        remove(&path.join("below")).unwrap();
    }

    #[test]
    fn removes_a_wide_and_deep_directory() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("tree");
        fs::create_dir(&path).unwrap();
        for number in 0..20 {
            nest(&path.join(format!("{number}-{}", "n".repeat(200))), 3 * DEEPEST);
        }
        nest(&path.join(".deep-1"), 2);
        remove(&path).unwrap();
        assert!(!path.exists());
    }

    #[test]
    fn the_target_of_a_link_stays() {
        let root = tempfile::tempdir().unwrap();
        let (path, kept) = (root.path().join("tree"), root.path().join("kept"));
        nest(&kept, 1);
        nest(&path, 1);
        std::os::unix::fs::symlink(&kept, path.join("link")).unwrap();
        remove(&path).unwrap();
        assert!(kept.join("d/file").exists() && !path.exists());
        std::os::unix::fs::symlink(&kept, &path).unwrap();
        remove(&path).unwrap();
        assert!(kept.join("d/file").exists() && path.symlink_metadata().is_err());
    }

    /// As root, in a mount namespace of this thread only.
    #[test]
    fn a_mount_stays_with_its_content_and_is_named() {
        let root = tempfile::tempdir().unwrap();
        let (path, kept) = (root.path().join("tree"), root.path().join("kept"));
        nest(&kept, 1);
        nest(&path, 2 * DEEPEST);
        fs::create_dir(path.join("mounted")).unwrap();
        fs::create_dir(path.join("other")).unwrap();
        fs::write(path.join("other/file"), "").unwrap();
        let test = || {
            let none = None::<&str>;
            if nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).is_err() {
                return; // Not root.
            }
            mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
            mount(Some(&kept), &path.join("mounted"), none, MsFlags::MS_BIND, none).unwrap();
            let left = remove(&path).unwrap_err().to_string();
            assert_eq!(left, "mounted: Device or resource busy (os error 16)");
            let names = fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().file_name());
            assert_eq!(names.collect::<Vec<_>>(), ["mounted"]);
            umount(&path.join("mounted")).unwrap();
            remove(&path).unwrap();
            assert!(!path.exists());
        };
        thread::scope(|scope| scope.spawn(test).join().unwrap());
        assert!(kept.join("d/file").exists());
    }

    #[test]
    fn ends_at_the_timeout_or_when_no_more_files_appear() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("tree");
        nest(&path, 1);
        let ended = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                let mut number = 0;
                while !ended.load(Ordering::Relaxed) {
                    number += 1;
                    let _ = fs::write(path.join(format!("{number}")), "");
                }
            });
            let parent = File::open(root.path()).unwrap().into();
            let end = Instant::now() + Duration::from_millis(300);
            let _ = Removal::new(parent, c"tree".into(), end).run();
            assert!(Instant::now() < end + Duration::from_secs(5));
            ended.store(true, Ordering::Relaxed);
        });
        remove(&path).unwrap();
        assert!(!path.exists());
    }
}
