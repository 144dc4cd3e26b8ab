//! File descriptors that a caller passes along with its request: SCM_RIGHTS of unix(7).

use nix::cmsg_space;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use std::io::{self, ErrorKind, IoSliceMut};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use tokio::io::{Interest, ReadBuf};
use tokio::net::UnixStream;

/// The most descriptors of a connection: the three standard streams.
const MOST: usize = 3;

/// The descriptors of a connection that nobody has taken yet.
#[derive(Clone, Debug, Default)]
pub struct Handed(Arc<Mutex<Vec<OwnedFd>>>);

impl Handed {
    /// Takes all descriptors.
    pub fn take(&self) -> Vec<OwnedFd> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Keeps descriptors, and closes those above the limit.
    fn keep(&self, more: impl Iterator<Item = OwnedFd>) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for fd in more {
            if kept.len() < MOST {
                kept.push(fd);
            }
        }
    }
}

/// Reads what there is, and keeps the descriptors that come with it.
pub fn poll_read(
    stream: &UnixStream,
    handed: &Handed,
    cx: &mut Context<'_>,
    into: &mut ReadBuf<'_>,
) -> Poll<io::Result<()>> {
    loop {
        ready!(stream.poll_read_ready(cx))?;
        match stream.try_io(Interest::READABLE, || receive(stream, handed, into)) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            read => return Poll::Ready(read),
        }
    }
}

fn receive(stream: &UnixStream, handed: &Handed, into: &mut ReadBuf<'_>) -> io::Result<()> {
    // The kernel closes the descriptors that do not fit.
    let mut space = cmsg_space!([RawFd; MOST]);
    let mut buffers = [IoSliceMut::new(into.initialize_unfilled())];
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let message = recvmsg::<()>(stream.as_raw_fd(), &mut buffers, Some(&mut space), flags)?;
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(fds) = control {
            // SAFETY: the kernel has just made these for this process alone.
            handed.keep(fds.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
        }
    }
    let read = message.bytes;
    into.advance(read);
    Ok(())
}
