//! The installed state of an app on an instance, as values.

use crate::release::manifest::Manifest;
use crate::release::name::{AppName, Label};
use std::collections::BTreeSet;
use std::path::PathBuf;

/// All input for the units, read at one moment.
#[derive(Clone, Debug)]
pub struct Snapshot {
    pub app: AppName,
    /// The app's directory: `…/apps/APP`.
    pub dir: PathBuf,
    pub current: Option<Label>,
    /// Oldest first.
    pub releases: Vec<Manifest>,
    pub stopped: Stopped,
}

/// Processes that the operator has stopped. They stay stopped across a reboot, until they are
/// started again or a release is deployed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stopped(pub BTreeSet<String>);

impl Stopped {
    /// The name that means the whole app.
    pub const ALL: &str = "*";

    /// Whether a process such as `web.1` is stopped, by its own name, its type's, or the app's.
    pub fn covers(&self, process: &str) -> bool {
        let kind = process.rsplit_once('.').map_or(process, |(kind, _)| kind);
        [Self::ALL, process, kind].iter().any(|name| self.0.contains(*name))
    }
}

impl Snapshot {
    /// An app without any release.
    pub fn of_nothing(app: AppName, dir: PathBuf) -> Snapshot {
        let (current, releases, stopped) = (None, Vec::new(), Stopped::default());
        Snapshot { app, dir, current, releases, stopped }
    }

    /// The unpacked tree of an installed release.
    pub fn tree(&self, label: &Label) -> PathBuf {
        self.dir.join("releases").join(label.as_str()).join("app")
    }

    /// The env file of an installed release.
    pub fn env_path(&self, label: &Label) -> PathBuf {
        self.dir.join("releases").join(label.as_str()).join("env")
    }

    /// The directory that the app's processes may write to under every release.
    pub fn shared(&self) -> PathBuf {
        self.dir.join("shared")
    }

    /// The homes of an installed release: `build` and one for each process.
    pub fn homes(&self, label: &Label) -> PathBuf {
        self.dir.join("releases").join(label.as_str()).join("home")
    }

    pub fn release(&self, label: &Label) -> Option<&Manifest> {
        self.releases.iter().find(|manifest| manifest.label == *label)
    }

    pub fn current(&self) -> Option<&Manifest> {
        self.release(self.current.as_ref()?)
    }

    /// Returns the target of a rollback: the good release that the current one replaced,
    /// otherwise the newest good one staged before it. A twin of the current release under
    /// another label is no target.
    pub fn rollback_target(&self) -> Option<&Manifest> {
        let current = self.current()?;
        let good = |manifest: &&Manifest| {
            let other = manifest.label != current.label && !manifest.is_twin_of(current);
            manifest.state.is_good() && other
        };
        let replaced = current.replaced.as_ref().and_then(|label| self.release(label));
        let older = |manifest: &&Manifest| manifest.staged_at < current.staged_at;
        replaced.filter(good).or_else(|| self.releases.iter().rev().filter(good).find(older))
    }

    /// Returns a good release of other content than the current one: the rollback target if
    /// possible, otherwise the newest. It keeps a way back even if the current content is
    /// published again and again.
    pub fn last_of_other_content(&self) -> Option<&Manifest> {
        let current = self.current()?;
        let other =
            |manifest: &&Manifest| manifest.state.is_good() && !manifest.has_content_of(current);
        let newest = || self.releases.iter().rev().filter(|m| m.label != current.label).find(other);
        self.rollback_target().filter(other).or_else(newest)
    }
}
