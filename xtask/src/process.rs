//! Programs of Debian that xtask runs.

use crate::Result;
use std::process::Command;

/// Runs a program that has nothing to say.
pub fn run(command: &mut Command) -> Result<()> {
    output(command).map(drop)
}

/// What a program prints; an error names it and has what it wrote to stderr.
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
