//! The kernel's nftables rules, as far as the agent needs them: whether its own table still has
//! the rules that it loaded, and when anyone changes rules. Rules are read over netlink, which
//! needs CAP_NET_ADMIN; only nft(8) changes them.

use super::netlink::{self, attribute};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::socket::{MsgFlags, NetlinkAddr, SockProtocol, bind, recv};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use tokio::io::unix::AsyncFd;

/// Constants of linux/netfilter/nfnetlink.h and nf_tables.h.
const NFNL_SUBSYS_NFTABLES: u16 = 10;
const NFT_MSG_GETRULE: u16 = 7;
const NFPROTO_INET: u8 = 1;
const NFNLGRP_NFTABLES: u32 = 7;
const NFTA_RULE_TABLE: u16 = 1;
const NFTA_RULE_CHAIN: u16 = 2;
const NFTA_RULE_EXPRESSIONS: u16 = 4;

/// Size of `struct nfgenmsg` in bytes.
const HEADER: usize = 4;

/// A hash of the rules in a table of the family `inet`, which changes when they do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fingerprint {
    pub rules: usize,
    pub hash: u64,
}

/// How often rules that change during the read are read again.
const TRIES: u32 = 5;

/// Reads the rules of a table; a missing table has none.
pub fn fingerprint(table: &str) -> io::Result<Fingerprint> {
    let mut tries = 1;
    loop {
        match read(table) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted && tries < TRIES => tries += 1,
            read => return read,
        }
    }
}

fn read(table: &str) -> io::Result<Fingerprint> {
    let mut hasher = DefaultHasher::new();
    let mut rules = 0;
    let kind = NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETRULE;
    let request = [NFPROTO_INET, 0, 0, 0];
    netlink::dump(SockProtocol::NetlinkNetFilter, kind, &request, |rule| {
        let attributes = rule.get(HEADER..).unwrap_or_default();
        let named = attribute(attributes, NFTA_RULE_TABLE);
        if named.and_then(|name| name.strip_suffix(b"\0")) == Some(table.as_bytes()) {
            rules += 1;
            attribute(attributes, NFTA_RULE_CHAIN).hash(&mut hasher);
            attribute(attributes, NFTA_RULE_EXPRESSIONS).hash(&mut hasher);
        }
    })?;
    Ok(Fingerprint { rules, hash: hasher.finish() })
}

/// The kernel's notifications of changes to any rules.
pub struct Changes(AsyncFd<OwnedFd>);

impl Changes {
    pub fn follow() -> io::Result<Changes> {
        let kernel = netlink::open(SockProtocol::NetlinkNetFilter)?;
        let groups = 1 << (NFNLGRP_NFTABLES - 1);
        bind(kernel.as_raw_fd(), &NetlinkAddr::new(0, groups))?;
        fcntl(&kernel, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        // SAFETY: the registered value owns the descriptor, which stays open and the same as long
        // as that value lives.
        let registered = unsafe { AsyncFd::register(kernel) };
        Ok(Changes(registered?))
    }

    /// Waits for the next change, and consumes all notifications up to then.
    pub async fn next(&self) -> io::Result<()> {
        let mut ready = self.0.readable().await?;
        let mut buffer = [0; 4 << 10];
        loop {
            match recv(self.0.as_raw_fd(), &mut buffer, MsgFlags::MSG_TRUNC) {
                Ok(_) | Err(nix::Error::EINTR) => {}
                // Notifications were lost: that is a change as well.
                Err(nix::Error::ENOBUFS) => {}
                Err(nix::Error::EAGAIN) => break,
                Err(error) => return Err(error.into()),
            }
        }
        ready.clear_ready();
        Ok(())
    }
}
