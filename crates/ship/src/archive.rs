//! The archive of a release: a tar, compressed by zstd, with its size and SHA-256.
//!
//! Owners and the order of a directory never show in it, so that a commit makes the same bytes on
//! every machine.

mod commit;
mod files;
mod links;

use crate::check;
use crate::source::{IGNORE, Source, ignored};
use ignore::gitignore::Gitignore;
use model::error::{Error, Result};
use model::reason::Reason;
use model::release::digest::{Hasher, Sha256};
use model::release::procfile::Procfile;
use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::path::Path;
use tar::{Builder, Header};
use tempfile::NamedTempFile;

/// The name of the object.
pub const NAME: &str = "source.tar.zst";
/// zstd's level: the archive of a large release in a second or two.
const LEVEL: i32 = 9;
/// No Procfile is as long: the parser refuses it.
const LARGEST_PROCFILE: u64 = 1 << 20;

/// An archive in a temporary file.
#[derive(Debug)]
pub struct Packed {
    pub file: NamedTempFile,
    pub bytes: u64,
    pub sha256: Sha256,
    pub procfile: Procfile,
    pub entries: u64,
}

/// Packs a source, and parses its Procfile.
pub fn pack(source: &Source) -> Result<Packed> {
    let file =
        NamedTempFile::new().map_err(|e| Error::failed("make a temporary file").because(e))?;
    let writer = BufWriter::new(file.reopen().map_err(packing)?);
    let sums = Sums { file: writer, hasher: Hasher::default(), bytes: 0 };
    let encoder = zstd::Encoder::new(sums, LEVEL).map_err(packing)?;
    let mut packer = Packer::new(Builder::new(encoder), &source.ignore_file()?)?;
    match source {
        Source::Files { directory, files, .. } => files::pack(&mut packer, directory, files)?,
        Source::Commit { directory, origin } => {
            commit::pack(&mut packer, directory, origin.commit.as_deref().unwrap_or_default())?;
        }
    }
    let Packer { tar, procfile, similar, entries, .. } = packer;
    let mut sums = tar.into_inner().and_then(zstd::Encoder::finish).map_err(packing)?;
    sums.file.flush().map_err(packing)?;
    let procfile = procfile.ok_or_else(|| no_procfile(source, similar))?;
    let procfile = Procfile::parse(&procfile)
        .map_err(|why| check::refused("Procfile", Reason::InvalidProcfile, why))?;
    Ok(Packed { file, bytes: sums.bytes, sha256: sums.hasher.finish(), procfile, entries })
}

fn no_procfile(source: &Source, similar: Option<String>) -> Error {
    let error = Error::unusable(format!("{} has no Procfile", source.name()));
    let error = error.with_reason(Reason::InvalidProcfile);
    error.help(match similar {
        Some(path) if path.ends_with("/Procfile") => {
            format!(
                "found {path}: release that directory, or put {} into it",
                crate::settings::FILE
            )
        }
        Some(path) => format!("found {path}: name it Procfile"),
        None => "write one, such as `web: ./server --port $PORT`, at the top of the app".to_owned(),
    })
}

/// Writes the entries of the archive, and keeps the Procfile for the checks.
struct Packer {
    tar: Builder<zstd::Encoder<'static, Sums>>,
    ignored: Gitignore,
    procfile: Option<Vec<u8>>,
    /// A path that was perhaps meant to be the Procfile.
    similar: Option<String>,
    entries: u64,
}

impl Packer {
    fn new(tar: Builder<zstd::Encoder<'static, Sums>>, ignore_file: &[u8]) -> Result<Packer> {
        let ignored = ignored(ignore_file)?;
        Ok(Packer { tar, ignored, procfile: None, similar: None, entries: 0 })
    }

    /// Whether `.deployignore` keeps a path out, or a directory that it is in.
    fn leaves_out(&self, path: &Path, is_dir: bool) -> bool {
        path == Path::new(IGNORE)
            || path.has_root()
            || self.ignored.matched_path_or_any_parents(path, is_dir).is_ignore()
    }

    fn directory(&mut self, mut header: Header, path: &Path) -> Result<()> {
        header.set_size(0);
        self.entries += 1;
        self.tar.append_data(&mut header, path, io::empty()).map_err(packing)
    }

    fn link(&mut self, mut header: Header, path: &Path, target: &Path) -> Result<()> {
        links::check(path, target)?;
        header.set_size(0);
        self.entries += 1;
        self.tar.append_link(&mut header, path, target).map_err(packing)
    }

    /// Writes a file of the size that its header has.
    fn file(&mut self, mut header: Header, path: &Path, from: impl Read) -> Result<()> {
        self.entries += 1;
        let size = header.size().map_err(packing)?;
        self.notice(path);
        let mut from = Whole { from, left: size };
        if path != Path::new("Procfile") || size > LARGEST_PROCFILE {
            let added = self.tar.append_data(&mut header, path, from);
            return added.map_err(|why| packing_file(path, why));
        }
        let mut text = Vec::new();
        from.read_to_end(&mut text).map_err(|why| packing_file(path, why))?;
        self.tar.append_data(&mut header, path, text.as_slice()).map_err(packing)?;
        self.procfile = Some(text);
        Ok(())
    }

    fn notice(&mut self, path: &Path) {
        let name = path.file_name().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
        let depth = path.components().count();
        let is_similar = depth == 1 && (name == "procfile" || name.starts_with("procfile."))
            || depth == 2 && path.ends_with("Procfile");
        if is_similar && self.similar.is_none() {
            self.similar = Some(model::text::line(&path.to_string_lossy(), 80));
        }
    }
}

fn packing(why: io::Error) -> Error {
    Error::failed("pack the release").because(why)
}

fn packing_file(path: &Path, why: io::Error) -> Error {
    let path = path.to_string_lossy();
    Error::failed(format!("pack {}", model::text::quoted(&path))).because(why)
}

/// A reader that fails where the file ends early: the archive would be damaged.
struct Whole<R> {
    from: R,
    left: u64,
}

impl<R: Read> Read for Whole<R> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len());
        let read = self.from.read(&mut bytes[..most])?;
        if read == 0 && most > 0 {
            return Err(io::Error::other("it became shorter while it was read"));
        }
        self.left -= read as u64;
        Ok(read)
    }
}

/// Counts and hashes what is written.
struct Sums {
    file: BufWriter<File>,
    hasher: Hasher,
    bytes: u64,
}

impl Write for Sums {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_became_shorter_is_not_packed() {
        let mut text = Vec::new();
        let mut short = Whole { from: &b"abc"[..], left: 4 };
        assert!(short.read_to_end(&mut text).is_err());
        let mut longer = Whole { from: &b"abcdef"[..], left: 4 };
        text.clear();
        longer.read_to_end(&mut text).unwrap();
        assert_eq!(text, b"abcd");
    }
}
