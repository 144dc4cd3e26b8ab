//! Runs Debian programs for xtask.

use crate::Result;
use std::process::Command;

/// Runs a program without output.
pub fn run(command: &mut Command) -> Result<()> {
    output(command).map(drop)
}

/// Returns the output of a program; an error contains its name and its stderr.
pub fn output(command: &mut Command) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let ran = command.output().map_err(|error| format!("cannot start {name}: {error}"))?;
    if !ran.status.success() {
        return Err(
            format!("{name}: {}: {}", ran.status, String::from_utf8_lossy(&ran.stderr)).into()
        );
    }
    Ok(String::from_utf8_lossy(&ran.stdout).into_owned())
}
