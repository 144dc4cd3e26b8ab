//! nftables, through nft(8): whole scripts, each a transaction. nft runs in its own unit: the
//! daemon has no children.

mod ahead;

pub use ahead::Ahead;

use super::systemd::Systemd;
use super::transient::{Command, Ending, Property};
use model::error::{Error, Result};
use model::units::NFT;
use std::path::Path;
use std::time::Duration;
use tokio::sync::Mutex;

/// The timeout of nft, which usually takes milliseconds.
const LONGEST: Duration = Duration::from_secs(30);

const INSTALL: &str = "install nftables, or set DEPLOY_STRATEGY=restart";

/// Loads a script completely, or changes nothing.
pub async fn load(systemd: &Systemd, script: &str) -> Result<()> {
    let (ending, said) = run(systemd, "deployd-nft", &["--file", "-"], script).await?;
    match ending {
        Ending::Success => Ok(()),
        Ending::Failure(ending) => {
            let (why, help) = reason(&said, &ending);
            Err(Error::failed("load the port map").because(why).help(help).with_log(said))
        }
    }
}

/// Checks whether nft and the kernel accept this script, and returns the reason if not: the
/// program, a part of the kernel or a permission is missing. Changes nothing; a success is cached.
/// An `Err` is a failure of the check itself.
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
    let (ending, said) =
        run(systemd, "deployd-nft-check", &["--check", "--file", "-"], script).await?;
    if let Ending::Failure(ending) = ending {
        let (why, help) = reason(&said, &ending);
        return Ok(Some(cannot(why).help(help)));
    }
    *works = true;
    Ok(None)
}

/// One caller at a time: the units have the same name.
///
/// The script is its standard input: a daemon-reload in the meantime reads the command line again,
/// and systemd 252 does not read every text as it has written it.
async fn run(
    systemd: &Systemd,
    unit: &str,
    arguments: &[&str],
    script: &str,
) -> Result<(Ending, Vec<String>)> {
    let mut command = command(unit, arguments, LONGEST);
    command.properties = vec![
        ("StandardInput", Property::Text("data".to_owned())),
        ("StandardInputData", Property::Bytes(script.as_bytes().to_vec())),
    ];
    let mut said = Vec::new();
    let ending = systemd.run(command, &mut |line| said.push(line)).await?;
    Ok((ending, said))
}

fn command(unit: &str, arguments: &[&str], timeout: Duration) -> Command {
    Command {
        unit: unit.to_owned(),
        description: "Port map of the deployed apps".to_owned(),
        argv: [&[NFT], arguments].concat().into_iter().map(str::to_owned).collect(),
        timeout,
        properties: Vec::new(),
    }
}

/// Returns nft's reason, and advice. The first line of its message has the reason; later lines
/// show the place in the script.
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
    fn explains_a_missing_permission() {
        let said = "netlink: Error: cache initialization failed: Operation not permitted";
        let (why, help) = why(said);
        assert_eq!(why, "cache initialization failed: Operation not permitted");
        assert!(help.contains("CAP_NET_ADMIN"), "{help}");
    }

    #[test]
    fn gives_the_kernels_reason_without_the_place() {
        let said = "/dev/stdin:1:1-9: Error: Could not process rule: Operation not supported\n\
                    add rule inet deploy public\n         ^^^^^^";
        let (why, help) = why(said);
        assert_eq!(why, "Could not process rule: Operation not supported");
        assert!(help.contains("kernel"), "{help}");
    }

    #[test]
    fn without_output_systemds_result_is_the_reason() {
        assert_eq!(why("").0, "exit-code, exit status 1");
    }
}
