//! The machine that a state belongs to. A state baked into an image appears on another machine:
//! its current release was never deployed there, and must not start.

use super::durable;
use super::{App, Locked};
use model::error::Result;
use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;

impl App {
    /// Whether `current` was set on this machine.
    pub(super) fn is_of_this_machine(&self) -> bool {
        fs::read_to_string(self.machine_path()).is_ok_and(|of| of.trim_end() == &*self.machine)
    }

    /// The same. A file without a machine, perhaps emptied by a crash, is an error and not a
    /// foreign state: otherwise the app would no longer run here.
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

impl App {
    /// Whether a release was current on another machine, whose state this is.
    pub fn is_left_by_another_machine(&self) -> bool {
        self.dir.join("current").symlink_metadata().is_ok()
            && matches!(self.is_of_this_machine_for_sure(), Ok(false))
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

    /// Adopts another machine's state: its releases are staged here, and none was deployed.
    /// Returns whether anything changed.
    pub fn adopt(&self) -> Result<bool> {
        let link = self.dir.join("current");
        if self.is_of_this_machine_for_sure()? || link.symlink_metadata().is_err() {
            return Ok(false);
        }
        // `current` goes last: until then the state still counts as foreign.
        durable::remove(&self.dir.join("stopped"))?;
        self.nothing_under_way()?;
        for manifest in self.snapshot()?.releases {
            self.set_state(&manifest.label, manifest.state.on_another_machine())?;
        }
        durable::remove(&link)?;
        Ok(true)
    }
}
