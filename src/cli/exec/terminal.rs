//! A pseudo terminal for a command, and this terminal meanwhile.

use nix::pty::{OpenptyResult, Winsize, openpty};
use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};
use std::fs::File;
use std::io::{self, Stdin};
use std::os::fd::{AsRawFd, OwnedFd};

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
