//! Which installed release is the one that was found. Before its archive is fetched, what
//! the source says may tell; afterwards the digest does.

use crate::source::Resolved;
use crate::store::{App, Locked};
use model::error::Result;
use model::release::digest::Sha256;
use model::release::identity::{Content, Sighting};
use model::release::manifest::{Manifest, Plan};
use model::release::procfile::Procfile;
use model::release::settings::ReleaseSettings;

/// The installed release that surely holds what was found, with the same settings: it
/// need not be fetched.
pub(super) fn known(
    app: &App,
    resolved: &Resolved,
    env: &Sha256,
    settings: &ReleaseSettings,
) -> Result<Option<Manifest>> {
    let seen = resolved.sighting();
    for manifest in candidates(app)? {
        if !manifest.identity.is_found_in(&manifest.url, &seen, env) {
            continue;
        }
        let Some(text) = app.procfile(&manifest.label)? else { continue };
        let Ok(procfile) = Procfile::parse(&text) else { continue };
        if Plan::new(&procfile, settings, &app.name().user()).is_same(&manifest.plan) {
            return Ok(Some(manifest));
        }
    }
    Ok(None)
}

/// The installed release of the same bytes, run in the same way.
pub(super) fn installed(app: &App, content: &Content, plan: &Plan) -> Result<Option<Manifest>> {
    let same = |manifest: &Manifest| {
        manifest.identity.content.as_ref() == Some(content) && manifest.plan.is_same(plan)
    };
    Ok(candidates(app)?.find(same))
}

/// Keeps where else it was seen, so that it is known there without its bytes.
pub(super) fn remember(app: &Locked, mut manifest: Manifest, seen: Sighting) -> Result<Manifest> {
    let url = manifest.url.clone();
    if manifest.identity.remember(&url, seen) {
        app.write_manifest(&manifest)?;
    }
    Ok(manifest)
}

/// The installed releases: the current one first, then the newest.
fn candidates(app: &App) -> Result<impl Iterator<Item = Manifest>> {
    let snapshot = app.snapshot()?;
    let mut releases = snapshot.releases;
    releases.sort_by_key(|manifest| Some(&manifest.label) == snapshot.current.as_ref());
    Ok(releases.into_iter().rev())
}
