//! Files of a directory.

use super::Packer;
use crate::source::IGNORE;
use model::error::{Error, Result};
use std::fs::{self, File, Metadata};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use tar::{EntryType, Header};

/// Packs the files, in their order.
pub fn pack(packer: &mut Packer, directory: &Path, files: &[PathBuf]) -> Result<()> {
    for path in files {
        let whole = directory.join(path);
        let failed = |why| Error::failed(format!("read {}", whole.display())).because(why);
        let metadata = fs::symlink_metadata(&whole).map_err(failed)?;
        if packer.leaves_out(path, metadata.is_dir()) {
            continue;
        }
        if metadata.is_symlink() {
            let target = fs::read_link(&whole).map_err(failed)?;
            packer.link(header(EntryType::Symlink, &metadata), path, &target)?;
        } else if metadata.is_dir() {
            packer.directory(header(EntryType::Directory, &metadata), path)?;
        } else if metadata.is_file() {
            let file = File::open(&whole).map_err(failed)?;
            let metadata = file.metadata().map_err(failed)?;
            packer.file(header(EntryType::Regular, &metadata), path, file)?;
        } else {
            let error = Error::unusable(format!("{} cannot be packed", whole.display()));
            let why = "it is a socket, a pipe or a device";
            return Err(error.because(why).help(format!("remove it, or name it in {IGNORE}")));
        }
    }
    Ok(())
}

/// Leaves out whose file it is, and all of its mode but whether it can be executed.
fn header(kind: EntryType, metadata: &Metadata) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_size(metadata.len());
    header.set_mtime(u64::try_from(metadata.mtime()).unwrap_or_default());
    header.set_uid(0);
    header.set_gid(0);
    let executable = metadata.permissions().mode() & 0o100 != 0 || metadata.is_dir();
    header.set_mode(if executable { 0o755 } else { 0o644 });
    header
}
