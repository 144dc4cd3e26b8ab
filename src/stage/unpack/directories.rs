//! The created directories, and their final modes and times: each entry changes its directory's
//! time, and a read-only directory may still get entries.

use super::Owner;
use super::dir_cache::{DirCache, WORKING_MODE};
use super::entry_error::EntryError;
use super::identity::Identity;
use model::error::Error;
use nix::fcntl::OFlag;
use nix::sys::stat::{Mode, fchmod, fstat};
use nix::sys::time::TimeSpec;
use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::BorrowedFd;
use std::thread;

/// The mode and modification time of a directory or file.
#[derive(Clone, Copy)]
pub(super) struct Attributes {
    pub(super) mode: u32,
    pub(super) modified: TimeSpec,
}

/// Every created directory, with the mode and time that it gets at the end.
#[derive(Default)]
pub(super) struct Directories(BTreeMap<Vec<u8>, Attributes>);

/// Why some directories did not get their modes and times.
pub(super) enum NotApplied<'a> {
    All(Error),
    One(&'a [u8], EntryError),
}

impl Directories {
    pub fn add(&mut self, path: &[u8], attributes: Attributes) {
        self.0.insert(path.to_vec(), attributes);
    }

    /// Replaces the attributes of a directory created earlier; returns false if it is unknown.
    pub fn set_attributes(&mut self, path: &[u8], attributes: Attributes) -> bool {
        let known = self.0.get_mut(path);
        known.map(|known| *known = attributes).is_some()
    }

    pub fn contains(&self, path: &[u8]) -> bool {
        self.0.contains_key(path)
    }

    pub fn remove(&mut self, path: &[u8]) {
        self.0.remove(path);
    }

    /// Applies the modes and times of all directories, half of them by another thread.
    /// Directories that lose their search permission come last, the deepest first.
    pub fn apply_attributes(
        &self,
        root: BorrowedFd<'_>,
        owner: Owner,
    ) -> Result<(), NotApplied<'_>> {
        let Some(middle) = self.0.keys().nth(self.0.len() / 2) else { return Ok(()) };
        let passable = |(_, attributes): &(_, &Attributes)| is_passable(attributes);
        let (first, second) = (self.0.range(..middle.clone()), self.0.range(middle.clone()..));
        thread::scope(|scope| {
            let dress_first = || {
                let _identity = Identity::take(owner).map_err(NotApplied::All)?;
                apply_attributes(root, first.filter(passable))
            };
            let thread = thread::Builder::new().name("dress".into());
            let thread = thread.spawn_scoped(scope, dress_first);
            let thread = thread.map_err(|e| NotApplied::All(failed().because(e)))?;
            let dressed = apply_attributes(root, second.filter(passable));
            let ended = || NotApplied::All(failed().because("a thread ended before it was done"));
            thread.join().unwrap_or_else(|_| Err(ended()))?;
            dressed
        })?;
        apply_attributes(
            root,
            self.0.iter().rev().filter(|(_, attributes)| !is_passable(attributes)),
        )
    }
}

fn failed() -> Error {
    Error::failed("give directories their modes and times")
}

fn apply_attributes<'a>(
    root: BorrowedFd<'_>,
    directories: impl Iterator<Item = (&'a Vec<u8>, &'a Attributes)>,
) -> Result<(), NotApplied<'a>> {
    let dirs = DirCache::new(root);
    let dress_one = |path: &[u8], attributes: &Attributes| {
        let opened = dirs.open(path, OFlag::O_RDONLY);
        let directory = File::from(opened.map_err(EntryError::of("openat2"))?);
        // Most are created with their final mode, but the parent may add to it (inode(7)).
        let present = fstat(&directory).map_err(EntryError::of("fstat"))?.st_mode & 0o7777;
        if present != attributes.mode().bits() {
            fchmod(&directory, attributes.mode()).map_err(EntryError::of("fchmod"))?;
        }
        attributes.date(&directory)
    };
    for (path, attributes) in directories {
        dress_one(path, attributes).map_err(|error| NotApplied::One(path, error))?;
    }
    Ok(())
}

fn is_passable(attributes: &Attributes) -> bool {
    attributes.mode().contains(Mode::S_IXUSR)
}

/// Returns the mode to create a directory with: its final mode, unless that keeps its owner out,
/// lets others write, or loses bits to the `umask`.
pub(super) fn initial_mode(attributes: Attributes, umask: u32) -> Mode {
    let mode = attributes.mode();
    let others = Mode::S_IWGRP | Mode::S_IWOTH;
    let is_usual = mode.contains(Mode::S_IRWXU) && !mode.intersects(others);
    if is_usual && mode.bits() & umask == 0 { mode } else { WORKING_MODE }
}
