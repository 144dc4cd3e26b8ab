//! The port map of the whole instance: current releases on disk -> nftables.

use crate::context::{Common, Context};
use crate::switched::{Loaded, Restored, Rules};
use jiff::Timestamp;
use model::error::{Error, Result};
use model::installed::Snapshot;
use model::release::manifest::Manifest;
use model::release::name::AppName;
use model::units::ports::{PortMap, TABLE_NAME};
use model::units::{self, SCRIPT};
use std::sync::PoisonError;

/// Blocks the metadata service for the builds of an app from now on, or allows it.
pub async fn let_builds(cx: &Context, app: &AppName, builder: u32, metadata: bool) -> Result<()> {
    let before = {
        let mut builders = cx.common.ports.builders.lock().unwrap_or_else(PoisonError::into_inner);
        match metadata {
            true => builders.remove(app),
            false => builders.insert(app.clone(), builder),
        }
    };
    if before == (!metadata).then_some(builder) { Ok(()) } else { load_whole(cx).await }
}

/// Loads the map that the state on disk asks for into the kernel, in one transaction.
///
/// # Errors
///
/// If clients would reach the wrong processes. A failure that only concerns the protection from
/// other machines is not returned: [`restore`] loads the map again.
pub async fn load(cx: &Context) -> Result<()> {
    let error = match apply(cx, None).await {
        Ok(()) => return Ok(()),
        Err(error) => error,
    };
    let loaded = cx.common.ports.loaded.lock().await;
    let held = loaded.as_ref().and_then(|loaded| Some((&loaded.map, loaded.held.as_ref()?)));
    match held.is_some_and(|(map, held)| {
        held.leads_as(map) && held.is_intact(&|| cx.machine.fingerprint(TABLE_NAME))
    }) {
        true => tracing::warn!("clients are not affected: {}", error.chain()),
        false => return Err(error),
    }
    Ok(())
}

/// The same, but a failure of the protection from other machines is an error too: a candidate
/// is about to listen on its private ports.
pub async fn load_whole(cx: &Context) -> Result<()> {
    apply(cx, None).await
}

/// The same, but with `candidate` as the current release of its app: it is about to be proved
/// on the public port itself.
pub async fn load_for(cx: &Context, candidate: &Manifest) -> Result<()> {
    apply(cx, Some(candidate)).await
}

/// Whether the kernel's map leads clients to the app's current release, as far as they are to
/// reach it through the map.
pub async fn lead_to(cx: &Context, app: &Snapshot) -> bool {
    let wanted = PortMap::new(std::slice::from_ref(app), None).public;
    let loaded = cx.common.ports.loaded.lock().await;
    let held = loaded.as_ref().and_then(|loaded| loaded.held.as_ref());
    wanted.is_empty()
        || held.is_some_and(|held| {
            wanted.iter().all(|public| held.map.public.contains(public))
                && held.is_intact(&|| cx.machine.fingerprint(TABLE_NAME))
        })
}

fn builders_without_metadata(cx: &Context) -> Vec<u32> {
    let builders = cx.common.ports.builders.lock().unwrap_or_else(PoisonError::into_inner);
    builders.values().copied().collect()
}

async fn apply(cx: &Context, candidate: Option<&Manifest>) -> Result<()> {
    let mut loaded = cx.common.ports.loaded.lock().await;
    let _whole = cx.cut.hold();
    let mut map = PortMap::new(&read(cx)?, candidate);
    map.without_metadata.extend(builders_without_metadata(cx));
    // If no app needs a map there may be no nftables either.
    let nothing = map == PortMap::default() && !cx.machine.generated().join(SCRIPT).exists();
    match loaded.as_mut() {
        Some(loaded) if loaded.still_has(&map, &|| cx.machine.fingerprint(TABLE_NAME)) => {
            loaded.map = map;
            Ok(())
        }
        None if nothing => Ok(()),
        _ => Loaded::load(&mut loaded, &*cx.machine, map).await,
    }
}

/// Whether the kernel still has the map that was loaded last.
pub async fn is_intact(common: &Common, rules: Rules<'_>) -> bool {
    let loaded = common.ports.loaded.lock().await;
    loaded.as_ref().is_none_or(|loaded| loaded.is_intact(rules))
}

/// Loads the map again if another program has changed it, as a firewall does that flushes every
/// table. Returns whether that was necessary.
pub async fn restore(cx: &Context) -> Result<bool> {
    let (ports, machine) = (&cx.common.ports, &*cx.machine);
    let mut loaded = ports.loaded.lock().await;
    let Some(found) =
        loaded.as_ref().filter(|loaded| !loaded.is_intact(&|| machine.fingerprint(TABLE_NAME)))
    else {
        return Ok(false);
    };
    let map = found.map.clone();
    Loaded::load(&mut loaded, machine, map).await?;
    let mut restored = ports.restored.lock().unwrap_or_else(PoisonError::into_inner);
    let times = restored.map_or(0, |restored| restored.times).saturating_add(1);
    *restored = Some(Restored { times, last: Timestamp::now() });
    Ok(true)
}

/// How often, and when last, the map was restored since the daemon started.
pub fn restored(common: &Common) -> Option<Restored> {
    *common.ports.restored.lock().unwrap_or_else(PoisonError::into_inner)
}

/// All apps of this instance. An app that cannot be read keeps the ports that it had when it
/// was last readable. If even those are unknown and the app has units, no new map is loaded.
fn read(cx: &Context) -> Result<Vec<Snapshot>> {
    let mut apps = Vec::new();
    for seen in cx.store.seen()? {
        match (seen.snapshot, seen.damage) {
            (Some(snapshot), _) => apps.push(snapshot),
            (None, Some(damage)) if has_units(cx, &seen.app) => {
                let what = format!("find the ports of the app {}", seen.app);
                return Err(Error::failed(what).because(damage));
            }
            (None, _) => {}
        }
    }
    Ok(apps)
}

fn has_units(cx: &Context, app: &AppName) -> bool {
    cx.machine.generated().join(units::target(app)).exists()
}
