//! A load detects failures, and classifies them correctly.

use super::server::{Habits, Server};
use super::{Fault, Load, Tally};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::time::Duration;

fn on(server: &Server) -> Load {
    let (v4, v6) = (Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into());
    let targets = [v4, v6].map(|address| SocketAddr::new(address, server.port()));
    Load::on(&targets).patience(Duration::from_millis(500))
}

/// Runs the load while the server is killed.
fn killed(load: Load, server: Server) -> Tally {
    let running = load.start();
    running.wait_for(50);
    server.kill();
    running.wait_for(50);
    running.stop()
}

#[test]
fn every_request_to_a_healthy_server_gets_a_response() {
    let server = Server::start("a", 0, Habits::default());
    let tally = on(&server).most(1000).start().finish();
    assert_eq!((tally.ok, tally.failed(), tally.again), (1000, 0, 0), "{tally}");
    assert_eq!(tally.connections, 1000);
    assert_eq!(tally.answered_by["a"], 1000);
    let tally = on(&server).keep_alive().most(1000).start().finish();
    assert_eq!((tally.ok, tally.failed(), tally.again), (1000, 0, 0), "{tally}");
    assert_eq!(tally.connections, 4);
}

#[test]
fn a_killed_server_refuses_connections() {
    let server = Server::start("a", 0, Habits::default());
    let tally = killed(on(&server), server);
    assert!(tally.ok >= 50 && tally.count(Fault::Refused) > 0, "{tally}");
}

#[test]
fn a_killed_server_cuts_requests() {
    let slow = Habits { takes: Some(Duration::from_millis(5)), ..Habits::default() };
    let server = Server::start("a", 0, slow);
    let tally = killed(on(&server).connections(8), server);
    assert!(tally.count(Fault::Cut) > 0, "{tally}");
}

#[test]
fn a_request_cut_on_a_kept_connection_is_retried_and_then_refused() {
    let slow = Habits { takes: Some(Duration::from_millis(5)), ..Habits::default() };
    let server = Server::start("a", 0, slow);
    let tally = killed(on(&server).keep_alive(), server);
    assert!(tally.again > 0 && tally.count(Fault::Refused) > 0, "{tally}");
}

#[test]
fn a_connection_closed_without_notice_loses_no_response() {
    let server = Server::start("a", 0, Habits { patience: 10, ..Habits::default() });
    let tally = on(&server).keep_alive().most(500).start().finish();
    assert_eq!((tally.ok, tally.failed()), (500, 0), "{tally}");
    assert!(tally.again >= 40, "{tally}");
}

#[test]
fn a_server_that_closes_gracefully_cuts_nothing() {
    let slow = Habits { takes: Some(Duration::from_millis(5)), ..Habits::default() };
    let server = Server::start("a", 0, slow);
    let running = on(&server).connections(8).start();
    running.wait_for(50);
    server.close();
    running.wait_for(50);
    let tally = running.stop();
    // A client may connect between the last accept and the close: no one serves it.
    assert!(tally.count(Fault::Cut) <= 1, "{tally}");
    assert_eq!(tally.count(Fault::TimedOut), 0, "{tally}");
    assert!(tally.count(Fault::Refused) > 0, "{tally}");
}

#[test]
fn silence_is_a_timeout() {
    let server = Server::start("a", 0, Habits { takes: None, ..Habits::default() });
    let tally = on(&server).most(4).start().finish();
    assert_eq!(tally.count(Fault::TimedOut), 4, "{tally}");
    assert!(tally.slowest >= Duration::from_millis(500), "{tally}");
}

#[test]
fn another_status_is_a_wrong_response() {
    let server = Server::start("a", 0, Habits { status: 502, ..Habits::default() });
    let tally = on(&server).most(4).start().finish();
    assert_eq!(tally.count(Fault::Wrong), 4, "{tally}");
}

#[test]
fn a_load_ends_when_its_time_is_over() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a listener that accepts nothing");
    let load = Load::on(&[listener.local_addr().expect("an address")]);
    let short = Duration::from_millis(100);
    let tally = load.patience(short).longest(short).start().finish();
    assert_eq!(tally.count(Fault::TimedOut), tally.asked(), "{tally}");
    assert!(tally.asked() > 0 && tally.time < Duration::from_secs(5), "{tally}");
}
