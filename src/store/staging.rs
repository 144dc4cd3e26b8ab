//! A release being staged: `.staging-LABEL`, which is renamed to `LABEL` once it is complete. It
//! has a mark until it is on the disk as well.

mod builder;
mod homes;
mod process_dirs;

pub use homes::Homes;

use super::durable::{self, unwritable};
use super::ownership::OWN_TREE;
use super::unsynced::{self, Unsynced};
use super::{App, Locked, STAGING, doomed, manifest_json, report_left};
use crate::host::disk;
use crate::host::user::Ids;
use model::error::{Error, Result};
use model::release::manifest::Manifest;
use model::release::name::{Label, ReleaseName};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::{Mode, SFlag, fchmod, fstat, mkdirat};
use nix::unistd::{Gid, Uid, fchownat};
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

/// The largest Procfile that is read, in bytes.
const PROCFILE: u64 = 64 << 10;
/// The name of its copy beside `app/`, owned by root.
const KEPT_PROCFILE: &str = "Procfile";

/// The directory of a release being staged; removed if dropped unfinished.
#[derive(Debug)]
pub struct Staging {
    dir: PathBuf,
    /// The path of the release once it is finished.
    destination: PathBuf,
    /// The app's own directory, kept across releases.
    shared: PathBuf,
    label: Label,
    /// The handle of `app/`.
    tree: OwnedFd,
    owner: Ids,
    /// The user of `build`: the owner itself if the app shares its user.
    builder: Ids,
    finished: bool,
}

impl Locked {
    /// Creates an empty staging directory, and the app's own one if it is missing.
    pub fn begin_staging(&self, label: &Label, owner: Ids, builder: Ids) -> Result<Staging> {
        self.remove_leftovers()?;
        let shared = self.shared();
        if !shared.exists() {
            durable::make_dir(&shared, 0o750)?;
        }
        // Also after a crash before this step, or a change of the user.
        give(&shared, owner)?;
        if owner != builder {
            let_group_write(&shared)?;
        }
        let dir = self.releases_dir().join(format!("{STAGING}{label}"));
        let made = make_tree(&dir.join("app"), owner);
        let marked = made.and_then(|tree| unsynced::mark(&dir, &self.boot).map(|()| tree));
        let tree = marked.inspect_err(|_| {
            let _ = durable::remove_tree(&dir);
        })?;
        let (destination, label) = (self.release_dir(label), label.clone());
        Ok(Staging { dir, destination, shared, label, tree, owner, builder, finished: false })
    }
}

impl Locked {
    /// Creates the homes of processes that an installed release gets in addition.
    pub fn make_missing_homes(
        &self,
        label: &Label,
        owner: Ids,
        builder: Ids,
        processes: &[String],
    ) -> Result<()> {
        let (dir, shared) = (self.release_dir(label), self.shared());
        let path = dir.join("app");
        let tree = File::open(&path).map_err(|e| unwritable(&path, e))?.into();
        let (destination, label, finished) = (dir.clone(), label.clone(), true);
        let release = Staging { dir, destination, shared, label, tree, owner, builder, finished };
        let Some(homes) = release.begin_homes()? else { return Ok(()) };
        for process in processes {
            let home = release.dir.join("home").join(process);
            match home.symlink_metadata() {
                Ok(found) if found.is_dir() => continue,
                Ok(_) => durable::remove(&home)?,
                Err(_) => {}
            }
            match release.make_homes(&homes, std::iter::once(process.clone())) {
                Err(error) if disk::is_full(&error) => self.share_home(&home, process)?,
                made => made?,
            }
        }
        Ok(())
    }

    /// Lets a process use the home of the first of its type: on a full disk that is better than
    /// no restart.
    fn share_home(&self, home: &Path, process: &str) -> Result<()> {
        let first = format!("{}.1", process.rsplit_once('.').map_or(process, |(kind, _)| kind));
        durable::remove_tree(home)?;
        self.write_with_reserve(|| durable::replace_symlink(home, Path::new(&first)))
    }
}

fn make_tree(app: &Path, owner: Ids) -> Result<OwnedFd> {
    durable::make_dir(app, 0o755)?;
    give(app, owner)?;
    Ok(File::open(app).map_err(|e| unwritable(app, e))?.into())
}

fn give(path: &Path, owner: Ids) -> Result<()> {
    let meta = fs::metadata(path).map_err(|e| unwritable(path, e))?;
    if (meta.uid(), meta.gid()) == (owner.uid, owner.gid) {
        return Ok(());
    }
    chown(path, Some(owner.uid), Some(owner.gid)).map_err(|e| unwritable(path, e))
}

/// Makes the shared directory writable for the builder's group, so that builds can keep files
/// there.
fn let_group_write(shared: &Path) -> Result<()> {
    let mode = fs::metadata(shared).map_err(|e| unwritable(shared, e))?.mode() & 0o7777;
    if mode & 0o070 == 0o070 {
        return Ok(());
    }
    let wider = fs::Permissions::from_mode(mode | 0o070);
    fs::set_permissions(shared, wider).map_err(|e| unwritable(shared, e))
}

impl Staging {
    pub fn label(&self) -> &Label {
        &self.label
    }

    pub fn owner(&self) -> Ids {
        self.owner
    }

    /// Returns another handle of `app/`, for the thread that unpacks.
    pub fn tree(&self) -> Result<OwnedFd> {
        let what = || format!("open {}", self.dir.join("app").display());
        self.tree.try_clone().map_err(|e| Error::failed(what()).because(e))
    }

    /// Returns the tree's present path, and its final one: a build must see the second.
    pub fn tree_paths(&self) -> (PathBuf, PathBuf) {
        (self.dir.join("app"), self.destination.join("app"))
    }

    pub fn env_path(&self) -> PathBuf {
        self.dir.join("env")
    }

    /// Returns the text of `Procfile` at the root of the tree, if there is one.
    pub fn procfile(&self) -> Result<Option<Vec<u8>>> {
        read_beneath(&self.tree, Path::new("Procfile"), PROCFILE)
            .map_err(|e| Error::unusable("read Procfile").because(e))
    }

    pub fn write_env(&self, text: &str) -> Result<()> {
        durable::write_for_later(&self.env_path(), text.as_bytes(), 0o600)
    }

    /// Stores the text of the Procfile where neither `build` nor a process can change it: it
    /// decides whether a later deploy is for this very release.
    pub fn write_procfile(&self, text: &[u8]) -> Result<()> {
        durable::write_for_later(&self.dir.join(KEPT_PROCFILE), text, 0o600)
    }

    /// Makes a path writable for the processes: a directory of the tree, created with its parents
    /// if missing. A file stays a file, and a link within the tree stays a link; no link is
    /// followed out of the tree.
    pub fn make_writable(&self, relative: &str) -> Result<(), Unwritable> {
        let mut path = PathBuf::new();
        let mut parts = Path::new(relative).components().peekable();
        while let Some(part) = parts.next() {
            let parent = match path.as_os_str().is_empty() {
                true => inside(&self.tree, Path::new(".")),
                false => inside(&self.tree, &path),
            };
            path.push(part);
            let is_last = parts.peek().is_none();
            let made = parent.and_then(|parent| self.make_part(&parent, &path, is_last));
            made.map_err(|why| Unwritable { at: path.clone(), why })?;
        }
        Ok(())
    }

    /// Creates the last directory of `path`, unless a suitable entry exists.
    fn make_part(
        &self,
        parent: &OwnedFd,
        path: &Path,
        may_be_file: bool,
    ) -> Result<(), WhyUnwritable> {
        let name = path.file_name().unwrap_or_default();
        match mkdirat(parent, name, Mode::from_bits_truncate(0o755)) {
            Ok(()) => {
                let (uid, gid) = (Uid::from_raw(self.owner.uid), Gid::from_raw(self.owner.gid));
                let flags = AtFlags::AT_SYMLINK_NOFOLLOW;
                Ok(fchownat(parent, name, Some(uid), Some(gid), flags)?)
            }
            Err(Errno::EEXIST) => {
                let mode = fstat(inside(&self.tree, path)?)?.st_mode;
                match SFlag::from_bits_truncate(mode) & SFlag::S_IFMT {
                    SFlag::S_IFDIR => Ok(()),
                    SFlag::S_IFREG if may_be_file => Ok(()),
                    _ => Err(WhyUnwritable::Kind),
                }
            }
            Err(errno) => Err(errno.into()),
        }
    }

    /// Renames the complete release to its label. It keeps its mark until its files are on the
    /// disk, for which nothing here waits: an fsync would wait for most of them.
    pub fn finish(mut self, manifest: &Manifest) -> Result<Unsynced> {
        let path = self.dir.join("release.json");
        durable::write_for_later(&path, &manifest_json(&path, manifest)?, 0o600)?;
        let finish = || {
            // Replaces the mode of the archive's root: no other user may read the tree.
            if self.has_builder() {
                fchmod(&self.tree, OWN_TREE)?;
            }
            let (dir, tree) = (File::open(&self.dir)?, self.tree.try_clone()?);
            durable::rename_for_later(&self.dir, &self.destination)?;
            Ok(Unsynced::new(self.destination.clone(), dir, tree))
        };
        let unsynced = finish().map_err(|e| unwritable(&self.destination, e))?;
        self.finished = true;
        Ok(unsynced)
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if !self.finished
            && let Err(error) = durable::remove_tree(&self.dir)
        {
            // Renaming frees the label for the next attempt.
            let doomed = doomed(&self.dir);
            match durable::rename(&self.dir, &doomed) {
                Ok(()) => report_left(&doomed, &error),
                Err(_) => report_left(&self.dir, &error),
            }
        }
    }
}

/// Opens the target of a path within the tree, following links.
fn inside(tree: &OwnedFd, path: &Path) -> Result<OwnedFd, WhyUnwritable> {
    let how = OpenHow::new()
        .flags(OFlag::O_PATH | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    openat2(tree, path, how).map_err(|errno| match errno {
        Errno::ENOENT | Errno::ENOTDIR => WhyUnwritable::Dangling,
        Errno::EXDEV => WhyUnwritable::Outside,
        errno => errno.into(),
    })
}

/// The reason why a path of the tree cannot be made writable.
#[derive(Debug)]
pub struct Unwritable {
    /// The path below the tree: the path itself, or one on the way to it.
    pub at: PathBuf,
    pub why: WhyUnwritable,
}

#[derive(Debug)]
pub enum WhyUnwritable {
    /// A link to a missing target.
    Dangling,
    /// A link out of the tree.
    Outside,
    /// Neither file nor directory, or a file as the parent of a path.
    Kind,
    System(Errno),
}

impl From<Errno> for WhyUnwritable {
    fn from(errno: Errno) -> Self {
        WhyUnwritable::System(errno)
    }
}

fn open_beneath(dir: &OwnedFd, path: &Path, flags: OFlag) -> io::Result<OwnedFd> {
    let how = OpenHow::new()
        .flags(flags | OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)
        .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS);
    Ok(openat2(dir, path, how)?)
}

fn read_beneath(dir: &OwnedFd, path: &Path, most: u64) -> io::Result<Option<Vec<u8>>> {
    let file = match open_beneath(dir, path, OFlag::empty()) {
        Ok(file) => File::from(file),
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) if e.raw_os_error() == Some(nix::libc::ELOOP) => {
            return Err(io::Error::other("it is a symbolic link; it must be a file"));
        }
        Err(e) => return Err(e),
    };
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is not a file"));
    }
    let mut bytes = Vec::new();
    file.take(most + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        return Err(io::Error::other(format!("it is larger than {most} bytes")));
    }
    Ok(Some(bytes))
}

impl App {
    /// Returns the free labels for new content: the release's name, then `NAME.2`, `NAME.3`, …
    pub fn free_labels(&self, name: &ReleaseName) -> impl Iterator<Item = Label> {
        let is_free = |label: &Label| self.release_dir(label).symlink_metadata().is_err();
        (1..).map(|nth| Label::of(name, nth)).filter(is_free)
    }

    /// Returns the first free label.
    pub fn free_label(&self, name: &ReleaseName) -> Label {
        self.free_labels(name).next().unwrap_or_else(|| Label::of(name, 1))
    }

    /// Returns the env file of an installed release, in systemd's format.
    pub fn environment_file(&self, label: &Label) -> Result<Vec<u8>> {
        let path = self.release_dir(label).join("env");
        fs::read(&path).map_err(|e| super::unreadable(&path, e))
    }

    /// Returns the Procfile of an installed release, as it was in its archive. A release staged by
    /// 0.1.0 has it only in its tree.
    pub fn procfile(&self, label: &Label) -> Result<Option<Vec<u8>>> {
        let kept = self.release_dir(label).join(KEPT_PROCFILE);
        match fs::read(&kept) {
            Ok(text) => return Ok(Some(text)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(super::unreadable(&kept, e)),
        }
        let path = self.tree(label);
        let tree = File::open(&path).map_err(|e| super::unreadable(&path, e))?.into();
        read_beneath(&tree, Path::new("Procfile"), PROCFILE)
            .map_err(|e| Error::unusable(format!("read Procfile of release {label}")).because(e))
    }
}
