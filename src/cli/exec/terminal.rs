//! A pseudo terminal for a command, and this terminal meanwhile.

use nix::pty::{OpenptyResult, Winsize, openpty};
use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcgetsid, tcsetattr};
use std::fs::{self, File};
use std::io::{self, Stdin};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

/// How long a command may take to execute its program before it gets what is typed.
const LONGEST_START: Duration = Duration::from_secs(5);
const LOOK: Duration = Duration::from_millis(5);

nix::ioctl_read_bad!(window_size, nix::libc::TIOCGWINSZ, Winsize);
nix::ioctl_write_ptr_bad!(set_window_size, nix::libc::TIOCSWINSZ, Winsize);

/// Our end of the pseudo terminal. When it is closed, the command gets SIGHUP.
pub struct Terminal(File);

/// This terminal in raw mode, until it is dropped.
pub struct Raw(Stdin, Termios);

impl Terminal {
    /// Opens one like this terminal; returns the command's end too.
    pub fn open() -> io::Result<(Terminal, OwnedFd)> {
        let mode = tcgetattr(io::stdin())?;
        let OpenptyResult { master, slave } = openpty(None, &mode)?;
        let terminal = Terminal(master.into());
        terminal.resize();
        Ok((terminal, slave))
    }

    /// Gives it the size of this terminal; the kernel tells its programs by SIGWINCH.
    pub fn resize(&self) {
        let mut size = Winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
        // SAFETY: the structure lives throughout both calls.
        unsafe {
            if window_size(io::stdin().as_raw_fd(), &mut size).is_ok() {
                let _ = set_window_size(self.0.as_raw_fd(), &size);
            }
        }
    }

    /// Waits until the command has the terminal. What is typed before would be lost: systemd
    /// flushes a terminal that it gives to a process.
    pub async fn taken(&self) {
        let deadline = Instant::now() + LONGEST_START;
        while !self.is_taken() && Instant::now() < deadline {
            tokio::time::sleep(LOOK).await;
        }
    }

    fn is_taken(&self) -> bool {
        let Ok(leader) = tcgetsid(&self.0) else { return false };
        // A process of systemd's that has not executed its program is called `(program)`.
        let name = fs::read_to_string(format!("/proc/{leader}/comm"));
        !name.is_ok_and(|name| name.starts_with('('))
    }

    pub fn copy(&self) -> io::Result<File> {
        self.0.try_clone()
    }

    /// Lets every key of this terminal reach the command, ^C and ^Z too.
    pub fn make_raw(&self) -> io::Result<Raw> {
        let stdin = io::stdin();
        let saved = tcgetattr(&stdin)?;
        let mut raw = saved.clone();
        cfmakeraw(&mut raw);
        tcsetattr(&stdin, SetArg::TCSADRAIN, &raw)?;
        Ok(Raw(stdin, saved))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let _ = tcsetattr(&self.0, SetArg::TCSANOW, &self.1);
    }
}
