//! An emulated machine with our package, and the S3 that its user-data deploys from.

use serde_json::Value;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::ops::Deref;
use testkit::app::BUCKET;
use testkit::host::{ACCESS_KEY, SECRET_KEY};
use testkit::instance::{Emulated, Image, Network, Output, package};
use testkit::s3::S3Server;

/// The README's user-data, with the URL, since there is no metadata service to have tags.
const USER_DATA: &str = "#!/bin/sh\ndeploy boot s3://releases/my-app/production/current\n";

const S3_PORT: u16 = 9000;

pub struct Machine {
    pub emulated: Emulated,
    pub network: Network,
    pub s3: S3Server,
}

impl Deref for Machine {
    type Target = Emulated;

    fn deref(&self) -> &Emulated {
        &self.emulated
    }
}

impl Machine {
    /// Makes a machine that is off, and whose user-data deploys the pointer of `my-app`.
    pub fn new() -> Machine {
        let install = format!(
            "dpkg --install ./*.deb
            cat >/etc/deploy/agent.env <<'END'\n{}END",
            settings()
        );
        let image = Image::base().with_kernel().layer("kernel-agent", &[&package()], &install);
        let network = Network::new();
        let listener = network.listen_at(SocketAddrV4::new(Ipv4Addr::LOCALHOST, S3_PORT));
        let s3 = S3Server::from_listener(listener, ACCESS_KEY, SECRET_KEY);
        let emulated = Emulated::new(&network, &image, USER_DATA);
        Machine { emulated, network, s3 }
    }

    /// Makes the pointer name this release.
    pub fn point(&self, release: &str) {
        self.s3.put(BUCKET, "my-app/production/current", format!("{release}\n"));
    }

    /// Powers it on for the first time, and returns when its user-data has ended.
    pub fn is_born(&self) {
        self.boot();
        let status = self.exec(&["cloud-init", "status", "--wait"]).stdout;
        let output = self.sh("cat /var/log/cloud-init-output.log");
        assert!(status.ends_with("status: done\n"), "{status}{output}");
        assert!(!output.contains("waiting for the instance's metadata"), "{output}");
        println!("          {}", output.lines().last().unwrap_or_default());
    }

    pub fn deploy(&self, arguments: &[&str]) -> Output {
        self.exec(&[&["deploy"], arguments].concat())
    }

    /// Returns the response of the web process to a client outside; none without a response.
    pub fn served(&self) -> Option<String> {
        let answer = self.network.http_get(&format!("http://{}/", self.address())).ok()?;
        (answer.status == 200).then_some(answer.body)
    }

    #[track_caller]
    pub fn serves(&self, release: &str) {
        assert_eq!(self.served().as_deref(), Some(release));
    }

    /// Returns the only app in `deploy status my-app --json`.
    #[track_caller]
    pub fn status(&self) -> Value {
        let said = self.deploy(&["status", "my-app", "--json"]);
        let all: Option<Value> = serde_json::from_str(&said.stdout).ok();
        all.unwrap_or_else(|| panic!("{said:?}"))[0].clone()
    }

    /// The main pid of the process.
    #[track_caller]
    pub fn pid(&self, process: &str) -> u64 {
        let status = self.status();
        let mut processes = status["processes"].as_array().into_iter().flatten();
        let process = processes.find(|one| one["process"] == process);
        process.and_then(|one| one["pid"].as_u64()).unwrap_or_else(|| panic!("{status:#}"))
    }

    /// Waits until the boot has ended, and fails if a unit has.
    #[track_caller]
    pub fn is_up(&self) {
        let state = self.exec(&["systemctl", "is-system-running", "--wait"]).stdout;
        let failed = self.sh("systemctl list-units --failed --plain --no-legend");
        assert_eq!((state.trim(), failed.as_str()), ("running", ""));
    }
}

/// What an operator sets for a machine that is ten times slower than others.
fn settings() -> String {
    format!(
        "AWS_ENDPOINT_URL=http://{}:{S3_PORT}
AWS_REGION=eu-central-1
AWS_ACCESS_KEY_ID={ACCESS_KEY}
AWS_SECRET_ACCESS_KEY={SECRET_KEY}
AWS_EC2_METADATA_DISABLED=true
DEPLOY_HEALTH_TIMEOUT=5m
DEPLOY_STOP_TIMEOUT=2m
",
        Emulated::GATEWAY
    )
}
