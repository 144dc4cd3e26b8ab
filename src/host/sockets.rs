//! Which ports are listened on, and by whom.

use super::cgroup::members;
use super::sock_diag;
use std::collections::{BTreeSet, HashSet};
use std::fs;

/// A process that listens on a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    pub pid: u32,
    /// The program's name, as in /proc/PID/comm.
    pub name: String,
    control_group: String,
}

impl Listener {
    /// Whether the process lives in this slice.
    pub fn is_in(&self, slice: &str) -> bool {
        self.control_group.split('/').any(|part| part == slice)
    }
}

/// The first process found that listens on this TCP port; proc_pid_net(5).
pub fn listener(port: u16) -> Option<Listener> {
    let inodes = listening_inodes(port);
    if inodes.is_empty() {
        return None;
    }
    let pids = fs::read_dir("/proc").ok()?.flatten();
    pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .find(|pid| holds_socket(*pid, &inodes))
        .map(|pid| {
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
            let control_group = groups.replace('\n', "/");
            Listener { pid, name: name.trim_end().to_owned(), control_group }
        })
}

/// Whether a process of this control group listens on the port.
pub fn listens(control_group: &str, port: u16) -> bool {
    let inodes = listening_inodes(port);
    !inodes.is_empty() && members(control_group).iter().any(|pid| holds_socket(*pid, &inodes))
}

/// The ports on which the processes of this control group listen.
pub fn ports(control_group: &str) -> Vec<u16> {
    let pids = members(control_group);
    let mut ports: Vec<u16> = listening()
        .into_iter()
        .filter(|(_, inode)| {
            let one = HashSet::from([inode.clone()]);
            pids.iter().any(|pid| holds_socket(*pid, &one))
        })
        .map(|(port, _)| port)
        .collect();
    ports.sort_unstable();
    ports.dedup();
    ports
}

/// Every TCP port that something on this machine listens on.
pub fn listening_ports() -> BTreeSet<u16> {
    listening().into_iter().map(|(port, _)| port).collect()
}

/// Ports that the administrator keeps for others: ip(7).
pub fn reserved_ports() -> String {
    fs::read_to_string("/proc/sys/net/ipv4/ip_local_reserved_ports").unwrap_or_default()
}

fn listening_inodes(port: u16) -> HashSet<String> {
    listening().into_iter().filter(|(found, _)| *found == port).map(|(_, inode)| inode).collect()
}

fn listening() -> Vec<(u16, String)> {
    let of = |found: sock_diag::Listening| (found.port, found.inode.to_string());
    match sock_diag::listening() {
        Ok(found) => found.into_iter().map(of).collect(),
        Err(_) => listening_slowly(),
    }
}

/// The same where the kernel has no `tcp_diag`; proc_pid_net(5).
fn listening_slowly() -> Vec<(u16, String)> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"];
    let texts = tables.iter().filter_map(|path| fs::read_to_string(path).ok());
    texts.flat_map(|text| sockets_in(&text)).collect()
}

/// Port and inode of each socket in state LISTEN (0A), from the kernel's table.
fn sockets_in(table: &str) -> Vec<(u16, String)> {
    let socket = |line: &str| {
        let mut fields = line.split_ascii_whitespace().skip(1);
        let local = fields.next()?;
        let (state, inode) = (fields.nth(1)?, fields.nth(5)?);
        let port = u16::from_str_radix(local.rsplit(':').next()?, 16).ok()?;
        (state == "0A").then(|| (port, inode.to_owned()))
    };
    table.lines().skip(1).filter_map(socket).collect()
}

fn holds_socket(pid: u32, inodes: &HashSet<String>) -> bool {
    let Ok(fds) = fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    fds.flatten().filter_map(|fd| fs::read_link(fd.path()).ok()).any(|target| {
        let text = target.to_string_lossy();
        let inode = text.strip_prefix("socket:[").and_then(|rest| rest.strip_suffix(']'));
        inode.is_some_and(|inode| inodes.contains(inode))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1388 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4242 1 0 100 0 0 10 0
   1: 0100007F:1388 0100007F:C350 01 00000000:00000000 00:00000000 00000000     0        0 4243 1 0 100 0 0 10 0
";

    #[test]
    fn only_a_listening_socket_on_the_port_counts() {
        assert_eq!(sockets_in(TABLE), [(5000, "4242".to_owned())]);
    }

    #[test]
    fn both_ways_find_the_same() {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
        let port = socket.local_addr().expect("address").port();
        let found = |all: Vec<(u16, String)>| all.into_iter().find(|(found, _)| *found == port);
        assert!(found(listening()).is_some());
        assert_eq!(found(listening()), found(listening_slowly()));
    }

    #[test]
    fn our_own_listener_is_found() {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
        let port = socket.local_addr().expect("address").port();
        assert_eq!(listener(port).map(|found| found.pid), Some(std::process::id()));
        drop(socket);
        assert_eq!(listener(port), None);
    }
    #[test]
    fn a_unit_that_does_not_run_listens_on_nothing() {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
        let port = socket.local_addr().expect("address").port();
        assert!(!listens("", port));
        assert!(ports("").is_empty());
    }

    #[test]
    fn a_slice_is_a_whole_name_in_the_path() {
        let control_group = "0::/deploy.slice/deploy-a.slice/deploy-a-web-r1@1.service/".to_owned();
        let listener = Listener { pid: 1, name: "node".into(), control_group };
        assert!(listener.is_in("deploy-a.slice"));
        assert!(!listener.is_in("deploy-a") && !listener.is_in("a.slice"));
    }
}
