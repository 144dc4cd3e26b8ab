//! Descendants of this process, from proc(5).

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process;

/// A process by its pid and its start time in ticks: pids are reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Id {
    pub pid: i32,
    began: u64,
}

impl Id {
    /// Sends a signal, unless the process has ended.
    pub fn signal(self, signal: Signal) {
        if stat(self.pid).is_some_and(|now| now.id == self && !now.ended) {
            let _ = kill(Pid::from_raw(self.pid), signal);
        }
    }

    /// Returns the name of the pipe behind one of its file descriptors.
    pub fn pipe(self, fd: u32) -> Option<PathBuf> {
        let target = fs::read_link(format!("/proc/{}/fd/{fd}", self.pid)).ok()?;
        target.to_str().is_some_and(|name| name.starts_with("pipe:")).then_some(target)
    }

    /// Whether it was started with this variable, as `NAME=value`.
    pub fn was_given(self, variable: &str) -> bool {
        let environment = fs::read(format!("/proc/{}/environ", self.pid)).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|one| one == variable.as_bytes())
    }
}

/// The fields of /proc/PID/stat that are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    pub id: Id,
    pub parent: i32,
    pub group: i32,
    /// A zombie: ended, but not yet reaped by its parent.
    pub ended: bool,
}

/// Returns all descendants of this process. Orphans are among them if this process is a subreaper:
/// PR_SET_CHILD_SUBREAPER(2const).
pub fn descendants() -> Vec<Stat> {
    let all: BTreeMap<i32, Stat> = numbers().filter_map(|pid| Some((pid, stat(pid)?))).collect();
    let own = process::id().cast_signed();
    let comes_from_here = |stat: &&Stat| {
        // A chain longer than the list contains a reused pid.
        let mut at = **stat;
        for _ in 0..all.len() {
            match all.get(&at.parent) {
                _ if at.parent == own => return true,
                Some(parent) => at = *parent,
                None => return false,
            }
        }
        false
    };
    all.values().filter(comes_from_here).copied().collect()
}

/// Reaps adopted processes, but not `children`: their owner waits for them.
pub fn reap(children: &[i32]) {
    let own = process::id().cast_signed();
    let adopted =
        |stat: &Stat| stat.ended && stat.parent == own && !children.contains(&stat.id.pid);
    for orphan in descendants().into_iter().filter(adopted) {
        let _ = waitpid(Pid::from_raw(orphan.id.pid), Some(WaitPidFlag::WNOHANG));
    }
}

/// Makes orphaned descendants children of this process, and not of init.
pub fn adopt() -> Result<(), Errno> {
    nix::sys::prctl::set_child_subreaper(true)
}

fn numbers() -> impl Iterator<Item = i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// Reads the current state of a process, if it exists.
pub fn stat(pid: i32) -> Option<Stat> {
    let text = fs::read(format!("/proc/{pid}/stat")).ok()?;
    parse(pid, &String::from_utf8_lossy(&text))
}

/// The name is in parentheses, and may contain anything.
fn parse(pid: i32, text: &str) -> Option<Stat> {
    let (_, rest) = text.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    let number = |nth: usize| fields.get(nth)?.parse().ok();
    Some(Stat {
        id: Id { pid, began: fields.get(19)?.parse().ok()? },
        ended: matches!(*fields.first()?, "Z" | "X" | "x"),
        parent: number(1)?,
        group: number(2)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_look_like_the_rest_of_the_line() {
        let line = "77 (a) R 1 1 (b) S 5 6 7 0 -1 4194304 0 0 0 0 0 0 0 0 20 0 1 0 4711 0 0";
        let stat = parse(77, line).expect("a process");
        assert_eq!((stat.parent, stat.group, stat.ended), (5, 6, false));
        assert_eq!(stat.id, Id { pid: 77, began: 4711 });
        assert_eq!(parse(77, "77 (a) Z 5"), None);
    }

    #[test]
    fn finds_the_descendants_of_a_child() {
        let script = "sleep 600 & echo; wait";
        let mut child = process::Command::new("bash")
            .args(["-c", script])
            .stdout(process::Stdio::piped())
            .spawn()
            .expect("bash");
        let mut out = child.stdout.take().expect("a pipe");
        std::io::Read::read(&mut out, &mut [0]).expect("a line");
        let bash = child.id().cast_signed();
        let found = descendants();
        let sleep = found.iter().find(|one| one.parent == bash).expect("sleep");
        assert!(found.iter().any(|one| one.id.pid == bash));
        sleep.id.signal(Signal::SIGKILL);
        child.kill().and_then(|()| child.wait()).expect("its end");
    }
}
