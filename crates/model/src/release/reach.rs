//! Which clients reach a process, by the addresses that it listens on.

use super::settings::Clients;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// A socket on which a process listens for TCP connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Endpoint {
    pub address: IpAddr,
    pub port: u16,
    /// Whether a socket on `[::]` excludes IPv4: IPV6_V6ONLY of ipv6(7).
    pub v6only: bool,
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = SocketAddr::from((self.address, self.port));
        let only = if self.v6only && self.address.is_unspecified() { " (IPv6 alone)" } else { "" };
        write!(f, "{address}{only}")
    }
}

/// A set of address families.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Families {
    pub ipv4: bool,
    pub ipv6: bool,
}

impl Families {
    pub const IPV4: Families = Families { ipv4: true, ipv6: false };
    pub const IPV6: Families = Families { ipv4: false, ipv6: true };

    pub fn and(self, other: Families) -> Families {
        Families { ipv4: self.ipv4 && other.ipv4, ipv6: self.ipv6 && other.ipv6 }
    }

    pub fn or(self, other: Families) -> Families {
        Families { ipv4: self.ipv4 || other.ipv4, ipv6: self.ipv6 || other.ipv6 }
    }

    /// The families that `other` lacks.
    pub fn without(self, other: Families) -> Families {
        Families { ipv4: self.ipv4 && !other.ipv4, ipv6: self.ipv6 && !other.ipv6 }
    }

    pub fn is_empty(self) -> bool {
        self == Families::default()
    }

    /// The families over which `clients` reach a process with these sockets.
    pub fn reached(endpoints: &[Endpoint], clients: Clients) -> Families {
        endpoints
            .iter()
            .fold(Families::default(), |families, endpoint| families.or(endpoint.families(clients)))
    }
}

impl fmt::Display for Families {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match (self.ipv4, self.ipv6) {
            (true, true) => "IPv4 and IPv6",
            (true, false) => "IPv4",
            (false, true) => "IPv6",
            (false, false) => "no address family",
        })
    }
}

impl Endpoint {
    /// The families over which `clients` reach this address. The port map keeps the destination
    /// address, so a client on another machine never reaches loopback.
    pub fn families(&self, clients: Clients) -> Families {
        let local = clients == Clients::Local;
        match self.address.to_canonical() {
            IpAddr::V4(address) if address.is_loopback() && !local => Families::default(),
            IpAddr::V4(_) => Families::IPV4,
            IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Families { ipv4: !self.v6only, ipv6: true },
            IpAddr::V6(Ipv6Addr::LOCALHOST) if !local => Families::default(),
            // Only reachable from its own link, and with the link's name.
            IpAddr::V6(address) if address.is_unicast_link_local() => Families::default(),
            IpAddr::V6(_) => Families::IPV6,
        }
    }

    /// The address at which this machine itself connects to the socket, over IPv4 if possible.
    pub fn target(&self) -> SocketAddr {
        let address = match self.address {
            IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(Ipv6Addr::UNSPECIFIED) if self.v6only => Ipv6Addr::LOCALHOST.into(),
            IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Ipv4Addr::LOCALHOST.into(),
            address => address.to_canonical(),
        };
        SocketAddr::from((address, self.port))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(address: &str, v6only: bool) -> Endpoint {
        Endpoint { address: address.parse().expect("an address"), port: 5000, v6only }
    }

    #[test]
    fn an_address_is_reached_by_clients_over_its_family() {
        let (none, both) = (Families::default(), Families { ipv4: true, ipv6: true });
        for (address, v6only, anywhere, local) in [
            ("0.0.0.0", false, Families::IPV4, Families::IPV4),
            ("::", false, both, both),
            ("::", true, Families::IPV6, Families::IPV6),
            ("127.0.0.1", false, none, Families::IPV4),
            ("::1", false, none, Families::IPV6),
            ("::1", true, none, Families::IPV6),
            ("10.0.0.5", false, Families::IPV4, Families::IPV4),
            ("2001:db8::5", false, Families::IPV6, Families::IPV6),
            ("fe80::1", false, none, none),
            ("::ffff:10.0.0.5", false, Families::IPV4, Families::IPV4),
            ("::ffff:127.0.0.1", false, none, Families::IPV4),
        ] {
            let endpoint = endpoint(address, v6only);
            assert_eq!(endpoint.families(Clients::Anywhere), anywhere, "{endpoint}");
            assert_eq!(endpoint.families(Clients::Local), local, "{endpoint}");
        }
    }

    #[test]
    fn several_sockets_add_up() {
        let both = [endpoint("0.0.0.0", false), endpoint("::", true)];
        let reached = Families::reached(&both, Clients::Anywhere);
        assert_eq!(reached, Families { ipv4: true, ipv6: true });
        assert_eq!(Families::reached(&[], Clients::Anywhere), Families::default());
        assert_eq!(reached.without(Families::IPV4), Families::IPV6);
    }

    #[test]
    fn the_probe_goes_where_the_socket_is() {
        for (address, v6only, target) in [
            ("0.0.0.0", false, "127.0.0.1:5000"),
            ("::", false, "127.0.0.1:5000"),
            ("::", true, "[::1]:5000"),
            ("10.0.0.5", false, "10.0.0.5:5000"),
            ("::ffff:10.0.0.5", false, "10.0.0.5:5000"),
            ("2001:db8::5", false, "[2001:db8::5]:5000"),
        ] {
            assert_eq!(endpoint(address, v6only).target().to_string(), target);
        }
    }
}
