//! `ExecStopPost=` of every process's unit: signals what its main process left behind,
//! and waits for it. With the id of the main process, as `ExecStop=`, it begins with that.

use deploy_agent::stop;
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    match arguments.next() {
        Some(signal) => stop::run(&signal, arguments.next().as_deref()),
        None => {
            eprintln!("usage: deploy-stop SIGNAL [PID]");
            ExitCode::from(2)
        }
    }
}
