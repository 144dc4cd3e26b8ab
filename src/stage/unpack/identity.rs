//! The file-system identity of the owner, for one thread: every file is created with its owner,
//! and the kernel itself refuses a write anywhere else (credentials(7), setfsuid(2)).

use super::Owner;
use model::error::Error;
use nix::errno::Errno;
use nix::libc;
use nix::unistd::{Gid, Uid, getegid, geteuid, getgroups, setfsgid, setfsuid};
use std::marker::PhantomData;

/// Held by the thread that acts as the owner; restores the thread's identity when dropped.
pub(super) struct Identity {
    before: Option<Before>,
    /// The identity belongs to a thread: the same thread must restore it.
    not_send: PhantomData<*const ()>,
}

struct Before {
    uid: Uid,
    gid: Gid,
    groups: Vec<Gid>,
}

impl Identity {
    /// A process that is not root keeps its own identity.
    pub(super) fn take(owner: Owner) -> Result<Identity, Error> {
        let (uid, gid) = (Uid::from_raw(owner.uid), Gid::from_raw(owner.gid));
        if !geteuid().is_root() {
            return match uid == geteuid() && gid == getegid() {
                true => Ok(Identity { before: None, not_send: PhantomData }),
                false => Err(cannot(owner, "only root can act as another user")),
            };
        }
        let groups = getgroups().map_err(|errno| cannot(owner, errno))?;
        set_groups(&[]).map_err(|errno| cannot(owner, errno))?;
        let before = Before { gid: setfsgid(gid), uid: setfsuid(uid), groups };
        let identity = Identity { before: Some(before), not_send: PhantomData };
        match acting_as() == (uid, gid) {
            true => Ok(identity),
            false => Err(cannot(owner, "the kernel kept another identity")),
        }
    }
}

impl Drop for Identity {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            setfsuid(before.uid);
            setfsgid(before.gid);
            // It cannot fail for a process that dropped them; if it did, rights would be lost, not
            // gained.
            let _ = set_groups(&before.groups);
        }
    }
}

/// Neither call changes anything for an invalid id; both return the current one.
fn acting_as() -> (Uid, Gid) {
    (setfsuid(Uid::from_raw(u32::MAX)), setfsgid(Gid::from_raw(u32::MAX)))
}

/// Sets the supplementary groups of this thread alone. The C library's `setgroups`
/// sets those of every thread of the process.
fn set_groups(groups: &[Gid]) -> nix::Result<()> {
    let raw: Vec<libc::gid_t> = groups.iter().map(|gid| gid.as_raw()).collect();
    // SAFETY: the kernel reads `raw.len()` ids of the type it expects, and keeps none.
    let done = unsafe { libc::syscall(libc::SYS_setgroups, raw.len(), raw.as_ptr()) };
    Errno::result(done).map(drop)
}

fn cannot(owner: Owner, cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    let Owner { uid, gid } = owner;
    Error::failed(format!("cannot unpack as user {uid}, group {gid}"))
        .because(cause)
        .help("run as root, with CAP_SETUID and CAP_SETGID")
}
