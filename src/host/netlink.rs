//! Requests to the kernel over netlink(7), with their complete responses.

use nix::sys::socket::sockopt::ReceiveTimeout;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, setsockopt, socket,
};
use nix::sys::time::{TimeVal, TimeValLike};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

/// Constants of linux/netlink.h.
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_REQUEST: u16 = 0x1;
const NLM_F_DUMP_INTR: u16 = 0x10;
const NLM_F_DUMP: u16 = 0x300;

/// Size of `struct nlmsghdr` in bytes.
const HEADER: usize = 16;

/// Timeout in seconds; the kernel normally responds at once.
const ANSWER: i64 = 5;

/// Calls `each` with every object of a dump. A change during the dump invalidates it: that is
/// `Interrupted`.
pub(super) fn dump(
    protocol: SockProtocol,
    kind: u16,
    payload: &[u8],
    mut each: impl FnMut(&[u8]),
) -> io::Result<()> {
    let kernel = open(protocol)?;
    send(kernel.as_raw_fd(), &request(kind, payload), MsgFlags::empty())?;
    // The kernel sends no longer piece of a dump.
    let mut buffer = vec![0; 32 << 10];
    loop {
        let length = recv(kernel.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
        let mut rest = buffer.get(..length).unwrap_or_default();
        while let Some(message) = next(&mut rest) {
            if message.flags & NLM_F_DUMP_INTR != 0 {
                return Err(io::ErrorKind::Interrupted.into());
            }
            match message.kind {
                NLMSG_DONE if message.code() < 0 => return Err(message.error()),
                NLMSG_DONE => return Ok(()),
                NLMSG_ERROR => return Err(message.error()),
                _ => each(message.payload),
            }
        }
    }
}

pub(super) fn open(protocol: SockProtocol) -> io::Result<OwnedFd> {
    let (family, flags) = (AddressFamily::Netlink, SockFlag::SOCK_CLOEXEC);
    let kernel = socket(family, SockType::Raw, flags, protocol)?;
    setsockopt(&kernel, ReceiveTimeout, &TimeVal::seconds(ANSWER))?;
    Ok(kernel)
}

fn request(kind: u16, payload: &[u8]) -> Vec<u8> {
    let length = HEADER + payload.len();
    let mut request = Vec::with_capacity(length);
    request.extend(u32::try_from(length).unwrap_or_default().to_ne_bytes());
    request.extend(kind.to_ne_bytes());
    request.extend((NLM_F_REQUEST | NLM_F_DUMP).to_ne_bytes());
    request.extend([0; 8]);
    request.extend(payload);
    request
}

struct Message<'a> {
    kind: u16,
    flags: u16,
    payload: &'a [u8],
}

impl Message<'_> {
    fn error(&self) -> io::Error {
        io::Error::from_raw_os_error(self.code().saturating_neg())
    }

    fn code(&self) -> i32 {
        self.payload.first_chunk().copied().map_or(0, i32::from_ne_bytes)
    }
}

/// Takes the next message, and skips the padding after it.
fn next<'a>(rest: &mut &'a [u8]) -> Option<Message<'a>> {
    let length = usize::try_from(u32::from_ne_bytes(*rest.first_chunk()?)).ok()?;
    let kind = u16::from_ne_bytes(*rest.get(4..)?.first_chunk()?);
    let flags = u16::from_ne_bytes(*rest.get(6..)?.first_chunk()?);
    let payload = rest.get(HEADER..length)?;
    *rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    Some(Message { kind, flags, payload })
}

/// Returns the value of the attribute with this kind from a list of attributes.
pub(super) fn attribute(mut rest: &[u8], kind: u16) -> Option<&[u8]> {
    loop {
        let length = usize::from(u16::from_ne_bytes(*rest.first_chunk()?));
        let found = u16::from_ne_bytes(*rest.get(2..)?.first_chunk()?);
        let value = rest.get(4..length)?;
        // The two highest bits are flags about the value: NLA_TYPE_MASK.
        if found & 0x3fff == kind {
            return Some(value);
        }
        rest = rest.get(length.next_multiple_of(4)..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_with_a_wrong_length_ends_the_dump() {
        for length in [0_u32, 15, 17, u32::MAX] {
            let mut bytes = length.to_ne_bytes().to_vec();
            bytes.resize(HEADER, 0);
            assert!(next(&mut bytes.as_slice()).is_none());
        }
    }

    #[test]
    fn a_kernel_error_keeps_its_errno() {
        let message = Message { kind: NLMSG_ERROR, flags: 0, payload: &(-2_i32).to_ne_bytes() };
        assert_eq!(message.error().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn an_attribute_is_found_by_its_kind() {
        let list = [6, 0, 2, 0x80, 9, 9, 0, 0, 5, 0, 11, 0, 1, 0, 0, 0];
        assert_eq!(attribute(&list, 11), Some(&[1][..]));
        assert_eq!(attribute(&list, 2), Some(&[9, 9][..]));
        assert_eq!(attribute(&list, 12), None);
    }

    #[test]
    fn an_attribute_with_a_wrong_length_ends_the_search() {
        for length in [0, 3, 17, 255] {
            assert_eq!(attribute(&[length, 0, 2, 0, 9, 9, 0, 0], 2), None);
        }
    }
}
