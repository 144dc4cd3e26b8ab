//! nftables, by nft(8): whole scripts, each of them one transaction. nft runs as
//! a unit of its own: the daemon has no children, and no capability to change
//! the network.

use super::systemd::Systemd;
use super::transient::{Command, Ending};
use crate::error::{Error, Result};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Where Debian, Ubuntu and Amazon Linux have nft(8).
pub const NFT: &str = "/usr/sbin/nft";

/// How long nft may take, which is milliseconds.
const LONGEST: Duration = Duration::from_secs(30);

const INSTALL: &str = "install nftables, or set DEPLOY_STRATEGY=restart";

/// Carries out a script: all of it, or nothing.
pub async fn load(systemd: &Systemd, script: &str) -> Result<()> {
    run(systemd, "deploy-nft", "load the port map", &[script]).await
}

/// Whether nft and the kernel would carry out this script; nothing changes, and
/// what worked once is not tried again.
/// Fails with what is missing: the program, a part of the kernel, a permission.
pub async fn check(systemd: &Systemd, script: &str) -> Result<()> {
    static WORKS: AtomicBool = AtomicBool::new(false);
    if !Path::new(NFT).exists() {
        let error = Error::failed("use nftables").because(format!("{NFT} is not there"));
        return Err(error.help(INSTALL));
    }
    if !WORKS.load(Ordering::Relaxed) {
        run(systemd, "deploy-nft-check", "use nftables", &["--check", script]).await?;
        WORKS.store(true, Ordering::Relaxed);
    }
    Ok(())
}

async fn run(systemd: &Systemd, unit: &str, what: &str, arguments: &[&str]) -> Result<()> {
    let command = Command {
        unit: unit.to_owned(),
        description: "Port map of the deployed apps".to_owned(),
        argv: [&[NFT], arguments].concat().into_iter().map(str::to_owned).collect(),
        timeout: LONGEST,
        properties: Vec::new(),
    };
    let mut said = Vec::new();
    match systemd.run(command, |line| said.push(line)).await? {
        Ending::Success => Ok(()),
        Ending::Failure(ending) => {
            let (why, help) = reason(&said, &ending);
            Err(Error::failed(what).because(why).help(help).with_log(said))
        }
    }
}

/// What nft's complaint means, and what can be done. Its first line has the
/// reason; the lines after it show where in the script.
fn reason(said: &[String], ending: &str) -> (String, &'static str) {
    let Some((_, why)) = said.iter().find_map(|line| line.split_once("Error: ")) else {
        return (ending.to_owned(), INSTALL);
    };
    let help = if why.ends_with("Operation not permitted") {
        "allow it CAP_NET_ADMIN, which a container may lack, or set DEPLOY_STRATEGY=restart"
    } else {
        "use a kernel with all of nf_tables, or set DEPLOY_STRATEGY=restart"
    };
    (why.to_owned(), help)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn why(said: &str) -> (String, &'static str) {
        let said: Vec<String> = said.lines().map(str::to_owned).collect();
        reason(&said, "exit-code, exit status 1")
    }

    #[test]
    fn a_missing_permission_is_called_one() {
        let said = "netlink: Error: cache initialization failed: Operation not permitted";
        let (why, help) = why(said);
        assert_eq!(why, "cache initialization failed: Operation not permitted");
        assert!(help.contains("CAP_NET_ADMIN"), "{help}");
    }

    #[test]
    fn what_the_kernel_lacks_is_said_and_where_is_not() {
        let said = "/dev/stdin:1:1-9: Error: Could not process rule: Operation not supported\n\
                    add rule inet deploy public\n         ^^^^^^";
        let (why, help) = why(said);
        assert_eq!(why, "Could not process rule: Operation not supported");
        assert!(help.contains("kernel"), "{help}");
    }

    #[test]
    fn silence_leaves_what_systemd_says() {
        assert_eq!(why("").0, "exit-code, exit status 1");
    }
}
