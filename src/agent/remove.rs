//! `deploy remove --force`: takes an app off this instance, whatever its state. No step depends
//! on an earlier one, and each step that fails is named.

use crate::context::{Context, blocking};
use crate::converge;
use crate::owner;
use crate::store::App;
use model::error::{Error, Result};
use model::units;
use std::time::Duration;

/// How long the app's processes may take to stop before systemd kills them. Their own setting
/// may be in a file that cannot be read.
const STOP: Duration = Duration::from_secs(90);

pub(super) async fn by_force(cx: &Context, app: App) -> Result<String> {
    let name = app.name().clone();
    let locked = app.lock_by_force()?;
    let mut failed = Vec::new();
    let mut tried = |result: Result<()>| failed.extend(result.err());
    tried(stop(cx, &app).await);
    if let Err(error) = locked.keep_history(&cx.store) {
        cx.events.warn(error.chain());
    }
    // Its units and ports go with its directory.
    let (gone, left) = match blocking(|| locked.remove_app()) {
        Ok(left) => (true, left),
        Err(error) => (false, Some(error)),
    };
    if gone {
        tried(converge::ports::load(cx).await);
        tried(cx.machine.daemon_reload().await);
        // Another app must not get the number of this user while files of this app are left.
        if left.is_none() {
            tried(owner::remove(cx, &name).await);
        }
    }
    tried(left.map_or(Ok(()), Err));
    match (gone, failed.is_empty()) {
        (true, true) => Ok(format!("removed {name}")),
        (true, false) => {
            failed.iter().for_each(|error| cx.events.warn(error.chain()));
            Ok(format!("removed {name}; parts of it are left, see the warnings"))
        }
        (false, _) => {
            let why = failed.iter().map(Error::chain).collect::<Vec<_>>().join("; ");
            let error = Error::failed(format!("remove {name}")).because(why);
            Err(error.help(format!("remove {} yourself, then try again", app.dir().display())))
        }
    }
}

/// Stops every process of the app: its services, and anything else in its slice.
async fn stop(cx: &Context, app: &App) -> Result<()> {
    let target = units::target(app.name());
    let services = cx.machine.consists_of(&target).await?.into_keys().collect::<Vec<_>>();
    let stopped = cx.machine.stop(&services, STOP).await;
    let rest = cx.machine.stop(&[target, units::slice(app.name())], STOP).await;
    for service in &services {
        cx.machine.reset_failed(service).await;
    }
    stopped.and(rest)
}
