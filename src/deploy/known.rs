//! What is known of a release before anything is done: whether it runs already, and what runs
//! again if it fails.

use super::Done;
use crate::context::Context;
use crate::converge;
use crate::health::Watch;
use crate::store::Locked;
use model::error::Result;
use model::installed::Stopped;
use model::release::manifest::Manifest;
use model::release::name::{Label, ReleaseName};

/// Returns the current release, if it is another one.
pub(super) fn other(app: &Locked, manifest: &Manifest) -> Result<Option<Label>> {
    Ok(app.current()?.filter(|label| *label != manifest.label))
}

/// Returns the release to go back to if this one fails: the current one, or, where that is
/// this very release, the good one that it replaced.
pub(super) fn fallback(app: &Locked, manifest: &Manifest) -> Result<Option<Label>> {
    let other = other(app, manifest)?;
    if other.is_some() || manifest.state.is_good() {
        return Ok(other);
    }
    let snapshot = app.snapshot()?;
    let replaced = manifest.replaced.as_ref().and_then(|label| snapshot.release(label));
    Ok(replaced.filter(|found| found.state.is_good()).map(|found| found.label.clone()))
}

pub(super) async fn is_running(cx: &Context, app: &Locked, manifest: &Manifest) -> Result<bool> {
    let snapshot = app.snapshot()?;
    let current = snapshot.current.as_ref() == Some(&manifest.label);
    if !current || !manifest.state.is_good() || snapshot.stopped != Stopped::default() {
        return Ok(false);
    }
    converge::ports::restore(cx).await?;
    let mut watch = Watch::new(&cx.machine, manifest);
    if watch.fault().await?.is_some() {
        return Ok(false);
    }
    if manifest.serves.is_none() {
        watch.ask_for_reach(manifest);
        if let Some(fault) = watch.fault().await? {
            cx.events.warn(format!("it runs as version 0.1 has proved it, but {fault}"));
        }
    }
    Ok(true)
}

pub(super) fn already(app: &Locked, manifest: &Manifest, name: &ReleaseName) -> Done {
    let message = match name == manifest.url.release() {
        true => format!("{} {} is already running", app.name(), manifest.label),
        false => {
            let (app, label) = (app.name(), &manifest.label);
            format!("{app} {name} is the same content as {label}, which is already running")
        }
    };
    Done { message, release: Some(manifest.label.clone()) }
}
