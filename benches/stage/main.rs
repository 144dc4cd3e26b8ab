//! How long it takes to stage a release and to serve it, compared with common other ways. Ends
//! with one line of JSON.
//!
//! ```text
//! make bench                      everything
//! make bench ROWS=node ROUNDS=3   the groups whose names begin with `node`
//! ```

#![allow(clippy::disallowed_methods, reason = "the benchmark is not the agent")]

mod bounds;
mod copying;
mod fixtures;
mod footprint;
mod gp3;
mod group;
mod images;
mod inside;
mod noise;
mod peers;
mod sample;
mod serving;
mod shape;
mod short;
mod site;
mod small;
mod table;

use site::Site;
use std::net::SocketAddrV4;
use std::sync::atomic::Ordering;
use table::Rows;
use testkit::instance::Network;

const FIRST_LINE_PORT: u16 = 9100;

/// The groups that `ROWS` selects, and the number of rounds.
struct Plan {
    wanted: Vec<String>,
    rounds: usize,
}

impl Plan {
    fn from_env() -> Plan {
        let text = |name: &str| std::env::var(name).unwrap_or_default();
        let rows = text("ROWS");
        let words = rows.split([',', ' ']).filter(|word| !word.is_empty());
        let rounds = text("ROUNDS");
        let rounds = if rounds.is_empty() { 5 } else { rounds.parse().expect("ROUNDS: a number") };
        Plan { wanted: words.map(str::to_owned).collect(), rounds }
    }

    fn wants(&self, group: &str) -> bool {
        self.wanted.is_empty() || self.wanted.iter().any(|word| group.starts_with(word.as_str()))
    }
}

fn main() {
    if inside::run() {
        return;
    }
    let plan = Plan::from_env();
    let mut rows = Rows::default();
    let noise = noise::described();
    eprintln!("{noise}");
    rows.note(&noise);
    // Before the site, as its instances leave no place for a group.
    if plan.wants("group") {
        group::run(&mut rows, plan.rounds.min(3));
    }
    let site = Site::boot();
    site.wait_for_origin();
    staging(&site, &plan, &mut rows);
    if plan.wants("slow") {
        slow_lines(&site, &plan, &mut rows);
    }
    if plan.wants("serving") {
        serving::run(&site, &mut rows, plan.rounds);
    }
    if plan.wants("gp3") {
        gp3::run(&site, &mut rows, plan.rounds);
    }
    if plan.wants("small") {
        small::run(&mut rows, plan.rounds);
    }
    if plan.wants("footprint") {
        footprint::run(&site, &mut rows);
    }
    println!("{}{}", short::table(&rows), rows.markdown());
    println!("{}", rows.json());
}

fn staging(site: &Site, plan: &Plan, rows: &mut Rows) {
    for app in fixtures::APPS.into_iter().filter(|app| plan.wants(app)) {
        let [files, bytes, gzip, zstd] = fixtures::sizes(&site.host, app);
        let mb = |bytes: u64| bytes.div_ceil(1_000_000);
        let group = format!(
            "{app}: {files} files, {} MB, {} MB gzip, {} MB zstd",
            mb(bytes),
            mb(gzip),
            mb(zstd)
        );
        fixtures::publish(&site.host, app);
        peers::race(site, rows, &group, app, &site.s3(), plan.rounds);
        bounds::compare(rows, &group, app);
    }
}

/// Runs the node release only, in few rounds, whose time the line limits.
fn slow_lines(site: &Site, plan: &Plan, rows: &mut Rows) {
    let app = "node";
    fixtures::publish(&site.host, app);
    let to = SocketAddrV4::new(Network::GATEWAY, site.host.s3().address().port());
    for (port, line) in (FIRST_LINE_PORT..).zip(shape::LINES) {
        let served = shape::serve(&site.host.network, port, to, line);
        let endpoint = served.endpoint();
        site.reconfigure(&format!("AWS_ENDPOINT_URL={endpoint}\n"));
        let group = format!("slow: {app}, {}", line.name);
        peers::race(site, rows, &group, app, &endpoint, plan.rounds.min(3));
        rows.fact(&format!("{group}: connections cut"), served.cut.load(Ordering::Relaxed));
    }
    site.reconfigure(&format!("AWS_ENDPOINT_URL={}\n", site.s3()));
}
