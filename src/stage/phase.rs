//! The release phase: runs the Procfile's `release` once for a staged release, under the same
//! conditions as its processes: the app's user, its tree and sandbox, its env.
//!
//! The tree may not be on the disk yet. If it vanishes with the power, a migration has run whose
//! release is gone: the same as after a migration whose release then failed its proof. The old
//! release runs on with what was migrated, the history names the deploy that was interrupted, and
//! the next deploy runs the phase again.

use super::confined;
use super::once::{self, Once};
use crate::context::Context;
use crate::host::transient::Command;
use crate::store::{App, Locked};
use model::error::Result;
use model::reason::Reason;
use model::release::manifest::{Manifest, Service};
use model::release::procfile::Procfile;
use std::time::Duration;

/// The Procfile type of the release phase.
const RELEASE: &str = "release";

/// Returns the `release` command of an installed release, if it has one.
pub fn command(app: &App, manifest: &Manifest) -> Result<Option<String>> {
    let text = app.procfile(&manifest.label)?;
    // A release whose Procfile does not parse was not installed.
    let procfile = text.and_then(|text| Procfile::parse(&text).ok());
    Ok(procfile.and_then(|procfile| procfile.release().map(str::to_owned)))
}

/// Runs `command` to its end, for at most `timeout`.
pub async fn run(
    cx: &Context,
    app: &Locked,
    manifest: &Manifest,
    command: String,
    timeout: Duration,
) -> Result<()> {
    let label = &manifest.label;
    let help = "correct it and publish the release anew; DEPLOY_BUILD_TIMEOUT says how long it \
                may take, and with DEPLOY_RELEASE_PHASE=manual a deploy without --run-release \
                leaves it out";
    let once = Once {
        kind: RELEASE,
        what: format!("release phase of {} {label}", app.name()),
        label,
        timeout,
        help: help.to_owned(),
        reason: Reason::ReleasePhaseFailed,
    };
    let run = unit(cx, app, manifest, command, timeout)?;
    once::run(cx, app, once, run).await
}

/// Stops a release phase that still runs but has no caller left.
pub async fn stop(cx: &Context, app: &App) -> Result<()> {
    for manifest in app.snapshot()?.releases {
        once::stop(cx, RELEASE, app.name(), &manifest.label).await?;
    }
    Ok(())
}

fn unit(
    cx: &Context,
    app: &Locked,
    manifest: &Manifest,
    command: String,
    timeout: Duration,
) -> Result<Command> {
    let label = &manifest.label;
    let argv = vec!["/bin/bash".to_owned(), "-c".to_owned(), command.clone()];
    let process = Service { kind: RELEASE.parse()?, command, count: 1 };
    Ok(Command {
        unit: once::name(RELEASE, app.name(), label),
        description: format!("Release phase of {} release {label}", app.name()),
        argv,
        timeout: cx.remaining(timeout),
        properties: confined::like(&app.snapshot()?, manifest, &process)?,
    })
}
