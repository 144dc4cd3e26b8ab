//! The processes of a control group, from proc(5).

use crate::host::cgroup;
use crate::host::pidfd::Pidfd;
use nix::fcntl::{OFlag, open};
use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use std::fs::{self, File};
use std::io::Read;

/// The names of shells, which catch SIGINT and continue.
const SHELLS: [&str; 7] = ["bash", "dash", "sh", "ash", "ksh", "zsh", "busybox"];

/// How much of a shell script is searched for a trap, in bytes.
const SCRIPT: u64 = 64 * 1024;

/// A process id and its start in clock ticks since boot: an id may be reused.
pub(super) type Identity = (i32, u64);

/// One process, with the pipes that connect it to others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Process {
    pub pid: i32,
    pub parent: i32,
    pub started: u64,
    pub stdin: Option<String>,
    /// Standard output and standard error.
    pub outputs: Vec<String>,
}

/// The processes of a group, without this one, at one moment.
pub(super) struct Members {
    pub left: Vec<Process>,
    /// A process of the group ended after the list was read: it may have started another one.
    unread: bool,
}

impl Members {
    pub fn at(group: &str) -> Members {
        let own = std::process::id();
        let mut members = Members { left: Vec::new(), unread: false };
        for pid in cgroup::members(group).into_iter().filter(|pid| *pid != own) {
            match fs::read_to_string(format!("/proc/{pid}/stat")) {
                Ok(stat) => members.left.extend(Process::read(pid, &stat)),
                Err(_) => members.unread = true,
            }
        }
        members
    }

    pub fn is_empty(&self) -> bool {
        self.left.is_empty() && !self.unread
    }
}

impl Process {
    /// Reads a process from the text of its /proc/PID/stat; `None` if it has ended.
    pub fn read(pid: u32, stat: &str) -> Option<Process> {
        let (parent, started) = parent_and_start(stat)?;
        let pipe = |fd: u32| {
            let target = fs::read_link(format!("/proc/{pid}/fd/{fd}")).ok()?;
            target.to_str().filter(|name| name.starts_with("pipe:")).map(str::to_owned)
        };
        let outputs = [1, 2].into_iter().filter_map(pipe).collect();
        Some(Process { pid: i32::try_from(pid).ok()?, parent, started, stdin: pipe(0), outputs })
    }

    pub fn identity(&self) -> Identity {
        (self.pid, self.started)
    }

    pub fn send(&self, signal: Signal) {
        // This program runs as root, so it must not signal another process with a reused id. An
        // error means that the process has ended.
        let Ok(process) = Pidfd::open(self.pid) else { return };
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid)).unwrap_or_default();
        if parent_and_start(&stat).is_some_and(|(_, started)| started == self.started) {
            let _ = process.send(signal);
        }
    }

    /// Whether the process neither ends at the signal nor handles it, like a shell that waits for
    /// a command.
    pub fn outlives(&self, signal: Signal) -> bool {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid)).unwrap_or_default();
        match disposition(&status, signal) {
            Disposition::Ignored => true,
            Disposition::Default => signal == Signal::SIGWINCH,
            Disposition::Caught => signal == Signal::SIGINT && self.is_shell() && !self.traps(),
        }
    }

    fn is_shell(&self) -> bool {
        let program = fs::read_link(format!("/proc/{}/exe", self.pid)).unwrap_or_default();
        program.file_name().is_some_and(|name| SHELLS.iter().any(|shell| name == *shell))
    }

    /// Whether a shell's script has a trap for SIGINT: a shell catches the signal with and without
    /// one.
    fn traps(&self) -> bool {
        let of = |path: String| {
            let mut bytes = Vec::new();
            // The app chose the path: opening a pipe must not block this program.
            let flags = OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
            let file = open(path.as_str(), flags, Mode::empty()).map(File::from);
            let file = file.ok().filter(|f| f.metadata().is_ok_and(|m| m.is_file()));
            let _ = file.map(|file| file.take(SCRIPT).read_to_end(&mut bytes));
            String::from_utf8_lossy(&bytes).into_owned()
        };
        let command = of(format!("/proc/{}/cmdline", self.pid));
        let script = command.split('\0').skip(1).find(|word| !word.starts_with('-'));
        let script = script.map(|path| match path.starts_with('/') {
            true => of(path.to_owned()),
            false => of(format!("/proc/{}/cwd/{path}", self.pid)),
        });
        has_trap(&command) || script.is_some_and(|text| has_trap(&text))
    }
}

/// Whether a line of a script sets a trap for SIGINT.
fn has_trap(script: &str) -> bool {
    script.lines().any(|line| {
        let mut words = line.split(|c: char| !c.is_ascii_alphanumeric());
        words.any(|word| word == "trap") && words.any(|word| ["INT", "SIGINT", "2"].contains(&word))
    })
}

#[derive(Debug, PartialEq, Eq)]
enum Disposition {
    Default,
    Ignored,
    Caught,
}

/// Returns what a process does at a signal, from the text of /proc/PID/status.
fn disposition(status: &str, signal: Signal) -> Disposition {
    let has = |mask: &str| {
        let mask = status.lines().find_map(|line| line.strip_prefix(mask)).unwrap_or_default();
        let mask = u64::from_str_radix(mask.trim(), 16).unwrap_or_default();
        mask & (1 << (signal as i32 - 1)) != 0
    };
    match (has("SigIgn:"), has("SigCgt:")) {
        (true, _) => Disposition::Ignored,
        (_, true) => Disposition::Caught,
        _ => Disposition::Default,
    }
}

/// Returns the parent and the start time of a process that has not ended, from the text of
/// /proc/PID/stat. The first thread of a process may be a zombie while others still run.
fn parent_and_start(stat: &str) -> Option<(i32, u64)> {
    // The second field, a name in parentheses, may hold anything.
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    let zombie = matches!(fields.next()?, "Z" | "X");
    let parent = fields.next()?.parse().ok()?;
    let threads: u64 = fields.nth(15)?.parse().ok()?;
    let started = fields.nth(1)?.parse().ok()?;
    (!zombie || threads > 1).then_some((parent, started))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_start_time_is_found_after_any_process_name() {
        let rest = "3 1 1 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 4711 1 1";
        assert_eq!(parent_and_start(&format!("5 (a) b) S {rest}")), Some((3, 4711)));
        assert_eq!(parent_and_start(&format!("5 (a) Z {rest}")), None);
        assert_eq!(parent_and_start("5 (a) S"), None);
        assert_eq!(parent_and_start(""), None);
    }

    #[test]
    fn a_process_lives_while_only_its_first_thread_has_ended() {
        let rest = "3 1 1 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 2 0 4711 1 1";
        assert_eq!(parent_and_start(&format!("5 (a) Z {rest}")), Some((3, 4711)));
    }

    #[test]
    fn reads_this_process() {
        let pid = std::process::id();
        let stat = fs::read_to_string("/proc/self/stat").expect("it runs");
        let own = Process::read(pid, &stat).expect("it runs");
        assert_eq!(own.pid, i32::try_from(pid).expect("a pid"));
        assert!(own.started > 0 && own.parent > 0);
    }

    #[test]
    fn the_masks_of_a_process_give_its_disposition() {
        let bash = "Name:\tbash\nSigIgn:\t0000000000000004\nSigCgt:\t0000000000010002\n";
        assert_eq!(disposition(bash, Signal::SIGQUIT), Disposition::Ignored);
        assert_eq!(disposition(bash, Signal::SIGINT), Disposition::Caught);
        assert_eq!(disposition(bash, Signal::SIGWINCH), Disposition::Default);
    }

    #[test]
    fn a_trap_for_another_signal_is_not_one_for_sigint() {
        assert!(has_trap("a\ntrap 'kill -INT $child' INT; wait"));
        assert!(has_trap("trap stop SIGTERM SIGINT"));
        assert!(!has_trap("trap 'rm -f x' EXIT\nsleep 2"));
        assert!(!has_trap("INT=1"));
    }
}
