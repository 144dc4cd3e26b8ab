//! A release in work: `.staging-LABEL`, which becomes `LABEL` by one rename when
//! it is whole and on the disk.

mod builder;
mod homes;
mod process_dirs;

pub use homes::Homes;

use super::durable::{self, unwritable};
use super::lock::manifest_json;
use super::{App, Locked, doomed, report_left};
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
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

/// Prefix of a staging directory's name, before the label.
pub(super) const STAGING: &str = ".staging-";
/// The largest Procfile that is read; bytes.
const PROCFILE: u64 = 64 << 10;
/// The name of the copy of it that lies beside `app/` and is root's.
const KEPT_PROCFILE: &str = "Procfile";
/// The mode of the root of a tree that is one app's alone.
pub(super) const OWN_TREE: Mode = Mode::from_bits_truncate(0o750);

/// The directory of a release that is being staged; removed when dropped unfinished.
#[derive(Debug)]
pub struct Staging {
    dir: PathBuf,
    /// Where the release will be once it is finished.
    destination: PathBuf,
    /// The app's own directory, whatever release runs.
    shared: PathBuf,
    label: Label,
    /// The handle of `app/`.
    tree: OwnedFd,
    owner: Ids,
    /// Whom its `build` runs as: the owner itself where the app shares its user.
    builder: Ids,
    finished: bool,
}

impl Locked {
    /// Makes an empty staging directory, and the app's own one where it is missing.
    pub fn begin_staging(&self, label: &Label, owner: Ids, builder: Ids) -> Result<Staging> {
        self.remove_leftovers()?;
        let shared = self.shared();
        if !shared.exists() {
            durable::make_dir(&shared, 0o750)?;
        }
        // Also where a crash came before this, or the user is another one now.
        give(&shared, owner)?;
        if owner != builder {
            let_group_write(&shared)?;
        }
        let dir = self.releases_dir().join(format!("{STAGING}{label}"));
        let tree = make_tree(&dir.join("app"), owner).inspect_err(|_| {
            let _ = durable::remove_tree(&dir);
        })?;
        let (destination, label) = (self.release_dir(label), label.clone());
        Ok(Staging { dir, destination, shared, label, tree, owner, builder, finished: false })
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

/// So that what a build keeps there stays.
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

    /// Another handle of `app/`, for the thread that unpacks.
    pub fn tree(&self) -> Result<OwnedFd> {
        let what = || format!("open {}", self.dir.join("app").display());
        self.tree.try_clone().map_err(|e| Error::failed(what()).because(e))
    }

    /// Where the tree lies now, and where it will lie: a build must see the second.
    pub fn tree_paths(&self) -> (PathBuf, PathBuf) {
        (self.dir.join("app"), self.destination.join("app"))
    }

    pub fn env_path(&self) -> PathBuf {
        self.dir.join("env")
    }

    /// The text of `Procfile` at the root of the tree; none where there is no such file.
    pub fn procfile(&self) -> Result<Option<Vec<u8>>> {
        read_beneath(&self.tree, Path::new("Procfile"), PROCFILE)
            .map_err(|e| Error::unusable("read Procfile").because(e))
    }

    pub fn write_env(&self, text: &str) -> Result<()> {
        durable::write_for_later(&self.env_path(), text.as_bytes(), 0o600)
    }

    /// Keeps the text of the Procfile where neither `build` nor a process can change it:
    /// it says whether a deploy asks for this very release.
    pub fn write_procfile(&self, text: &[u8]) -> Result<()> {
        durable::write_for_later(&self.dir.join(KEPT_PROCFILE), text, 0o600)
    }

    /// Sees to it that the processes find what they may write to: a directory of the
    /// tree, which is made with its parents where nothing is there. A file stays a file,
    /// and a link within the tree stays a link; no link is followed out of the tree.
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

    /// Makes the last directory of `path`, unless something is there that will do.
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

    /// Puts everything on the disk, then gives the release its name.
    ///
    /// One syncfs(2) for all of it: on ext4, 10,000 files of 8 KiB took 0.2 to 0.3 s,
    /// and 9 to 14 s with an fsync of each. Since Linux 5.8 it also says what could
    /// not be written since its handle was opened, which is before the first file.
    pub fn finish(mut self, manifest: &Manifest) -> Result<()> {
        let path = self.dir.join("release.json");
        durable::write_for_later(&path, &manifest_json(&path, manifest)?, 0o600)?;
        let finish = || {
            // Whatever mode the archive has for its root: nobody else reads what lies there.
            if self.has_builder() {
                fchmod(&self.tree, OWN_TREE)?;
            }
            nix::unistd::syncfs(self.tree.as_fd())?;
            reach!(self.dir, "synced");
            durable::rename(&self.dir, &self.destination)
        };
        finish().map_err(|e| unwritable(&self.destination, e))?;
        self.finished = true;
        Ok(())
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if !self.finished
            && let Err(error) = durable::remove_tree(&self.dir)
        {
            // So that the name is free for the next one.
            let doomed = doomed(&self.dir);
            match durable::rename(&self.dir, &doomed) {
                Ok(()) => report_left(&doomed, &error),
                Err(_) => report_left(&self.dir, &error),
            }
        }
    }
}

/// Opens what a path leads to within the tree, links followed.
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

/// Why processes cannot be let write to a path of the tree.
#[derive(Debug)]
pub struct Unwritable {
    /// Below the tree: the path itself, or what lies on the way to it.
    pub at: PathBuf,
    pub why: WhyUnwritable,
}

#[derive(Debug)]
pub enum WhyUnwritable {
    /// A link to something that is not there.
    Dangling,
    /// A link out of the tree.
    Outside,
    /// Neither file nor directory, or a file with something below it.
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
    /// The labels under which content that is not installed yet may be: the release's name,
    /// then `NAME.2`, `NAME.3`, …, as far as they are free.
    pub fn free_labels(&self, name: &ReleaseName) -> impl Iterator<Item = Label> {
        let is_free = |label: &Label| self.release_dir(label).symlink_metadata().is_err();
        (1..).map(|nth| Label::of(name, nth)).filter(is_free)
    }

    /// The first of them.
    pub fn free_label(&self, name: &ReleaseName) -> Label {
        self.free_labels(name).next().unwrap_or_else(|| Label::of(name, 1))
    }

    /// The env file of an installed release, as systemd reads it.
    pub fn environment_file(&self, label: &Label) -> Result<Vec<u8>> {
        let path = self.release_dir(label).join("env");
        fs::read(&path).map_err(|e| super::unreadable(&path, e))
    }

    /// The Procfile of an installed release, as it was in its archive. One that 0.1.0 has
    /// staged has it in its tree alone.
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
