//! nftables: how a port map gets into the kernel, and whether it can.

use super::systemd::Systemd;
use super::transient::{Command, Ending};
use crate::error::{Error, Result};
use nix::sys::memfd::{MFdFlags, memfd_create};
use std::fs::File;
use std::io::{self, Seek, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process;
use std::time::Duration;

/// Where Debian, Ubuntu and Amazon Linux have nft(8).
const NFT: &str = "/usr/sbin/nft";

/// How long nft may take, which is milliseconds.
const LONGEST: Duration = Duration::from_secs(10);

/// Becomes nft(8), which carries out this script in one transaction and ends.
/// For a unit's own process: the daemon has neither children nor the capability
/// to change the network. Returns only where nft cannot be started.
pub fn carry_out(script: &str) -> Error {
    let cannot = |e: io::Error| Error::failed(format!("start {NFT}")).because(e).help(INSTALL);
    match input(script) {
        Ok(input) => cannot(nft(input)),
        Err(error) => cannot(error),
    }
}

#[expect(clippy::disallowed_methods, reason = "host/ is where programs are started")]
fn nft(input: File) -> io::Error {
    process::Command::new(NFT).args(["-f", "-"]).stdin(input).exec()
}

/// A script as an open file that has no name.
fn input(script: &str) -> io::Result<File> {
    let mut file = File::from(memfd_create("nft", MFdFlags::empty())?);
    file.write_all(script.as_bytes())?;
    file.rewind()?;
    Ok(file)
}

const INSTALL: &str = "install nftables, or set DEPLOY_STRATEGY=restart";

/// Whether nft and the kernel would carry out this script; nothing changes.
/// Fails with what is missing: the program, a part of the kernel, a permission.
pub async fn check(systemd: &Systemd, script: &str) -> Result<()> {
    let failed = |why: &str| Error::failed("use nftables").because(why);
    if !Path::new(NFT).exists() {
        return Err(failed(&format!("{NFT} is not there")).help(INSTALL));
    }
    let command = Command {
        unit: "deploy-nftables-check".into(),
        description: "Whether nftables can be used".into(),
        argv: [NFT, "--check", script].map(str::to_owned).to_vec(),
        timeout: LONGEST,
        properties: Vec::new(),
    };
    let mut said = Vec::new();
    match systemd.run(command, |line| said.push(line)).await? {
        Ending::Success => Ok(()),
        Ending::Failure(ending) => {
            let (why, help) = reason(&said, &ending);
            Err(failed(&why).help(help).with_log(said))
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
    use std::io::Read;

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

    #[test]
    fn the_script_is_read_from_its_beginning() {
        let mut text = String::new();
        input("add table inet deploy\n").expect("a file").read_to_string(&mut text).expect("text");
        assert_eq!(text, "add table inet deploy\n");
    }
}
