//! The conditions of a command of an installed release that is not one of its units: the user,
//! tree, env, limits and sandbox of a process.

use crate::host::namespaces::kernel;
use crate::host::transient::{Property, properties};
use model::error::Result;
use model::installed::Snapshot;
use model::release::manifest::{Manifest, Service};
use model::units;
use std::path::PathBuf;

/// Returns the properties of a transient unit that runs as a process of this type would.
pub fn like(
    snapshot: &Snapshot,
    manifest: &Manifest,
    process: &Service,
) -> Result<Vec<(&'static str, Property)>> {
    let label = &manifest.label;
    let text = |path: PathBuf| path.to_string_lossy().into_owned();
    let mut all = properties(&kernel().possible(units::confinement(snapshot, manifest, process)))?;
    all.extend([
        // When memory runs out, the OOM killer takes this before any running process.
        ("OOMScoreAdjust", Property::Int(1000)),
        ("User", Property::Text(manifest.plan.user.clone())),
        ("Slice", Property::Text(units::slice(&snapshot.app))),
        ("WorkingDirectory", Property::Text(text(snapshot.tree(label)))),
        ("EnvironmentFiles", Property::EnvironmentFiles(vec![text(snapshot.env_path(label))])),
    ]);
    Ok(all)
}
