//! The man pages and shell completions of `deploy` and `ship`, generated from their clap types.

use crate::manifest::Package;
use crate::{Result, cli, ship};
use clap_complete::Shell;
use std::fs;
use std::path::Path;

const SEE_ALSO: &str = "\
.SH \"SEE ALSO\"
\\fBdeployd\\fR(8), \\fBdeploy\\-agent.env\\fR(5), \\fBdeploy\\-generator\\fR(8)
";

/// Writes them into `dir`, which is created if missing.
pub fn write(dir: &Path) -> Result<()> {
    let package = Package::read()?;
    let mut command = cli::command(package.text("version")?);
    fs::create_dir_all(dir)?;
    clap_mangen::generate_to(command.clone(), dir)?;
    let page = dir.join("deploy.1");
    // The text after the help is formatted by hand and must not be filled.
    let text = fs::read_to_string(&page)?.replace(".SH EXTRA\n", ".SH EXAMPLES\n.nf\n");
    fs::write(&page, text + SEE_ALSO)?;
    completions(&mut command, "deploy", dir)?;
    of_ship(package.text("version")?, &dir.join("ship"))
}

/// Writes those of ship into a directory of their own.
fn of_ship(version: &str, dir: &Path) -> Result<()> {
    let mut command = ship::command(version);
    fs::create_dir_all(dir)?;
    clap_mangen::generate_to(command.clone(), dir)?;
    for entry in fs::read_dir(dir)? {
        let page = entry?.path();
        if page.extension().is_some_and(|extension| extension == "1") {
            let text = fs::read_to_string(&page)?;
            fs::write(&page, text.replace(".SH EXTRA\n", ".SH EXAMPLES\n.nf\n"))?;
        }
    }
    completions(&mut command, "ship", dir)
}

fn completions(command: &mut clap::Command, name: &str, dir: &Path) -> Result<()> {
    for shell in [Shell::Bash, Shell::Fish, Shell::Zsh] {
        clap_complete::generate_to(shell, command, name, dir)?;
    }
    Ok(())
}
