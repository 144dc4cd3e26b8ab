//! Instances that are launched as Auto Scaling does it: from one image, with the user-data of
//! their group, in a network with S3, the metadata service, and the API of Auto Scaling.

use crate::debian::PROXY_PORT;
use serde_json::Value;
use std::fs;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::panic;
use std::thread;
use std::time::{Duration, Instant};
use testkit::app::BUCKET;
use testkit::aws::Aws;
use testkit::host::{ACCESS_KEY, SECRET_KEY};
use testkit::instance::{Image, Instance, Lifeline, Network, poll};
use testkit::s3::S3Server;

/// The timeout of a launch.
const LAUNCH: Duration = Duration::from_secs(180);

/// The path of requests by which a fleet marks the time in the record.
const POWER_ON: &str = "/power-on";

pub struct Fleet {
    pub network: Network,
    pub s3: S3Server,
    pub aws: Aws,
}

/// An instance that has been launched.
pub struct Launched {
    pub instance: Instance,
    /// The id that EC2 gave it.
    pub id: String,
    /// From power on until the app answered a client of another machine.
    pub healthy: Option<Duration>,
    /// From power on until Auto Scaling put it into service.
    pub in_service: Option<Duration>,
}

impl Fleet {
    /// A network for so many instances at once.
    pub fn of(instances: usize) -> Fleet {
        let network = Network::of(instances);
        let listener = network.listen_at(SocketAddrV4::new(Network::GATEWAY, 9000));
        let s3 = S3Server::from_listener(listener, ACCESS_KEY, SECRET_KEY);
        let aws = Aws::start(&network);
        network.proxy(PROXY_PORT);
        Fleet { network, s3, aws }
    }

    /// A fleet for a machine of no group's making: a role, and no user-data.
    pub fn of_a_machine() -> Fleet {
        let fleet = Fleet::of(1);
        fleet.aws.group(&["--name", "machine"]);
        fleet
    }

    /// Makes the group of an app, whose instances have this user-data, and a launching hook.
    /// Machines that are booted later are its instances.
    pub fn group(&self, app: &str, instances: usize, user_data: &str) {
        let file = Lifeline::get().dir().join(format!("{app}.user-data"));
        fs::write(&file, user_data).expect("write the user-data");
        let (count, file) = (instances.to_string(), file.to_string_lossy());
        let url = format!("deploy:url=s3://{BUCKET}/{app}/production/current");
        let group = ["--name", app, "--count", &count, "--user-data", &file];
        let tags = ["--hook", "launched", "--tag", &url, "--tag", "deploy:hook=launched"];
        self.aws.group(&[group, tags].concat());
    }

    /// Makes the pointer `current` of an app name this release.
    pub fn point(&self, app: &str, release: &str) {
        self.s3.put(BUCKET, &format!("{app}/production/current"), format!("{release}\n"));
    }

    /// Boots the instance 10.77.0.`host`, and returns when its user-data has run.
    pub fn launch(&self, image: &Image, host: u8) -> Launched {
        let address = Ipv4Addr::new(10, 77, 0, host);
        // Refused for lack of a token, and recorded, with the time.
        let mark = format!("{POWER_ON}/{host}");
        self.network.http_get(&format!("http://{}{mark}", Network::METADATA)).expect("a mark");
        let (instance, healthy) = self.boot(image, host);
        let record = self.aws.record();
        let last = |key: &str, value: &str, address: &str| {
            record.iter().rfind(|entry| entry[key] == value && entry["address"] == address)
        };
        let after = |entry: &Value| Duration::from_secs_f64(entry["after"].as_f64().unwrap_or(0.0));
        let from = record.iter().rfind(|entry| entry["path"] == mark.as_str()).map(after);
        let address = address.to_string();
        let in_service = last("state", "InService", &address).map(after);
        let id = last("kind", "boot", &address).and_then(|entry| entry["instance"].as_str());
        Launched {
            instance,
            id: id.unwrap_or_default().to_owned(),
            healthy,
            in_service: in_service.map(|at| at - from.expect("the mark is recorded")),
        }
    }

    /// Boots an instance, and returns it with the time until its app answered.
    fn boot(&self, image: &Image, host: u8) -> (Instance, Option<Duration>) {
        let began = Instant::now();
        let url = format!("http://10.77.0.{host}:5000/");
        let answers = || {
            let answer = self.network.http_get(&url).ok()?;
            (answer.status == 200).then(|| began.elapsed())
        };
        thread::scope(|scope| {
            let boot = scope.spawn(|| self.network.instance().host(host).image(image).boot());
            let booted = || boot.is_finished().then_some(None);
            let healthy = poll(LAUNCH, || answers().map(Some).or_else(booted)).flatten();
            let instance = boot.join().unwrap_or_else(|cause| panic::resume_unwind(cause));
            // It may have come up since the last probe.
            (instance, healthy.or_else(answers))
        })
    }

    /// The requests for metadata that came without a token.
    pub fn refused(&self) -> Vec<Value> {
        let mut record = self.aws.record();
        record.retain(|entry| {
            let path = entry["path"].as_str().unwrap_or_default();
            entry["status"] == 401 && !path.starts_with(POWER_ON)
        });
        record
    }
}

impl Launched {
    /// The first line of `cloud-init status`.
    pub fn status(&self) -> String {
        self.instance.exec(&["cloud-init", "status"]).stdout
    }

    /// The end of what user-data wrote.
    pub fn output(&self) -> String {
        self.instance.sh("tail -n 30 /var/log/cloud-init-output.log")
    }
}
