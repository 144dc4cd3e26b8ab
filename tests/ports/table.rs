//! The table itself: separate from other tables, loaded atomically, and removed in the end.

use crate::world::{PUBLIC, World, from_outside, map};
use model::units::ports::{PortMap, script};
use std::time::Duration;
use testkit::load::server::{Habits, Server};
use testkit::load::{Fault, Load};

const OTHERS: &str = "\
table ip nat {
	chain PREROUTING {
		type nat hook prerouting priority dstnat; policy accept;
		tcp dport 8080 dnat to 172.17.0.2:80
	}
}
table inet filter {
	chain input {
		type filter hook input priority filter; policy accept;
		tcp dport 22 accept
	}
}
";

#[test]
fn other_tables_stay_unchanged() {
    let world = World::new();
    assert!(world.nft(&["-f", "-"], OTHERS).status.success());
    let before = world.list("ruleset");
    world.load(&map(&[29001]));
    assert!(world.list("ruleset").contains(before.trim_end()), "{}", world.list("ruleset"));
    world.load(&PortMap::default());
    assert_eq!(world.list("ruleset"), before);
}

#[test]
fn the_table_matches_the_map_whatever_it_was_before() {
    let world = World::new();
    world.load(&map(&[29001, 29002]));
    let table = world.list("ruleset");
    world.load(&map(&[29001, 29002]));
    assert_eq!(world.list("ruleset"), table, "loaded again");
    world.load(&map(&[29003]));
    let meddled = "add rule inet deploy public tcp dport 1 drop\n";
    assert!(world.nft(&["-f", "-"], meddled).status.success());
    world.load(&map(&[29001, 29002]));
    assert_eq!(world.list("ruleset"), table, "loaded over another map");
}

#[test]
fn no_table_is_left_of_an_empty_map() {
    let world = World::new();
    world.load(&PortMap::default());
    assert_eq!(world.list("ruleset"), "");
    world.load(&map(&[29001]));
    world.load(&PortMap::default());
    assert_eq!(world.list("ruleset"), "");
}

#[test]
fn a_script_that_fails_changes_nothing() {
    let world = World::new();
    world.load(&map(&[29001]));
    let table = world.list("ruleset");
    let broken = script(&map(&[29002])) + "add rule inet deploy nowhere accept\n";
    assert!(!world.nft(&["-f", "-"], &broken).status.success());
    assert_eq!(world.list("ruleset"), table);
}

#[test]
fn the_kernel_accepts_a_map_of_a_hundred_apps() {
    let world = World::new();
    let mut all = PortMap::default();
    for app in 0..100 {
        let one = map(&[29000 + 3 * app, 29001 + 3 * app, 29002 + 3 * app]);
        all.private.extend(one.private);
        all.public.extend(one.public.into_iter().map(|mut public| {
            public.port += app;
            public
        }));
    }
    world.load(&all);
    assert_eq!(world.list("ruleset").matches("dnat to").count(), 300);
}

/// A firewall on the machine sees a packet after the map has rewritten its port.
#[test]
fn a_firewall_can_admit_clients_by_the_public_port() {
    let world = World::new();
    let _server = world.machine(|| Server::start("a", 29001, Habits::default()));
    world.load(&map(&[29001]));
    let ask = |allowed: &str| {
        let firewall = format!(
            "table inet filter\ndelete table inet filter\ntable inet filter {{\nchain input {{\n\
             type filter hook input priority 10; policy drop;\nicmpv6 type != 1 accept\n\
             {allowed} accept\n}}\n}}\n"
        );
        let loaded = world.nft(&["-f", "-"], &firewall);
        assert!(loaded.status.success(), "{loaded:?}");
        let load = Load::on(&from_outside(PUBLIC)).patience(Duration::from_millis(300)).most(4);
        world.client(|| load.start().finish())
    };
    let tally = ask("meta l4proto tcp ct original proto-dst 5000");
    assert_eq!(tally.ok, 4, "{tally}");
    let tally = ask("tcp dport 5000");
    assert_eq!(tally.count(Fault::TimedOut), 4, "{tally}");
}
