//! The files of a commit, from the tar that Git writes.

use super::{Packer, packing};
use crate::program::said;
use crate::source::git;
use model::error::{Error, Result};
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};
use std::thread;
use tar::{Archive, EntryType, Header};

/// Bytes that are kept of what git writes to stderr.
const LONGEST: u64 = 1 << 16;

/// Packs what is below `directory` in a commit.
pub fn pack(packer: &mut Packer, directory: &Path, commit: &str) -> Result<()> {
    let mut archive = git::archive(directory, commit);
    let unstarted = |why| Error::failed("start git").because(why).help("install git");
    let mut child = archive.spawn().map_err(unstarted)?;
    // A thread: git must not wait because nobody reads its errors.
    let errors = child.stderr.take().map(|stderr| {
        thread::spawn(move || {
            let mut errors = Vec::new();
            let mut stderr = stderr;
            let _ = (&mut stderr).take(LONGEST).read_to_end(&mut errors);
            let _ = std::io::copy(&mut stderr, &mut std::io::sink());
            errors
        })
    });
    let copied = match child.stdout.take() {
        Some(stdout) => copy(BufReader::new(stdout), packer),
        None => Ok(()),
    };
    let status = child.wait().map_err(packing)?;
    let errors = errors.and_then(|errors| errors.join().ok()).unwrap_or_default();
    // Where this program stopped reading, git ends by a broken pipe.
    copied?;
    if !status.success() {
        let error = Error::failed(format!("`git archive {commit}` failed"));
        return Err(error.because(said(&errors)));
    }
    Ok(())
}

fn copy(from: impl Read, packer: &mut Packer) -> Result<()> {
    let mut archive = Archive::new(from);
    for entry in archive.entries().map_err(packing)? {
        let mut entry = entry.map_err(packing)?;
        // Without the slash that ends a directory's.
        let path: PathBuf = entry.path().map_err(packing)?.components().collect();
        let kind = entry.header().entry_type();
        // Git's own header names the commit, and belongs to no file.
        if kind == EntryType::XGlobalHeader || packer.leaves_out(&path, kind.is_dir()) {
            continue;
        }
        let header = header(&entry.header().clone(), entry.size()).map_err(packing)?;
        let target = entry.link_name().map_err(packing)?.map(|target| target.into_owned());
        match (kind, target) {
            (EntryType::Directory, _) => packer.directory(header, &path)?,
            (_, Some(target)) => packer.link(header, &path, &target)?,
            _ => packer.file(header, &path, &mut entry)?,
        }
    }
    Ok(())
}

/// Takes mode and time, which are those of the commit.
fn header(git: &Header, size: u64) -> std::io::Result<Header> {
    let mut header = Header::new_gnu();
    header.set_entry_type(git.entry_type());
    header.set_size(size);
    header.set_mtime(git.mtime()?);
    header.set_mode(git.mode()? & 0o777);
    header.set_uid(0);
    header.set_gid(0);
    Ok(header)
}
