//! Limits the redirects of a web server: never to an address that only this instance can reach,
//! such as a service on its loopback or the metadata service, whose responses would be taken for a
//! release. A URL that the operator wrote may name such an address.

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use std::collections::HashSet;
use std::env;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

/// The metadata service over IPv6, which has a unique local address.
const METADATA: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);

/// Resolves names for one HTTP client, and checks the addresses that it connects to.
#[derive(Clone, Default)]
pub(super) struct Guard(Arc<Mutex<HashSet<String>>>);

/// The server redirects to this host.
#[derive(Debug)]
pub(super) struct Forbidden(String);

impl fmt::Display for Forbidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "it redirects to {}, which is this machine or its own link", self.0)
    }
}

impl std::error::Error for Forbidden {}

impl Guard {
    /// Allows the proxies of the environment at any address.
    pub fn new() -> Guard {
        let guard = Guard::default();
        for name in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"] {
            for name in [name.to_owned(), name.to_ascii_lowercase()] {
                let Ok(proxy) = env::var(name) else { continue };
                let url = if proxy.contains("://") { proxy } else { format!("http://{proxy}") };
                guard.allow(&url);
            }
        }
        guard
    }

    /// Allows the host of a URL that the operator wrote, whatever its addresses.
    pub fn allow(&self, url: &str) {
        let host = reqwest::Url::parse(url).ok();
        if let Some(host) = host.as_ref().and_then(|url| url.host_str()) {
            self.allowed().insert(host.to_owned());
        }
    }

    /// Checks the host of a redirect. The addresses of a name are not known yet.
    pub fn check(&self, to: &reqwest::Url) -> Result<(), Forbidden> {
        let Some(host) = to.host_str() else { return Ok(()) };
        let address = host.trim_matches(['[', ']']).parse();
        match address.is_ok_and(is_near) && !self.allowed().contains(host) {
            true => Err(Forbidden(host.to_owned())),
            false => Ok(()),
        }
    }

    fn allowed(&self) -> std::sync::MutexGuard<'_, HashSet<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Resolve for Guard {
    fn resolve(&self, name: Name) -> Resolving {
        let name = name.as_str().to_owned();
        let is_allowed = self.allowed().contains(&name);
        Box::pin(async move {
            let found: Vec<SocketAddr> =
                tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            if !is_allowed && found.iter().any(|address| is_near(address.ip())) {
                return Err(Forbidden(name).into());
            }
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

/// Whether the address is this instance's own, or link-local.
fn is_near(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => v4.is_loopback() || v4.is_link_local() || v4.octets()[0] == 0,
        IpAddr::V6(v6) => {
            v6.is_loopback() || v6.is_unspecified() || v6.is_unicast_link_local() || v6 == METADATA
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> reqwest::Url {
        text.parse().expect("a URL")
    }

    #[test]
    fn refuses_redirects_to_this_machine_and_its_link() {
        let guard = Guard::default();
        for near in [
            "127.0.0.1:80",
            "127.1",
            "0x7f000001",
            "2130706433",
            "169.254.169.254",
            "0.0.0.0",
            "0.1.2.3",
            "[::1]",
            "[::]",
            "[fe80::1]",
            "[::ffff:169.254.169.254]",
            "[fd00:ec2::254]",
        ] {
            assert!(guard.check(&url(&format!("http://{near}/r1/env"))).is_err(), "{near}");
        }
        for far in ["10.0.0.1", "192.0.2.1", "[2001:db8::1]", "[fd00::1]", "127.0.0.1.example"] {
            assert!(guard.check(&url(&format!("https://{far}/"))).is_ok(), "{far}");
        }
        guard.allow("http://127.0.0.1:8080/my-app");
        assert!(guard.check(&url("http://127.0.0.1:9090/")).is_ok());
        assert!(guard.check(&url("http://127.0.0.2/")).is_err());
    }

    #[tokio::test]
    async fn a_name_with_a_near_address_resolves_only_if_allowed() {
        let guard = Guard::default();
        let resolve = || guard.resolve("localhost".parse().expect("a name"));
        let error = resolve().await.err().expect("refused");
        assert!(error.to_string().contains("it redirects to localhost"), "{error}");
        guard.allow("http://localhost:8080/my-app");
        assert!(resolve().await.is_ok());
    }
}
