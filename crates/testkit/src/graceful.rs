//! The app for handovers under load, and the load.

use crate::app::Release;
use crate::host::Host;
use crate::load::{Load, Running};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

/// The server: takes a second to boot and 50 ms per request, and completes started requests.
pub const SERVER: &str = include_str!("graceful.py");

/// A release of [`SERVER`] with this name.
pub fn graceful(name: &str) -> Release {
    let release = Release::empty(name).file("server.py", SERVER);
    release.file("VERSION", name).procfile("web: python3 server.py\n")
}

/// A host that serves release `r1` of [`SERVER`].
pub fn serving_r1() -> Host {
    let host = Host::boot();
    host.publish(&graceful("r1"));
    host.deploys("r1");
    host
}

/// Clients on another machine and on this one, with a connection per request and with a kept
/// connection, over IPv4 and IPv6. Each pauses for 10 ms between two requests, even after a
/// failure.
pub fn loads(host: &Host, port: u16) -> Vec<(&'static str, Running)> {
    let outside = SocketAddr::from((host.address(), port));
    let local = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let local6 = SocketAddr::from((Ipv6Addr::LOCALHOST, port));
    let load = |target| {
        let load = Load::on(&[target]).connections(4).pause(Duration::from_millis(10));
        load.longest(Duration::from_secs(600))
    };
    let within = |load: Load| host.instance.within(|| load.start());
    vec![
        ("outside, close", host.network.within(|| load(outside).start())),
        ("outside, keep-alive", host.network.within(|| load(outside).keep_alive().start())),
        ("loopback, close", within(load(local))),
        ("loopback IPv6, close", within(load(local6))),
        ("loopback, keep-alive", within(load(local).keep_alive())),
    ]
}
