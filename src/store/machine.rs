//! Whose state this is. Baked into an image, it comes up on another machine: what
//! was current there was never deployed here, and must not start.

use super::durable;
use super::{App, Locked};
use model::error::Result;
use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;

impl App {
    /// Whether what is current was made so on this very machine.
    pub(super) fn is_of_this_machine(&self) -> bool {
        fs::read_to_string(self.machine_path()).is_ok_and(|of| of.trim_end() == &*self.machine)
    }

    /// The same. A file that names no machine, such as one that a crash has emptied, makes
    /// no foreign state: nothing would run here any more.
    pub(super) fn is_of_this_machine_for_sure(&self) -> Result<bool> {
        let path = self.machine_path();
        match fs::read_to_string(&path) {
            Ok(of) if of.trim().is_empty() && !self.machine.is_empty() => {
                Err(self.damaged(&path, "it names no machine"))
            }
            Ok(of) => Ok(of.trim_end() == &*self.machine),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(false),
            Err(e) => Err(self.damaged(&path, e)),
        }
    }

    fn machine_path(&self) -> PathBuf {
        self.dir.join("machine")
    }
}

impl Locked {
    pub(super) fn mark_as_of_this_machine(&self) -> Result<()> {
        if self.is_of_this_machine() {
            return Ok(());
        }
        let text = format!("{}\n", self.machine);
        self.write_with_reserve(|| durable::write(&self.machine_path(), text.as_bytes(), 0o644))
    }

    /// Makes another machine's state this one's: its releases are staged here,
    /// and nothing was ever deployed. True where there was anything to change.
    pub fn adopt(&self) -> Result<bool> {
        let link = self.dir.join("current");
        if self.is_of_this_machine_for_sure()? || link.symlink_metadata().is_err() {
            return Ok(false);
        }
        // `current` goes last: until then it is still seen to be another's.
        durable::remove(&self.dir.join("stopped"))?;
        self.nothing_under_way()?;
        for manifest in self.snapshot()?.releases {
            self.set_state(&manifest.label, manifest.state.on_another_machine())?;
        }
        durable::remove(&link)?;
        Ok(true)
    }
}
