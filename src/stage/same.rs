//! Finds the installed release that equals the resolved one: before the fetch by the source's
//! metadata, afterwards by the digest.

use crate::source::Resolved;
use crate::store::{App, Locked};
use model::error::Result;
use model::release::digest::Sha256;
use model::release::identity::{Content, Sighting};
use model::release::manifest::{Manifest, Plan};
use model::release::procfile::Procfile;
use model::release::settings::ReleaseSettings;

/// Returns the installed release that surely has the same content and settings: it need not be
/// fetched.
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
        if Plan::new(&procfile, settings, &app.name().user()).is_same(&manifest.plan_as_staged()) {
            return Ok(Some(manifest));
        }
    }
    Ok(None)
}

/// Returns the installed release with the same bytes and the same plan.
pub(super) fn installed(app: &App, content: &Content, plan: &Plan) -> Result<Option<Manifest>> {
    let same = |manifest: &Manifest| {
        manifest.identity.content.as_ref() == Some(content)
            && manifest.plan_as_staged().is_same(plan)
    };
    Ok(candidates(app)?.find(same))
}

/// Records where else the release was found, so that it is recognized there without its bytes.
pub(super) fn remember(app: &Locked, mut manifest: Manifest, seen: Sighting) -> Result<Manifest> {
    let url = manifest.url.clone();
    if manifest.identity.remember(&url, seen) {
        app.write_manifest(&manifest)?;
    }
    Ok(manifest)
}

/// Lists the installed releases, as far as they are on the disk: the current one first, then
/// newest to oldest.
fn candidates(app: &App) -> Result<impl Iterator<Item = Manifest>> {
    let snapshot = app.snapshot()?;
    let mut releases = snapshot.releases;
    releases.retain(|manifest| !app.is_unsynced(&manifest.label));
    releases.sort_by_key(|manifest| Some(&manifest.label) == snapshot.current.as_ref());
    Ok(releases.into_iter().rev())
}
