//! The home directories of a release being staged: one for its `build`, and one for each of its
//! processes, so that no two processes share a pid file, a socket or a lock in $HOME.
//!
//! A new home contains links: to the caches, which every release shares; to the files of an app of
//! 0.1, whose $HOME was `shared/`; and to the files that `build` left in its own home. The code
//! that fills a home follows no link, and makes the app's user its owner last.

use super::{Staging, open_beneath};
use crate::store::durable::{self, unwritable};
use model::error::{Error, Result};
use nix::fcntl::OFlag;
use nix::sys::stat::{Mode, fchmod, mkdirat};
use nix::unistd::symlinkat;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, FileType};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, fchown};
use std::path::{Path, PathBuf};

/// The home of `build`, beside those of the processes.
const BUILD: &str = "build";
/// Caches, in the places of 0.1: they stay warm.
pub(super) const CACHES: [&str; 2] = [".cache", ".npm"];
/// Configuration files that programs read in a home.
const CONFIGURATION: [&str; 12] = [
    ".aws",
    ".docker",
    ".gnupg",
    ".kube",
    ".my.cnf",
    ".netrc",
    ".npmrc",
    ".pg_service.conf",
    ".pgpass",
    ".postgresql",
    ".pypirc",
    ".ssh",
];
/// The limit of links in one home.
const MOST: usize = 1000;
/// A directory that `build` left with more entries than this is one link.
const MANY: usize = 100;

/// A link in a home, by its name and its target.
type Link = (OsString, PathBuf);

/// The homes of one release.
#[derive(Debug)]
pub struct Homes {
    /// `home/`, which belongs to root.
    dir: OwnedFd,
    /// The files that every home begins with.
    common: Vec<Link>,
}

/// The files that `build` left in its home.
enum Left {
    One(OsString),
    /// A directory that each process gets as its own, with a link for each entry.
    Directory(OsString, Vec<OsString>),
}

impl Staging {
    /// Creates the directory of the homes; `None` if `shared/` has so many entries that it must be
    /// the $HOME of this release too.
    pub fn begin_homes(&self) -> Result<Option<Homes>> {
        let Some(mut common) = self.lasting().map_err(|e| unwritable(&self.shared, e))? else {
            return Ok(None);
        };
        common.extend(CACHES.map(|name| (name.into(), self.shared.join(name))));
        let path = self.dir.join("home");
        match self.finished {
            true => durable::make_dir(&path, 0o755)?,
            // An fsync would wait for the part of the tree that is being written.
            false => durable::make_dir_for_later(&path, 0o755)?,
        }
        let dir = File::open(&path).map_err(|e| unwritable(&path, e))?.into();
        Ok(Some(Homes { dir, common }))
    }

    /// Creates the home of `build`.
    pub fn make_build_home(&self, homes: &Homes) -> Result<()> {
        self.make_home(homes, BUILD, &[]).map_err(|e| self.no_home(BUILD, e))
    }

    /// Returns the present and the final path of the home of `build`, if it has one.
    pub fn build_home(&self) -> Option<(PathBuf, PathBuf)> {
        let now = self.dir.join("home").join(BUILD);
        now.is_dir().then(|| (now, self.destination.join("home").join(BUILD)))
    }

    /// Creates the home of each of these processes, with links to the files that `build` left.
    pub fn make_homes(&self, homes: &Homes, of: impl Iterator<Item = String>) -> Result<()> {
        let left = left_by_build(&homes.dir).map_err(|e| self.no_home(BUILD, e))?;
        for process in of {
            let made = self.make_home(homes, &process, &left);
            made.map_err(|e| self.no_home(&process, e))?;
        }
        Ok(())
    }

    fn no_home(&self, process: &str, cause: io::Error) -> Error {
        unwritable(&self.dir.join("home").join(process), cause)
    }

    /// Links to the entries of `shared/` that are not hidden, or are configuration; `None` if they
    /// are too many. Creates the caches there.
    fn lasting(&self) -> io::Result<Option<Vec<Link>>> {
        let shared: OwnedFd = File::open(&self.shared)?.into();
        for cache in CACHES {
            if let Some(made) = make_directory(&shared, cache.as_ref())? {
                fchown(&made, Some(self.owner.uid), Some(self.owner.gid))?;
                if self.has_builder() {
                    fchmod(&made, Mode::S_IRWXU | Mode::S_IRWXG)?;
                }
            }
        }
        let Some(entries) = entries(&shared, MOST)? else { return Ok(None) };
        let configures = |name: &OsStr| CONFIGURATION.iter().any(|known| name == OsStr::new(known));
        let lasts = |name: &OsStr| !name.as_bytes().starts_with(b".") || configures(name);
        let seen = entries.into_iter().filter(|(name, _)| lasts(name));
        let links = seen.map(|(name, _)| {
            let target = self.shared.join(&name);
            (name, target)
        });
        Ok(Some(links.collect()))
    }

    fn make_home(&self, homes: &Homes, name: &str, left: &[Left]) -> io::Result<()> {
        let taken = || io::Error::from(io::ErrorKind::AlreadyExists);
        let home = make_directory(&homes.dir, name.as_ref())?.ok_or_else(taken)?;
        for (name, target) in &homes.common {
            link(&home, name, target)?;
        }
        for left in left {
            match left {
                Left::One(name) => link(&home, name, &Path::new("../build").join(name))?,
                Left::Directory(name, entries) => self.mirror(&home, name, entries)?,
            }
        }
        fchown(&home, Some(self.owner.uid), Some(self.owner.gid))
    }

    /// Creates a directory in the home with a link for each of these entries of the build's.
    fn mirror(&self, home: &OwnedFd, name: &OsStr, entries: &[OsString]) -> io::Result<()> {
        let Some(directory) = make_directory(home, name)? else { return Ok(()) };
        let target = Path::new("../../build").join(name);
        for entry in entries {
            link(&directory, entry, &target.join(entry))?;
        }
        fchown(&directory, Some(self.owner.uid), Some(self.owner.gid))
    }
}

/// Returns the entries of the build's home that every other home shows.
fn left_by_build(homes: &OwnedFd) -> io::Result<Vec<Left>> {
    let build = match open_beneath(homes, BUILD.as_ref(), OFlag::O_DIRECTORY) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        opened => opened?,
    };
    let many = || io::Error::other("`build` left too much in $HOME; $DEPLOY_SHARED has room");
    let mut left = Vec::new();
    let mut links = 0;
    for (name, kind) in entries(&build, MOST)?.ok_or_else(many)? {
        let below = match kind.is_dir() {
            true => entries(&open_beneath(&build, name.as_ref(), OFlag::O_DIRECTORY)?, MANY)?,
            false => None,
        };
        let below: Option<Vec<_>> =
            below.map(|all| all.into_iter().map(|(name, _)| name).collect());
        links += below.as_ref().map_or(1, Vec::len);
        left.push(match below {
            Some(below) => Left::Directory(name, below),
            None => Left::One(name),
        });
    }
    if links > MOST {
        return Err(many());
    }
    Ok(left)
}

/// Returns the files, directories and links of a directory, by name; `None` if there are more than
/// `most`. A socket or a pipe belongs to the process that created it.
fn entries(directory: &OwnedFd, most: usize) -> io::Result<Option<Vec<(OsString, FileType)>>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(format!("/proc/self/fd/{}", directory.as_raw_fd()))? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_socket() || kind.is_fifo() {
            continue;
        }
        if found.len() == most {
            return Ok(None);
        }
        found.push((entry.file_name(), kind));
    }
    found.sort_by(|(a, _), (b, _)| a.cmp(b));
    Ok(Some(found))
}

/// Creates a directory for the app's user only; `None` if the name exists already.
fn make_directory(beneath: &OwnedFd, name: &OsStr) -> io::Result<Option<OwnedFd>> {
    match mkdirat(beneath, name, Mode::S_IRWXU) {
        Ok(()) => {}
        Err(nix::Error::EEXIST) => return Ok(None),
        Err(e) => return Err(e.into()),
    }
    let made = open_beneath(beneath, name.as_ref(), OFlag::O_DIRECTORY)?;
    fchmod(&made, Mode::S_IRWXU)?;
    Ok(Some(made))
}

/// Creates a link, unless the name exists already.
fn link(directory: &OwnedFd, name: &OsStr, target: &Path) -> io::Result<()> {
    match symlinkat(target, directory, name) {
        Err(e) if e != nix::Error::EEXIST => Err(e.into()),
        _ => Ok(()),
    }
}
