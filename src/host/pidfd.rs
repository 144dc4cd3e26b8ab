//! Signals for exactly one process: a pid may be reused at any time, pidfd_open(2).

use nix::errno::Errno;
use nix::libc::{self, siginfo_t};
use nix::sys::signal::Signal;
use std::fs;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::ptr;

/// A process, even if its pid is reused.
pub struct Pidfd(OwnedFd);

impl Pidfd {
    /// Opens the process that has this pid now.
    pub fn open(pid: i32) -> nix::Result<Pidfd> {
        // SAFETY: the kernel takes two numbers, and returns a new descriptor or an error.
        let fd = Errno::result(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })?;
        let fd = i32::try_from(fd).map_err(|_| Errno::EBADF)?;
        // SAFETY: it was opened above, and has no other owner.
        Ok(Pidfd(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    pub fn send(&self, signal: Signal) -> nix::Result<()> {
        let (fd, none) = (self.0.as_raw_fd(), ptr::null_mut::<siginfo_t>());
        // SAFETY: the kernel reads no memory without siginfo.
        let sent =
            unsafe { libc::syscall(libc::SYS_pidfd_send_signal, fd, signal as i32, none, 0) };
        Errno::result(sent).map(drop)
    }
}

/// Whether the process of this pid runs the program of this name. Another process may have the pid
/// by now, though rarely of the same program.
pub fn runs(pid: u32, program: &str) -> bool {
    let name = fs::read_to_string(format!("/proc/{pid}/comm"));
    name.is_ok_and(|name| name.trim_end() == program)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;
    use std::process::Command;
    use std::thread;
    use std::time::{Duration, Instant};

    #[test]
    fn a_signal_reaches_only_this_process() {
        let mut child = Command::new("sleep").arg("60").spawn().expect("sleep");
        let process = Pidfd::open(child.id().cast_signed()).expect("a process");
        let (pid, deadline) = (child.id(), Instant::now() + Duration::from_secs(10));
        // The kernel names it a little after the exec for which `spawn` waits.
        while !runs(pid, "sleep") {
            assert!(Instant::now() < deadline);
            thread::yield_now();
        }
        assert!(!runs(pid, "sleepy"));
        process.send(Signal::SIGTERM).expect("it runs");
        assert_eq!(child.wait().expect("its end").signal(), Some(libc::SIGTERM));
        assert_eq!(process.send(Signal::SIGTERM), Err(Errno::ESRCH));
        assert!(!runs(pid, "sleep") && !runs(0, "sleep"));
    }
}
