//! `deploy remove --force`: takes an app off this instance whatever state it is in. No step
//! needs the one before it, and what could not be done is named.

use crate::context::{Context, blocking};
use crate::converge;
use crate::owner;
use crate::store::App;
use model::error::{Error, Result};
use model::units;
use std::time::Duration;

/// How long its processes may take to stop before systemd kills them: what it is for each
/// of them may be what cannot be read.
const STOP: Duration = Duration::from_secs(90);

pub(super) async fn by_force(cx: &Context, app: App) -> Result<String> {
    let name = app.name().clone();
    let locked = app.lock_by_force()?;
    let mut failed = Vec::new();
    let mut tried = |result: Result<()>| failed.extend(result.err());
    tried(stop(cx, &app).await);
    // Its units and ports go with its directory.
    let (gone, left) = match blocking(|| locked.remove_app()) {
        Ok(left) => (true, left),
        Err(error) => (false, Some(error)),
    };
    if gone {
        tried(converge::ports::load(cx).await);
        tried(cx.machine.daemon_reload().await);
        // The number of its user must not be another app's while files of this one are there.
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

/// Stops every process of the app: its services, and whatever runs in its slice besides.
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
