//! Directories below the root as open handles, opened without following links.

use super::entry_error::EntryError;
use super::name::components;
use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::{Mode, mkdirat};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// The mode of a directory while it is filled, if its own mode has to be set last.
pub(super) const WORKING_MODE: Mode = Mode::S_IRWXU;

/// The root, and the directory of the last entry: archives list the files of a directory one after
/// the other.
pub(super) struct DirCache<'a> {
    root: BorrowedFd<'a>,
    last: Option<(Vec<u8>, OwnedFd)>,
}

impl<'a> DirCache<'a> {
    pub(super) fn new(root: BorrowedFd<'a>) -> Self {
        DirCache { root, last: None }
    }

    /// Returns the directory at `path`. Creates missing directories on the way, and calls `making`
    /// before each.
    pub(super) fn directory(
        &mut self,
        path: &[u8],
        mut making: impl FnMut(&[u8]) -> Result<(), EntryError>,
    ) -> Result<BorrowedFd<'_>, EntryError> {
        if path.is_empty() {
            return Ok(self.root);
        }
        let last = match self.last.take() {
            Some(last) if last.0 == path => last,
            _ => match self.open(path, OFlag::O_PATH) {
                Err(Errno::ENOENT) => (path.to_vec(), self.make(path, &mut making)?),
                done => (path.to_vec(), done.map_err(not_a_directory)?),
            },
        };
        Ok(self.last.insert(last).1.as_fd())
    }

    /// Opens an existing directory.
    pub(super) fn open(&self, path: &[u8], access: OFlag) -> nix::Result<OwnedFd> {
        open(self.root, if path.is_empty() { b"." } else { path }, access)
    }

    fn make(
        &self,
        path: &[u8],
        making: &mut impl FnMut(&[u8]) -> Result<(), EntryError>,
    ) -> Result<OwnedFd, EntryError> {
        let mut handle = self.open(b"", OFlag::O_PATH).map_err(EntryError::of("openat2"))?;
        let mut reached = 0;
        for part in components(path) {
            reached += part.len() + usize::from(reached > 0);
            handle = match open(handle.as_fd(), part, OFlag::O_PATH) {
                Err(Errno::ENOENT) => {
                    making(&path[..reached])?;
                    mkdirat(&handle, part, WORKING_MODE).map_err(EntryError::of("mkdirat"))?;
                    open(handle.as_fd(), part, OFlag::O_PATH).map_err(not_a_directory)?
                }
                done => done.map_err(not_a_directory)?,
            };
        }
        Ok(handle)
    }
}

fn open(from: BorrowedFd<'_>, path: &[u8], access: OFlag) -> nix::Result<OwnedFd> {
    let how = OpenHow::new().flags(access | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC).resolve(
        ResolveFlag::RESOLVE_BENEATH
            | ResolveFlag::RESOLVE_NO_SYMLINKS
            | ResolveFlag::RESOLVE_NO_MAGICLINKS
            | ResolveFlag::RESOLVE_NO_XDEV,
    );
    openat2(from, path, how)
}

fn not_a_directory(errno: Errno) -> EntryError {
    match errno {
        Errno::ELOOP => EntryError::refused("it lies beneath a symlink")
            .with_help("an entry beneath a link must be packed beneath the link's target"),
        Errno::ENOTDIR => EntryError::refused("it lies beneath something that is not a directory"),
        Errno::EXDEV => EntryError::refused("it lies on another file system"),
        errno => EntryError::System { call: "openat2", errno },
    }
}
