//! The systemd generator: state on disk -> units. It reads files and writes
//! files; no D-Bus, no network, no waiting. systemd.generator(7)

use deploy_agent::generator;
use model::units::GENERATED;
use std::io::{ErrorKind, stdout};
use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    match std::env::args_os().nth(1) {
        Some(option) if option == "--dry-run" => match generator::print(stdout().lock()) {
            Err(error) if error.kind() != ErrorKind::BrokenPipe => {
                eprintln!("deploy-generator: print the units: {error}");
                ExitCode::FAILURE
            }
            _ => ExitCode::SUCCESS,
        },
        Some(option) if option == "--add" => match generator::add(Path::new(GENERATED)) {
            Err(error) => {
                eprintln!("deploy-generator: add the units of new releases: {error}");
                ExitCode::FAILURE
            }
            Ok(()) => ExitCode::SUCCESS,
        },
        Some(normal) => {
            generator::run(Path::new(&normal));
            ExitCode::SUCCESS
        }
        None => {
            eprintln!("usage: deploy-generator NORMAL-DIR [EARLY-DIR LATE-DIR]");
            eprintln!("       deploy-generator --dry-run");
            eprintln!("       deploy-generator --add");
            ExitCode::from(2)
        }
    }
}
