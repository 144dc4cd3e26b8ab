//! nftables, by nft(8): whole scripts, each of them one transaction. nft runs as
//! a unit of its own: the daemon has no children.

use super::systemd::Systemd;
use super::transient::{Command, Ending};
use model::error::{Error, Result};
use model::units::NFT;
use std::path::Path;
use std::time::Duration;
use tokio::sync::Mutex;

/// How long nft may take, which is milliseconds.
const LONGEST: Duration = Duration::from_secs(30);

const INSTALL: &str = "install nftables, or set DEPLOY_STRATEGY=restart";

/// Carries out a script: all of it, or nothing.
pub async fn load(systemd: &Systemd, script: &str) -> Result<()> {
    let (ending, said) = run(systemd, "deployd-nft", &[script]).await?;
    match ending {
        Ending::Success => Ok(()),
        Ending::Failure(ending) => {
            let (why, help) = reason(&said, &ending);
            Err(Error::failed("load the port map").because(why).help(help).with_log(said))
        }
    }
}

/// Why nft or the kernel would not carry out this script, if that is so: the
/// program, a part of the kernel or a permission is missing. Nothing changes, and
/// what worked once is not tried again. An error says nothing of nftables.
pub async fn missing(systemd: &Systemd, script: &str) -> Result<Option<Error>> {
    static WORKS: Mutex<bool> = Mutex::const_new(false);
    let cannot = |why: String| Error::failed("use nftables").because(why);
    if !Path::new(NFT).exists() {
        return Ok(Some(cannot(format!("{NFT} is not there")).help(INSTALL)));
    }
    let mut works = WORKS.lock().await;
    if *works {
        return Ok(None);
    }
    let (ending, said) = run(systemd, "deployd-nft-check", &["--check", script]).await?;
    if let Ending::Failure(ending) = ending {
        let (why, help) = reason(&said, &ending);
        return Ok(Some(cannot(why).help(help)));
    }
    *works = true;
    Ok(None)
}

/// For one caller at a time: units of the same name would be in each other's way.
async fn run(systemd: &Systemd, unit: &str, arguments: &[&str]) -> Result<(Ending, Vec<String>)> {
    let command = Command {
        unit: unit.to_owned(),
        description: "Port map of the deployed apps".to_owned(),
        argv: [&[NFT], arguments].concat().into_iter().map(str::to_owned).collect(),
        timeout: LONGEST,
        properties: Vec::new(),
    };
    let mut said = Vec::new();
    let ending = systemd.run(command, &mut |line| said.push(line)).await?;
    Ok((ending, said))
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
