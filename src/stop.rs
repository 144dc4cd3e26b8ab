//! What `deploy-stop` does: it ends the processes that a stopped service has left behind.
//!
//! systemd sends the stop signal to the main process of a unit, which is the app itself or
//! a server that ends its own workers. A launcher, such as a shell script or npm, ends at
//! once and leaves the app behind. As `ExecStopPost=` of the unit this program then gives
//! each process that is left the one signal that it has not had, and waits for it. systemd
//! bounds the wait with `TimeoutStopSec=`.

use crate::host::cgroup;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use signal_hook::consts::SIGTERM;
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

/// Between two looks at which processes are left.
const LOOK: Duration = Duration::from_millis(20);

/// Runs the program; `signal` is a name as signal(7) has it.
pub fn run(signal: &str) -> ExitCode {
    let Ok(signal) = signal.parse::<Signal>() else {
        eprintln!("deploy-stop: {signal} is not a signal");
        return ExitCode::from(2);
    };
    match end_others(signal) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("deploy-stop: wait for signals: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Signals each other process of this control group once, and waits until none is left.
/// When the time is over, systemd ends this program with SIGTERM, and takes the unit for
/// dead as soon as it has ended: what is left then is killed here.
fn end_others(signal: Signal) -> io::Result<()> {
    let over = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register(SIGTERM, over.clone())?;
    let group = cgroup::own().unwrap_or_default();
    let mut signalled = BTreeSet::new();
    loop {
        let left = Process::others(&group);
        if left.is_empty() {
            return Ok(());
        }
        if over.load(Ordering::Relaxed) {
            left.iter().for_each(|process| process.send(Signal::SIGKILL));
            return Ok(());
        }
        for process in due(&left) {
            if signalled.insert(process.identity()) {
                process.send(signal);
            }
        }
        thread::sleep(LOOK);
    }
}

/// One process, with the pipes that connect it to others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Process {
    pid: i32,
    /// In clock ticks since boot: a process id may be given again.
    started: u64,
    stdin: Option<String>,
    /// Standard output and standard error.
    outputs: Vec<String>,
}

impl Process {
    fn others(group: &str) -> Vec<Process> {
        let own = std::process::id();
        let pids = cgroup::members(group).into_iter().filter(|pid| *pid != own);
        pids.filter_map(Process::read).collect()
    }

    /// Reads a process from proc(5); none where it has ended.
    fn read(pid: u32) -> Option<Process> {
        let started = started(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)?;
        let pipe = |fd: u32| {
            let target = fs::read_link(format!("/proc/{pid}/fd/{fd}")).ok()?;
            target.to_str().filter(|name| name.starts_with("pipe:")).map(str::to_owned)
        };
        let outputs = [1, 2].into_iter().filter_map(pipe).collect();
        Some(Process { pid: i32::try_from(pid).ok()?, started, stdin: pipe(0), outputs })
    }

    fn identity(&self) -> (i32, u64) {
        (self.pid, self.started)
    }

    fn send(&self, signal: Signal) {
        // An error says that it has ended meanwhile.
        let _ = kill(Pid::from_raw(self.pid), signal);
    }
}

/// The start time of a process that has not ended, from the text of /proc/PID/stat.
fn started(stat: &str) -> Option<u64> {
    // The second field, a name in parentheses, may hold anything.
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    let ended = matches!(fields.next()?, "Z" | "X");
    let started = fields.nth(18)?.parse().ok()?;
    (!ended).then_some(started)
}

/// The processes that may be signalled now. The reading end of a pipeline, as in
/// `app | tee log`, ends by itself when the writer has ended, and its last lines with it:
/// it is signalled only if it is then still there.
fn due(left: &[Process]) -> Vec<&Process> {
    let reads_another = |process: &&Process| {
        let others = left.iter().filter(|other| other.pid != process.pid);
        let mut written = others.flat_map(|other| &other.outputs);
        process.stdin.as_ref().is_some_and(|pipe| written.any(|other| other == pipe))
    };
    let (readers, first): (Vec<_>, Vec<_>) = left.iter().partition(reads_another);
    if first.is_empty() { readers } else { first }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(pid: i32, stdin: &str, outputs: &[&str]) -> Process {
        let stdin = (!stdin.is_empty()).then(|| stdin.to_owned());
        let outputs = outputs.iter().map(|&name| name.to_owned()).collect();
        Process { pid, started: 1, stdin, outputs }
    }

    fn due_of(left: &[Process]) -> Vec<i32> {
        due(left).into_iter().map(|process| process.pid).collect()
    }

    #[test]
    fn the_reading_end_of_a_pipeline_waits_for_the_writer() {
        let app = process(1, "", &["pipe:[7]", "pipe:[7]"]);
        let filter = process(2, "pipe:[7]", &["pipe:[8]"]);
        let tee = process(3, "pipe:[8]", &[]);
        let other = process(4, "", &[]);
        assert_eq!(due_of(&[app, filter.clone(), tee.clone(), other]), [1, 4]);
        assert_eq!(due_of(&[filter, tee.clone()]), [2]);
        assert_eq!(due_of(&[tee]), [3]);
    }

    #[test]
    fn processes_that_read_each_other_are_all_signalled() {
        let one = process(1, "pipe:[1]", &["pipe:[2]"]);
        let other = process(2, "pipe:[2]", &["pipe:[1]"]);
        assert_eq!(due_of(&[one, other]), [1, 2]);
    }

    #[test]
    fn a_process_that_reads_its_own_pipe_waits_for_nobody() {
        assert_eq!(due_of(&[process(1, "pipe:[1]", &["pipe:[1]"])]), [1]);
    }

    #[test]
    fn the_start_time_comes_from_behind_whatever_name() {
        let rest = "1 1 1 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 4711 1 1";
        assert_eq!(started(&format!("5 (a) b) S {rest}")), Some(4711));
        assert_eq!(started(&format!("5 (a) Z {rest}")), None);
        assert_eq!(started("5 (a) S"), None);
        assert_eq!(started(""), None);
    }

    #[test]
    fn this_process_is_read() {
        let own = Process::read(std::process::id()).expect("it runs");
        assert_eq!(own.identity().0, i32::try_from(std::process::id()).expect("a pid"));
        assert!(own.started > 0);
    }
}
