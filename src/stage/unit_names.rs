//! The unit names of a release, which must be unique on the instance.

use crate::context::Context;
use crate::store::Locked;
use model::error::Result;
use model::release::manifest::{Manifest, Plan};
use model::release::name::{AppName, Label};
use model::units;
use std::collections::BTreeSet;

/// Returns the app that already has a unit with a name that this label would need.
pub fn taken(cx: &Context, app: &Locked, label: &Label, plan: &Plan) -> Result<Option<AppName>> {
    let names: BTreeSet<String> = units::templates_of(app.name(), label, plan).collect();
    let has_one = |manifest: &Manifest| {
        let is_itself = manifest.url.app() == app.name() && manifest.label == *label;
        !is_itself && units::templates(manifest).any(|name| names.contains(&name))
    };
    let apps = cx.store.seen()?.into_iter().filter_map(|seen| seen.snapshot);
    let mut others = apps.filter(|snapshot| snapshot.releases.iter().any(has_one));
    Ok(others.next().map(|snapshot| snapshot.app))
}
