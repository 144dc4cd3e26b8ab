//! The commands that work on a group of instances.

use crate::place::Number;
use crate::rollout::Batches;
use clap::Args;
use model::release::name::{EnvironmentName, ReleaseName};
use std::time::Duration;

/// How a rollout is done.
#[derive(Debug, Args)]
pub struct How {
    /// The sizes of the batches, in instances or as a part of the group; the last one repeats.
    #[arg(long, value_name = "SIZES", default_value = "1,25%", value_parser = batches)]
    pub batch: Batches,
    /// Watch the group that long at the end, and go back if an instance, or a target of its load
    /// balancer, becomes unhealthy.
    #[arg(long, value_name = "SECONDS", default_value = "0", value_parser = seconds)]
    pub bake: Duration,
    /// Leave out instances that cannot be reached (exit 42); otherwise nothing is begun.
    #[arg(long)]
    pub skip_unreachable: bool,
    /// Print the batches, and do nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// The time that an instance has.
    #[arg(long, value_name = "SECONDS", default_value = "1800", value_parser = seconds)]
    pub timeout: Duration,
    /// Who does it, for the history; otherwise user.name of Git.
    #[arg(long, env = "SHIP_BY", value_name = "NAME")]
    pub by: Option<String>,
}

#[derive(Debug, Args)]
pub struct DeployArgs {
    /// The environment; not needed where ship.toml has only one.
    #[arg(value_name = "ENV")]
    pub environment: Option<EnvironmentName>,
    /// The release; otherwise the newest that is ready.
    #[arg(value_name = "rN")]
    pub release: Option<Number>,
    /// Run the Procfile's `release` once, on the first instance, before it starts the release.
    #[arg(long)]
    pub run_release: bool,
    #[command(flatten)]
    pub how: How,
}

#[derive(Debug, Args)]
pub struct RollbackArgs {
    /// The environment; not needed where ship.toml has only one.
    #[arg(value_name = "ENV")]
    pub environment: Option<EnvironmentName>,
    /// The release; otherwise the one before the last deploy.
    #[arg(long, value_name = "rN")]
    pub to: Option<ReleaseName>,
    #[command(flatten)]
    pub how: How,
}

#[derive(Debug, Args)]
pub struct AttachArgs {
    /// The environment; not needed where ship.toml has only one.
    #[arg(value_name = "ENV")]
    pub environment: Option<EnvironmentName>,
    /// The rollout; otherwise the newest. `ship history` lists them.
    #[arg(value_name = "ID")]
    pub id: Option<String>,
    /// Who does it, for the lock and the outcome; otherwise user.name of Git.
    #[arg(long, env = "SHIP_BY", value_name = "NAME")]
    pub by: Option<String>,
}

#[derive(Debug, Args)]
pub struct HistoryArgs {
    /// The environment; not needed where ship.toml has only one.
    #[arg(value_name = "ENV")]
    pub environment: Option<EnvironmentName>,
    /// How many to list.
    #[arg(short = 'n', long, default_value_t = 20, value_name = "N")]
    pub lines: usize,
}

#[derive(Debug, Args)]
pub struct PsArgs {
    /// The environment; not needed where ship.toml has only one.
    #[arg(value_name = "ENV")]
    pub environment: Option<EnvironmentName>,
    /// Look again every two seconds, until Ctrl-C.
    #[arg(short, long)]
    pub watch: bool,
}

fn batches(text: &str) -> Result<Batches, String> {
    text.parse().map_err(|error: model::error::Error| error.advice().unwrap_or_default().to_owned())
}

/// Accepts `90` and `90s`, up to a day.
fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.strip_suffix('s').unwrap_or(text).parse().ok();
    let seconds = seconds.filter(|seconds| *seconds <= 86_400);
    seconds.map(Duration::from_secs).ok_or("give seconds, such as 60s".to_owned())
}
