//! `ship`: parse, do, print, exit code.

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments = ship::cli::Cli::parse();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    match runtime {
        Ok(runtime) => ExitCode::from(runtime.block_on(ship::cli::run(arguments))),
        Err(error) => {
            eprintln!("start the runtime: {error}");
            ExitCode::from(1)
        }
    }
}
