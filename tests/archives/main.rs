//! Effects of archives: every hostile one gets its error, every odd one is unpacked correctly,
//! and each leaves the tree beside the release unchanged.
//!
//! The tests run as root, as in `make test`: files must be created with another owner.

#![allow(clippy::disallowed_methods, reason = "the real tar makes the archives")]

mod hostile;
mod limits;
mod made_by;
mod odd;
mod owner;
mod random;
mod real_tar;

use deploy_agent::stage::buffer_channel::{Reading, recycled_channel};
use deploy_agent::stage::unpack::{Limits, Owner, Unpacked, unpack};
use deploy_agent::timings::Waits;
use model::error::Error;
use nix::sys::stat::{Mode, umask};
use nix::unistd::{Gid, geteuid, setgroups};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::sync::Once;
use std::thread;

/// The owner of the releases in these tests; not a user of the machine.
const OWNER: Owner = Owner { uid: 4242, gid: 4343 };
const LIMITS: Limits = Limits { max_bytes: 64 << 20, max_files: 20_000 };

/// A directory for a release, and files beside it that no archive may touch.
struct World {
    dir: tempfile::TempDir,
    before: BTreeMap<PathBuf, Seen>,
}

/// Everything that can be read about a file without changing it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    mode: u32,
    owner: (u32, u32),
    links: u64,
    modified: (i64, i64),
    /// Content, or target of a link.
    holds: Vec<u8>,
}

impl World {
    fn new() -> World {
        static PROCESS: Once = Once::new();
        PROCESS.call_once(|| {
            assert!(geteuid().is_root(), "run these tests as root: make test");
            // The result of unpacking may depend on neither.
            umask(Mode::from_bits_truncate(0o077));
            setgroups(&[Gid::from_raw(0), Gid::from_raw(1)]).unwrap();
        });
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir_all(at("outside/deep")).unwrap();
        fs::write(at("outside/secret"), "secret").unwrap();
        symlink("outside", at("link")).unwrap();
        fs::create_dir(at("release")).unwrap();
        // Links must not lead to these files, even though the app's user may write to them.
        for path in ["release", "outside", "outside/deep", "outside/secret"] {
            chown(at(path), Some(OWNER.uid), Some(OWNER.gid)).unwrap();
        }
        let before = look(dir.path(), &at("release"));
        World { dir, before }
    }

    fn release(&self) -> PathBuf {
        self.dir.path().join("release")
    }

    fn unpack(&self, tar: impl Read + Send) -> Result<Unpacked, Error> {
        self.unpack_within(tar, LIMITS)
    }

    /// Unpacks as staging does: another thread reads the archive. Checks that the files beside
    /// the release are unchanged, whatever the result.
    fn unpack_within(&self, tar: impl Read + Send, limits: Limits) -> Result<Unpacked, Error> {
        let into = File::open(self.release()).unwrap();
        let (waits, reading) = (Waits::default(), Reading::default());
        let (writer, reader) = recycled_channel(&waits, &reading);
        let result = thread::scope(|scope| {
            scope.spawn(move || writer.copy(tar, || 0));
            unpack(reader, into.as_fd(), OWNER, limits, &|_, _| {})
        });
        assert_eq!(look(self.dir.path(), &self.release()), self.before);
        result
    }

    /// Everything in the release, by its path there.
    fn unpacked(&self) -> BTreeMap<PathBuf, Seen> {
        look(&self.release(), Path::new(""))
    }

    fn seen(&self, name: &str) -> Seen {
        look_at(&self.release().join(name))
    }
}

/// Everything below `root` except `except`.
fn look(root: &Path, except: &Path) -> BTreeMap<PathBuf, Seen> {
    let mut seen = BTreeMap::new();
    let mut todo = vec![root.to_owned()];
    while let Some(directory) = todo.pop() {
        for entry in fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            if path == except {
                continue;
            }
            if path.symlink_metadata().unwrap().is_dir() {
                todo.push(path.clone());
            }
            seen.insert(path.strip_prefix(root).unwrap().to_owned(), look_at(&path));
        }
    }
    seen
}

fn look_at(path: &Path) -> Seen {
    let meta = path.symlink_metadata().unwrap();
    let holds = match meta.file_type() {
        kind if kind.is_file() => fs::read(path).unwrap(),
        kind if kind.is_symlink() => {
            fs::read_link(path).unwrap().into_os_string().into_encoded_bytes()
        }
        _ => Vec::new(),
    };
    Seen {
        mode: meta.mode(),
        owner: (meta.uid(), meta.gid()),
        links: if meta.is_dir() { 0 } else { meta.nlink() },
        modified: (meta.mtime(), meta.mtime_nsec()),
        holds,
    }
}
