//! Tasks of the repository that need more than a line of make:
//!
//! ```text
//! cargo xtask packaging DIR             man pages and completions of `deploy`; in DIR/ship, of `ship`
//! cargo xtask deb PROFILE_DIR OUTPUT    a package of programs that were built there
//! cargo xtask ship-deb PROFILE_DIR OUTPUT  the same of ship
//! cargo xtask rpm PROFILE_DIR OUTPUT [VERSION]  the same for distributions with rpm
//! cargo xtask check                     whether the docs have each setting and exit code
//! ```
//!
//! It compiles without the agent's library and its dependencies.

#![allow(clippy::disallowed_methods, reason = "it is not the agent")]

mod check;
mod cli;
mod deb;
mod manifest;
mod packaging;
#[path = "../../crates/ship/src/place.rs"]
#[allow(dead_code, reason = "the command line of ship has the number of a release")]
mod place;
mod process;
mod rollout;
mod rpm;
mod ship;

use manifest::{Package, Program};
use std::error::Error;
use std::path::Path;
use std::process::ExitCode;

/// A task's result; the error is a sentence for a developer.
type Result<T> = std::result::Result<T, Box<dyn Error>>;

const USAGE: &str = "usage: cargo xtask packaging DIR
       cargo xtask deb PROFILE_DIR OUTPUT
       cargo xtask ship-deb PROFILE_DIR OUTPUT
       cargo xtask rpm PROFILE_DIR OUTPUT [VERSION]
       cargo xtask check";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let done = match words[..] {
        ["packaging", dir] => packaging::write(Path::new(dir)),
        ["deb", built, output] => make_deb(Program::Agent, built, output),
        ["ship-deb", built, output] => make_deb(Program::Ship, built, output),
        ["rpm", built, output] => rpm::make(Path::new(built), Path::new(output), None),
        ["rpm", built, output, version] => {
            rpm::make(Path::new(built), Path::new(output), Some(version))
        }
        ["check"] => check::all(),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error}");
            ExitCode::FAILURE
        }
    }
}

fn make_deb(program: Program, built: &str, output: &str) -> Result<()> {
    deb::make(&Package::of(program)?, Path::new(built), Path::new(output))
}
