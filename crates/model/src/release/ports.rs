//! Allocates private ports to releases. No two installed releases share one, so each can be
//! started beside the others at any time.

use std::collections::BTreeSet;
use std::fmt;
use std::ops::RangeInclusive;

/// The range of private ports. It lies below the ports that Linux gives to outgoing connections
/// (from 32768), any of which might block a listener, and below the node ports of Kubernetes
/// (from 30000). Hardly a port of it is the default of any program.
pub const PRIVATE: RangeInclusive<u16> = 29000..=29999;

/// The range is used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exhausted {
    pub wanted: usize,
    pub found: usize,
}

impl fmt::Display for Exhausted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (first, last, Exhausted { wanted, found }) = (PRIVATE.start(), PRIVATE.end(), self);
        write!(f, "{wanted} ports are needed and {found} of {first}-{last} are free")
    }
}

impl std::error::Error for Exhausted {}

/// Returns `wanted` ports: none that an installed release holds (`taken`), and none that is not
/// `free` on this machine.
///
/// Allocation starts after the highest taken port and wraps around at the end. So a port of a
/// release that was just removed, to which some client may still send, is reused last.
pub fn allocate(
    wanted: usize,
    taken: &BTreeSet<u16>,
    free: impl Fn(u16) -> bool,
) -> Result<Vec<u16>, Exhausted> {
    let highest = taken.range(PRIVATE).next_back();
    let after = highest.map_or(*PRIVATE.start(), |port| port.saturating_add(1));
    let in_turn = (after..=*PRIVATE.end()).chain(*PRIVATE.start()..after);
    let fit = in_turn.filter(|port| PRIVATE.contains(port) && !taken.contains(port) && free(*port));
    let found: Vec<u16> = fit.take(wanted).collect();
    match found.len() {
        enough if enough == wanted => Ok(found),
        found => Err(Exhausted { wanted, found }),
    }
}

/// Whether a list of ports and ranges, `8080,9000-9010`, contains this port: the format of
/// /proc/sys/net/ipv4/ip_local_reserved_ports.
pub fn lists(list: &str, port: u16) -> bool {
    list.trim().split(',').any(|part| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        match (first.parse(), last.parse()) {
            (Ok(first), Ok(last)) => (first..=last).contains(&port),
            _ => false,
        }
    })
}

/// Whether outgoing connections may take private ports, by the two numbers of
/// /proc/sys/net/ipv4/ip_local_port_range.
pub fn is_ephemeral(range: &str) -> bool {
    let mut numbers = range.split_ascii_whitespace().map(str::parse::<u16>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(first)), Some(Ok(last))) => first <= *PRIVATE.end() && last >= *PRIVATE.start(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all_free(wanted: usize, taken: &[u16]) -> Result<Vec<u16>, Exhausted> {
        allocate(wanted, &taken.iter().copied().collect(), |_| true)
    }

    #[test]
    fn the_first_release_gets_the_first_ports() {
        assert_eq!(all_free(3, &[]), Ok(vec![29000, 29001, 29002]));
        assert_eq!(all_free(0, &[]), Ok(vec![]));
    }

    #[test]
    fn a_freed_port_is_reused_last() {
        assert_eq!(all_free(2, &[29004]), Ok(vec![29005, 29006]));
        assert_eq!(all_free(3, &[29001, 29998]), Ok(vec![29999, 29000, 29002]));
    }

    #[test]
    fn never_allocates_ports_of_installed_releases() {
        let mut taken = BTreeSet::new();
        for _ in 0..500 {
            let ports = allocate(2, &taken, |_| true).expect("ports");
            assert!(ports.iter().all(|port| PRIVATE.contains(port) && taken.insert(*port)));
        }
        assert_eq!(allocate(1, &taken, |_| true), Err(Exhausted { wanted: 1, found: 0 }));
    }

    #[test]
    fn skips_a_port_that_is_not_free() {
        let even = |port: u16| port.is_multiple_of(2);
        assert_eq!(allocate(2, &BTreeSet::from([29000]), even), Ok(vec![29002, 29004]));
        let error = allocate(501, &BTreeSet::new(), even).expect_err("500 are even");
        assert_eq!(error.to_string(), "501 ports are needed and 500 of 29000-29999 are free");
    }

    #[test]
    fn ignores_ports_outside_the_range() {
        assert_eq!(all_free(1, &[80, 28999, 30000, u16::MAX]), Ok(vec![29000]));
    }

    #[test]
    fn reads_the_kernels_list_of_reserved_ports() {
        let reserved = "8080,29000-29002,29005\n";
        let found: Vec<u16> = (28999..29007).filter(|port| lists(reserved, *port)).collect();
        assert_eq!(found, [29000, 29001, 29002, 29005]);
        assert!(!lists("\n", 0) && !lists("", 29000));
    }

    #[test]
    fn detects_an_ephemeral_range_that_overlaps_ours() {
        assert!(!is_ephemeral("32768\t60999\n"));
        assert!(is_ephemeral("1024\t65535\n") && is_ephemeral("29999 60999"));
        assert!(!is_ephemeral("30000 60999") && !is_ephemeral("") && !is_ephemeral("x y"));
    }
}
