//! New units without a daemon-reload, which reads every unit of the instance again.

use super::systemd::Systemd;
use super::transient::{Command, Ending};
use model::error::{Error, Result};
use model::units::GENERATOR;
use std::time::Duration;
use tokio::sync::Mutex;

const UNIT: &str = "deployd-units";
/// The timeout of the generator, which usually takes milliseconds.
const LONGEST: Duration = Duration::from_secs(30);

/// Lets the generator add the units of new releases, these among them. Returns whether systemd
/// finds them now; if not, it has to reload.
pub async fn add(systemd: &Systemd, units: &[String]) -> Result<bool> {
    // One caller at a time: the unit has a fixed name.
    static ONE: Mutex<()> = Mutex::const_new(());
    let _one = ONE.lock().await;
    let Some(first) = units.first() else { return Ok(false) };
    let cannot = |e: zbus::Error| Error::failed(format!("look for {first}")).because(e);
    let patterns = units.to_vec();
    let loaded = systemd.manager.list_units_by_patterns(Vec::new(), patterns).await;
    if !loaded.map_err(cannot)?.is_empty() {
        // systemd would go on with what it has read of that name.
        return Ok(false);
    }
    let command = Command {
        unit: UNIT.to_owned(),
        description: "Units of a new release".to_owned(),
        argv: [GENERATOR, "--add"].map(str::to_owned).to_vec(),
        timeout: LONGEST,
        properties: Vec::new(),
    };
    let mut said = Vec::new();
    if let Ending::Failure(ending) = systemd.run(command, &mut |line| said.push(line)).await? {
        let error = Error::failed("add the units of a new release").because(ending);
        return Err(error.with_log(said));
    }
    let found = systemd.manager.list_units_by_names(vec![first.clone()]).await;
    Ok(found.map_err(cannot)?.iter().all(|unit| unit.2 == "loaded"))
}
