//! How much room a file system has.

use crate::error::{Error, Result};
use std::path::Path;

/// Bytes that the agent may still write to the file system of `path`.
pub fn free_bytes(path: &Path) -> Result<u64> {
    let what = || format!("read the free space at {}", path.display());
    let stat = nix::sys::statvfs::statvfs(path).map_err(|e| Error::failed(what()).because(e))?;
    Ok(stat.blocks_available().saturating_mul(stat.fragment_size()))
}
