//! A Procfile's command does through its unit the same as in bash, byte for byte. The commands
//! are those of the golden tree `09-commands`: to add a command, add a line there.

use crate::units::{boot, golden, push_units};
use model::release::env::Env;
use model::release::procfile::Procfile;
use model::release::settings::SET_BY_AGENT;
use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use testkit::instance::Instance;

const CASE: &str = "09-commands";
const APP: &str = "/var/lib/deploy/apps/nasty";

/// Records its arguments and environment, in a directory per process.
const SHOW: &str = "#!/bin/sh
seen=\"$DEPLOY_SHARED/seen/${PS%.1}\"
mkdir -p \"$seen\"
cat /proc/$$/cmdline >>\"$seen/arguments\"
cat /proc/$$/environ >>\"$seen/environment\"
";

/// Variables that differ between runs: systemd sets the first three, and bash sets `_` to the
/// program that it started.
const DIFFERS: [&str; 4] = ["INVOCATION_ID", "JOURNAL_STREAM", "SYSTEMD_EXEC_PID", "_"];

/// The arguments and environment that one command received, with bytes escaped for reading.
#[derive(Debug, Default, PartialEq, Eq)]
struct Seen {
    /// In order, each terminated by a NUL.
    arguments: String,
    /// `NAME=value`, sorted.
    environment: Vec<String>,
}

/// Process types and their commands.
pub fn table() -> Vec<(String, String)> {
    let text = fs::read(golden().join(CASE).join("nasty/r1/Procfile")).expect("the commands");
    let procfile = Procfile::parse(&text).expect("a Procfile");
    procfile.services().map(|(kind, command)| (kind.to_string(), command.to_owned())).collect()
}

#[test]
fn a_command_gets_the_same_arguments_and_environment_from_its_unit_as_from_bash() {
    let (host, table) = (boot(), table());
    let env = fs::read(golden().join(CASE).join("nasty/r1/env")).expect("the env");
    let env = Env::parse(&env).expect("an env");
    furnish(&host, &env);
    push_units(&host, CASE, "/run/systemd/system");
    for (kind, command) in &table {
        // The service ends with its command, so that systemctl waits for it.
        let once = "[Service]\nType=oneshot\nRestart=no\n";
        host.write(&drop_in(kind, "once"), once);
        host.write(&format!("/run/commands/{kind}"), command.as_str());
    }
    let through_units = run(&host, &table);

    for (kind, _) in &table {
        // The same service, but its command is read from a file that systemd does not parse.
        let bash = format!(
            "[Service]\nExecStart=\n\
             ExecStart=xargs --null --arg-file=/run/commands/{kind} /bin/bash -c\n"
        );
        host.write(&drop_in(kind, "bash"), bash);
    }
    let by_bash = run(&host, &table);

    for (kind, command) in &table {
        assert_eq!(through_units.get(kind), by_bash.get(kind), "{kind}: {command}");
    }
    let silent = table.iter().map(|(kind, _)| kind).filter(|kind| !by_bash.contains_key(*kind));
    assert_eq!(silent.collect::<Vec<_>>(), ["semicolons", "unterminated"], "bash refuses these");
    for (name, value) in env.iter() {
        let variable = escaped(format!("{name}={value}").as_bytes());
        assert!(through_units["plain"].environment.contains(&variable), "{name}");
    }
}

/// Lays the release out as the agent does, with `show` as its program.
fn furnish(host: &Instance, env: &Env) {
    host.write(&format!("{APP}/releases/r1/env"), env.to_environment_file(SET_BY_AGENT));
    host.write("/usr/local/bin/show", SHOW);
    host.sh(&format!(
        "chmod 755 /usr/local/bin/show; cd {APP}; chmod 600 releases/r1/env
        mkdir -p shared releases/r1/app/{{sub,tmp,log}}; touch releases/r1/app/{{a,b}}.txt
        chown -R app-my-app: shared releases/r1/app"
    ));
}

fn drop_in(kind: &str, name: &str) -> String {
    format!("/run/systemd/system/deploy-nasty-{kind}-r1@.service.d/{name}.conf")
}

/// Runs every command once, and returns the calls of `show` that each one made.
fn run(host: &Instance, table: &[(String, String)]) -> BTreeMap<String, Seen> {
    let units = table.iter().map(|(kind, _)| format!("deploy-nasty-{kind}-r1@1.service"));
    let units = units.collect::<Vec<_>>().join(" ");
    // Some units fail, as they should: bash refuses their commands.
    host.sh(&format!(
        "rm -rf {APP}/shared/seen; systemctl daemon-reload; systemctl start {units} || true"
    ));
    host.sh(&format!("tar -C {APP}/shared/seen -cf /run/seen.tar ."));
    collect(&host.read("/run/seen.tar"))
}

fn collect(archive: &[u8]) -> BTreeMap<String, Seen> {
    let mut all = BTreeMap::<String, Seen>::new();
    for entry in tar::Archive::new(archive).entries().expect("an archive") {
        let mut entry = entry.expect("an entry");
        let path = entry.path().expect("a path").into_owned();
        let names: Vec<_> = path.iter().filter_map(|name| name.to_str()).collect();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).expect("its content");
        match names[..] {
            [.., kind, "arguments"] => {
                all.entry(kind.to_owned()).or_default().arguments = escaped(&bytes)
            }
            [.., kind, "environment"] => {
                all.entry(kind.to_owned()).or_default().environment = variables(&bytes);
            }
            _ => {}
        }
    }
    all
}

fn variables(environment: &[u8]) -> Vec<String> {
    let lines = environment.split(|b| *b == 0).filter(|line| !line.is_empty()).map(escaped);
    let same = lines.filter(|line| !DIFFERS.contains(&line.split('=').next().unwrap_or_default()));
    let mut variables: Vec<_> = same.collect();
    variables.sort();
    variables
}

fn escaped(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}
