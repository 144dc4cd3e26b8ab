//! The port map: which private ports stand behind a public one, as the nft(8)
//! script that makes the kernel do it.
//!
//! The kernel looks at the map for the first packet of a connection only;
//! conntrack keeps the connection where that one went. So a new map moves new
//! connections, and harms none that is established.

use crate::installed::Snapshot;
use crate::release::manifest::{Manifest, Plan, Process};
use crate::release::settings::Clients;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write};

/// The one table that is ours. Other tables are neither read nor changed.
pub const TABLE: &str = "inet deploy";
pub const TABLE_NAME: &str = "deploy";

/// All public ports of this instance, and what stands behind them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PortMap {
    pub public: Vec<Public>,
    /// Ports that other machines reach through the map and in no other way:
    /// those of every installed release, the candidate's among them.
    pub private: BTreeSet<(Protocol, u16)>,
    /// Whose private ports they are, where an app has a user of its own.
    pub owners: BTreeMap<u32, BTreeSet<(Protocol, u16)>>,
    /// The users that are kept from the metadata service.
    pub without_metadata: BTreeSet<u32>,
}

/// A public port, and the processes that share its connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Public {
    pub protocol: Protocol,
    pub port: u16,
    /// Where this is empty, connections are refused.
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
    /// What is current on this instance; `candidate` takes the place of what is
    /// current of its app.
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
        // Nothing is current: then none of its releases needs what another one may not have.
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
        let runs = |process: &Process| !app.stopped.covers(&process.to_string());
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

/// The script for `nft -f` that makes our table exactly this map, in one
/// transaction, whatever was there before. An empty map leaves no table.
///
/// The chains stay and their rules change, since a packet on its way through a
/// chain sees the old rules or the new ones. With chains made anew a packet may
/// see the new one before it has rules and the old one when it has none left;
/// and in a map, up to Linux 6.16, it may miss an element that is just replaced.
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
    // Only where some app asks for it: the others' map stays as it was.
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
    // nft knows `dstnat` in the prerouting hook only: it is -100.
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

/// Nobody else answers from an app's private port: a program that has taken it while the
/// app's process is down never completes a connection. What the kernel itself says, such as
/// a reset, has no user.
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

/// Refuses the metadata service of EC2 to these users, at once and by both families.
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

/// A script with everything in it that a map may need, to be checked and not run.
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

/// One rule for each process: the first takes one connection in n, the next one
/// in n - 1 of the others, the last all that are left. By turns and not by
/// chance, so that a few long connections are shared out evenly; not by the
/// client's address, as all clients may come through one load balancer.
///
/// Only the port changes: the process sees the address that the client asked for.
fn redirect(rules: &mut String, public: &Public) {
    let Public { protocol, port, private, .. } = public;
    // The first packet that conntrack sees may be from the middle of a
    // connection, which belongs to whoever listens on the public port itself.
    let opening = match protocol {
        Protocol::Tcp => "tcp flags & (fin | syn | rst | ack) == syn ",
        Protocol::Udp => "",
    };
    for (to, left) in private.iter().zip((1..=private.len()).rev()) {
        let turn = if left > 1 { format!("numgen inc mod {left} 0 ") } else { String::new() };
        let _ = writeln!(rules, "\t\t{opening}{protocol} dport {port} {turn}dnat to :{to}");
    }
}

/// What reaches a private port from another machine: nothing but what the map
/// has sent there. A client that comes while nobody listens, since the process
/// has just died, is not refused but left without an answer: it asks again
/// after a second (RFC 6298, 2.1), and by then the map may send it elsewhere.
/// `transparent` is asked for since it is known of every socket, one in
/// TIME-WAIT too, whose place a new connection may take.
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

    /// The rules that stand in one chain of the script.
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
    fn local_clients_alone_come_by_the_output_hook_alone() {
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
    fn a_port_that_nothing_stands_behind_is_not_redirected() {
        assert_eq!(chain(&script(&map(&[])), "public").len(), 1);
    }

    #[test]
    fn nobody_but_the_app_answers_from_its_private_port() {
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
    fn a_user_without_metadata_is_refused_it_over_both_families() {
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
    fn nothing_is_left_of_an_empty_map() {
        let script = script(&PortMap::default());
        assert_eq!(script, "add table inet deploy\ndelete table inet deploy\n");
    }
}
