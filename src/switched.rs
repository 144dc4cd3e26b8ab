//! The port map as this run of the daemon has loaded it, and whether the kernel still has it.

use crate::host::ruleset::Fingerprint;
use crate::host::seams::Machine;
use jiff::Timestamp;
use model::error::Result;
use model::release::name::AppName;
use model::units::ports::{PortMap, TABLE_NAME, script};
use std::collections::BTreeMap;
use std::io;
use tokio::sync::Mutex;

/// Reads the rules that the kernel has now in the agent's table.
pub type Rules<'a> = &'a (dyn Fn() -> io::Result<Fingerprint> + Sync);

/// The port map of this run of the daemon.
#[derive(Debug, Default)]
pub struct Switched {
    /// What was asked for last. Locked while the disk is read and what it says is loaded:
    /// another app's switch must not be undone by a map that was read before it.
    pub loaded: Mutex<Option<Loaded>>,
    /// Not behind `loaded`, which is held for as long as nft runs.
    pub restored: std::sync::Mutex<Option<Restored>>,
    /// The users of builds that are kept from the metadata service, by app: also before a
    /// release is installed that says so.
    pub builders: std::sync::Mutex<BTreeMap<AppName, u32>>,
}

#[derive(Debug)]
pub struct Loaded {
    /// The map that the kernel should have.
    pub map: PortMap,
    /// The map that nft loaded last, which may be an earlier one.
    pub held: Option<Held>,
}

/// A map that nft carried out.
#[derive(Debug)]
pub struct Held {
    pub map: PortMap,
    /// The rules that the kernel had then, if they could be read.
    pub fingerprint: Option<Fingerprint>,
}

impl Held {
    /// Whether the kernel still has it. Without the right to look it is taken to be so.
    pub fn is_intact(&self, rules: Rules<'_>) -> bool {
        let as_loaded = |now| Some(now) == self.fingerprint;
        rules().map_or(true, as_loaded)
    }

    /// Whether clients reach through it what they reach through `map`.
    pub fn leads_as(&self, map: &PortMap) -> bool {
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
    pub async fn load(
        into: &mut Option<Loaded>,
        machine: &dyn Machine,
        map: PortMap,
    ) -> Result<()> {
        let held = into.take().and_then(|before| before.held);
        let loaded = into.insert(Loaded { map, held });
        machine.load_ports(&script(&loaded.map)).await?;
        let fingerprint = machine.fingerprint(TABLE_NAME).ok();
        // Another program may have flushed it since: that is announced, and repaired.
        let flushed =
            fingerprint.is_some_and(|found| found.rules == 0) && loaded.map != PortMap::default();
        let held = Held { map: loaded.map.clone(), fingerprint };
        loaded.held = Some(held).filter(|_| !flushed);
        Ok(())
    }

    /// Whether the kernel has the map that it should have.
    pub fn is_intact(&self, rules: Rules<'_>) -> bool {
        self.still_has(&self.map, rules)
    }

    /// Whether the kernel still has this map, whatever was to be loaded since.
    pub fn still_has(&self, map: &PortMap, rules: Rules<'_>) -> bool {
        self.held.as_ref().is_some_and(|held| held.map == *map && held.is_intact(rules))
    }
}
