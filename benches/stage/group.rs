//! What a group feels: instances that deploy the node release from one bucket in the same moment,
//! over one line of 1 Gbit/s, each on a disk of 125 MB/s.

use crate::fixtures::{self, Kind, archive};
use crate::gp3::{NODE, RATE};
use crate::sample::Sample;
use crate::shape::{self, LINES};
use crate::site::{mount_disk, warm};
use crate::table::Rows;
use std::net::SocketAddrV4;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use testkit::app::{BUCKET, url};
use testkit::host::{Host, SOON};
use testkit::instance::{Network, Throttle};
use testkit::s3::{Fault, S3Server};

/// As many instances as the tests may boot at once, and fewer, to see what grows.
const SIZES: [usize; 3] = [1, 2, 4];
const LINE_PORT: u16 = 9200;
const PORT: u16 = 5000;

/// How many requests for the archive the bucket refuses with SlowDown, for each instance.
const REFUSED: usize = 10;

struct Group {
    hosts: Vec<Host>,
    disks: Vec<String>,
}

/// What one deploy of the whole group has shown.
struct Shown {
    samples: Vec<Sample>,
    requests: usize,
    /// The most in one second.
    most: usize,
}

pub fn run(rows: &mut Rows, rounds: usize) {
    let group = Group::boot(SIZES[SIZES.len() - 1]);
    let mut number = 0;
    for (size, refuses) in SIZES.into_iter().map(|size| (size, false)).chain([(4, true)]) {
        let name = match refuses {
            false => format!("group: {size} at once"),
            true => format!("group: {size} at once, {REFUSED} requests of each refused"),
        };
        for round in 1..=rounds {
            eprintln!("{name}: round {round} of {rounds}");
            number += 1;
            let release = format!("g{number}");
            group.publish(&release, refuses.then_some(REFUSED * size));
            let shown = group.deploy(size, &release);
            rows.fact(&format!("{name}: requests to S3"), shown.requests);
            rows.fact(&format!("{name}: the most in one second"), shown.most);
            let mut samples = shown.samples;
            samples.sort_by(|a, b| a.wall.total_cmp(&b.wall));
            let last = samples.pop();
            for (what, sample) in
                [("the first", samples.first().or(last.as_ref())), ("the last", last.as_ref())]
            {
                if let Some(sample) = sample {
                    rows.add(&name, what, true, *sample);
                }
            }
        }
        eprintln!("{}", rows.group(&name));
    }
}

impl Group {
    fn boot(size: usize) -> Group {
        let image = fixtures::image();
        let network = Network::of(size);
        let host = || Host::built_on(network.clone(), |builder| builder.image(&image));
        let hosts: Vec<Host> = (0..size).map(|_| host()).collect();
        let to = SocketAddrV4::new(Network::GATEWAY, hosts[0].s3().address().port());
        let (endpoint, _) = shape::serve(&network, LINE_PORT, to, LINES[0]);
        let prepare = |host: &Host| {
            let disk = mount_disk(host);
            host.write("/usr/local/bin/node", NODE);
            host.configure(&format!(
                "AWS_ENDPOINT_URL={endpoint}\nDEPLOY_KEEP_RELEASES=1\nDEPLOY_SETTLE=200ms\n"
            ));
            host.sh("chmod 755 /usr/local/bin/node; systemctl restart deployd.service");
            disk
        };
        let disks = hosts.iter().map(prepare).collect();
        Group { hosts, disks }
    }

    fn bucket(&self) -> &S3Server {
        self.hosts[0].s3()
    }

    /// Publishes the release under another name, which may be refused so many times.
    fn publish(&self, name: &str, refused: Option<usize>) {
        let bytes =
            self.hosts[0].read(&format!("{}/{}", fixtures::AT, archive("node", Kind::Gzip)));
        let at = format!("my-app/production/{name}");
        let key = format!("{at}/source.tar.gz");
        self.bucket().put(BUCKET, &key, bytes);
        self.bucket().put(BUCKET, &format!("{at}/env"), format!("NAMED={name}\n"));
        if let Some(times) = refused {
            self.bucket().fault("GET", &format!("{BUCKET}/{key}"), times, Fault::SLOW_DOWN);
        }
    }

    /// Deploys a release to so many instances in the same moment.
    fn deploy(&self, size: usize, release: &str) -> Shown {
        let hosts = &self.hosts[..size];
        for host in hosts {
            warm(host);
        }
        let _slow: Vec<Throttle> = self.disks.iter().map(|disk| Throttle::of(disk, RATE)).collect();
        let (start, over) = (Barrier::new(size), AtomicBool::new(false));
        let before = self.bucket().requests().len();
        thread::scope(|scope| {
            let counting = scope.spawn(|| self.most_in_a_second(&over));
            let deploys: Vec<_> = hosts
                .iter()
                .map(|host| {
                    let start = &start;
                    scope.spawn(move || {
                        start.wait();
                        until_answered(host, release)
                    })
                })
                .collect();
            let samples = deploys.into_iter().map(|one| one.join().expect("no panic")).collect();
            over.store(true, Ordering::Relaxed);
            let most = counting.join().expect("no panic");
            Shown { samples, requests: self.bucket().requests().len() - before, most }
        })
    }

    fn most_in_a_second(&self, over: &AtomicBool) -> usize {
        let mut counts = Vec::new();
        while !over.load(Ordering::Relaxed) {
            counts.push((Instant::now(), self.bucket().requests().len()));
            thread::sleep(Duration::from_millis(20));
        }
        let second = Duration::from_secs(1);
        let in_one = |(at, count): &(Instant, usize)| {
            let earlier = counts.iter().rev().find(|(then, _)| *then + second <= *at);
            count - earlier.or(counts.first()).map_or(0, |(_, count)| *count)
        };
        counts.iter().map(in_one).max().unwrap_or_default()
    }
}

/// Measures from the start of `deploy` to the first answer from outside.
fn until_answered(host: &Host, release: &str) -> Sample {
    let page = format!("http://{}:{PORT}/", host.address());
    let begin = Instant::now();
    let job = host.command(&["deploy", &url(release)]).spawn();
    let answered = || host.network.http_get(&page).is_ok_and(|page| page.body == release);
    while !answered() && begin.elapsed() < SOON {
        thread::sleep(Duration::from_millis(5));
    }
    let wall = begin.elapsed().as_secs_f64();
    let said = job.output();
    let failed = said.status != Some(0) || begin.elapsed() >= SOON;
    if failed {
        eprintln!("  failed: {said:?}");
    }
    Sample { wall, synced: wall, failed, ..Sample::default() }
}
