//! The port map: the private ports behind each public one, as the nft(8) script that loads it
//! into the kernel.
//!
//! The kernel applies the map to the first packet of a connection only; conntrack keeps the
//! connection at that destination. So a new map moves new connections and does not affect
//! established ones.

use crate::installed::Snapshot;
use crate::release::manifest::{Manifest, Plan, Process};
use crate::release::settings::Clients;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write};

/// The agent's only table. Other tables are neither read nor changed.
pub const TABLE: &str = "inet deploy";
pub const TABLE_NAME: &str = "deploy";

/// All public ports of this instance, and the private ports behind them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PortMap {
    pub public: Vec<Public>,
    /// Ports that other machines reach only through the map: those of every installed release,
    /// the candidate's among them.
    pub private: BTreeSet<(Protocol, u16)>,
    /// Private ports by the uid that owns them, for apps with a user of their own.
    pub owners: BTreeMap<u32, BTreeSet<(Protocol, u16)>>,
    /// The uids without access to the metadata service.
    pub without_metadata: BTreeSet<u32>,
}

/// A public port, and the processes that share its connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Public {
    pub protocol: Protocol,
    pub port: u16,
    /// If empty, connections are refused.
    pub private: Vec<u16>,
    pub clients: Clients,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    Tcp,
    Udp,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        })
    }
}

impl PortMap {
    /// The current releases of this instance; `candidate` replaces the current release of its
    /// app.
    pub fn new(apps: &[Snapshot], candidate: Option<&Manifest>) -> PortMap {
        let mut map = PortMap::default();
        for app in apps {
            map.add(app, candidate.filter(|candidate| *candidate.url.app() == app.app));
        }
        map
    }

    fn add(&mut self, app: &Snapshot, candidate: Option<&Manifest>) {
        for manifest in &app.releases {
            for protocol in protocols(&manifest.plan) {
                let ports = manifest.plan.private_ports.iter().map(|port| (*protocol, *port));
                if let Some(user) = manifest.uids.first().filter(|_| ports.len() > 0) {
                    self.owners.entry(*user).or_default().extend(ports.clone());
                }
                self.private.extend(ports);
            }
        }
        // Without a current release, the strictest of the installed ones counts.
        let first = || app.releases.iter().find(|manifest| !manifest.plan.metadata);
        if let (None, None, Some(manifest)) = (candidate, app.current(), first()) {
            self.without_metadata.extend(&manifest.uids);
        }
        let Some(manifest) = candidate.or(app.current()) else { return };
        let plan = &manifest.plan;
        if !plan.metadata {
            self.without_metadata.extend(&manifest.uids);
        }
        if plan.private_ports.is_empty() {
            return;
        }
        let held_back = manifest.rolling.as_ref().map_or(&[][..], |one| &one.held_back);
        let is_held_back = |port: &u16| held_back.contains(port);
        let runs = |process: &Process| {
            !app.stopped.covers(&process.to_string())
                && !process.port.as_ref().is_some_and(is_held_back)
        };
        let private: Vec<u16> = plan.instances().filter(runs).filter_map(|one| one.port).collect();
        for protocol in protocols(plan) {
            let (protocol, port, private) = (*protocol, plan.port.get(), private.clone());
            self.public.push(Public { protocol, port, private, clients: plan.clients });
        }
    }
}

fn protocols(plan: &Plan) -> &'static [Protocol] {
    if plan.udp { &[Protocol::Tcp, Protocol::Udp] } else { &[Protocol::Tcp] }
}

/// Returns the script for `nft -f` that replaces the agent's table with exactly this map, in
/// one transaction. An empty map removes the table.
///
/// The chains stay and their rules change, so a packet on its way through a chain sees the old
/// rules or the new ones. With recreated chains a packet may see the new one before it has
/// rules and the old one when it has none left; and in a map, up to Linux 6.16, it may miss an
/// element that is being replaced.
pub fn script(map: &PortMap) -> String {
    if *map == PortMap::default() {
        return format!("add table {TABLE}\ndelete table {TABLE}\n");
    }
    let (mut rules, mut local) = (String::new(), String::new());
    for public in &map.public {
        match public.clients {
            Clients::Anywhere => redirect(&mut rules, public),
            Clients::Local => redirect(&mut local, public),
        }
    }
    // Only if an app asks for it: the map of all others stays as it was.
    let (local, to_local) = match local.as_str() {
        "" => (String::new(), ""),
        rules => (
            format!("\tchain local {{\n\t\tfib daddr type != local return\n{rules}\t}}\n"),
            "\t\tjump local\n",
        ),
    };
    let (owners, metadata) = (owners(&map.owners), metadata(&map.without_metadata));
    let mut guards = String::new();
    for protocol in [Protocol::Tcp, Protocol::Udp] {
        guard(&mut guards, protocol, &map.private);
    }
    // nft knows the name `dstnat` only in the prerouting hook: its value is -100.
    format!(
        "\
add table {TABLE}
flush table {TABLE}
table {TABLE} {{
	chain public {{
		fib daddr type != local return
{rules}	}}
{local}	chain prerouting {{
		type nat hook prerouting priority -100; policy accept;
		jump public
	}}
	chain output {{
		type nat hook output priority -100; policy accept;
		jump public
{to_local}	}}
	chain arrived {{
		socket transparent 0 accept
		socket transparent 1 accept
		tcp flags & (fin | syn | rst | ack) == syn drop
	}}
	chain private {{
		type filter hook input priority 0; policy accept;
		iif lo accept
{guards}	}}
{owners}{metadata}}}
"
    )
}

/// Drops packets that another user sends from an app's private port: a program that has taken
/// the port while the app's process is down never completes a connection. Packets of the kernel
/// itself, such as a reset, have no user.
fn owners(owners: &BTreeMap<u32, BTreeSet<(Protocol, u16)>>) -> String {
    let mut rules = String::new();
    for (user, ports) in owners {
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            let ports = ports.iter().filter(|(of, _)| *of == protocol);
            let ports: Vec<_> = ports.map(|(_, port)| port.to_string()).collect();
            if !ports.is_empty() {
                let ports = ports.join(", ");
                let _ =
                    writeln!(rules, "\t\t{protocol} sport {{ {ports} }} meta skuid != {user} drop");
            }
        }
    }
    match rules.is_empty() {
        true => rules,
        false => format!(
            "\tchain owners {{\n\t\ttype filter hook output priority 0; policy accept;\n{rules}\t}}\n"
        ),
    }
}

/// Refuses these users the EC2 metadata service immediately, over both families.
fn metadata(users: &BTreeSet<u32>) -> String {
    if users.is_empty() {
        return String::new();
    }
    let users = users.iter().map(u32::to_string).collect::<Vec<_>>().join(", ");
    format!(
        "\
	chain metadata {{
		type filter hook output priority 0; policy accept;
		meta skuid {{ {users} }} ip daddr 169.254.169.254 reject
		meta skuid {{ {users} }} ip6 daddr fd00:ec2::254 reject
	}}
"
    )
}

/// Returns a script with every feature that a map may need, to be checked but not run.
pub fn example() -> String {
    let public = |protocol, clients| Public { protocol, port: 1, private: vec![2, 3], clients };
    let private = [(Protocol::Tcp, 2), (Protocol::Udp, 2)];
    let public = vec![
        public(Protocol::Tcp, Clients::Anywhere),
        public(Protocol::Udp, Clients::Anywhere),
        public(Protocol::Tcp, Clients::Local),
    ];
    let owners = BTreeMap::from([(1, private.into())]);
    script(&PortMap { public, private: private.into(), owners, without_metadata: [1].into() })
}

/// Writes one rule per process: the first takes one connection in n, the next one in n - 1 of
/// the others, the last all that are left. They take turns rather than random shares, so that a
/// few long connections are spread evenly; the client's address does not count, as all clients
/// may come through one load balancer.
///
/// Only the port changes: the process sees the original destination address.
fn redirect(rules: &mut String, public: &Public) {
    let Public { protocol, port, private, .. } = public;
    // The first packet that conntrack sees may be from the middle of a connection, which
    // belongs to a process that listens on the public port itself.
    let opening = match protocol {
        Protocol::Tcp => "tcp flags & (fin | syn | rst | ack) == syn ",
        Protocol::Udp => "",
    };
    for (to, left) in private.iter().zip((1..=private.len()).rev()) {
        let turn = if left > 1 { format!("numgen inc mod {left} 0 ") } else { String::new() };
        let _ = writeln!(rules, "\t\t{opening}{protocol} dport {port} {turn}dnat to :{to}");
    }
}

/// Drops packets from other machines to a private port unless the map has sent them there. A
/// client that comes while no process listens, since it has just died, is not refused but gets
/// no response: it retries after a second (RFC 6298, 2.1), and by then the map may send it
/// elsewhere. The rule uses `transparent` since that is known of every socket, even one in
/// TIME-WAIT, whose place a new connection may take.
fn guard(rules: &mut String, protocol: Protocol, private: &BTreeSet<(Protocol, u16)>) {
    let ports = private.iter().filter(|(of, _)| *of == protocol);
    let ports: Vec<_> = ports.map(|(_, port)| port.to_string()).collect();
    if ports.is_empty() {
        return;
    }
    let ports = ports.join(", ");
    let then = match protocol {
        Protocol::Tcp => "goto arrived",
        Protocol::Udp => "accept",
    };
    let _ = writeln!(rules, "\t\t{protocol} dport {{ {ports} }} ct status dnat {then}");
    let _ = writeln!(rules, "\t\t{protocol} dport {{ {ports} }} drop");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(private: &[u16]) -> PortMap {
        let (protocol, clients) = (Protocol::Tcp, Clients::Anywhere);
        let public = Public { protocol, port: 5000, private: private.to_vec(), clients };
        let private = private.iter().map(|port| (Protocol::Tcp, *port)).collect();
        PortMap { public: vec![public], private, ..PortMap::default() }
    }

    /// Returns the rules of one chain of the script.
    fn chain<'a>(script: &'a str, name: &str) -> Vec<&'a str> {
        let (_, chain) = script.split_once(&format!("chain {name} {{\n")).expect("the chain");
        let (chain, _) = chain.split_once("\n\t}\n").expect("its end");
        chain.lines().map(str::trim).collect()
    }

    #[test]
    fn several_processes_take_turns() {
        let script = script(&map(&[29001, 29002, 29003]));
        let rule = "tcp flags & (fin | syn | rst | ack) == syn tcp dport 5000";
        let expected = [
            "fib daddr type != local return".to_owned(),
            format!("{rule} numgen inc mod 3 0 dnat to :29001"),
            format!("{rule} numgen inc mod 2 0 dnat to :29002"),
            format!("{rule} dnat to :29003"),
        ];
        assert_eq!(chain(&script, "public"), expected);
    }

    #[test]
    fn local_only_ports_use_the_output_hook_only() {
        let mut map = map(&[29001]);
        map.public[0].clients = Clients::Local;
        let script = script(&map);
        assert_eq!(chain(&script, "public").len(), 1);
        let rule = "tcp flags & (fin | syn | rst | ack) == syn tcp dport 5000 dnat to :29001";
        assert_eq!(chain(&script, "local")[1], rule);
        assert!(!chain(&script, "prerouting").contains(&"jump local"));
        assert!(chain(&script, "output").contains(&"jump local"));
    }

    #[test]
    fn private_ports_are_guarded_by_protocol() {
        let mut map = map(&[29001]);
        map.private.extend([(Protocol::Tcp, 29007), (Protocol::Udp, 29002)]);
        let rules = script(&map);
        let guards = chain(&rules, "private").split_off(2);
        let expected = [
            "tcp dport { 29001, 29007 } ct status dnat goto arrived",
            "tcp dport { 29001, 29007 } drop",
            "udp dport { 29002 } ct status dnat accept",
            "udp dport { 29002 } drop",
        ];
        assert_eq!(guards, expected);
    }

    #[test]
    fn a_port_without_processes_is_not_redirected() {
        assert_eq!(chain(&script(&map(&[])), "public").len(), 1);
    }

    #[test]
    fn only_the_app_sends_from_its_private_port() {
        let mut map = map(&[29001]);
        assert!(!script(&map).contains("chain owners"));
        map.owners =
            BTreeMap::from([(998, [(Protocol::Tcp, 29001), (Protocol::Udp, 29001)].into())]);
        let rules = script(&map);
        let expected = [
            "type filter hook output priority 0; policy accept;",
            "tcp sport { 29001 } meta skuid != 998 drop",
            "udp sport { 29001 } meta skuid != 998 drop",
        ];
        assert_eq!(chain(&rules, "owners"), expected);
    }

    #[test]
    fn rejects_the_metadata_service_over_both_families() {
        let mut map = map(&[29001]);
        assert!(!script(&map).contains("chain metadata"));
        map.without_metadata = [998, 999].into();
        let rules = script(&map);
        let expected = [
            "type filter hook output priority 0; policy accept;",
            "meta skuid { 998, 999 } ip daddr 169.254.169.254 reject",
            "meta skuid { 998, 999 } ip6 daddr fd00:ec2::254 reject",
        ];
        assert_eq!(chain(&rules, "metadata"), expected);
    }

    #[test]
    fn an_empty_map_removes_the_table() {
        let script = script(&PortMap::default());
        assert_eq!(script, "add table inet deploy\ndelete table inet deploy\n");
    }
}
