//! The agent's command line, from the file that defines it.

#[path = "../../src/cli/args.rs"]
#[allow(dead_code, reason = "it is described here, never parsed")]
mod args;

use clap::CommandFactory;
use std::time::Duration;

/// The command `deploy` of this version of the agent.
pub fn command(version: &str) -> clap::Command {
    // clap needs the text for as long as the command, which lives as long as this program.
    args::Cli::command().version(&*version.to_owned().leak())
}

/// Replaces the agent's parser of durations. No command line is parsed here, but clap checks
/// the defaults.
fn duration(_: &str) -> Result<Duration, String> {
    Ok(Duration::ZERO)
}
