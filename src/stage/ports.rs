//! The private ports of a release: allocated when it is staged, and its own as long as it is
//! installed.

use crate::host::seams::Network;
use crate::store::Store;
use model::error::{Error, Result};
use model::release::manifest::Manifest;
use model::release::ports;
use std::collections::BTreeSet;

/// Allocates as many ports as the release's plan needs.
pub fn give(store: &Store, network: &dyn Network, manifest: &mut Manifest) -> Result<()> {
    manifest.plan.private_ports.clear();
    let needed = manifest.plan.private_ports_needed();
    give_more(store, network, manifest, needed)
}

/// Allocates `needed` ports beside those that the release has.
pub fn give_more(
    store: &Store,
    network: &dyn Network,
    manifest: &mut Manifest,
    needed: usize,
) -> Result<()> {
    if needed == 0 {
        return Ok(());
    }
    let mut taken: BTreeSet<u16> = manifest.plan.private_ports.iter().copied().collect();
    for snapshot in store.seen()?.into_iter().filter_map(|seen| seen.snapshot) {
        let releases = snapshot.releases;
        let others = releases.into_iter().filter(|other| {
            (other.url.app(), &other.label) != (manifest.url.app(), &manifest.label)
        });
        taken.extend(others.flat_map(|other| other.plan.private_ports));
    }
    let (listening, reserved) = (network.bound_ports(), network.reserved_by_others());
    let free = |port| !listening.contains(&port) && !ports::lists(&reserved, port);
    let more = ports::allocate(needed, &taken, free).map_err(|why| {
        let what = format!("find private ports for {}", manifest.url);
        Error::failed(what).because(why).help("remove releases: `deploy releases` lists them")
    })?;
    manifest.plan.private_ports.extend(more);
    Ok(())
}
