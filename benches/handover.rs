//! How clients experience a series of deploys: of the agent, and of `systemctl restart` of the
//! same app under the same load. Ends with one line of JSON.
//!
//! ```text
//! make bench-handover            20 deploys; HANDOVERS=5 is shorter
//! ```

#![allow(clippy::disallowed_methods, reason = "the benchmark is not the agent")]

use serde_json::{Value, json};
use std::time::Duration;
use testkit::app::url;
use testkit::graceful::{graceful, loads, serving_r1};
use testkit::host::{Host, SOON};
use testkit::load::Tally;

/// The unit of the peer, as written by hand, on a port of its own.
const PEER: &str = "\
[Unit]
StartLimitIntervalSec=0

[Service]
User=deploy-app
WorkingDirectory=/srv/peer
Environment=PORT=5080 BOOT=1
ExecStart=/usr/bin/python3 server.py
Restart=always
";
const PEER_PORT: u16 = 5080;

/// Releases that fail, and the settings that make them fail.
const BROKEN: [(&str, &str); 5] = [
    ("crashes-at-boot", "BEHAVE=crash"),
    ("crashes-after-5-s", "BEHAVE=crash-after=5 DEPLOY_PROVE=6s"),
    ("listens-elsewhere", "BEHAVE=port=5001"),
    ("answers-500", "BEHAVE=status DEPLOY_HEALTH_PATH=/health"),
    ("hangs", "BEHAVE=hang"),
];

fn main() {
    let handovers: usize =
        std::env::var("HANDOVERS").map_or(20, |number| number.parse().expect("a number"));
    let mut rows = Vec::new();
    let host = serving_r1();
    host.publish(&graceful("r2"));
    let mut run = |name: &str, port: u16, work: &mut dyn FnMut()| {
        let rows_of = under_load(&host, name, port, work);
        rows.extend(rows_of);
    };

    run(&format!("{handovers} deploys"), 5000, &mut || {
        for number in 0..handovers {
            host.deploys(if number % 2 == 0 { "r2" } else { "r1" });
        }
    });
    let before = host.pid("web.1");
    run("5 releases that fail", 5000, &mut || {
        for (name, env) in BROKEN {
            host.publish(&graceful(name).set(env).set("DEPLOY_HEALTH_TIMEOUT=5s"));
            host.deploy(&[&url(name)]).exits(12);
        }
    });
    let same_process = before == host.pid("web.1");
    let sick = graceful("sick").set("BEHAVE=sick-after=2 DEPLOY_HEALTH_PATH=/health");
    host.publish(&sick.set("DEPLOY_SETTLE=30s"));
    run("a failure while it settles", 5000, &mut || {
        host.deploy(&[&url("sick")]).exits(20);
    });

    set_up_peer(&host);
    run(&format!("{handovers} systemctl restart"), PEER_PORT, &mut || {
        for _ in 0..handovers {
            host.exec(&["systemctl", "restart", "peer"]).ok();
            wait_for_peer(&host);
        }
    });

    let ours = |row: &&Value| !row["what"].as_str().is_some_and(|what| what.contains("systemctl"));
    let failed: u64 = rows.iter().filter(ours).filter_map(|row| row["failed"].as_u64()).sum();
    let whole = json!({
        "handovers": handovers,
        "failed": failed,
        "same_process_after_failures": same_process,
        "rows": rows,
    });
    println!("{whole}");
    assert!(failed == 0 && same_process, "a request failed, or web.1 was restarted");
}

/// Runs the load before, during and after `work`; returns one row per kind of client.
fn under_load(host: &Host, what: &str, port: u16, work: &mut dyn FnMut()) -> Vec<Value> {
    let loads = loads(host, port);
    loads.iter().for_each(|(_, load)| load.wait_for(10));
    work();
    loads.iter().for_each(|(_, load)| load.wait_for(10));
    let tallies = loads.into_iter().map(|(clients, load)| (clients, load.stop()));
    tallies.map(|(clients, tally)| row(what, clients, &tally)).collect()
}

fn row(what: &str, clients: &str, tally: &Tally) -> Value {
    let slowest = tally.slowest.as_millis();
    println!(
        "{what:<28} {clients:<22} {:>7} requests {:>6} failed {:>4} asked again, slowest {slowest} ms",
        tally.asked(),
        tally.failed(),
        tally.again
    );
    json!({
        "what": what,
        "clients": clients,
        "requests": tally.asked(),
        "failed": tally.failed(),
        "asked_again": tally.again,
        "slowest_ms": u64::try_from(slowest).unwrap_or(u64::MAX),
    })
}

fn set_up_peer(host: &Host) {
    host.sh("cp -r /var/lib/deploy/apps/my-app/releases/r1/app /srv/peer; chmod -R a+rX /srv/peer");
    host.write("/etc/systemd/system/peer.service", PEER);
    host.sh("systemctl daemon-reload; systemctl start peer");
    wait_for_peer(host);
}

fn wait_for_peer(host: &Host) {
    let url = format!("http://{}:{PEER_PORT}/", host.address());
    host.wait_for("peer", SOON + Duration::from_secs(10), || host.network.http_get(&url).ok());
}
