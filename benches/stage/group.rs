//! What a group feels: instances that deploy the node release from one bucket in the same moment,
//! over one line of 1 Gbit/s, each on a disk of 125 MB/s.

use crate::fixtures::{self, Kind, archive};
use crate::gp3::{NODE, RATE};
use crate::sample::Sample;
use crate::shape::{self, LINES, Served};
use crate::site::{mount_disk, warm};
use crate::table::Rows;
use std::net::SocketAddrV4;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use testkit::app::{BUCKET, url};
use testkit::host::{Host, SOON};
use testkit::instance::{Instance, Network, Throttle};
use testkit::s3::{Fault, S3Server};

/// As many instances as the tests may boot at once, and fewer, to see what grows.
const SIZES: [usize; 3] = [1, 2, 4];
const LINE_PORT: u16 = 9200;
const PORT: u16 = 5000;

/// How many requests for the archive the bucket refuses with SlowDown, times the instances.
const REFUSED: usize = 10;

struct Group {
    /// It is served as long as this lives.
    _line: Served,
    /// It has the bucket as well.
    first: Host,
    others: Vec<Instance>,
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
            true => format!("group: {size} at once, {} requests refused", REFUSED * size),
        };
        let (mut requests, mut most) = (0, 0);
        for round in 1..=rounds {
            eprintln!("{name}: round {round} of {rounds}");
            number += 1;
            let release = format!("g{number}");
            group.publish(&release, refuses.then_some(REFUSED * size));
            let shown = group.deploy(size, &release);
            (requests, most) = (shown.requests, most.max(shown.most));
            let mut samples = shown.samples;
            samples.sort_by(|a, b| a.wall.total_cmp(&b.wall));
            if size > 1 {
                rows.add(&name, "the first", true, samples[0]);
            }
            rows.add(&name, "the last", true, samples[size - 1]);
        }
        rows.fact(&format!("{name}: requests to S3"), requests);
        rows.fact(&format!("{name}: the most requests in one second"), most);
        eprintln!("{}", rows.group(&name));
    }
}

impl Group {
    fn boot(size: usize) -> Group {
        let image = fixtures::image();
        let network = Network::of(size);
        let first = Host::built_on(network.clone(), |builder| builder.image(&image));
        let other = |_| network.instance().image(&image).boot();
        let others: Vec<Instance> = (1..size).map(other).collect();
        let to = SocketAddrV4::new(Network::GATEWAY, first.s3().address().port());
        let line = shape::serve(&network, LINE_PORT, to, LINES[0]);
        let endpoint = line.endpoint();
        let settings =
            format!("AWS_ENDPOINT_URL={endpoint}\nDEPLOY_KEEP_RELEASES=1\nDEPLOY_SETTLE=200ms\n");
        let mut group = Group { _line: line, first, others, disks: Vec::new() };
        group.disks = group.instances().map(|instance| prepare(instance, &settings)).collect();
        group
    }

    fn instances(&self) -> impl Iterator<Item = &Instance> {
        std::iter::once(&self.first.instance).chain(&self.others)
    }

    fn bucket(&self) -> &S3Server {
        self.first.s3()
    }

    /// Publishes the release under another name, which may be refused so many times.
    fn publish(&self, name: &str, refused: Option<usize>) {
        let bytes = self.first.read(&format!("{}/{}", fixtures::AT, archive("node", Kind::Gzip)));
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
        let instances: Vec<&Instance> = self.instances().take(size).collect();
        instances.iter().for_each(|instance| warm(instance));
        let _slow: Vec<Throttle> = self.disks.iter().map(|disk| Throttle::of(disk, RATE)).collect();
        let (start, over) = (Barrier::new(size), AtomicBool::new(false));
        let before = self.bucket().requests().len();
        thread::scope(|scope| {
            let counting = scope.spawn(|| self.most_in_a_second(&over));
            let deploy = |instance| {
                let (start, network) = (&start, &self.first.network);
                scope.spawn(move || {
                    start.wait();
                    until_answered(network, instance, release)
                })
            };
            let deploys: Vec<_> = instances.into_iter().map(deploy).collect();
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

/// Gives an instance its disk, the program of the app, and settings.
fn prepare(instance: &Instance, settings: &str) -> String {
    let disk = mount_disk(instance);
    instance.write("/usr/local/bin/node", NODE);
    let configure = "cat >>/etc/deploy/agent.env && chmod 755 /usr/local/bin/node && \
                     systemctl restart deployd.service";
    instance.command(&["bash", "-c", configure]).input(settings).output().ok();
    disk
}

/// Measures from the start of `deploy` to the first answer from outside.
fn until_answered(network: &Network, instance: &Instance, release: &str) -> Sample {
    let page = format!("http://{}:{PORT}/", instance.address());
    let begin = Instant::now();
    let job = instance.command(&["deploy", &url(release)]).spawn();
    let answered = || network.http_get(&page).is_ok_and(|page| page.body == release);
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
