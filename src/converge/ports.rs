//! The port map of the whole instance: what is current on the disk -> nftables.

use crate::host::nftables;
use crate::host::ruleset::{self, Fingerprint};
use crate::host::systemd::Systemd;
use crate::instance::Instance;
use crate::store::Store;
use jiff::Timestamp;
use model::error::{Error, Result};
use model::installed::Snapshot;
use model::release::manifest::Manifest;
use model::release::name::AppName;
use model::units::ports::{PortMap, TABLE_NAME, script};
use model::units::{self, GENERATED, SCRIPT};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::PoisonError;
use tokio::sync::Mutex;

/// What this run of the daemon has asked nft for last. Locked while the disk is read
/// and what it says is loaded: another app's switch must not be undone by a map
/// that was read before it.
static LOADED: Mutex<Option<Loaded>> = Mutex::const_new(None);

/// Not behind [`LOADED`], which is held for as long as nft runs.
static RESTORED: std::sync::Mutex<Option<Restored>> = std::sync::Mutex::new(None);

struct Loaded {
    /// The map that the kernel should have.
    map: PortMap,
    /// The map that nft loaded last, which may be an earlier one.
    held: Option<Held>,
}

/// A map that nft carried out.
struct Held {
    map: PortMap,
    /// The rules that the kernel had then, if they could be read.
    fingerprint: Option<Fingerprint>,
}

impl Held {
    /// Whether the kernel still has it. Without the right to look it is taken to be so.
    fn is_intact(&self) -> bool {
        let as_loaded = |now| Some(now) == self.fingerprint;
        ruleset::fingerprint(TABLE_NAME).map_or(true, as_loaded)
    }

    /// Whether clients reach through it what they reach through `map`.
    fn leads_as(&self, map: &PortMap) -> bool {
        self.map.public == map.public && self.map.without_metadata == map.without_metadata
    }
}

/// How often somebody else has changed the map, and it was loaded again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Restored {
    pub times: u32,
    pub last: Timestamp,
}

impl Loaded {
    /// Loads a map into the kernel. One that fails is what the kernel should have, too; it
    /// keeps the map before, since nft does all of a script or nothing.
    async fn load(into: &mut Option<Loaded>, systemd: &Systemd, map: PortMap) -> Result<()> {
        let held = into.take().and_then(|before| before.held);
        let loaded = into.insert(Loaded { map, held });
        nftables::load(systemd, &script(&loaded.map)).await?;
        let fingerprint = ruleset::fingerprint(TABLE_NAME).ok();
        // Another program may have flushed it since: that is announced, and repaired.
        let flushed =
            fingerprint.is_some_and(|found| found.rules == 0) && loaded.map != PortMap::default();
        let held = Held { map: loaded.map.clone(), fingerprint };
        loaded.held = Some(held).filter(|_| !flushed);
        Ok(())
    }

    /// Whether the kernel has the map that it should have.
    fn is_intact(&self) -> bool {
        self.still_has(&self.map)
    }

    /// Whether the kernel still has this map, whatever was to be loaded since.
    fn still_has(&self, map: &PortMap) -> bool {
        self.held.as_ref().is_some_and(|held| held.map == *map && held.is_intact())
    }
}

/// The users of builds that are kept from the metadata service, by app: also before a
/// release is installed that says so.
static BUILDERS: std::sync::Mutex<BTreeMap<AppName, u32>> = std::sync::Mutex::new(BTreeMap::new());

/// Keeps the builds of an app from the metadata service from now on, or lets them.
pub async fn let_builds(
    instance: &Instance,
    app: &AppName,
    builder: u32,
    metadata: bool,
) -> Result<()> {
    let before = {
        let mut builders = BUILDERS.lock().unwrap_or_else(PoisonError::into_inner);
        match metadata {
            true => builders.remove(app),
            false => builders.insert(app.clone(), builder),
        }
    };
    if before == (!metadata).then_some(builder) { Ok(()) } else { load_whole(instance).await }
}

/// Makes the kernel's map what the state on disk asks for, in one transaction.
///
/// # Errors
///
/// Where clients would reach something else than they should. Of a map that differs in what
/// it keeps from other machines alone, no error is returned: [`restore`] loads it again.
pub async fn load(instance: &Instance) -> Result<()> {
    let error = match apply(instance, None).await {
        Ok(()) => return Ok(()),
        Err(error) => error,
    };
    let loaded = LOADED.lock().await;
    let held = loaded.as_ref().and_then(|loaded| Some((&loaded.map, loaded.held.as_ref()?)));
    match held.is_some_and(|(map, held)| held.leads_as(map) && held.is_intact()) {
        true => tracing::warn!("clients are not affected: {}", error.chain()),
        false => return Err(error),
    }
    Ok(())
}

/// The same, but with what is kept from other machines: a candidate is about to listen on
/// its private ports.
pub async fn load_whole(instance: &Instance) -> Result<()> {
    apply(instance, None).await
}

/// The same, but with `candidate` as the current release of its app: it is
/// about to be proved on the public port itself.
pub async fn load_for(instance: &Instance, candidate: &Manifest) -> Result<()> {
    apply(instance, Some(candidate)).await
}

/// Whether the kernel's map leads clients to what is current of the app, as far as they are
/// to reach it through the map.
pub async fn lead_to(app: &Snapshot) -> bool {
    let wanted = PortMap::of(std::slice::from_ref(app), None).public;
    let loaded = LOADED.lock().await;
    let held = loaded.as_ref().and_then(|loaded| loaded.held.as_ref());
    wanted.is_empty()
        || held.is_some_and(|held| {
            wanted.iter().all(|public| held.map.public.contains(public)) && held.is_intact()
        })
}

fn builders_without_metadata() -> Vec<u32> {
    let builders = BUILDERS.lock().unwrap_or_else(PoisonError::into_inner);
    builders.values().copied().collect()
}

async fn apply(instance: &Instance, candidate: Option<&Manifest>) -> Result<()> {
    let mut loaded = LOADED.lock().await;
    let _whole = instance.cut.hold();
    let mut map = PortMap::of(&read(&instance.store)?, candidate);
    map.without_metadata.extend(builders_without_metadata());
    // Where nobody asks for a map there may be no nftables either.
    let nothing = map == PortMap::default() && !Path::new(GENERATED).join(SCRIPT).exists();
    match loaded.as_mut() {
        Some(loaded) if loaded.still_has(&map) => {
            loaded.map = map;
            Ok(())
        }
        None if nothing => Ok(()),
        _ => Loaded::load(&mut loaded, &instance.systemd, map).await,
    }
}

/// Whether the kernel still has the map that was loaded last.
pub async fn is_intact() -> bool {
    LOADED.lock().await.as_ref().is_none_or(Loaded::is_intact)
}

/// Loads the map again if somebody else has changed it, as a firewall does that flushes
/// every table. Says whether that was so.
pub async fn restore(systemd: &Systemd) -> Result<bool> {
    let mut loaded = LOADED.lock().await;
    let Some(found) = loaded.as_ref().filter(|loaded| !loaded.is_intact()) else {
        return Ok(false);
    };
    let map = found.map.clone();
    Loaded::load(&mut loaded, systemd, map).await?;
    let mut restored = RESTORED.lock().unwrap_or_else(PoisonError::into_inner);
    let times = restored.map_or(0, |restored| restored.times).saturating_add(1);
    *restored = Some(Restored { times, last: Timestamp::now() });
    Ok(true)
}

/// How often that was so since the daemon started.
pub fn restored() -> Option<Restored> {
    *RESTORED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// All apps of this instance. One that cannot be read must not lose its ports for the sake
/// of another: it has those that it had when it could last be read. Where not even that is
/// known of an app that has units, there is no new map.
fn read(store: &Store) -> Result<Vec<Snapshot>> {
    let mut apps = Vec::new();
    for seen in store.seen()? {
        match (seen.snapshot, seen.damage) {
            (Some(snapshot), _) => apps.push(snapshot),
            (None, Some(damage)) if has_units(&seen.app) => {
                let what = format!("find the ports of the app {}", seen.app);
                return Err(Error::failed(what).because(damage));
            }
            (None, _) => {}
        }
    }
    Ok(apps)
}

fn has_units(app: &AppName) -> bool {
    Path::new(GENERATED).join(units::target(app)).exists()
}
