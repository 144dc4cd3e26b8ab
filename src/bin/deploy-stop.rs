//! `ExecStopPost=` of every process's unit: signals what its main process left behind,
//! and waits for it.

use deploy_agent::stop;
use std::process::ExitCode;

fn main() -> ExitCode {
    match std::env::args().nth(1) {
        Some(signal) => stop::run(&signal),
        None => {
            eprintln!("usage: deploy-stop SIGNAL");
            ExitCode::from(2)
        }
    }
}
