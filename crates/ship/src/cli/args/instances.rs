//! The commands of people on instances.

use clap::Args;
use model::release::name::EnvironmentName;

#[derive(Debug, Args)]
pub struct ExecArgs {
    /// The environment; not needed where ship.toml has only one.
    #[arg(value_name = "ENV")]
    pub environment: Option<EnvironmentName>,
    /// The instance; otherwise the first in service. May be repeated.
    #[arg(long = "host", value_name = "HOST", conflicts_with = "all")]
    pub hosts: Vec<String>,
    /// All instances in service, each line of output after the name of its instance.
    #[arg(long)]
    pub all: bool,
    /// Run it as a process of this type would run; by default `web`, or else the first type.
    #[arg(long = "type", value_name = "TYPE")]
    pub kind: Option<String>,
    /// The program, found by the app's PATH, and its arguments.
    #[arg(last = true, required = true, value_name = "CMD")]
    pub command: Vec<String>,
}

#[derive(Debug, Args)]
pub struct SshArgs {
    /// The environment, not needed where ship.toml has only one; and the instance, otherwise
    /// the first in service.
    #[arg(value_name = "ENV] [HOST", num_args = 0..=2)]
    pub words: Vec<String>,
}

#[derive(Debug, Args)]
pub struct LogsArgs {
    /// The environment, not needed where ship.toml has only one; and a process type (`web`) or a
    /// process (`web.1`), otherwise all.
    #[arg(value_name = "ENV] [PROCESS", num_args = 0..=2)]
    pub words: Vec<String>,
    /// Go on printing what is written, until Ctrl-C; not by Systems Manager.
    #[arg(short, long)]
    pub follow: bool,
    /// Begin there: `10m` or `2h` ago, or a time as `journalctl --since` takes it.
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// How many lines of each instance to begin with: 100, or all with --since.
    #[arg(short = 'n', long, value_name = "N")]
    pub lines: Option<u32>,
    /// Only the lines of this release.
    #[arg(long, value_name = "LABEL")]
    pub release: Option<String>,
    /// The instance; otherwise all in service. May be repeated.
    #[arg(long = "host", value_name = "HOST")]
    pub hosts: Vec<String>,
}
