//! The daemon: listen, recover, serve, stop.

use deploy_agent::agent::{daemon, log};
use std::process::ExitCode;

fn main() -> ExitCode {
    log::start();
    match daemon::run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{}", error.chain());
            ExitCode::from(error.exit().code())
        }
    }
}
