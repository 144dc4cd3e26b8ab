//! A machine and a client on the test's own network, which ends with the last of its threads
//! and sockets.

use model::release::settings::Clients;
use model::units::ports::{PortMap, Protocol, Public, script};
use nix::sched::{CloneFlags, setns, unshare};
use std::fs::File;
use std::io::{ErrorKind, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::process::{self, Command, Output, Stdio};
use std::time::Duration;
use std::{panic, thread};

/// The public port of every test.
pub const PUBLIC: u16 = 5000;

pub const MACHINE: Ipv4Addr = Ipv4Addr::new(10, 78, 0, 2);
pub const MACHINE6: Ipv6Addr = Ipv6Addr::new(0xfd78, 0, 0, 0, 0, 0, 0, 2);
pub const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 78, 0, 1);

pub struct World {
    machine: File,
    client: File,
}

impl World {
    pub fn new() -> World {
        let machine = namespace("link set lo up\n");
        let client = namespace("link set lo up\n");
        let machine_path = format!("/proc/{}/fd/{}", process::id(), machine.as_raw_fd());
        let world = World { machine, client };
        world.client(|| {
            ip(&format!(
                "link add eth0 type veth peer name eth0 netns {machine_path}\n\
                 addr add {CLIENT}/24 dev eth0\n\
                 addr add fd78::1/64 dev eth0 nodad\n\
                 link set eth0 up\n"
            ));
        });
        world.machine(|| {
            ip(&format!(
                "addr add {MACHINE}/24 dev eth0\n\
                 addr add {MACHINE6}/64 dev eth0 nodad\n\
                 link set eth0 up\n"
            ));
        });
        world.client(|| from_outside(PUBLIC).into_iter().for_each(wait_for));
        world
    }

    /// Runs `work` on the machine that has the map.
    pub fn machine<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        within(&self.machine, work)
    }

    /// Runs `work` on the other machine.
    pub fn client<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        within(&self.client, work)
    }

    pub fn load(&self, map: &PortMap) {
        let loaded = self.nft(&["-f", "-"], &script(map));
        assert!(loaded.status.success(), "{loaded:?}\n{}", script(map));
    }

    /// Returns the output of `nft list …`.
    pub fn list(&self, what: &str) -> String {
        let listed = self.nft(&["list", what], "");
        assert!(listed.status.success(), "{listed:?}");
        String::from_utf8(listed.stdout).expect("UTF-8")
    }

    /// Runs nft(8) on the machine.
    pub fn nft(&self, arguments: &[&str], input: &str) -> Output {
        self.machine(|| run("nft", arguments, input))
    }
}

/// Returns a map of the one public TCP port to these private ones.
pub fn map(private: &[u16]) -> PortMap {
    let (protocol, clients) = (Protocol::Tcp, Clients::Anywhere);
    let public = Public { protocol, port: PUBLIC, private: private.to_vec(), clients };
    let private = private.iter().map(|port| (Protocol::Tcp, *port)).collect();
    PortMap { public: vec![public], private, ..PortMap::default() }
}

/// The machine's addresses for other machines.
pub fn from_outside(port: u16) -> [SocketAddr; 2] {
    [IpAddr::from(MACHINE), MACHINE6.into()].map(|address| SocketAddr::new(address, port))
}

/// The machine's addresses for itself.
pub fn from_within(port: u16) -> [SocketAddr; 4] {
    [IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into(), MACHINE.into(), MACHINE6.into()]
        .map(|address| SocketAddr::new(address, port))
}

/// Waits until the address refuses connections: a new link loses its first packets.
fn wait_for(address: SocketAddr) {
    let heard = || {
        let tried = TcpStream::connect_timeout(&address, Duration::from_millis(100));
        tried.is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
    };
    assert!((0..50).any(|_| heard()), "{address} is not reached within 5 seconds");
}

fn namespace(commands: &str) -> File {
    on_a_thread(|| {
        unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace");
        ip(commands);
        File::open("/proc/thread-self/ns/net").expect("the namespace")
    })
}

fn within<T: Send>(namespace: &File, work: impl FnOnce() -> T + Send) -> T {
    on_a_thread(|| {
        setns(namespace, CloneFlags::CLONE_NEWNET).expect("enter the namespace");
        work()
    })
}

fn on_a_thread<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    let done = thread::scope(|scope| scope.spawn(work).join());
    done.unwrap_or_else(|cause| panic::resume_unwind(cause))
}

fn ip(commands: &str) {
    let ran = run("ip", &["-batch", "-"], commands);
    assert!(ran.status.success(), "{ran:?}\n{commands}");
}

fn run(program: &str, arguments: &[&str], input: &str) -> Output {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|e| panic!("start {program}: {e}"));
    let mut stdin = child.stdin.take().expect("a pipe");
    stdin.write_all(input.as_bytes()).expect("write to its stdin");
    drop(stdin);
    child.wait_with_output().expect("wait for it")
}
