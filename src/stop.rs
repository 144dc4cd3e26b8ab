//! What `deploy-stop` does: it ends the processes of a service that is being stopped.
//!
//! systemd sends the stop signal to the main process of a unit, which is the app itself or
//! a server that ends its own workers. A launcher, such as a shell script or npm, ends at
//! once and leaves the app behind. As `ExecStopPost=` of the unit this program then gives
//! each process that is left the one signal that it has not had, and waits for it.
//!
//! SIGINT, SIGQUIT and SIGWINCH do not end a shell that waits for the app. For these this
//! program is `ExecStop=` as well: it sends the signal to the main process, and on to the
//! children of each process that outlives it. systemd has nothing left to signal then.
//!
//! systemd bounds either wait with `TimeoutStopSec=`.

mod due;
mod process;

use crate::host::cgroup;
use due::Progress;
use nix::sys::signal::Signal;
use process::Members;
use signal_hook::consts::SIGTERM;
use std::io;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Between two looks at which processes are left.
const LOOK: Duration = Duration::from_millis(20);

/// Runs the program; `signal` is a name as signal(7) has it, `main` the id of the main
/// process if that has not had the signal.
pub fn run(signal: &str, main: Option<&str>) -> ExitCode {
    let Ok(signal) = signal.parse::<Signal>() else {
        eprintln!("deploy-stop: {signal} is not a signal");
        return ExitCode::from(2);
    };
    match end_others(signal, main.and_then(|pid| pid.parse().ok())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("deploy-stop: wait for signals: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Signals each other process of this control group once, and waits until none is left.
/// When the time is over, systemd sends this program the stop signal of the unit, and takes
/// the unit for dead as soon as it has ended: what is left then is killed here.
fn end_others(signal: Signal, main: Option<i32>) -> io::Result<()> {
    let over = Arc::new(AtomicBool::new(false));
    for end in [SIGTERM, signal as i32] {
        signal_hook::flag::register(end, over.clone())?;
    }
    let group = cgroup::own().unwrap_or_default();
    let mut progress = Progress::new(signal, main, Instant::now());
    let mut was_empty = false;
    loop {
        let members = Members::at(&group);
        // A process that ends while the list is read may have started another one.
        if members.is_empty() && was_empty {
            return Ok(());
        }
        was_empty = members.is_empty();
        if over.load(Ordering::Relaxed) {
            members.left.iter().for_each(|process| process.send(Signal::SIGKILL));
        } else {
            let due = progress.due(&members.left, Instant::now());
            due.into_iter().for_each(|process| process.send(signal));
        }
        thread::sleep(LOOK);
    }
}
