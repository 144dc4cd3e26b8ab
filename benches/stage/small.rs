//! What a small instance's clients feel while the next release is staged: 20 % of one processor and
//! 1 GiB, as a t3.micro has them once its credits are spent.
//!
//! The kernel grants the processor in periods of 100 ms: once a period's share is used, nothing runs
//! until the next one.

use crate::fixtures::{self, Kind};
use crate::site::credentials;
use crate::table::Rows;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use testkit::app::{APP, BUCKET, Release};
use testkit::host::Host;
use testkit::instance::Network;

const MEMORY: u64 = 1024;
const CPU: u32 = 20;

/// The pause between two requests.
const PAUSE: Duration = Duration::from_millis(40);

/// How long the app is asked while nothing else happens.
const QUIET: Duration = Duration::from_secs(20);

/// A timeout that shows a fault of the benchmark.
const PATIENCE: Duration = Duration::from_secs(600);

const SCRIPT: &str = "set -o pipefail; mkdir /root/unpacked && \
    /opt/awscli/bin/aws --endpoint-url $S3 s3 cp --quiet $URL/source.tar.gz - | \
    tar xz -C /root/unpacked && rm -rf /root/unpacked";

/// Runs a command in the instance's own control group, whose processor time is limited.
const INSIDE: [&str; 11] = [
    "systemd-run",
    "--quiet",
    "--wait",
    "--pipe",
    "--setenv=S3",
    "--setenv=URL",
    "--setenv=AWS_ACCESS_KEY_ID",
    "--setenv=AWS_SECRET_ACCESS_KEY",
    "--setenv=AWS_REGION",
    "bash",
    "-c",
];

/// Response times in seconds, in ascending order.
struct Times(Vec<f64>);

impl Times {
    fn percentile(&self, percent: usize) -> f64 {
        let last = self.0.len().saturating_sub(1);
        self.0.get(last * percent / 100).copied().unwrap_or(f64::NAN)
    }
}

pub fn run(rows: &mut Rows, rounds: usize) {
    let image = fixtures::image();
    let host = Host::built_on(Network::new(), |builder| builder.image(&image).memory(MEMORY));
    host.publish(&Release::empty("r1").file("app.py", APP).file("VERSION", "r1").procfile(WEB));
    host.deploys("r1");
    fixtures::publish(&host, "node");
    let env = format!("node/production/{}/env", Kind::Gzip.release());
    host.s3().put(BUCKET, &env, "PORT=5001\n");
    let url = format!("s3://{BUCKET}/node/production/{}", Kind::Gzip.release());
    let s3 = format!("http://{}:{}", Network::GATEWAY, host.s3().address().port());
    host.limit_cpu(CPU);
    let quiet = || drop(thread::spawn(|| thread::sleep(QUIET)).join());
    note(rows, "quiet", &asked(&host, quiet), None);
    for round in 1..=rounds.min(3) {
        eprintln!("small: round {round}");
        for (what, command) in
            [("deploy stage", format!("deploy stage {url}")), ("bash script", SCRIPT.to_owned())]
        {
            let run = host.command(&[&INSIDE[..], &[&command]].concat());
            let run = run.env("S3", &s3).env("URL", &url);
            let begin = Instant::now();
            let times = asked(&host, || {
                let said = credentials(run).deadline(PATIENCE).output();
                if said.status != Some(0) {
                    eprintln!("  failed: {what}: {said:?}");
                }
            });
            note(rows, what, &times, Some(begin.elapsed()));
        }
        host.deploy(&["remove", "node", "--yes"]).ok();
    }
}

const WEB: &str = "web: python3 app.py web\n";

/// Asks the app while `work` goes on.
fn asked(host: &Host, work: impl FnOnce()) -> Times {
    let (done, page) = (AtomicBool::new(false), format!("http://{}:5000/", host.address()));
    let mut times = thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let mut times = Vec::new();
            while !done.load(Ordering::Relaxed) {
                let begin = Instant::now();
                let answered = host.network.http_get(&page).is_ok_and(|page| page.body == "r1");
                times.push(if answered { begin.elapsed().as_secs_f64() } else { f64::INFINITY });
                thread::sleep(PAUSE);
            }
            times
        });
        work();
        done.store(true, Ordering::Relaxed);
        asking.join().expect("the client")
    });
    times.sort_by(f64::total_cmp);
    Times(times)
}

fn note(rows: &mut Rows, what: &str, times: &Times, took: Option<Duration>) {
    let milliseconds = |percent| (times.percentile(percent) * 1e4).round() / 10.0;
    let took = took.map(|took| format!(" in {:.1} s", took.as_secs_f64())).unwrap_or_default();
    let (median, p99) = (milliseconds(50), milliseconds(99));
    eprintln!("small: {what}{took}: {} requests, {median} and {p99} ms", times.0.len());
    rows.fact(&format!("small: {what}: median response, ms"), median);
    rows.fact(&format!("small: {what}: 99th percentile, ms"), p99);
}
