//! A switch from one release to the next: no connection is refused, cut or moved.

use crate::world::{CLIENT, MACHINE, PUBLIC, World, from_outside, from_within, map};
use model::units::ports::{Protocol, script};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;
use testkit::load::Load;
use testkit::load::server::{Habits, Server};

const OLD: u16 = 29001;
const NEW: u16 = 29002;

fn both(world: &World, habits: Habits) -> (Server, Server) {
    let start = |name, port| world.machine(|| Server::start(name, port, habits.clone()));
    (start("old", OLD), start("new", NEW))
}

/// Sends one request on an open connection, and returns the name of the server that responds.
fn ask(stream: &TcpStream) -> String {
    let mut request = stream;
    request.write_all(b"GET / HTTP/1.1\r\n\r\n").expect("ask");
    let mut lines = BufReader::new(stream);
    while lines.read_line(&mut String::new()).expect("a line") > 2 {}
    let mut name = [0; 3];
    lines.read_exact(&mut name).expect("the body");
    String::from_utf8_lossy(&name).into_owned()
}

#[test]
fn no_request_fails_while_the_map_goes_back_and_forth() {
    let world = World::new();
    let (_old, _new) =
        both(&world, Habits { takes: Some(Duration::from_millis(2)), ..Habits::default() });
    world.load(&map(&[OLD]));
    let (outside, within) = (from_outside(PUBLIC), from_within(PUBLIC));
    let loads = [
        ("outside, close", world.client(|| Load::on(&outside).start())),
        ("outside, keep-alive", world.client(|| Load::on(&outside).keep_alive().start())),
        ("within, close", world.machine(|| Load::on(&within).start())),
        ("within, keep-alive", world.machine(|| Load::on(&within).keep_alive().start())),
    ];
    for _ in 0..50 {
        for private in [NEW, OLD] {
            // The preflight's check must change nothing.
            let checked = world.nft(&["--check", "-f", "-"], &script(&map(&[])));
            assert!(checked.status.success(), "{checked:?}");
            world.load(&map(&[private]));
            loads[0].1.wait_for(5);
        }
    }
    for (name, running) in loads {
        let tally = running.stop();
        println!("{name}: {tally}");
        assert_eq!((tally.failed(), tally.again), (0, 0), "{name}: {tally}");
        if name.ends_with("close") {
            assert!(tally.answered_by.len() == 2, "{name}: {tally}");
        }
    }
}

#[test]
fn an_old_release_that_has_drained_can_be_stopped() {
    let world = World::new();
    let (old, _new) =
        both(&world, Habits { takes: Some(Duration::from_millis(5)), ..Habits::default() });
    world.load(&map(&[OLD]));
    let loads = [
        world.client(|| Load::on(&from_outside(PUBLIC)).start()),
        world.machine(|| Load::on(&from_within(PUBLIC)).keep_alive().start()),
    ];
    loads.iter().for_each(|load| load.wait_for(50));
    world.load(&map(&[NEW]));
    loads.iter().for_each(|load| load.wait_for(50));
    world.machine(|| old.close());
    loads.iter().for_each(|load| load.wait_for(50));
    for tally in loads.map(|load| load.stop()) {
        println!("{tally}");
        assert_eq!(tally.failed(), 0, "{tally}");
        assert_eq!(tally.answered_by.len(), 2, "{tally}");
    }
}

#[test]
fn a_connection_stays_with_its_first_release() {
    let world = World::new();
    let (_old, _new) = both(&world, Habits::default());
    world.load(&map(&[OLD]));
    let connect = || from_outside(PUBLIC).map(|to| TcpStream::connect(to).expect("connect"));
    let before = world.client(connect);
    world.load(&map(&[NEW]));
    let after = world.client(connect);
    assert_eq!(before.each_ref().map(ask), ["old", "old"]);
    assert_eq!(after.each_ref().map(ask), ["new", "new"]);
}

#[test]
fn a_connection_to_the_previous_owner_of_the_public_port_survives_the_first_map() {
    let world = World::new();
    let (_old, _new) = both(&world, Habits::default());
    let _direct = world.machine(|| Server::start("own", PUBLIC, Habits::default()));
    let connect = || from_outside(PUBLIC).map(|to| TcpStream::connect(to).expect("connect"));
    let before = world.client(connect);
    assert_eq!(before.each_ref().map(ask), ["own", "own"]);
    world.load(&map(&[NEW]));
    assert_eq!(before.each_ref().map(ask), ["own", "own"]);
    assert_eq!(world.client(connect).each_ref().map(ask), ["new", "new"]);
}

/// Connects from exactly this port, like a client with few ports.
fn connect_from(from: SocketAddr, to: SocketAddr) -> io::Result<TcpStream> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let socket = tokio::net::TcpSocket::new_v4()?;
        socket.set_reuseaddr(true)?;
        socket.bind(from)?;
        let stream = socket.connect(to).await?.into_std()?;
        stream.set_nonblocking(false)?;
        Ok(stream)
    })
}

#[test]
fn a_client_that_reconnects_from_the_same_port_reaches_the_new_release() {
    let world = World::new();
    let habits = Habits { patience: 1, ..Habits::default() };
    let (_old, _new) = both(&world, habits);
    let (from, to) = (SocketAddr::from((CLIENT, 40000)), SocketAddr::from((MACHINE, PUBLIC)));
    for (private, name) in [(OLD, "old"), (NEW, "new"), (OLD, "old")] {
        world.load(&map(&[private]));
        let mut stream = world.client(|| connect_from(from, to)).expect("connect");
        assert_eq!(ask(&stream), name);
        // The server closes the connection, so that the client's port is free at once.
        assert_eq!(stream.read(&mut [0]).expect("the end"), 0);
    }
}

#[test]
fn a_client_whose_process_is_gone_is_disconnected_and_reaches_the_new_release() {
    let world = World::new();
    let (old, _new) = both(&world, Habits::default());
    let (from, to) = (SocketAddr::from((CLIENT, 40000)), SocketAddr::from((MACHINE, PUBLIC)));
    world.load(&map(&[OLD]));
    let mut stream = world.client(|| connect_from(from, to)).expect("connect");
    assert_eq!(ask(&stream), "old");
    world.load(&map(&[NEW]));
    world.machine(|| old.kill());
    assert_eq!(stream.read(&mut [0]).expect("the end"), 0);
    drop(stream);
    let stream = world.client(|| connect_from(from, to)).expect("connect");
    assert_eq!(ask(&stream), "new");
}

#[test]
fn a_probe_and_a_client_may_use_the_same_source_port() {
    let world = World::new();
    let (_old, _new) = both(&world, Habits::default());
    world.load(&map(&[OLD]));
    let from = SocketAddr::from((Ipv4Addr::LOCALHOST, 40000));
    let to = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let probe = world.machine(|| connect_from(from, to(OLD))).expect("a probe");
    let client = world.machine(|| connect_from(from, to(PUBLIC))).expect("a client");
    assert_eq!([&probe, &client].map(ask), ["old", "old"]);
}

#[test]
fn datagrams_of_a_flow_stay_with_its_first_release() {
    let world = World::new();
    let mut ports = map(&[OLD]);
    ports.public[0].protocol = Protocol::Udp;
    let load = |private| {
        ports.public[0].private = vec![private];
        world.load(&ports);
    };
    let receive = |port| {
        let socket = world.machine(|| UdpSocket::bind(("0.0.0.0", port))).expect("bind");
        socket.set_read_timeout(Some(Duration::from_secs(5))).expect("a deadline");
        socket
    };
    let send = |socket: &UdpSocket| socket.send_to(b"hello", (MACHINE, PUBLIC)).expect("send");
    let client = || world.client(|| UdpSocket::bind((CLIENT, 0))).expect("bind");
    let (old, new) = (receive(OLD), receive(NEW));
    let (first, second) = (client(), client());
    let mut load = load;
    load(OLD);
    send(&first);
    load(NEW);
    send(&first);
    send(&second);
    let came = |socket: &UdpSocket| socket.recv_from(&mut [0; 9]).expect("a datagram").1;
    assert_eq!([came(&old), came(&old)], [first.local_addr().unwrap(); 2]);
    assert_eq!(came(&new), second.local_addr().unwrap());
}
