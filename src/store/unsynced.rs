//! `releases/LABEL/unsynced`: the mark of a release whose files may not be on the disk yet. It
//! holds the id of the boot in which the release was staged.
//!
//! The mark is on the disk before the first file of the release, and goes once all of them are.
//! So after a power loss a release that has lost files always has it, with the id of another boot:
//! such a release is not read any more ([`App::is_lost`]), and recovery removes it. In the same
//! boot the page cache has every file, and the release can be started; it cannot be committed.

use super::durable::{self, unwritable};
use super::{App, unreadable};
use model::error::{Error, Result};
use model::release::name::Label;
use nix::errno::Errno;
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// The name of the mark in the directory of its release.
const MARK: &str = "unsynced";

/// A release that has its name, and that the kernel may still have to write to the disk.
#[derive(Debug)]
pub struct Unsynced {
    path: PathBuf,
    /// The directory of the release. By handle: a release that is removed meanwhile may have
    /// given its label to another one.
    dir: File,
    tree: OwnedFd,
}

impl Unsynced {
    pub(super) fn new(path: PathBuf, dir: File, tree: OwnedFd) -> Unsynced {
        Unsynced { path, dir, tree }
    }

    /// Returns the handle for syncfs(2). It was opened before the first file was written, so the
    /// kernel reports every write error since then to it, once.
    pub fn file_system(&self) -> Result<OwnedFd> {
        self.tree.try_clone().map_err(|e| unwritable(&self.path, e))
    }

    /// Takes the mark off, durably: all files of the release are on the disk.
    pub fn is_synced(&self) -> io::Result<()> {
        durable::remove_beneath(&self.dir, &self.path.join(MARK))
    }

    /// The error for files that did not reach the disk.
    pub fn error(&self, errno: Errno) -> Error {
        let error = unwritable(&self.path, errno.into());
        match error.advice() {
            Some(_) => error,
            None => error.help("look for errors of the disk in `journalctl -k`"),
        }
    }
}

/// Marks the directory of a release to be staged.
pub(super) fn mark(dir: &Path, boot: &str) -> Result<()> {
    durable::write(&dir.join(MARK), boot.as_bytes(), 0o600)
}

impl App {
    /// Whether files of this release may be missing on the disk.
    pub fn is_unsynced(&self, label: &Label) -> bool {
        !matches!(self.mark(label), Ok(None))
    }

    /// Whether the release was not on the disk yet when the instance went down. A mark that
    /// cannot be read says nothing: the disk is damaged, and the release may be an old one.
    pub fn is_lost(&self, label: &Label) -> bool {
        self.mark(label).ok().flatten().is_some_and(|boot| boot != *self.boot)
    }

    /// Lists the releases that have a mark.
    pub fn unsynced(&self) -> Result<Vec<Label>> {
        let names = super::names(&self.releases_dir())?;
        let labels = names.iter().filter_map(|name| name.parse().ok());
        Ok(labels.filter(|label| matches!(self.mark(label), Ok(Some(_)))).collect())
    }

    /// Opens a release that has a mark, to be written to the disk once more.
    pub fn open_unsynced(&self, label: &Label) -> Result<Unsynced> {
        let path = self.release_dir(label);
        let open = || File::open(&path).map_err(|e| unreadable(&path, e));
        let (dir, tree) = (open()?, open()?.into());
        Ok(Unsynced { path: path.clone(), dir, tree })
    }

    /// Returns the boot in which the release was staged, if it has a mark.
    fn mark(&self, label: &Label) -> Result<Option<String>> {
        let path = self.release_dir(label).join(MARK);
        match fs::read_to_string(&path) {
            Ok(boot) => Ok(Some(boot)),
            Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                Ok(None)
            }
            Err(e) => Err(unreadable(&path, e)),
        }
    }

    /// The error for a commit of a release that a power loss might take away.
    pub(super) fn must_be_synced(&self, label: &Label) -> Result<()> {
        match self.is_unsynced(label) {
            false => Ok(()),
            true => {
                let error = Error::failed(format!("commit {} {label}", self.name()));
                let error = error.because("its files are not on the disk yet");
                Err(error.help("this is a bug of deployd: see `journalctl -u deployd`"))
            }
        }
    }
}

/// Returns the error number of an I/O error.
pub fn errno(error: &io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}
