//! Keeps the private ports from outgoing connections, in the kernel's one list for that:
//! `ip_local_reserved_ports` of ip(7). Entries of others stay there.
//!
//! A file in sysctl.d(5) would replace the list of another file, or be replaced by it. So a unit
//! adds the range to the current list: at boot the unit that loads the port map, later one of the
//! daemon, which regularly checks that the range is still there.

use super::systemd::Systemd;
use super::transient::{Command, Ending};
use model::error::{Error, Result};
use model::release::ports::{PRIVATE, lists};
use model::units::reserve::{LIST, OTHERS, SHELL, script};
use std::fs;
use std::time::Duration;

const LONGEST: Duration = Duration::from_secs(30);

/// Adds the private ports to the kernel's list, unless it has all of them.
pub async fn reserve(systemd: &Systemd) -> Result<()> {
    if has_all(&list()) {
        return Ok(());
    }
    let command = Command {
        unit: "deployd-reserve".to_owned(),
        description: "Private ports of the deployed apps".to_owned(),
        argv: [SHELL, "-c", &script()].map(str::to_owned).to_vec(),
        timeout: LONGEST,
        properties: Vec::new(),
    };
    let mut said = Vec::new();
    match systemd.run(command, &mut |line| said.push(line)).await? {
        Ending::Success => Ok(()),
        Ending::Failure(why) => {
            let what = format!("keep the private ports from outgoing connections ({LIST})");
            Err(Error::failed(what).because(why).with_log(said))
        }
    }
}

/// Returns the ports that others have reserved, in the kernel's format.
pub fn by_others() -> String {
    let own = |list: &String| !has_all(list);
    let list = Some(list()).filter(own);
    list.unwrap_or_else(|| fs::read_to_string(OTHERS).unwrap_or_default())
}

fn list() -> String {
    fs::read_to_string(LIST).unwrap_or_default()
}

fn has_all(list: &str) -> bool {
    PRIVATE.into_iter().all(|port| lists(list, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_range_is_reserved_only_if_all_ports_are() {
        assert!(has_all("29000-29999\n") && has_all("8080,28000-30100"));
        assert!(has_all("29000-29400,29401-29999"));
        for list in ["", "8080", "29000-29998", "29001-29999", "29000-29400,29402-29999"] {
            assert!(!has_all(list), "{list}");
        }
    }
}
