//! The part of this program that runs in the instance: it measures one bound, without the time
//! that it takes to read its input.

use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::symlinkat;
use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// The first argument with which the benchmark runs one bound.
pub const WORD: &str = "bound";

/// The path of this program in the instance.
pub const PROGRAM: &str = "/run/bench-bound";
/// The file with the seconds that the last bound took.
pub const SECONDS: &str = "/run/bench-bound.seconds";

/// The block size for reading [`archive`]s: larger ones are not faster.
const BLOCK: usize = 128 * 1024;

/// In bytes: more than any row needs, the page cache included.
const MEMORY: usize = 3 << 29;

/// Measures the bound that the arguments name; returns false if they name none.
pub fn run() -> bool {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let took = match words[..] {
        [WORD, "inflate", archive] => inflate(Path::new(archive)),
        [WORD, "create", archive, dir] => create(Path::new(archive), Path::new(dir)),
        [WORD, "touch"] => Ok(touch()),
        _ => return false,
    };
    fs::write(SECONDS, took.expect("the bound to be measured").to_string()).expect("write");
    true
}

fn touch() -> f64 {
    let begin = Instant::now();
    std::hint::black_box(vec![1_u8; MEMORY]);
    begin.elapsed().as_secs_f64()
}

fn inflate(archive: &Path) -> io::Result<f64> {
    let bytes = fs::read(archive)?;
    let begin = Instant::now();
    let mut plain: Box<dyn Read> = match archive.extension().and_then(|kind| kind.to_str()) {
        Some("gz") => Box::new(flate2::bufread::MultiGzDecoder::new(&*bytes)),
        _ => Box::new(zstd::Decoder::with_buffer(&*bytes)?),
    };
    let mut block = vec![0; BLOCK];
    while plain.read(&mut block)? > 0 {}
    Ok(begin.elapsed().as_secs_f64())
}

/// An entry of a tar to write: its path, and its bytes.
enum Entry {
    Directory(PathBuf),
    File(PathBuf, u32, Vec<u8>),
    Link(PathBuf, PathBuf),
}

/// Creates the files in one thread, with an open handle of every directory.
fn create(archive: &Path, dir: &Path) -> io::Result<f64> {
    let entries = read(archive)?;
    fs::create_dir(dir)?;
    let root: OwnedFd = File::open(dir)?.into();
    let begin = Instant::now();
    let mut open: HashMap<PathBuf, OwnedFd> = HashMap::from([(PathBuf::new(), root)]);
    let handle = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let new = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_WRONLY | OFlag::O_CLOEXEC;
    for entry in &entries {
        let (Entry::Directory(path) | Entry::File(path, ..) | Entry::Link(path, _)) = entry;
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { continue };
        let parent = open.get(parent).ok_or(io::ErrorKind::NotFound)?;
        match entry {
            Entry::Directory(path) => {
                mkdirat(parent, name, Mode::from_bits_truncate(0o755))?;
                let made = openat(parent, name, handle, Mode::empty())?;
                open.insert(path.clone(), made);
            }
            Entry::File(_, mode, bytes) => {
                let file = openat(parent, name, new, Mode::from_bits_truncate(*mode))?;
                io::Write::write_all(&mut File::from(file), bytes)?;
            }
            Entry::Link(_, target) => symlinkat(target, parent, name)?,
        }
    }
    Ok(begin.elapsed().as_secs_f64())
}

fn read(archive: &Path) -> io::Result<Vec<Entry>> {
    let mut entries = Vec::new();
    for entry in tar::Archive::new(File::open(archive)?).entries()? {
        let mut entry = entry?;
        let path: PathBuf = entry.path()?.components().skip(1).collect();
        let kind = entry.header().entry_type();
        entries.push(if kind.is_dir() {
            Entry::Directory(path)
        } else if let Some(target) = entry.link_name()?.filter(|_| kind.is_symlink()) {
            Entry::Link(path, target.into_owned())
        } else {
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes)?;
            Entry::File(path, entry.header().mode()?, bytes)
        });
    }
    Ok(entries)
}
