//! The journal, rsyslog, and the SSM agent.

use super::Instance;
use model::doctor::{Check, Row};
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

pub async fn journal(instance: &Instance) -> Row {
    let storage = option(instance, "Storage");
    if matches!(storage.as_deref(), Some("volatile" | "none"))
        || !instance.exists("/var/log/journal")
    {
        let text = "logs are lost at a reboot: the journal is not kept on the disk";
        let remedy = "run `mkdir -p /var/log/journal && systemctl restart systemd-journald`, and \
                      remove Storage=volatile or none from journald.conf(5), if it is there";
        return Row::warning(Check::Journal, text, remedy);
    }
    match option(instance, "SystemMaxUse") {
        Some(most) => {
            let most = model::text::shortened(&most);
            Row::ok(Check::Journal, format!("on the disk, at most {most}"))
        }
        None => {
            Row::ok(Check::Journal, "on the disk, at most a tenth of its file system and 4 GiB")
        }
    }
}

/// rsyslog gets lines either from journald, or by reading the journal.
pub async fn rsyslog(instance: &Instance) -> Row {
    const UNIT: &str = "rsyslog.service";
    if !instance.has_unit(UNIT) {
        return Row::skipped(Check::Rsyslog, "not installed");
    }
    match instance.cx.machine.active_state(UNIT).await {
        Ok(state) if state == "active" => {}
        Ok(state) => {
            let text = format!("it is {state}: logs are in the journal alone");
            let remedy = "start it: `systemctl enable --now rsyslog`, and see \
                          `systemctl status rsyslog`";
            return Row::failed(Check::Rsyslog, text, remedy);
        }
        Err(error) => return Row::of_error(Check::Rsyslog, &error),
    }
    let mut paths = vec![instance.path("/etc/rsyslog.conf")];
    paths.extend(parts(instance, "/etc/rsyslog.d"));
    let files: Vec<String> =
        paths.into_iter().filter_map(|path| fs::read_to_string(path).ok()).collect();
    let is_loaded = |line: &str| !line.trim_start().starts_with('#') && line.contains("imjournal");
    let reads = files.iter().flat_map(|text| text.lines()).any(is_loaded);
    // Debian's journald forwards unless told otherwise; others do not.
    let forwards = match option(instance, "ForwardToSyslog").as_deref() {
        Some(value) => matches!(value, "yes" | "true" | "1" | "on"),
        None => instance.exists("/etc/debian_version"),
    };
    let examples = "/usr/share/doc/deploy-agent/examples/rsyslog/README";
    match (reads, forwards) {
        (true, false) => Row::ok(Check::Rsyslog, "it reads the journal"),
        (false, true) => Row::ok(Check::Rsyslog, "journald forwards each line to it"),
        (true, true) => {
            let text = "it reads the journal, and journald forwards each line to it as well: \
                        lines come twice";
            let remedy = format!("set ForwardToSyslog=no, as {examples} says");
            Row::warning(Check::Rsyslog, text, remedy)
        }
        (false, false) => {
            let text = "it gets no lines: journald does not forward, and imjournal is not loaded";
            let remedy = format!("install journal.conf, as {examples} says, and restart rsyslog");
            Row::failed(Check::Rsyslog, text, remedy)
        }
    }
}

/// Whether the agent runs through which SSM reaches the instance, if it is installed.
pub async fn ssm_agent(instance: &Instance) -> Row {
    let units = ["amazon-ssm-agent.service", "snap.amazon-ssm-agent.amazon-ssm-agent.service"];
    let Some(unit) = units.into_iter().find(|unit| instance.has_unit(unit)) else {
        return Row::skipped(Check::SsmAgent, "not installed");
    };
    match instance.cx.machine.active_state(unit).await {
        Ok(state) if state == "active" => Row::ok(Check::SsmAgent, "it runs"),
        Ok(state) => {
            let text = format!("{unit} is {state}: SSM does not reach this instance");
            let remedy = format!("start it: `systemctl enable --now {unit}`");
            Row::failed(Check::SsmAgent, text, remedy)
        }
        Err(error) => Row::of_error(Check::SsmAgent, &error),
    }
}

/// Returns the last value of an option in the files of journald.conf(5): the first main file,
/// then those of all directories by name. A file replaces one of the same name in a directory
/// named earlier here.
fn option(instance: &Instance, name: &str) -> Option<String> {
    const DIRS: [&str; 4] =
        ["/usr/lib/systemd", "/usr/local/lib/systemd", "/run/systemd", "/etc/systemd"];
    let main = DIRS.iter().rev().map(|dir| instance.path(&format!("{dir}/journald.conf")));
    let main = main.into_iter().find(|path| path.exists());
    let parts: BTreeMap<_, _> = DIRS
        .iter()
        .flat_map(|dir| parts(instance, &format!("{dir}/journald.conf.d")))
        .map(|path| (path.file_name().map(ToOwned::to_owned), path))
        .collect();
    let paths = main.into_iter().chain(parts.into_values());
    let texts = paths.filter_map(|path| fs::read_to_string(path).ok());
    let values = |text: String| -> Option<String> {
        let pairs = text.lines().filter_map(|line| line.split_once('='));
        let mut own = pairs.filter(|(key, _)| key.trim() == name);
        own.next_back().map(|(_, value)| value.trim().to_owned())
    };
    texts.filter_map(values).next_back()
}

/// Returns the paths of a directory's `*.conf`, by name.
fn parts(instance: &Instance, dir: &str) -> Vec<PathBuf> {
    /// More than any system has.
    const MOST: usize = 200;
    let entries = fs::read_dir(instance.path(dir)).into_iter().flatten().flatten();
    let mut paths: Vec<_> = entries.map(|entry| entry.path()).take(MOST).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "conf"));
    paths.sort();
    paths
}
