//! The settings of the agent and of a release, from environment variables.
//!
//! Settings are read (an `Env`), merged (built-in, then `/etc/deploy/agent.env`, then the
//! release's `env`; still text), and validated. Text never leaves this module.

mod limits;
mod merged;
mod names;
mod syslog;
#[cfg(test)]
mod tests;
mod value;

use super::env::Env;
use super::name::ProcessType;
use super::ports;
use super::url::ReleaseUrl;
use crate::error::Error;
use limits::Limits;
use merged::{AgentText, Layers, ReleaseText};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroU16;
use std::path::PathBuf;
use std::time::Duration;

pub use names::{DEFAULT_VARIABLES, Owner, SET_BY_AGENT, STATE_DIR, Setting, catalog};
pub use syslog::{SyslogServer, SyslogSettings, Transport};

/// The file with the agent's own settings.
pub const AGENT_FILE: &str = "/etc/deploy/agent.env";

/// How one release is run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReleaseSettings {
    /// The public port of `web`.
    pub port: NonZeroU16,
    /// The number of processes by type; see [`ReleaseSettings::processes`].
    pub concurrency: BTreeMap<ProcessType, u16>,
    pub strategy: Strategy,
    /// The location of the clients of `web`.
    pub clients: Clients,
    /// How a process reports readiness.
    pub ready: Readiness,
    /// The path of the HTTP probe; without it the port must accept connections.
    pub health_path: Option<String>,
    /// The `Host` of the probe.
    pub health_host: String,
    /// The statuses of the probe that count as healthy.
    pub health_status: Statuses,
    pub health_timeout: Duration,
    /// How long a candidate must stay healthy before it gets the traffic; may be zero.
    pub prove: Duration,
    /// How long a committed release is watched; may be zero.
    pub settle: Duration,
    /// How long old connections may go on after the switch; may be zero.
    pub drain_timeout: Duration,
    /// How long a process may be silent before systemd restarts it; zero means for ever.
    pub watchdog: Duration,
    pub stop_signal: StopSignal,
    pub stop_timeout: Duration,
    pub build_timeout: Duration,
    pub release_phase: ReleasePhase,
    /// Types that must never run in two releases at once.
    pub singleton: Vec<ProcessType>,
    /// Whether clients reach `web` over UDP too.
    pub udp: bool,
    /// Writable paths below the release's tree, which need no quotes in a unit file.
    pub writable: Vec<String>,
    /// Directories below the release's tree. Each process gets an empty one of its own in their
    /// place.
    pub process_dirs: Vec<String>,
    pub sandbox: Sandbox,
    /// In bytes, for each process.
    pub memory_max: Option<u64>,
    /// The most tasks of each process: as many as the machine allows.
    pub max_tasks: u32,
    /// Whether the app may use the instance's metadata service, which hands out the credentials
    /// of its role.
    pub metadata: bool,
}

/// How the new release takes over from the old one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// The new one starts beside the old one and is proved before the port moves.
    Handover,
    /// The old one stops before the new one starts.
    Restart,
}

/// How much of the machine an app cannot access.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sandbox {
    /// The whole file system is read-only, except for `writable`.
    Strict,
    /// As systemd's `ProtectSystem=full`: the system is read-only, data is not.
    Full,
    Off,
}

impl Sandbox {
    /// Whether it closes at least everything that `other` closes.
    fn closes_as_much_as(self, other: Sandbox) -> bool {
        let rank = |sandbox| match sandbox {
            Sandbox::Off => 0,
            Sandbox::Full => 1,
            Sandbox::Strict => 2,
        };
        rank(self) >= rank(other)
    }
}

impl fmt::Display for Sandbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Sandbox::Strict => "strict",
            Sandbox::Full => "full",
            Sandbox::Off => "off",
        })
    }
}

/// The location of the clients of `web`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Clients {
    /// On other machines: a process must listen where they can reach it.
    #[default]
    Anywhere,
    /// Only on this machine, such as a proxy: a process may listen on loopback, and the public
    /// port is not reachable from outside.
    Local,
}

/// How a process reports readiness.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Readiness {
    /// It opens its port.
    #[default]
    Port,
    /// It sends READY=1, sd_notify(3), and opens its port if it has one.
    Notify,
}

/// When the Procfile's `release` runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReleasePhase {
    /// Only in deploys that ask for it.
    #[default]
    Manual,
    Always,
}

/// The signal that asks a process to end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum StopSignal {
    #[default]
    Term,
    Hup,
    Int,
    Quit,
    Usr1,
    Usr2,
    Winch,
}

impl StopSignal {
    const ALL: [StopSignal; 7] = [
        StopSignal::Term,
        StopSignal::Hup,
        StopSignal::Int,
        StopSignal::Quit,
        StopSignal::Usr1,
        StopSignal::Usr2,
        StopSignal::Winch,
    ];

    /// Its name in signal(7): `SIGTERM`.
    pub fn name(self) -> &'static str {
        match self {
            StopSignal::Term => "SIGTERM",
            StopSignal::Hup => "SIGHUP",
            StopSignal::Int => "SIGINT",
            StopSignal::Quit => "SIGQUIT",
            StopSignal::Usr1 => "SIGUSR1",
            StopSignal::Usr2 => "SIGUSR2",
            StopSignal::Winch => "SIGWINCH",
        }
    }
}

/// HTTP statuses, as ranges with their first and last status.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Statuses(Vec<(u16, u16)>);

impl Default for Statuses {
    fn default() -> Self {
        Statuses(vec![(200, 399)])
    }
}

impl Statuses {
    pub fn contains(&self, status: u16) -> bool {
        self.0.iter().any(|(first, last)| (*first..=*last).contains(&status))
    }
}

impl fmt::Display for Statuses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, (first, last)) in self.0.iter().enumerate() {
            let comma = if n > 0 { "," } else { "" };
            match first == last {
                true => write!(f, "{comma}{first}")?,
                false => write!(f, "{comma}{first}-{last}")?,
            }
        }
        Ok(())
    }
}

/// Settings of the agent alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentSettings {
    /// The directory of all of the agent's state: absolute, and needs no quotes in a unit file.
    pub state_dir: PathBuf,
    /// The user of all apps, never root; none if each has a user of its own.
    pub user: Option<String>,
    /// How many good releases of an app stay on disk; at least one.
    pub keep_releases: usize,
    /// The most bytes an unpacked release may have.
    pub max_unpacked: u64,
    /// The most files, directories and links a release may have.
    pub max_files: u64,
    /// The most bytes of memory that fetching may use.
    pub max_fetch_memory: u64,
    /// The most bytes of memory that a build may use; none means three quarters of the
    /// machine's memory.
    pub build_memory_max: Option<u64>,
    /// How long after the start of systemd a deploy waits for resources that come late in the
    /// boot: network, role, clock. May be zero.
    pub boot_timeout: Duration,
}

/// The settings of watch mode. A mistake in them does not invalidate the other settings: an
/// operator can still deploy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchSettings {
    /// Each is of another app, and ends with `current`.
    pub urls: Vec<ReleaseUrl>,
    /// The average time between two polls.
    pub interval: Duration,
}

impl ReleaseSettings {
    /// Whether `writable` has its built-in value.
    pub fn is_writable_built_in(&self) -> bool {
        self.writable.iter().map(String::as_str).eq(names::WRITABLE.split(','))
    }

    /// A bad value of the release is reported as `Exit::Unusable`, one of the agent as
    /// `Exit::Usage`.
    pub fn merge(agent: &Env, release: &Env) -> Result<ReleaseSettings, Error> {
        names::check_agent(agent)?;
        names::check_release(release)?;
        let layers = Layers { agent, release };
        let text: ReleaseText = layers.merge()?;
        let timeout = |name, text: &str| layers.valid(name, text, value::timeout);
        let wait = |name, text: &str| layers.valid(name, text, value::duration);
        let agent_text: AgentText = layers.merge()?;
        let mut settings = ReleaseSettings {
            port: layers.valid("PORT", &text.port, value::port)?,
            concurrency: layers.valid(
                "DEPLOY_CONCURRENCY",
                &text.deploy_concurrency,
                value::concurrency,
            )?,
            strategy: layers.valid("DEPLOY_STRATEGY", &text.deploy_strategy, value::strategy)?,
            clients: layers.valid("DEPLOY_CLIENTS", &text.deploy_clients, value::clients)?,
            ready: layers.valid("DEPLOY_READY", &text.deploy_ready, value::readiness)?,
            health_path: layers.valid(
                "DEPLOY_HEALTH_PATH",
                &text.deploy_health_path,
                value::health_path,
            )?,
            health_host: layers.valid(
                "DEPLOY_HEALTH_HOST",
                &text.deploy_health_host,
                value::health_host,
            )?,
            health_status: layers.valid(
                "DEPLOY_HEALTH_STATUS",
                &text.deploy_health_status,
                value::statuses,
            )?,
            health_timeout: timeout("DEPLOY_HEALTH_TIMEOUT", &text.deploy_health_timeout)?,
            prove: wait("DEPLOY_PROVE", &text.deploy_prove)?,
            settle: wait("DEPLOY_SETTLE", &text.deploy_settle)?,
            drain_timeout: wait("DEPLOY_DRAIN_TIMEOUT", &text.deploy_drain_timeout)?,
            watchdog: wait("DEPLOY_WATCHDOG", &text.deploy_watchdog)?,
            stop_signal: layers.valid(
                "DEPLOY_STOP_SIGNAL",
                &text.deploy_stop_signal,
                value::stop_signal,
            )?,
            stop_timeout: timeout("DEPLOY_STOP_TIMEOUT", &text.deploy_stop_timeout)?,
            build_timeout: timeout("DEPLOY_BUILD_TIMEOUT", &text.deploy_build_timeout)?,
            release_phase: layers.valid(
                "DEPLOY_RELEASE_PHASE",
                &text.deploy_release_phase,
                value::release_phase,
            )?,
            singleton: layers.valid(
                "DEPLOY_SINGLETON",
                &text.deploy_singleton,
                value::process_types,
            )?,
            udp: layers.valid("DEPLOY_UDP", &text.deploy_udp, value::yes_or_no)?,
            writable: layers.valid(
                "DEPLOY_WRITABLE",
                &text.deploy_writable,
                value::relative_paths,
            )?,
            process_dirs: layers.valid(
                "DEPLOY_PROCESS_DIRS",
                &text.deploy_process_dirs,
                value::relative_paths,
            )?,
            sandbox: layers.valid("DEPLOY_SANDBOX", &text.deploy_sandbox, value::sandbox)?,
            memory_max: layers.valid(
                "DEPLOY_MEMORY_MAX",
                &text.deploy_memory_max,
                value::optional_size,
            )?,
            max_tasks: layers.valid(
                "DEPLOY_MAX_TASKS",
                &agent_text.deploy_max_tasks,
                value::count,
            )?,
            metadata: layers.valid("DEPLOY_METADATA", &text.deploy_metadata, value::yes_or_no)?,
        };
        Limits::read(&layers)?.apply(&layers, &mut settings)?;
        settings.check_ports(&layers)?;
        Ok(settings)
    }

    /// Checks that there is a port from PORT on for each process of `web`: under any strategy,
    /// since a machine without handover restarts instead.
    fn check_ports(&self, layers: &Layers) -> Result<(), Error> {
        let web = self.concurrency.iter().find(|(kind, _)| kind.as_str() == "web");
        let count = web.map_or(1, |(_, count)| *count);
        if let Some(last) = self.port.checked_add(count.saturating_sub(1)) {
            return self.check_private_ports(layers, last.get());
        }
        let what = format!("PORT={} with {count} processes of web", self.port);
        Err(layers
            .blame(&["PORT", "DEPLOY_CONCURRENCY"], what)
            .because(
                "without a handover each has the port after the one before it; 65535 is the last",
            )
            .help("choose a lower PORT, or fewer processes in DEPLOY_CONCURRENCY"))
    }

    /// Checks that no public port lies in the range of private ones. `last` is the last port
    /// that processes of `web` may bind themselves.
    fn check_private_ports(&self, layers: &Layers, last: u16) -> Result<(), Error> {
        let (first, private) = (self.port.get(), ports::PRIVATE);
        if last < *private.start() || first > *private.end() {
            return Ok(());
        }
        let what = match first == last {
            true => format!("PORT={first}"),
            false => format!("PORT={first} with processes of web up to port {last}"),
        };
        let (start, end) = (private.start(), private.end());
        let why = format!("the ports {start} to {end} are those on which releases really listen");
        let error = layers.blame(&["PORT", "DEPLOY_CONCURRENCY"], what).because(why);
        Err(error.help(format!("choose a PORT below {start} or above {end}")))
    }

    /// The number of processes of a type: from DEPLOY_CONCURRENCY, or one.
    pub fn processes(&self, process_type: &ProcessType) -> u16 {
        self.concurrency.get(process_type).copied().unwrap_or(1)
    }
}

impl AgentSettings {
    /// Also checks the defaults for releases in `agent`. Errors are `Exit::Usage` and name the
    /// variable and [`AGENT_FILE`].
    pub fn from_env(agent: &Env) -> Result<AgentSettings, Error> {
        let no_release = Env::default();
        ReleaseSettings::merge(agent, &no_release)?;
        let layers = Layers { agent, release: &no_release };
        let text: AgentText = layers.merge()?;
        Ok(AgentSettings {
            state_dir: layers.valid(
                "DEPLOY_STATE_DIR",
                &text.deploy_state_dir,
                value::state_dir,
            )?,
            user: layers.valid("DEPLOY_USER", &text.deploy_user, value::user)?,
            keep_releases: layers.valid(
                "DEPLOY_KEEP_RELEASES",
                &text.deploy_keep_releases,
                value::keep_releases,
            )?,
            max_unpacked: layers.valid(
                "DEPLOY_MAX_UNPACKED",
                &text.deploy_max_unpacked,
                value::size,
            )?,
            max_files: layers.valid(
                "DEPLOY_MAX_FILES",
                &text.deploy_max_files,
                value::max_files,
            )?,
            max_fetch_memory: layers.valid(
                "DEPLOY_MAX_FETCH_MEMORY",
                &text.deploy_max_fetch_memory,
                value::size,
            )?,
            build_memory_max: layers.valid(
                "DEPLOY_BUILD_MEMORY_MAX",
                &text.deploy_build_memory_max,
                value::optional_size,
            )?,
            boot_timeout: layers.valid(
                "DEPLOY_BOOT_TIMEOUT",
                &text.deploy_boot_timeout,
                value::duration,
            )?,
        })
    }
}

impl WatchSettings {
    /// Errors are `Exit::Usage` and name the variable and [`AGENT_FILE`].
    pub fn from_env(agent: &Env) -> Result<WatchSettings, Error> {
        let layers = Layers { agent, release: &Env::default() };
        let text: AgentText = layers.merge()?;
        Ok(WatchSettings {
            // Without the text: an invalid release URL may contain a password.
            urls: value::pointers(&text.deploy_watch).map_err(|invalid| {
                let error = Error::usage(format!("{AGENT_FILE}: DEPLOY_WATCH"));
                error.because(invalid.what).help(invalid.help)
            })?,
            interval: layers.valid(
                "DEPLOY_WATCH_INTERVAL",
                &text.deploy_watch_interval,
                value::interval,
            )?,
        })
    }
}

/// Reads only the state directory, whatever else is invalid; none if it is invalid too.
pub fn state_dir(agent: &Env) -> Option<PathBuf> {
    let text = agent.get("DEPLOY_STATE_DIR").unwrap_or(names::STATE_DIR);
    value::state_dir(text).ok()
}

/// Parses a duration as in settings, `90s` or `2m`, but not zero. Errors are `Exit::Usage`.
pub fn parse_duration(text: &str) -> Result<Duration, Error> {
    value::timeout(text)
        .map_err(|invalid| Error::usage(format!("{}; {}", invalid.what, invalid.help)))
}
