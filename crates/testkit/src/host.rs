//! An instance with our package installed, and an S3 beside it.

use crate::app::{Release, url};
use crate::instance::{Builder, Image, Instance, Network, Output, package};
use crate::s3::S3Server;
use serde_json::Value;
use std::ops::Deref;
use std::path::Path;
use std::time::Duration;

/// A timeout long enough for anything that has to happen, even on a busy machine.
pub const SOON: Duration = Duration::from_secs(30);

/// The access key that the host's S3 accepts.
pub const ACCESS_KEY: &str = "AKIDEXAMPLE";
/// The secret key that belongs to it.
pub const SECRET_KEY: &str = "a-secret-key-of-the-tests";

const S3_PORT: u16 = 9000;

/// An operator's usual settings, with shorter times.
const SETTINGS: &str = "\
AWS_ENDPOINT_URL=http://10.77.0.1:9000
AWS_REGION=eu-central-1
AWS_ACCESS_KEY_ID=AKIDEXAMPLE
AWS_SECRET_ACCESS_KEY=a-secret-key-of-the-tests
DEPLOY_HEALTH_TIMEOUT=20s
DEPLOY_SETTLE=1s
DEPLOY_STOP_TIMEOUT=5s
DEPLOY_DRAIN_TIMEOUT=2s
DEPLOY_BOOT_TIMEOUT=0s
";

/// An instance with the agent's package, and an S3 on the same network.
pub struct Host {
    /// The machine.
    pub instance: Instance,
    /// The network of the instance and S3.
    pub network: Network,
    s3: Option<S3Server>,
}

/// A host has all methods of its instance.
impl Deref for Host {
    type Target = Instance;

    fn deref(&self) -> &Instance {
        &self.instance
    }
}

impl Host {
    /// An image with the package, settings, and two users: `deployer` may
    /// deploy, and `stranger` may not.
    pub fn image() -> Image {
        Image::with_agent().layer("e2e", &[], &furnish())
    }

    /// The same on top of another image than the base, kept under the name `name`.
    pub fn image_on(image: Image, name: &str) -> Image {
        Host::image_with(image, name, &package())
    }

    /// The same with another package: a .deb, or an .rpm if the image has rpm.
    pub fn image_with(image: Image, name: &str, package: &Path) -> Image {
        let install = match package.extension() {
            // None of Debian's packages is known to rpm.
            Some(end) if end == "rpm" => "rpm --install --nodeps --force-debian ./*.rpm",
            _ => "dpkg --install ./*.deb",
        };
        let script = format!("{install}\n{}", furnish());
        image.layer(name, &[package], &script)
    }

    /// Boots an instance of [`Host::image`].
    pub fn boot() -> Host {
        Host::of(&Host::image())
    }

    /// Boots an instance of this image.
    pub fn of(image: &Image) -> Host {
        Host::built(|builder| builder.image(image))
    }

    /// Boots with a disk of its own: an ext4 of this size, which holds all of its files.
    pub fn on_disk(mib: u64) -> Host {
        Host::built(|builder| builder.image(&Host::image()).disk(mib))
    }

    /// Boots with this much memory for all processes.
    pub fn of_memory(mib: u64) -> Host {
        Host::built(|builder| builder.image(&Host::image()).memory(mib))
    }

    /// Boots an instance that `build` has configured, on a network of its own.
    pub fn built(build: impl FnOnce(Builder) -> Builder) -> Host {
        Host::built_on(Network::new(), build)
    }

    /// The same on a network that has room for other instances as well.
    pub fn built_on(network: Network, build: impl FnOnce(Builder) -> Builder) -> Host {
        let listener = network.listen(S3_PORT);
        let s3 = Some(S3Server::from_listener(listener, ACCESS_KEY, SECRET_KEY));
        let instance = build(network.instance()).boot();
        Host { instance, network, s3 }
    }

    /// A host that already runs release `r1`.
    pub fn running_r1() -> Host {
        let host = Host::boot();
        host.publish(&Release::new("r1"));
        host.deploys("r1");
        host
    }

    /// Returns the S3 beside the instance. Panics while it is stopped.
    pub fn s3(&self) -> &S3Server {
        self.s3.as_ref().expect("S3 was not stopped")
    }

    /// Stops S3: connections are refused from now on.
    pub fn stop_s3(&mut self) {
        drop(self.s3.take());
    }

    /// Stops S3 while `meanwhile` runs, and starts it again with the same state.
    pub fn interrupt_s3(&mut self, meanwhile: impl FnOnce(&Host)) {
        let start = self.pause_s3();
        meanwhile(self);
        start(self);
    }

    /// Stops S3, and returns the function that starts it again with the same state.
    pub fn pause_s3(&mut self) -> impl FnOnce(&mut Host) + use<> {
        let start = self.s3.take().expect("S3 was not stopped").stop();
        move |host| host.s3 = Some(start(host.network.listen(S3_PORT)))
    }

    /// Uploads a release of `my-app` to the S3.
    pub fn publish(&self, release: &Release) {
        release.publish(self.s3());
    }

    /// Appends lines to the agent's settings, which override earlier ones.
    pub fn configure(&self, lines: &str) {
        let append = ["bash", "-c", "cat >>/etc/deploy/agent.env"];
        self.command(&append).input(lines).output().ok();
    }

    /// Runs `deploy` with these arguments, as root.
    #[track_caller]
    pub fn deploy(&self, arguments: &[&str]) -> Output {
        self.exec(&[&["deploy"], arguments].concat())
    }

    /// Deploys a release of `my-app`, which must succeed.
    #[track_caller]
    pub fn deploys(&self, release: &str) -> Output {
        self.deploy(&[&url(release)]).exits(0)
    }

    /// Runs `deploy …` as another user.
    #[track_caller]
    pub fn deploy_as(&self, user: &str, arguments: &[&str]) -> Output {
        let words = ["runuser", "-u", user, "--", "deploy"];
        self.exec(&[&words, arguments].concat())
    }

    /// Returns the response of the web process to `/`; none without a response.
    pub fn served(&self) -> Option<String> {
        let url = format!("http://{}:5000/", self.address());
        let answer = self.network.http_get(&url).ok()?;
        (answer.status == 200).then_some(answer.body)
    }

    /// Returns the only app in `deploy status my-app --json`.
    #[track_caller]
    pub fn status(&self) -> Value {
        let all = self.json(&["status", "my-app", "--json"]);
        all[0].clone()
    }

    /// Returns the output of a `deploy … --json` that succeeds.
    #[track_caller]
    pub fn json(&self, arguments: &[&str]) -> Value {
        let said = self.deploy(arguments);
        // `deploy status` exits with 12 if the app is unhealthy.
        let text = if said.status == Some(12) { said.stdout } else { said.ok() };
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    /// The main pid of `web.1`, `worker.1` …, from `deploy status`.
    #[track_caller]
    pub fn pid(&self, process: &str) -> Option<u64> {
        let status = self.status();
        let processes = status["processes"].as_array().expect("processes");
        processes.iter().find(|one| one["process"] == process)?["pid"].as_u64()
    }

    /// The main pids of web.1 and worker.1, which must both run.
    #[track_caller]
    pub fn pids(&self) -> [u64; 2] {
        ["web.1", "worker.1"]
            .map(|process| self.pid(process).unwrap_or_else(|| panic!("{process} does not run")))
    }

    /// The ports that the processes of `web` listen on.
    pub fn web_listens_on(&self) -> Vec<u64> {
        let listening =
            self.sh("ss --no-header --listening --tcp --processes --numeric | grep python3");
        let local = listening.lines().filter_map(|line| line.split_whitespace().nth(3));
        let ports = local.filter_map(|local| local.rsplit(':').next()?.parse().ok());
        let ports: std::collections::BTreeSet<u64> = ports.collect();
        ports.into_iter().collect()
    }

    /// A description of everything below the state directory except the history, with content,
    /// owner and mode, of the units, and of the running processes. If it is the same before and
    /// after, nothing was touched.
    pub fn state(&self) -> String {
        self.sh("cd /var/lib/deploy
            find . -name history.jsonl -o -type d -printf '%p %m %u %g\\n' \\
                -o -printf '%p %l %m %u %g %s %T@\\n' | sort
            find . -type f ! -name history.jsonl -print0 | sort -z | xargs -0r sha256sum
            find /run/systemd/generator -name 'deploy-*' -type f -print0 | sort -z |
                xargs -0r sha256sum
            systemctl list-units --all --plain --no-legend 'deploy-*@*' | sort
            systemctl show --property=Id,MainPID,NRestarts 'deploy-*@*'")
    }

    /// Lets the build of a [`Release::waiting`] end.
    pub fn go(&self) {
        self.write("/var/lib/deploy/apps/my-app/shared/go", "");
    }

    /// Waits until `deploy status` reports a job under way.
    #[track_caller]
    pub fn wait_until_working(&self) {
        self.wait_for("work", SOON, || self.status()["working"].as_str().map(drop));
    }
}

fn furnish() -> String {
    format!(
        "cat >/etc/deploy/agent.env <<'END'\n{SETTINGS}END\n\
         useradd --create-home --shell /bin/bash stranger\n\
         useradd --create-home --shell /bin/bash --groups deploy deployer\n"
    )
}
