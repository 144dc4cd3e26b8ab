//! The network addresses of this instance.

use model::release::reach::{Endpoint, Families};
use model::release::settings::Clients;
use nix::ifaddrs::getifaddrs;
use std::net::IpAddr;

/// Returns the address families over which other machines can reach this instance.
pub fn families() -> Families {
    let addresses = getifaddrs().into_iter().flatten().filter_map(|interface| {
        let address = interface.address?;
        let v4 = address.as_sockaddr_in().map(|found| IpAddr::from(found.ip()));
        v4.or_else(|| address.as_sockaddr_in6().map(|found| IpAddr::from(found.ip())))
    });
    let endpoints: Vec<Endpoint> =
        addresses.map(|address| Endpoint { address, port: 0, v6only: true }).collect();
    Families::reached(&endpoints, Clients::Anywhere)
}
