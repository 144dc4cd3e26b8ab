//! The directories of the tree that each process has to itself.

use super::{Staging, open_beneath};
use model::error::{Error, Result};
use nix::fcntl::OFlag;
use nix::sys::stat::{Mode, mkdirat};
use std::io;
use std::os::unix::fs::fchown;
use std::path::Path;

impl Staging {
    /// Whether the tree has this directory, without a link on the way to it.
    pub fn has_directory(&self, relative: &str) -> bool {
        open_beneath(&self.tree, Path::new(relative), OFlag::O_DIRECTORY).is_ok()
    }

    /// Creates a directory of the tree, and its parents; follows no link.
    pub fn make_process_dir(&self, relative: &str) -> Result<()> {
        let cannot = |e: io::Error| {
            let help = "DEPLOY_PROCESS_DIRS names directories; the archive must not hold a file or \
                        a link of that name";
            Error::unusable(format!("make the process directory {relative}")).because(e).help(help)
        };
        let mut at = self.tree()?;
        for part in Path::new(relative).components() {
            let part = Path::new(&part);
            let made = match mkdirat(&at, part, Mode::from_bits_truncate(0o755)) {
                Ok(()) => true,
                Err(nix::Error::EEXIST) => false,
                Err(e) => return Err(cannot(e.into())),
            };
            at = open_beneath(&at, part, OFlag::O_DIRECTORY).map_err(cannot)?;
            if made {
                fchown(&at, Some(self.owner.uid), Some(self.owner.gid)).map_err(cannot)?;
            }
        }
        Ok(())
    }
}
