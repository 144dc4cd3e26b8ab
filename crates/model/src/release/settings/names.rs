//! The names of all settings, who may set them, and their defaults.

use super::AGENT_FILE;
use crate::error::Error;
use crate::release::env::Env;
use crate::text::shortened;

/// The default state directory.
pub const STATE_DIR: &str = "/var/lib/deploy";

/// The writable paths of a release's tree by default.
pub(super) const WRITABLE: &str = "tmp,log";

/// The default strategy.
const DEFAULT_STRATEGY: &str = "handover";

/// The settings of agent.env and of a release's env, with their built-in values.
pub(super) const FOR_ANYONE: [(&str, &str); 24] = [
    ("PORT", "5000"),
    ("DEPLOY_CONCURRENCY", ""),
    ("DEPLOY_STRATEGY", DEFAULT_STRATEGY),
    ("DEPLOY_CLIENTS", "anywhere"),
    ("DEPLOY_READY", "port"),
    ("DEPLOY_HEALTH_PATH", ""),
    ("DEPLOY_HEALTH_HOST", "localhost"),
    ("DEPLOY_HEALTH_STATUS", "200-399"),
    ("DEPLOY_HEALTH_TIMEOUT", "60s"),
    ("DEPLOY_PROVE", "0s"),
    ("DEPLOY_SETTLE", "10s"),
    ("DEPLOY_DRAIN_TIMEOUT", "30s"),
    ("DEPLOY_WATCHDOG", "0s"),
    ("DEPLOY_STOP_SIGNAL", "TERM"),
    ("DEPLOY_STOP_TIMEOUT", "30s"),
    ("DEPLOY_BUILD_TIMEOUT", "10m"),
    ("DEPLOY_RELEASE_PHASE", "manual"),
    ("DEPLOY_SINGLETON", ""),
    ("DEPLOY_UDP", "no"),
    ("DEPLOY_WRITABLE", WRITABLE),
    ("DEPLOY_PROCESS_DIRS", "tmp/pids"),
    ("DEPLOY_SANDBOX", "strict"),
    ("DEPLOY_MEMORY_MAX", ""),
    ("DEPLOY_METADATA", "yes"),
];

/// The settings of agent.env alone, with their built-in values.
pub(super) const FOR_AGENT: [(&str, &str); 20] = [
    ("DEPLOY_STATE_DIR", STATE_DIR),
    ("DEPLOY_USER", ""),
    ("DEPLOY_KEEP_RELEASES", "3"),
    ("DEPLOY_MAX_UNPACKED", "8G"),
    ("DEPLOY_MAX_FILES", "500000"),
    ("DEPLOY_MAX_FETCH_MEMORY", "64M"),
    ("DEPLOY_BUILD_MEMORY_MAX", ""),
    ("DEPLOY_MIN_SANDBOX", "off"),
    ("DEPLOY_MAX_DURATION", "1h"),
    ("DEPLOY_MAX_STOP_TIMEOUT", "5m"),
    ("DEPLOY_MAX_PROCESSES", "100"),
    ("DEPLOY_MAX_MEMORY", ""),
    ("DEPLOY_MAX_TASKS", "4096"),
    ("DEPLOY_PUBLIC_PORTS", "1-65535"),
    ("DEPLOY_BOOT_TIMEOUT", "5m"),
    ("DEPLOY_WATCH", ""),
    ("DEPLOY_WATCH_INTERVAL", "30s"),
    ("DEPLOY_SYSLOG", ""),
    ("DEPLOY_SYSLOG_CA", ""),
    ("DEPLOY_SYSLOG_PEER", ""),
];

/// The description of a setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Setting {
    pub name: &'static str,
    /// The built-in value, as written in a file; empty if there is none.
    pub default: &'static str,
    pub owner: Owner,
}

/// Who may set it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// The instance, in agent.env, and each release, in its env.
    Anyone,
    /// The instance alone.
    Agent,
}

/// All settings.
pub fn catalog() -> impl Iterator<Item = Setting> {
    let of = |owner| move |&(name, default)| Setting { name, default, owner };
    FOR_ANYONE.iter().map(of(Owner::Anyone)).chain(FOR_AGENT.iter().map(of(Owner::Agent)))
}

/// Variables that the agent itself gives to each process. An EnvironmentFile overrides
/// `Environment=` in systemd, so these are left out of the env file that the agent writes.
pub const SET_BY_AGENT: &[&str] = &[
    "PORT",
    "PUBLIC_PORT",
    "PS",
    "DEPLOY_APP",
    "DEPLOY_ENVIRONMENT",
    "DEPLOY_RELEASE",
    "DEPLOY_SHARED",
];

/// Variables of each process that a release's env may set otherwise. Python keeps back up to 8 KiB
/// of what it prints to anything but a terminal, and so the log of a worker would be empty.
pub const DEFAULT_VARIABLES: &[(&str, &str)] = &[("PYTHONUNBUFFERED", "1")];

/// For the AWS SDK, the HTTP client and the TLS stack; in lower case too if curl reads that.
const FOR_LIBRARIES: [&str; 6] =
    ["HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR"];

/// Refuses, with `Exit::Usage`, names in agent.env that have no reader.
pub(super) fn check_agent(agent: &Env) -> Result<(), Error> {
    for name in agent.names() {
        let refused =
            |why: String| Error::usage(format!("{AGENT_FILE}: {}", shortened(name))).because(why);
        if is_for_anyone(name) || is_for_agent(name) || is_for_libraries(name) {
            continue;
        }
        if SET_BY_AGENT.contains(&name) {
            return Err(refused(set_by_agent()).help(format!("take {name} out of {AGENT_FILE}")));
        }
        let known = FOR_ANYONE.iter().chain(&FOR_AGENT).map(|(name, _)| *name);
        let app = "set what an app needs in the env of its release";
        let help = match near(name, known.chain(FOR_LIBRARIES)) {
            Some(near) => format!("did you mean {near}? If not, {app}"),
            None => format!("see `man deploy-agent.env` for the names; {app}"),
        };
        return Err(refused("no setting of the agent has this name".into()).help(help));
    }
    Ok(())
}

/// Refuses, with `Exit::Unusable`, `DEPLOY_` names in a release's env that are unknown or that
/// a release may not set.
pub(super) fn check_release(release: &Env) -> Result<(), Error> {
    for name in release.names().filter(|name| name.starts_with("DEPLOY_")) {
        let refused =
            |why: String| Error::unusable(format!("env: {}", shortened(name))).because(why);
        if is_for_anyone(name) {
            continue;
        }
        if is_for_agent(name) {
            return Err(refused("this setting belongs to the agent".into())
                .help(format!("set {name} in {AGENT_FILE}, and publish the release without it")));
        }
        if SET_BY_AGENT.contains(&name) {
            return Err(refused(set_by_agent()).help(format!("publish the release without {name}")));
        }
        let known = FOR_ANYONE.iter().map(|(name, _)| *name);
        let help = match near(name, known) {
            Some(near) => format!("did you mean {near}?"),
            None => "give a variable of the app another name: those that begin with DEPLOY_ are \
                     the agent's (`man deploy-agent.env`)"
                .to_owned(),
        };
        return Err(refused("no setting has this name".into()).help(help));
    }
    Ok(())
}

fn is_for_anyone(name: &str) -> bool {
    FOR_ANYONE.iter().any(|(known, _)| *known == name)
}

fn is_for_agent(name: &str) -> bool {
    FOR_AGENT.iter().any(|(known, _)| *known == name)
}

fn is_for_libraries(name: &str) -> bool {
    let one_case = name == name.to_ascii_lowercase() || name == name.to_ascii_uppercase();
    let known = FOR_LIBRARIES.iter().any(|known| known.eq_ignore_ascii_case(name));
    name.starts_with("AWS_") || (one_case && known)
}

fn set_by_agent() -> String {
    "the agent sets this for each process".into()
}

/// Returns the name that was perhaps meant: one that differs in at most a third of its letters,
/// not counting DEPLOY_.
fn near<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let upper = shortened(name).to_ascii_uppercase();
    let distance = |known: &str| strsim::damerau_levenshtein(&upper, known);
    let near = known.min_by_key(|known| distance(known))?;
    let letters = upper.strip_prefix("DEPLOY_").unwrap_or(&upper).len();
    (distance(near) * 3 <= letters).then_some(near)
}
