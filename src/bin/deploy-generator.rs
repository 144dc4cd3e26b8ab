//! The systemd generator: state on disk -> units. It reads files and writes
//! files; no D-Bus, no network, no waiting. systemd.generator(7)

use deploy_agent::generator;
use std::path::PathBuf;
use std::process::ExitCode;

fn main() -> ExitCode {
    let Some(normal) = std::env::args_os().nth(1) else {
        eprintln!("usage: deploy-generator NORMAL-DIR [EARLY-DIR LATE-DIR]");
        return ExitCode::from(2);
    };
    generator::run(&PathBuf::from(normal));
    ExitCode::SUCCESS
}
