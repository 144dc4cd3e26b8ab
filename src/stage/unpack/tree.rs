//! The tree below the release's directory: creates each entry.
//!
//! Of two entries with one name the later one wins, as with `tar x`; nothing is ever written
//! through an existing entry.

use super::Owner;
use super::dir_cache::DirCache;
use super::directories::{Attributes, Directories, NotApplied, initial_mode};
use super::entry_error::{EntryError, Place};
use super::links;
use super::name::Name;
use super::quota::Quota;
use super::shown::shown;
use model::error::Error;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{Mode, fchmod, futimens, mkdirat};
use nix::sys::time::TimeSpec;
use nix::unistd::{UnlinkatFlags, linkat, symlinkat, unlinkat};
use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::BorrowedFd;

/// The memory limit for the names of directories and links, which must be kept to the end. Half a
/// million names of 100 bytes fit.
const MAX_REMEMBERED: usize = 64 * 1024 * 1024;

/// The permission bits that an entry keeps: no setuid, and no write permission for others.
const MODES: u32 = 0o775;

/// The mode of a directory that has entries in the archive, but none of its own.
const IMPLIED_MODE: u32 = 0o755;

pub(super) struct Tree<'a> {
    root: BorrowedFd<'a>,
    dirs: DirCache<'a>,
    quota: Quota<'a>,
    directories: Directories,
    /// Every created symlink, with its target.
    links: BTreeMap<Vec<u8>, Vec<u8>>,
    remembered: usize,
    /// The permission bits that the kernel removes from the mode of a new file.
    umask: u32,
}

impl<'a> Tree<'a> {
    pub(super) fn new(root: BorrowedFd<'a>, quota: Quota<'a>) -> Self {
        Tree {
            root,
            dirs: DirCache::new(root),
            quota,
            directories: Directories::default(),
            links: BTreeMap::new(),
            remembered: 0,
            umask: umask(),
        }
    }

    pub(super) fn quota(&mut self) -> &mut Quota<'a> {
        &mut self.quota
    }

    /// Creates a directory. The root's own mode and time are the caller's choice, not the
    /// archive's.
    pub(super) fn directory(
        &mut self,
        name: &Name,
        attributes: Attributes,
    ) -> Result<(), EntryError> {
        self.quota.entry()?;
        if name.is_root() {
            return Ok(());
        }
        if self.directories.set_attributes(name.bytes(), attributes) {
            return Ok(());
        }
        let initial_mode = initial_mode(attributes, self.umask);
        self.place(name, "mkdirat", |parent, last| mkdirat(parent, last, initial_mode))?;
        remember(&mut self.remembered, name.bytes().len())?;
        self.directories.add(name.bytes(), attributes);
        Ok(())
    }

    /// Creates an empty file and opens it for writing.
    pub(super) fn file(&mut self, name: &Name, attributes: Attributes) -> Result<File, EntryError> {
        self.quota.entry()?;
        let flags =
            OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let file = self
            .place(name, "openat", |parent, last| openat(parent, last, flags, attributes.mode()))
            .map(File::from)?;
        if attributes.mode & self.umask != 0 {
            fchmod(&file, attributes.mode()).map_err(EntryError::of("fchmod"))?;
        }
        Ok(file)
    }

    pub(super) fn symlink(&mut self, name: &Name, target: &[u8]) -> Result<(), EntryError> {
        self.quota.entry()?;
        links::check_target(name, target)?;
        self.place(name, "symlinkat", |parent, last| symlinkat(target, parent, last))?;
        remember(&mut self.remembered, name.bytes().len() + target.len())?;
        self.links.insert(name.bytes().to_vec(), target.to_vec());
        Ok(())
    }

    /// Creates a second name for the file of an earlier entry. For a symlink it creates another
    /// symlink, so that the target is checked from its own directory.
    pub(super) fn hard_link(&mut self, name: &Name, source: &Name) -> Result<(), EntryError> {
        if let Some(target) = self.links.get(source.bytes()).cloned() {
            return self.symlink(name, &target);
        }
        self.quota.entry()?;
        let shown = shown(source.bytes());
        if source.is_root() || self.directories.contains(source.bytes()) {
            return Err(EntryError::refused(format!(
                "it is a hard link to the directory \"{shown}\""
            )));
        }
        if name == source {
            return Err(EntryError::refused("it is a hard link to itself"));
        }
        let missing = |errno| match errno {
            Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP => EntryError::refused(format!(
                "it is a hard link to \"{shown}\", which is not in the archive before it"
            )),
            errno => EntryError::System { call: "linkat", errno },
        };
        let (directory, file) = source.split();
        let from = self.dirs.open(directory, OFlag::O_PATH).map_err(missing)?;
        self.place(name, "linkat", |parent, last| {
            linkat(&from, file, parent, last, AtFlags::empty())
        })
        .map_err(|error| match error {
            EntryError::System { call: "linkat", errno } => missing(errno),
            error => error,
        })
    }

    /// Finishes the tree once everything is unpacked: lets the kernel follow every link once, and
    /// applies the modes and times of directories.
    pub(super) fn finish(&self, owner: Owner) -> Result<(), Error> {
        for link in self.links.keys() {
            links::check_resolved(self.root, link).map_err(|error| self.about(error, link))?;
        }
        self.directories.apply_attributes(self.root, owner).map_err(|failed| match failed {
            NotApplied::All(error) => error,
            NotApplied::One(path, error) => self.about(error, path),
        })
    }

    fn about(&self, error: EntryError, name: &[u8]) -> Error {
        error.about(&Place::Entry(name), self.quota.done())
    }

    /// Calls `make` with the directory of `name` and its last component. Removes an earlier entry
    /// of the same name first.
    fn place<T>(
        &mut self,
        name: &Name,
        call: &'static str,
        make: impl Fn(BorrowedFd<'_>, &[u8]) -> nix::Result<T>,
    ) -> Result<T, EntryError> {
        if name.is_root() {
            return Err(EntryError::refused("it would replace the release's own directory"));
        }
        let (directory, last) = name.split();
        let parent = self.dirs.directory(directory, |implied| {
            self.quota.entry()?;
            remember(&mut self.remembered, implied.len())?;
            let attributes = Attributes { mode: IMPLIED_MODE, modified: TimeSpec::UTIME_OMIT };
            self.directories.add(implied, attributes);
            Ok(())
        })?;
        let made = match make(parent, last) {
            Err(Errno::EEXIST) => {
                clear(parent, last)?;
                self.directories.remove(name.bytes());
                self.links.remove(name.bytes());
                make(parent, last)
            }
            made => made,
        };
        made.map_err(EntryError::of(call))
    }
}

impl Attributes {
    pub(super) fn mode(&self) -> Mode {
        Mode::from_bits_truncate(self.mode & MODES)
    }

    /// Sets the file's modification time, after all of it is written.
    pub(super) fn date(&self, file: &File) -> Result<(), EntryError> {
        futimens(file, &TimeSpec::UTIME_OMIT, &self.modified).map_err(EntryError::of("futimens"))
    }
}

/// Returns the umask of this process from proc_pid_status(5): umask(2) cannot read it without
/// changing it for every other thread. If it is not available, all bits count as masked.
fn umask() -> u32 {
    let status = std::fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("Umask:"));
    line.and_then(|text| u32::from_str_radix(text.trim(), 8).ok()).unwrap_or(0o777)
}

/// Removes the entry with this name; a directory only if it is empty.
fn clear(parent: BorrowedFd<'_>, last: &[u8]) -> Result<(), EntryError> {
    match unlinkat(parent, last, UnlinkatFlags::NoRemoveDir) {
        Err(Errno::EISDIR) => match unlinkat(parent, last, UnlinkatFlags::RemoveDir) {
            Err(Errno::ENOTEMPTY | Errno::EEXIST) => Err(EntryError::refused(
                "an earlier entry is a directory of the same name, with files in it",
            )),
            done => done.map_err(EntryError::of("unlinkat")),
        },
        done => done.map_err(EntryError::of("unlinkat")),
    }
}

/// Adds to the memory for names; each also counts 64 bytes for the map.
fn remember(remembered: &mut usize, bytes: usize) -> Result<(), EntryError> {
    *remembered += bytes + 64;
    match *remembered <= MAX_REMEMBERED {
        true => Ok(()),
        false => {
            Err(EntryError::refused("the names of its directories and links take more than 64 MiB")
                .with_help("pack fewer directories and links, or shorter names"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_kept_to_the_end_take_bounded_memory() {
        let mut remembered = 0;
        let kept = (0..).take_while(|_| remember(&mut remembered, 4095).is_ok()).count();
        assert!((16_000..16_384).contains(&kept), "{kept}");
    }
}
