//! The directories that were made, and what they look like when everything is in
//! them: each entry gives its directory another time, and a directory may be read-only
//! and still have entries to come.

use super::Owner;
use super::fault::Fault;
use super::handles::{Handles, WORKING_MODE};
use super::identity::Identity;
use super::tree::Look;
use model::error::Error;
use nix::fcntl::OFlag;
use nix::sys::stat::{Mode, fchmod, fstat};
use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::BorrowedFd;
use std::thread;

/// Every directory made, and the mode and time it gets in the end.
#[derive(Default)]
pub(super) struct Directories(BTreeMap<Vec<u8>, Look>);

/// Why not all have their modes and times.
pub(super) enum Undressed<'a> {
    All(Error),
    One(&'a [u8], Fault),
}

impl Directories {
    pub fn add(&mut self, path: &[u8], look: Look) {
        self.0.insert(path.to_vec(), look);
    }

    /// Another look for one that was made already; false where none was.
    pub fn look_again(&mut self, path: &[u8], look: Look) -> bool {
        let known = self.0.get_mut(path);
        known.map(|known| *known = look).is_some()
    }

    pub fn contains(&self, path: &[u8]) -> bool {
        self.0.contains_key(path)
    }

    pub fn remove(&mut self, path: &[u8]) {
        self.0.remove(path);
    }

    /// Applies the modes and times of all directories, half of them by another thread.
    /// Directories that lose their search permission come last, the deepest first.
    pub fn dress(&self, root: BorrowedFd<'_>, owner: Owner) -> Result<(), Undressed<'_>> {
        let Some(middle) = self.0.keys().nth(self.0.len() / 2) else { return Ok(()) };
        let passable = |(_, look): &(_, &Look)| is_passable(look);
        let (first, second) = (self.0.range(..middle.clone()), self.0.range(middle.clone()..));
        thread::scope(|scope| {
            let dress_first = || {
                let _identity = Identity::take(owner).map_err(Undressed::All)?;
                dress(root, first.filter(passable))
            };
            let thread = thread::Builder::new().name("dress".into());
            let thread = thread.spawn_scoped(scope, dress_first);
            let thread = thread.map_err(|e| Undressed::All(failed().because(e)))?;
            let dressed = dress(root, second.filter(passable));
            let ended = || Undressed::All(failed().because("a thread ended before it was done"));
            thread.join().unwrap_or_else(|_| Err(ended()))?;
            dressed
        })?;
        dress(root, self.0.iter().rev().filter(|(_, look)| !is_passable(look)))
    }
}

fn failed() -> Error {
    Error::failed("give directories their modes and times")
}

fn dress<'a>(
    root: BorrowedFd<'_>,
    directories: impl Iterator<Item = (&'a Vec<u8>, &'a Look)>,
) -> Result<(), Undressed<'a>> {
    let handles = Handles::new(root);
    let dress_one = |path: &[u8], look: &Look| {
        let opened = handles.open(path, OFlag::O_RDONLY);
        let directory = File::from(opened.map_err(Fault::of("openat2"))?);
        // Most are made with their mode; but the one above may add to it (inode(7)).
        let present = fstat(&directory).map_err(Fault::of("fstat"))?.st_mode & 0o7777;
        if present != look.mode().bits() {
            fchmod(&directory, look.mode()).map_err(Fault::of("fchmod"))?;
        }
        look.date(&directory)
    };
    for (path, look) in directories {
        dress_one(path, look).map_err(|fault| Undressed::One(path, fault))?;
    }
    Ok(())
}

fn is_passable(look: &Look) -> bool {
    look.mode().contains(Mode::S_IXUSR)
}

/// What a directory is made with: what it has in the end where that neither keeps its
/// owner out nor lets others write, and where the `umask` takes nothing from it.
pub(super) fn born(look: Look, umask: u32) -> Mode {
    let mode = look.mode();
    let others = Mode::S_IWGRP | Mode::S_IWOTH;
    let is_usual = mode.contains(Mode::S_IRWXU) && !mode.intersects(others);
    if is_usual && mode.bits() & umask == 0 { mode } else { WORKING_MODE }
}
