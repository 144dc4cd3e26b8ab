//! The port map of the whole instance: what is current on the disk -> nftables.

use crate::error::Result;
use crate::host::nftables;
use crate::instance::Instance;
use crate::release::manifest::Manifest;
use crate::store::{App, Snapshot, Store};
use crate::units::ports::{PortMap, script};
use crate::units::{GENERATED, SCRIPT};
use std::path::Path;
use tokio::sync::Mutex;

/// What this run of the daemon has loaded last. Locked while the disk is read
/// and what it says is loaded: another app's switch must not be undone by a map
/// that was read before it.
static LOADED: Mutex<Option<String>> = Mutex::const_new(None);

/// Makes the kernel's map what the state on disk asks for, in one transaction.
pub async fn load(instance: &Instance) -> Result<()> {
    apply(instance, None).await
}

/// The same, but with `candidate` as the current release of its app: it is
/// about to be proved on the public port itself.
pub async fn load_for(instance: &Instance, candidate: &Manifest) -> Result<()> {
    apply(instance, Some(candidate)).await
}

async fn apply(instance: &Instance, candidate: Option<&Manifest>) -> Result<()> {
    let mut loaded = LOADED.lock().await;
    let map = PortMap::of(&read(&instance.store)?, candidate);
    let script = script(&map);
    // Where nobody asks for a map there may be no nftables either.
    let nothing = map == PortMap::default() && !Path::new(GENERATED).join(SCRIPT).exists();
    if loaded.as_ref() == Some(&script) || (loaded.is_none() && nothing) {
        return Ok(());
    }
    *loaded = None;
    nftables::load(&instance.systemd, &script).await?;
    *loaded = Some(script);
    Ok(())
}

/// All apps of this instance. One that cannot be read must not lose its ports
/// for the sake of another: then there is no new map.
fn read(store: &Store) -> Result<Vec<Snapshot>> {
    store.apps()?.iter().map(App::snapshot).collect()
}
