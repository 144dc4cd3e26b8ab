//! A login by Session Manager, with the programs of AWS.

use crate::fleet::Host;
use model::error::Error;
use std::env;
use std::ffi::OsStr;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Replaces this process by a login. Returns only if that fails.
pub fn open(host: &Host, region: Option<&str>, is_terminal: bool) -> Error {
    let path = env::var_os("PATH").unwrap_or_default();
    match command(host, region, is_terminal, &path) {
        Ok(mut command) => {
            let why = command.exec();
            Error::failed("start aws").because(why)
        }
        Err(error) => error,
    }
}

fn command(
    host: &Host,
    region: Option<&str>,
    is_terminal: bool,
    path: &OsStr,
) -> Result<Command, Error> {
    let what = || format!("log in to {host}");
    if !is_terminal {
        let error = Error::usage(what()).because("Session Manager needs a terminal");
        return Err(error.help("run a command instead: `ship exec ENV -- CMD`"));
    }
    let is_there = |name: &str| env::split_paths(path).any(|one| one.join(name).is_file());
    for (name, help) in [
        ("aws", "install the AWS CLI"),
        ("session-manager-plugin", "install the Session Manager plugin of the AWS CLI"),
    ] {
        if !is_there(name) {
            let error = Error::failed(what()).because(format!("there is no {name} in PATH"));
            return Err(error.help(help));
        }
    }
    let mut command = Command::new("aws");
    command.args(["ssm", "start-session", "--target", &host.0]);
    command.args(region.into_iter().flat_map(|region| ["--region", region]));
    Ok(command)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn what_is_missing_is_named_and_the_region_is_passed_on() {
        let directory = tempfile::tempdir().unwrap();
        let host = Host("i-1".to_owned());
        let path = directory.path().as_os_str();
        let why = |is_terminal| {
            let error = command(&host, None, is_terminal, path).unwrap_err();
            (error.chain(), error.advice().unwrap().to_owned())
        };
        assert_eq!(why(true).0, "log in to i-1: there is no aws in PATH");
        fs::write(directory.path().join("aws"), "").unwrap();
        assert_eq!(why(true).1, "install the Session Manager plugin of the AWS CLI");
        assert!(why(false).1.contains("ship exec"));
        fs::write(directory.path().join("session-manager-plugin"), "").unwrap();
        let command = command(&host, Some("eu-central-1"), true, path).unwrap();
        let words: Vec<_> = command.get_args().map(|word| word.to_str().unwrap()).collect();
        assert_eq!(words, ["ssm", "start-session", "--target", "i-1", "--region", "eu-central-1"]);
    }
}
