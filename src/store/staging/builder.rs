//! Transfers a tree to the user of its `build`, which is not the app's, and back.

use super::Staging;
use super::homes::CACHES;
use crate::store::ownership::{Change, Held, change, directory};
use model::error::{Error, Result};
use std::io;
use std::path::Path;

impl Staging {
    /// Whether `build` runs as another user than the app.
    pub fn has_builder(&self) -> bool {
        self.owner != self.builder
    }

    /// Transfers the tree, and the home of `build`, to its user; also lets it read and write the
    /// caches, whoever created them.
    pub fn give_to_builder(&self) -> Result<()> {
        if !self.has_builder() {
            return Ok(());
        }
        // Best effort: the app may have put anything there.
        for path in CACHES.map(|name| self.shared.join(name)) {
            let widen = |cache| change(cache, Change::GroupWrites(self.owner.uid));
            if let Err(error) = directory(&path).and_then(widen) {
                tracing::debug!("let builds use {}: {error}", path.display());
            }
        }
        self.change_hands(Change::Owner(self.owner.uid, self.builder)).map(drop)
    }

    /// Transfers the results of `build` to the app; returns the release's new size.
    pub fn take_from_builder(&self) -> Result<Held> {
        self.change_hands(Change::Owner(self.builder.uid, self.owner))
    }

    fn change_hands(&self, to: Change) -> Result<Held> {
        let (tree, _) = self.tree_paths();
        let home = self.build_home().map(|(home, _)| home);
        let mut all = Held::default();
        for path in [Some(tree), home].into_iter().flatten() {
            let changed = directory(&path).and_then(|tree| change(tree, to));
            let held = changed.map_err(|e| failed(&path, e))?;
            all = Held { files: all.files + held.files, bytes: all.bytes + held.bytes };
        }
        Ok(all)
    }
}

fn failed(path: &Path, cause: io::Error) -> Error {
    Error::unusable(format!("give {} to another user", path.display())).because(cause)
}
