//! Unpacks an archive for real: whatever it contains, nothing outside the release changes and
//! no limit is exceeded.
//!
//! The first byte selects the format of the others: `t` tar, `g` gzip, `z` zstd, and anything
//! else a tar whose header checksums are corrected first, so that a fuzzer's changes to the
//! headers are read. A capital letter also delivers the bytes in small pieces.

use super::said;
use deploy_agent::stage::buffer_channel::{Reading, recycled_channel};
use deploy_agent::stage::inflate::inflate;
use deploy_agent::stage::peek::find;
use deploy_agent::stage::unpack::{Limits, Owner, Unpacked, unpack};
use deploy_agent::timings::Waits;
use model::error::{Error, Exit};
use model::release::compression::Compression;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, Metadata};
use std::io::{self, BufReader, Cursor, ErrorKind, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{MetadataExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::thread;

/// The owner of the unpacked files; no user of the machine.
const OWNER: Owner = Owner { uid: 4242, gid: 4343 };
/// The reader takes one byte more, so that it can refuse a longer file.
const LONGEST_PROCFILE: usize = 64 << 10;
const LIMITS: Limits = Limits { max_bytes: 1 << 20, max_files: 300 };

pub fn archive(data: &[u8]) -> bool {
    let Some((first, packed)) = data.split_first() else { return false };
    let mut packed = packed.to_vec();
    let how = match first.to_ascii_lowercase() {
        b't' => Compression::Plain,
        b'g' => Compression::Gzip,
        b'z' => Compression::Zstd,
        _ => {
            mend(&mut packed);
            Compression::Plain
        }
    };
    look_for_procfile(&packed, how);
    let whole = unpack_into_world(|into| piped(inflate(&packed[..], how)?, into));
    if first.is_ascii_uppercase() {
        let pieces = unpack_into_world(|into| {
            let pieces = BufReader::new(Pieces(Cursor::new(&packed)));
            let tar = BufReader::new(inflate(pieces, how)?);
            unpack(tar, into, OWNER, LIMITS, &|_, _| {})
        });
        assert_eq!(whole, pieces, "the result depends on how the stream is cut");
    }
    whole.is_some()
}

/// Searches as `deploy plan` does, without unpacking.
fn look_for_procfile(packed: &[u8], how: Compression) {
    match inflate(packed, how).and_then(|tar| find(tar, LIMITS.max_bytes)) {
        Ok(found) => assert!(found.is_none_or(|text| text.len() <= LONGEST_PROCFILE + 1)),
        Err(error) => said::check(&error, &[Exit::Unusable]),
    }
}

/// Unpacks as staging does: another thread reads the archive.
fn piped(tar: impl Read + Send, into: BorrowedFd<'_>) -> Result<Unpacked, Error> {
    let (waits, reading) = (Waits::default(), Reading::default());
    let (writer, reader) = recycled_channel(&waits, &reading);
    thread::scope(|scope| {
        scope.spawn(move || writer.copy(tar, || 0));
        unpack(reader, into, OWNER, LIMITS, &|_, _| {})
    })
}

/// Returns the unpacked tree, unless the archive was refused.
fn unpack_into_world(
    unpack: impl FnOnce(BorrowedFd<'_>) -> Result<Unpacked, Error>,
) -> Option<(Unpacked, Seen)> {
    let world = World::new();
    let into = File::open(world.release()).expect("the release's directory");
    let unpacked = unpack(into.as_fd());
    world.check_outside();
    let tree = look(&world.release());
    check_tree(&tree, &unpacked);
    match unpacked {
        Ok(done) => {
            check_links(&world.release(), &tree);
            let seen = tree.into_iter().map(|(path, meta)| (path, (meta.mode(), size(&meta))));
            Some((done, seen.collect()))
        }
        Err(error) => {
            said::check(&error, &[Exit::Unusable]);
            None
        }
    }
}

/// The mode and size of each path.
type Seen = BTreeMap<PathBuf, (u32, u64)>;

/// A directory for a release, beside files that no archive may touch.
struct World {
    dir: tempfile::TempDir,
    before: String,
}

impl World {
    /// Needs root, which alone can give files away; the app's user may write to all of it.
    fn new() -> World {
        let dir = tempfile::tempdir().expect("a directory");
        let at = |name: &str| dir.path().join(name);
        let made = || -> io::Result<()> {
            fs::create_dir(at("outside"))?;
            fs::write(at("outside/secret"), "secret")?;
            symlink("outside", at("link"))?;
            fs::create_dir(at("release"))?;
            for path in ["outside", "outside/secret", "release", "."] {
                chown(at(path), Some(OWNER.uid), Some(OWNER.gid))?;
            }
            Ok(())
        };
        made().expect("root, to unpack as another user");
        let before = outside(dir.path());
        World { dir, before }
    }

    fn release(&self) -> PathBuf {
        self.dir.path().join("release")
    }

    fn check_outside(&self) {
        assert_eq!(outside(self.dir.path()), self.before, "a file outside the release changed");
    }
}

/// All observable state of the files outside the release.
fn outside(dir: &Path) -> String {
    let directories = [dir.to_owned(), dir.join("outside")];
    let entries = directories.iter().flat_map(|dir| fs::read_dir(dir).expect("a directory"));
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    let tell = |path: &PathBuf| {
        let meta = path.symlink_metadata().expect("what was there before");
        let of_release = path.ends_with("release");
        let look = (meta.mode(), meta.uid(), meta.gid(), meta.ino());
        // Unpacking changes these fields of the release's own directory.
        let changes = (!of_release)
            .then(|| (meta.nlink(), meta.mtime(), meta.mtime_nsec(), meta.ctime_nsec()));
        let content = meta.is_file().then(|| fs::read(path).expect("a file"));
        format!("{path:?} {look:?} {changes:?} {content:?}\n")
    };
    paths.iter().map(tell).collect()
}

/// Everything below `root`, by its relative path.
fn look(root: &Path) -> BTreeMap<PathBuf, Metadata> {
    let mut seen = BTreeMap::new();
    let mut todo = vec![root.to_owned()];
    while let Some(directory) = todo.pop() {
        let entries = match fs::read_dir(&directory) {
            // A path of the longest length is too long with the root before it.
            Err(error) if error.kind() == ErrorKind::InvalidFilename => continue,
            entries => entries.expect("a directory"),
        };
        for entry in entries {
            let entry = entry.expect("an entry");
            let meta = entry.metadata().expect("an entry's look");
            if meta.is_dir() {
                todo.push(entry.path());
            }
            let path = entry.path();
            seen.insert(path.strip_prefix(root).expect("below the root").to_owned(), meta);
        }
    }
    seen
}

/// Checks that there are only files, directories and links of the app, within the limits, also
/// after a refusal.
fn check_tree(tree: &BTreeMap<PathBuf, Metadata>, unpacked: &Result<Unpacked, Error>) {
    let (mut inodes, mut bytes) = (BTreeSet::new(), 0);
    for (path, meta) in tree {
        let kind = meta.file_type();
        assert!(kind.is_file() || kind.is_dir() || kind.is_symlink(), "{path:?}: {kind:?}");
        assert_eq!((meta.uid(), meta.gid()), (OWNER.uid, OWNER.gid), "{path:?}");
        assert!(kind.is_symlink() || meta.mode() & 0o7000 == 0, "{path:?}: {:o}", meta.mode());
        if inodes.insert(meta.ino()) {
            bytes += size(meta);
        }
    }
    let most = match unpacked {
        Ok(done) => *done,
        Err(_) => Unpacked { files: LIMITS.max_files, bytes: LIMITS.max_bytes },
    };
    assert!(most.files <= LIMITS.max_files && most.bytes <= LIMITS.max_bytes, "{most:?}");
    assert!(tree.len() as u64 <= most.files, "{} entries, not {}", tree.len(), most.files);
    assert!(bytes <= most.bytes, "{bytes} bytes, not {}", most.bytes);
}

fn size(meta: &Metadata) -> u64 {
    if meta.is_file() { meta.len() } else { 0 }
}

/// Checks that no link leads out of the release.
fn check_links(release: &Path, tree: &BTreeMap<PathBuf, Metadata>) {
    let root = release.canonicalize().expect("the release's directory");
    for path in tree.iter().filter(|(_, meta)| meta.is_symlink()).map(|(path, _)| path) {
        match root.join(path).canonicalize() {
            Ok(real) => assert!(real.starts_with(&root), "{path:?} leads to {real:?}"),
            Err(error) => assert!(
                matches!(
                    error.kind(),
                    ErrorKind::NotFound | ErrorKind::NotADirectory | ErrorKind::InvalidFilename
                ),
                "{path:?}: {error}"
            ),
        }
    }
}

/// Corrects the checksum of each header.
fn mend(tar: &mut [u8]) {
    for block in tar.as_chunks_mut::<512>().0 {
        if block[257..262] == *b"ustar" {
            block[148..156].fill(b' ');
            let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
            block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        }
    }
}

/// Delivers the bytes like a slow network: between one and 600 at once.
struct Pieces<'a>(Cursor<&'a Vec<u8>>);

impl Read for Pieces<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.0.position() * 7 % 600 + 1).unwrap_or(1);
        let most = most.min(buffer.len());
        self.0.read(&mut buffer[..most])
    }
}
