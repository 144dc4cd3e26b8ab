//! Which clients reach which process through the map.

use crate::world::{CLIENT, MACHINE, PUBLIC, World, from_outside, from_within, map};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;
use testkit::load::server::{Habits, Server};
use testkit::load::{Fault, Load, Tally};

/// Starts a server of this name on the machine.
fn server(world: &World, name: &str, port: u16) -> Server {
    world.machine(|| Server::start(name, port, Habits::default()))
}

fn ask(targets: &[SocketAddr], requests: u64) -> Tally {
    let load = Load::on(targets).connections(targets.len());
    load.patience(Duration::from_millis(300)).most(requests).start().finish()
}

#[test]
fn every_client_reaches_the_public_port() {
    let world = World::new();
    let _server = server(&world, "a", 29001);
    world.load(&map(&[29001]));
    let tally = world.client(|| ask(&from_outside(PUBLIC), 100));
    assert_eq!(tally.answered_by.get("a"), Some(&100), "from another machine: {tally}");
    let tally = world.machine(|| ask(&from_within(PUBLIC), 100));
    assert_eq!(tally.answered_by.get("a"), Some(&100), "from the machine: {tally}");
}

#[test]
fn the_process_sees_the_destination_address_and_the_clients_address() {
    let world = World::new();
    world.load(&map(&[29001]));
    let listener = world.machine(|| TcpListener::bind("0.0.0.0:29001")).expect("listen");
    let target = SocketAddr::new(MACHINE.into(), PUBLIC);
    let connect = || TcpStream::connect(target).expect("connect");
    for (client, host) in [(world.client(connect), CLIENT), (world.machine(connect), MACHINE)] {
        let (accepted, from) = listener.accept().expect("accept");
        assert_eq!(accepted.local_addr().expect("local"), SocketAddr::new(MACHINE.into(), 29001));
        assert_eq!((from, from.ip()), (client.local_addr().expect("local"), host.into()));
    }
}

#[test]
fn other_machines_reach_a_private_port_through_the_map_alone() {
    let world = World::new();
    let (_current, _candidate) = (server(&world, "a", 29001), server(&world, "b", 29002));
    let mut ports = map(&[29001, 29002]);
    ports.public[0].private = vec![29001];
    world.load(&ports);
    for port in [29001, 29002] {
        let tally = world.client(|| ask(&from_outside(port), 2));
        assert_eq!(tally.count(Fault::TimedOut), 2, "{port}: {tally}");
        let tally = world.machine(|| ask(&from_within(port), 4));
        assert_eq!(tally.ok, 4, "{port}, from the machine: {tally}");
    }
    world.load(&map(&[]));
    let tally = world.client(|| ask(&from_outside(29001), 2));
    assert_eq!(tally.ok, 2, "without the guard: {tally}");
}

#[test]
fn processes_share_the_connections_evenly() {
    let world = World::new();
    let _servers = [29001, 29002, 29003].map(|port| server(&world, &port.to_string(), port));
    world.load(&map(&[29001, 29002, 29003]));
    let tally = world.client(|| ask(&from_outside(PUBLIC), 300));
    for name in ["29001", "29002", "29003"] {
        assert_eq!(tally.answered_by.get(name), Some(&100), "{tally}");
    }
}

#[test]
fn the_same_port_on_other_machines_is_not_mapped() {
    let world = World::new();
    let _ours = server(&world, "ours", 29001);
    let _theirs = world.client(|| Server::start("theirs", PUBLIC, Habits::default()));
    world.load(&map(&[29001]));
    let tally = world.machine(|| ask(&[SocketAddr::new(CLIENT.into(), PUBLIC)], 4));
    assert_eq!(tally.answered_by.get("theirs"), Some(&4), "{tally}");
}

#[test]
fn a_public_port_without_a_process_refuses_connections() {
    let world = World::new();
    world.load(&map(&[]));
    let tally = world.client(|| ask(&from_outside(PUBLIC), 4));
    assert_eq!(tally.count(Fault::Refused), 4, "{tally}");
}
