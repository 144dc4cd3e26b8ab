//! Lists listening ports, with their processes.
//!
//! For each socket the kernel reports the control group that created it. If it does not, or if the
//! socket was passed to its process, the open files of processes are read. Their number depends on
//! the apps, so the reads are bounded in number and in time.

use super::cgroup;
use super::sock_diag::{self, Listening};
use model::release::reach::Endpoint;
use std::collections::{BTreeSet, HashSet};
use std::fs;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How many of the lowest descriptors of a process are examined: a server listens before it has
/// clients.
const DESCRIPTORS: usize = 4096;
/// The time limit for examining descriptors: a million of them take about 2 s.
const LONGEST: Duration = Duration::from_secs(1);

/// A process that listens on a port.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listener {
    pub pid: u32,
    /// The program's name, as in /proc/PID/comm.
    pub name: String,
    pub control_group: String,
}

impl Listener {
    /// Whether the process is in this slice.
    pub fn is_in(&self, slice: &str) -> bool {
        self.control_group.split('/').any(|part| part == slice)
    }
}

/// Returns the first process found that listens on this TCP port and is not in the slice `but`;
/// proc_pid_net(5). It may take a second, and finds none if processes have too many open files.
pub fn listener(port: u16, but: Option<&str>) -> Option<Listener> {
    holder(listening(), port, but)
}

/// The same for the receiver of a UDP port.
pub fn receiver(port: u16, but: Option<&str>) -> Option<Listener> {
    holder(bound_udp(), port, but)
}

fn holder(sockets: Vec<Listening>, port: u16, but: Option<&str>) -> Option<Listener> {
    let on_it = sockets.into_iter().filter(|found| found.endpoint.port == port);
    let inodes: HashSet<u32> = on_it.map(|found| found.inode).collect();
    if inodes.is_empty() {
        return None;
    }
    let end = Instant::now() + LONGEST;
    let pids = fs::read_dir("/proc").ok()?.flatten();
    pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .take_while(|_| Instant::now() < end)
        .filter(|pid| sockets_of(*pid).any(|inode| inodes.contains(&inode)))
        .map(|pid| {
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
            let control_group = groups.replace('\n', "/");
            Listener { pid, name: name.trim_end().to_owned(), control_group }
        })
        .find(|found| but.is_none_or(|slice| !found.is_in(slice)))
}

/// Returns the endpoints on which the processes of this control group listen.
pub async fn endpoints(control_group: &str) -> Vec<Endpoint> {
    let group = control_group.to_owned();
    let found = tokio::task::spawn_blocking(move || {
        let all = listening();
        let mut ours = made_in(&all, &group);
        if ours.is_empty() {
            ours = held_in(all, &group);
        }
        let mut endpoints: Vec<Endpoint> = ours.into_iter().map(|found| found.endpoint).collect();
        endpoints.sort_unstable();
        endpoints.dedup();
        endpoints
    });
    found.await.unwrap_or_default()
}

/// Returns the sockets created by processes of this control group.
fn made_in(all: &[Listening], control_group: &str) -> Vec<Listening> {
    let numbers = cgroup::numbers(control_group);
    let is_ours = |found: &&Listening| found.cgroup.is_some_and(|made| numbers.contains(&made));
    all.iter().filter(is_ours).copied().collect()
}

/// Returns the sockets among the first descriptors of this control group's processes.
fn held_in(mut all: Vec<Listening>, control_group: &str) -> Vec<Listening> {
    let end = Instant::now() + LONGEST;
    let listening: HashSet<u32> = all.iter().map(|found| found.inode).collect();
    let pids = cgroup::members(control_group).into_iter().take_while(|_| Instant::now() < end);
    let held: HashSet<u32> =
        pids.flat_map(sockets_of).filter(|inode| listening.contains(inode)).collect();
    all.retain(|found| held.contains(&found.inode));
    all
}

/// Returns every TCP port on this instance with a listener.
pub fn listening_ports() -> BTreeSet<u16> {
    listening().into_iter().map(|found| found.endpoint.port).collect()
}

/// The same, and every UDP port with a receiver.
pub fn bound_ports() -> BTreeSet<u16> {
    listening().into_iter().chain(bound_udp()).map(|found| found.endpoint.port).collect()
}

/// Returns the first port that a process without CAP_NET_BIND_SERVICE may bind: ip(7).
pub fn first_unprivileged_port() -> u16 {
    let path = "/proc/sys/net/ipv4/ip_unprivileged_port_start";
    fs::read_to_string(path).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(1024)
}

fn bound_udp() -> Vec<Listening> {
    sock_diag::bound_udp().unwrap_or_else(|_| slowly(["/proc/net/udp", "/proc/net/udp6"], "07"))
}

fn listening() -> Vec<Listening> {
    sock_diag::listening().unwrap_or_else(|_| listening_slowly())
}

/// The same for a kernel without `tcp_diag`; proc_pid_net(5). It does not show whether an IPv6
/// socket excludes IPv4, which few do.
fn listening_slowly() -> Vec<Listening> {
    slowly(["/proc/net/tcp", "/proc/net/tcp6"], "0A")
}

fn slowly(tables: [&str; 2], state: &str) -> Vec<Listening> {
    let texts = tables.iter().filter_map(|path| fs::read_to_string(path).ok());
    texts.flat_map(|text| sockets_in(&text, state)).collect()
}

/// Returns each socket in this state from the kernel's table: 0A is LISTEN, and 07 a UDP socket
/// that is not connected.
fn sockets_in(table: &str, wanted: &str) -> Vec<Listening> {
    let socket = |line: &str| {
        let mut fields = line.split_ascii_whitespace().skip(1);
        let (address, port) = fields.next()?.rsplit_once(':')?;
        let (state, inode) = (fields.nth(1)?, fields.nth(5)?);
        let port = u16::from_str_radix(port, 16).ok()?;
        let endpoint = Endpoint { address: address_in(address)?, port, v6only: false };
        let inode = inode.parse().ok()?;
        (state == wanted).then_some(Listening { endpoint, inode, cgroup: None })
    };
    table.lines().skip(1).filter_map(socket).collect()
}

/// Parses an address of the kernel's table: words of 32 bits in native byte order.
fn address_in(text: &str) -> Option<IpAddr> {
    let word =
        |at: usize| u32::from_str_radix(text.get(at..at + 8)?, 16).ok().map(u32::to_ne_bytes);
    match text.len() {
        8 => Some(IpAddr::from(word(0)?)),
        32 => {
            let words = [word(0)?, word(8)?, word(16)?, word(24)?].concat();
            Some(IpAddr::from(<[u8; 16]>::try_from(words).ok()?))
        }
        _ => None,
    }
}

/// Returns the socket inodes among the first descriptors of a process.
fn sockets_of(pid: u32) -> impl Iterator<Item = u32> {
    let fds = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let targets = fds.take(DESCRIPTORS).filter_map(|fd| fs::read_link(fd.path()).ok());
    let inode = |target: PathBuf| {
        target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
    };
    targets.filter_map(inode)
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
        let found: Vec<_> = sockets_in(TABLE, "0A");
        let [Listening { endpoint, inode: 4242, .. }] = found[..] else { panic!("{found:?}") };
        assert_eq!(endpoint.to_string(), "127.0.0.1:5000");
    }

    #[test]
    fn parses_addresses_of_both_families() {
        let read = |text: &str| address_in(text).expect("an address").to_string();
        let one = u32::from_ne_bytes([0, 0, 0, 1]);
        assert_eq!(read(&format!("{}{one:08X}", "0".repeat(24))), "::1");
        assert_eq!(read("00000000"), "0.0.0.0");
        assert_eq!((address_in("0"), address_in("0000000é")), (None, None));
    }

    #[test]
    fn proc_and_netlink_find_the_same_sockets() {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
        let port = socket.local_addr().expect("address").port();
        let found = |all: Vec<Listening>| all.into_iter().find(|found| found.endpoint.port == port);
        assert!(found(listening()).is_some());
        let inode = |all| found(all).map(|found| (found.endpoint, found.inode));
        assert_eq!(inode(listening()), inode(listening_slowly()));
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("bind");
        let port = socket.local_addr().expect("address").port();
        let udp = slowly(["/proc/net/udp", "/proc/net/udp6"], "07");
        let found = |all: Vec<Listening>| all.into_iter().find(|found| found.endpoint.port == port);
        assert!(found(bound_udp()).is_some());
        let inode = |all| found(all).map(|found| (found.endpoint, found.inode));
        assert_eq!(inode(bound_udp()), inode(udp));
    }

    #[test]
    fn finds_a_listener_of_this_process() {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
        let port = socket.local_addr().expect("address").port();
        assert_eq!(listener(port, None).map(|found| found.pid), Some(std::process::id()));
        drop(socket);
        assert_eq!(listener(port, None), None);
    }

    #[test]
    fn a_unit_that_does_not_run_listens_on_nothing() {
        let _socket = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
        assert!(made_in(&listening(), "").is_empty() && held_in(listening(), "").is_empty());
    }

    #[test]
    fn finds_a_socket_by_the_group_of_its_process() {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
        let port = socket.local_addr().expect("address").port();
        let groups = fs::read_to_string("/proc/self/cgroup").expect("groups");
        let has_port = |found: Vec<Listening>| found.iter().any(|f| f.endpoint.port == port);
        let own = cgroup::own().expect("a group");
        assert!(has_port(held_in(listening(), &own)), "{groups}");
        assert!(!has_port(held_in(listening(), "/no-such-group")));
        assert!(!has_port(made_in(&listening(), "/no-such-group")));
    }

    #[test]
    fn the_open_files_of_a_process_are_bounded() {
        let made: Vec<_> =
            (0..2 * DESCRIPTORS).map_while(|_| fs::File::open("/dev/null").ok()).collect();
        let seen = sockets_of(std::process::id()).count();
        assert!(seen <= DESCRIPTORS, "{seen} of {}", made.len());
    }

    #[test]
    fn a_slice_is_a_whole_component_of_the_path() {
        let control_group = "0::/deploy.slice/deploy-a.slice/deploy-a-web-r1@1.service/".to_owned();
        let listener = Listener { pid: 1, name: "node".into(), control_group };
        assert!(listener.is_in("deploy-a.slice"));
        assert!(!listener.is_in("deploy-a") && !listener.is_in("a.slice"));
    }
}
