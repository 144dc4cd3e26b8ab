//! How fast a release comes onto the disk and into service, beside what people
//! do without us. Ends with one line of JSON.
//!
//! ```text
//! make bench                      everything
//! make bench ROWS=node ROUNDS=3   the groups whose names begin with `node`
//! ```

#![allow(clippy::disallowed_methods, reason = "the benchmark is not the agent")]
#![allow(dead_code, reason = "the benchmark uses a part of what the tests have")]

#[path = "../../tests/e2e/app.rs"]
mod app;
mod fixtures;
#[path = "../../tests/e2e/host.rs"]
mod host;
#[path = "../../tests/instance/mod.rs"]
mod instance;
mod peers;
#[path = "../../tests/s3/mod.rs"]
mod s3;
mod sample;
mod site;
mod table;

use site::Site;
use table::Rows;

/// What `ROWS` asks for, and how often.
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
    let plan = Plan::from_env();
    let mut rows = Rows::default();
    let site = Site::boot();
    site.wait_for_origin();
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
        peers::race(&site, &mut rows, &group, app, &site.s3(), plan.rounds);
    }
    println!("{}", rows.markdown());
    println!("{}", rows.json());
}
