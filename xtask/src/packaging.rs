//! Writes the man pages and the shells' completions of `deploy`, made of its
//! clap types, into the directory named on the command line.

#![allow(clippy::disallowed_methods, reason = "it is not the agent")]

use clap::CommandFactory;
use clap_complete::Shell;
use deploy_agent::cli::args::Cli;
use std::fs;
use std::io::{Error, Result};
use std::path::PathBuf;

const SEE_ALSO: &str = "\
.SH \"SEE ALSO\"
\\fBdeployd\\fR(8), \\fBdeploy\\-agent.env\\fR(5), \\fBdeploy\\-generator\\fR(8)
";

fn main() -> Result<()> {
    let usage = || Error::other("usage: packaging DIRECTORY");
    let dir = std::env::args_os().nth(1).map(PathBuf::from).ok_or_else(usage)?;
    fs::create_dir_all(&dir)?;
    let mut command = Cli::command();
    clap_mangen::generate_to(command.clone(), &dir)?;
    let page = dir.join("deploy.1");
    // What follows the help is laid out by hand: it must not be filled.
    let text = fs::read_to_string(&page)?.replace(".SH EXTRA\n", ".SH EXAMPLES\n.nf\n");
    fs::write(&page, text + SEE_ALSO)?;
    for shell in [Shell::Bash, Shell::Fish, Shell::Zsh] {
        clap_complete::generate_to(shell, &mut command, "deploy", &dir)?;
    }
    Ok(())
}
