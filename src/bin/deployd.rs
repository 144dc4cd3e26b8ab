//! The daemon: listen, recover, serve, stop. With arguments, what `deploy` has it do alone.

use deploy_agent::agent::{daemon, helper, log};
use std::process::ExitCode;

fn main() -> ExitCode {
    let words: Vec<_> = std::env::args_os().skip(1).collect();
    if !words.is_empty() {
        return helper::run(&words);
    }
    log::start();
    match daemon::run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{}", error.chain());
            ExitCode::from(error.exit().code())
        }
    }
}
