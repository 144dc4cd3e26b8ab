//! The tree that grows below the release's directory: what an entry becomes.
//!
//! Of two entries with one name the later one wins, as with `tar x`; nothing is ever
//! written through what stands there already.

use super::Owner;
use super::directories::{Directories, Undressed, born};
use super::fault::{Fault, Place};
use super::handles::Handles;
use super::links;
use super::name::{Name, shown};
use super::tally::Tally;
use model::error::Error;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{Mode, fchmod, futimens, mkdirat};
use nix::sys::time::TimeSpec;
use nix::unistd::{UnlinkatFlags, linkat, symlinkat, unlinkat};
use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::BorrowedFd;

/// How much the names of directories and links, which must be kept to the end, may
/// take together. Half a million of them with names of 100 bytes fit.
const MAX_REMEMBERED: usize = 64 * 1024 * 1024;

/// What of a mode an entry gets: no setuid, and nothing that everybody may write to.
const MODES: u32 = 0o775;

/// Of a directory that the archive has entries in, but no entry for.
const IMPLIED_MODE: u32 = 0o755;

pub(super) struct Tree<'a> {
    root: BorrowedFd<'a>,
    handles: Handles<'a>,
    tally: Tally<'a>,
    directories: Directories,
    /// Every symlink made, and its target.
    links: BTreeMap<Vec<u8>, Vec<u8>>,
    remembered: usize,
    /// What the kernel takes from the mode of a new file.
    umask: u32,
}

/// What a directory or file looks like besides its content.
#[derive(Clone, Copy)]
pub(super) struct Look {
    pub(super) mode: u32,
    pub(super) modified: TimeSpec,
}

impl<'a> Tree<'a> {
    pub(super) fn new(root: BorrowedFd<'a>, tally: Tally<'a>) -> Self {
        Tree {
            root,
            handles: Handles::new(root),
            tally,
            directories: Directories::default(),
            links: BTreeMap::new(),
            remembered: 0,
            umask: umask(),
        }
    }

    pub(super) fn tally(&mut self) -> &mut Tally<'a> {
        &mut self.tally
    }

    /// The root's own mode and time are the caller's choice, not the archive's.
    pub(super) fn directory(&mut self, name: &Name, look: Look) -> Result<(), Fault> {
        self.tally.entry()?;
        if name.is_root() {
            return Ok(());
        }
        if self.directories.look_again(name.bytes(), look) {
            return Ok(());
        }
        let born = born(look, self.umask);
        self.place(name, "mkdirat", |parent, last| mkdirat(parent, last, born))?;
        remember(&mut self.remembered, name.bytes().len())?;
        self.directories.add(name.bytes(), look);
        Ok(())
    }

    /// An empty file, open for writing.
    pub(super) fn file(&mut self, name: &Name, look: Look) -> Result<File, Fault> {
        self.tally.entry()?;
        let flags =
            OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let file = self
            .place(name, "openat", |parent, last| openat(parent, last, flags, look.mode()))
            .map(File::from)?;
        if look.mode & self.umask != 0 {
            fchmod(&file, look.mode()).map_err(Fault::of("fchmod"))?;
        }
        Ok(file)
    }

    pub(super) fn symlink(&mut self, name: &Name, target: &[u8]) -> Result<(), Fault> {
        self.tally.entry()?;
        links::check_target(name, target)?;
        self.place(name, "symlinkat", |parent, last| symlinkat(target, parent, last))?;
        remember(&mut self.remembered, name.bytes().len() + target.len())?;
        self.links.insert(name.bytes().to_vec(), target.to_vec());
        Ok(())
    }

    /// A second name for a file that an earlier entry made. For a symlink it is a
    /// symlink of its own, so that its target is judged from where it stands.
    pub(super) fn hard_link(&mut self, name: &Name, source: &Name) -> Result<(), Fault> {
        if let Some(target) = self.links.get(source.bytes()).cloned() {
            return self.symlink(name, &target);
        }
        self.tally.entry()?;
        let shown = shown(source.bytes());
        if source.is_root() || self.directories.contains(source.bytes()) {
            return Err(Fault::refused(format!("it is a hard link to the directory \"{shown}\"")));
        }
        if name == source {
            return Err(Fault::refused("it is a hard link to itself"));
        }
        let missing = |errno| match errno {
            Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP => Fault::refused(format!(
                "it is a hard link to \"{shown}\", which is not in the archive before it"
            )),
            errno => Fault::System { call: "linkat", errno },
        };
        let (directory, file) = source.split();
        let from = self.handles.open(directory, OFlag::O_PATH).map_err(missing)?;
        self.place(name, "linkat", |parent, last| {
            linkat(&from, file, parent, last, AtFlags::empty())
        })
        .map_err(|fault| match fault {
            Fault::System { call: "linkat", errno } => missing(errno),
            fault => fault,
        })
    }

    /// When everything is in place: every link is followed by the kernel once, and
    /// directories get their modes and times.
    pub(super) fn finish(&self, owner: Owner) -> Result<(), Error> {
        for link in self.links.keys() {
            links::check_resolved(self.root, link).map_err(|fault| self.about(fault, link))?;
        }
        self.directories.dress(self.root, owner).map_err(|undressed| match undressed {
            Undressed::All(error) => error,
            Undressed::One(path, fault) => self.about(fault, path),
        })
    }

    fn about(&self, fault: Fault, name: &[u8]) -> Error {
        fault.about(&Place::Entry(name), self.tally.done())
    }

    /// Calls `make` with the directory of `name` and its last component. What an
    /// earlier entry left there goes first.
    fn place<T>(
        &mut self,
        name: &Name,
        call: &'static str,
        make: impl Fn(BorrowedFd<'_>, &[u8]) -> nix::Result<T>,
    ) -> Result<T, Fault> {
        if name.is_root() {
            return Err(Fault::refused("it would replace the release's own directory"));
        }
        let (directory, last) = name.split();
        let parent = self.handles.directory(directory, |implied| {
            self.tally.entry()?;
            remember(&mut self.remembered, implied.len())?;
            let look = Look { mode: IMPLIED_MODE, modified: TimeSpec::UTIME_OMIT };
            self.directories.add(implied, look);
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
        made.map_err(Fault::of(call))
    }
}

impl Look {
    pub(super) fn mode(&self) -> Mode {
        Mode::from_bits_truncate(self.mode & MODES)
    }

    /// Gives the file its time of modification, when all of it is written.
    pub(super) fn date(&self, file: &File) -> Result<(), Fault> {
        futimens(file, &TimeSpec::UTIME_OMIT, &self.modified).map_err(Fault::of("futimens"))
    }
}

/// The umask of this process, proc_pid_status(5): umask(2) itself cannot tell it
/// without changing it for every other thread. Where it is not to be had, it may be
/// any.
fn umask() -> u32 {
    let status = std::fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("Umask:"));
    line.and_then(|text| u32::from_str_radix(text.trim(), 8).ok()).unwrap_or(0o777)
}

/// Removes what has the name; a directory only when it is empty.
fn clear(parent: BorrowedFd<'_>, last: &[u8]) -> Result<(), Fault> {
    match unlinkat(parent, last, UnlinkatFlags::NoRemoveDir) {
        Err(Errno::EISDIR) => match unlinkat(parent, last, UnlinkatFlags::RemoveDir) {
            Err(Errno::ENOTEMPTY | Errno::EEXIST) => Err(Fault::refused(
                "an earlier entry is a directory of the same name, with files in it",
            )),
            done => done.map_err(Fault::of("unlinkat")),
        },
        done => done.map_err(Fault::of("unlinkat")),
    }
}

/// The map's own cost is counted with each name.
fn remember(remembered: &mut usize, bytes: usize) -> Result<(), Fault> {
    *remembered += bytes + 64;
    match *remembered <= MAX_REMEMBERED {
        true => Ok(()),
        false => {
            Err(Fault::refused("the names of its directories and links take more than 64 MiB")
                .with_help("pack fewer directories and links, or shorter names"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_must_be_kept_take_bounded_memory() {
        let mut remembered = 0;
        let kept = (0..).take_while(|_| remember(&mut remembered, 4095).is_ok()).count();
        assert!((16_000..16_384).contains(&kept), "{kept}");
    }
}
