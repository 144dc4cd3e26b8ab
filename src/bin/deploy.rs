//! The operator's command: parse, ask, print, exit code.

use clap::Parser;
use deploy_agent::cli::{self, args::Cli};
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments = Cli::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    match runtime {
        Ok(runtime) => ExitCode::from(runtime.block_on(cli::run(arguments))),
        Err(error) => {
            eprintln!("start the runtime: {error}");
            ExitCode::from(1)
        }
    }
}
