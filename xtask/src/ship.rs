//! The command line of ship, from the files that define it.

#[path = "../../crates/ship/src/cli/args.rs"]
#[allow(dead_code, reason = "it is described here, never parsed")]
mod args;

use clap::CommandFactory;

/// The command `ship` of this version.
pub fn command(version: &str) -> clap::Command {
    // clap needs the text for as long as the command, which lives as long as this program.
    args::Cli::command().version(&*version.to_owned().leak())
}
