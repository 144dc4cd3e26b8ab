//! The port map that this run of the daemon has loaded, and whether the kernel still has it.

use crate::host::ruleset::Fingerprint;
use crate::host::seams::Machine;
use jiff::Timestamp;
use model::error::Result;
use model::release::name::AppName;
use model::units::ports::{PortMap, TABLE_NAME, script};
use std::collections::BTreeMap;
use std::io;
use tokio::sync::Mutex;

/// Reads the current rules of the agent's table from the kernel.
pub type Rules<'a> = &'a (dyn Fn() -> io::Result<Fingerprint> + Sync);

/// The state of the port map in this run of the daemon.
#[derive(Debug, Default)]
pub struct Switched {
    /// The map requested last. Locked from reading the disk until the map is loaded: a map that
    /// was read earlier must not undo another app's switch.
    pub loaded: Mutex<Option<Loaded>>,
    /// Not behind the lock of `loaded`, which is held while nft runs.
    pub restored: std::sync::Mutex<Option<Restored>>,
    /// The users of builds without access to the metadata service, by app: also before a
    /// release with that setting is installed.
    pub builders: std::sync::Mutex<BTreeMap<AppName, u32>>,
}

#[derive(Debug)]
pub struct Loaded {
    /// The map that the kernel should have.
    pub map: PortMap,
    /// The map that nft loaded last, which may be an earlier one.
    pub held: Option<Held>,
}

/// A map that nft has loaded.
#[derive(Debug)]
pub struct Held {
    pub map: PortMap,
    /// The rules that the kernel had then, if they could be read.
    pub fingerprint: Option<Fingerprint>,
}

impl Held {
    /// Whether the kernel still has the map; assumed if its rules cannot be read.
    pub fn is_intact(&self, rules: Rules<'_>) -> bool {
        let as_loaded = |now| Some(now) == self.fingerprint;
        rules().map_or(true, as_loaded)
    }

    /// Whether clients reach the same processes through this map as through `map`.
    pub fn leads_as(&self, map: &PortMap) -> bool {
        self.map.public == map.public && self.map.without_metadata == map.without_metadata
    }
}

/// How often, and when last, the map was restored after another program had changed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Restored {
    pub times: u32,
    pub last: Timestamp,
}

impl Loaded {
    /// Loads a map into the kernel. If that fails, `map` is still the wanted one, and the
    /// kernel keeps the previous map: nft applies a script as a whole or not at all.
    pub async fn load(
        into: &mut Option<Loaded>,
        machine: &dyn Machine,
        map: PortMap,
    ) -> Result<()> {
        let held = into.take().and_then(|before| before.held);
        let loaded = into.insert(Loaded { map, held });
        machine.load_ports(&script(&loaded.map)).await?;
        let fingerprint = machine.fingerprint(TABLE_NAME).ok();
        // Another program may have flushed it since: the kernel reports that, and it is
        // repaired.
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

    /// Whether the kernel still has this map, even if another one was requested since.
    pub fn still_has(&self, map: &PortMap, rules: Rules<'_>) -> bool {
        self.held.as_ref().is_some_and(|held| held.map == *map && held.is_intact(rules))
    }
}
