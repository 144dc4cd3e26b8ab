//! Tasks of the repository that need more than a line of make:
//!
//! ```text
//! cargo xtask packaging DIR             man pages and completions of `deploy`
//! cargo xtask deb PROFILE_DIR OUTPUT    a package of programs that were built there
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
mod process;
mod rpm;

use std::error::Error;
use std::path::Path;
use std::process::ExitCode;

/// A task's result; the error is a sentence for a developer.
type Result<T> = std::result::Result<T, Box<dyn Error>>;

const USAGE: &str = "usage: cargo xtask packaging DIR
       cargo xtask deb PROFILE_DIR OUTPUT
       cargo xtask rpm PROFILE_DIR OUTPUT [VERSION]
       cargo xtask check";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let done = match words[..] {
        ["packaging", dir] => packaging::write(Path::new(dir)),
        ["deb", built, output] => deb::make(Path::new(built), Path::new(output)),
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
