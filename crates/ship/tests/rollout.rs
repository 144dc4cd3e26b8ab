//! ship deploys to three booted instances by ssh, under load. `make rollout` runs it.

#![allow(clippy::disallowed_methods, reason = "it starts programs")]

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::time::Duration;
use tempfile::TempDir;
use testkit::app::APP;
use testkit::host::{ACCESS_KEY, Host, SECRET_KEY};
use testkit::instance::{Image, Instance, Network};
use testkit::load::Load;

const SHIP_TOML: &str = "app = \"my-app\"\nstore = \"s3://releases\"\n\
    [environments.production]\nhosts = [\"web1\", \"web2\", \"web3\"]\n";
const SETTINGS: [&str; 3] =
    ["DEPLOY_SETTLE=1s", "DEPLOY_HEALTH_PATH=/", "DEPLOY_HEALTH_TIMEOUT=20s"];

/// Three instances, and a directory from which ship reaches them.
struct Formation {
    first: Host,
    others: [Instance; 2],
    directory: TempDir,
}

struct Ended {
    code: i32,
    stdout: String,
    stderr: String,
}

impl Formation {
    fn boot() -> Formation {
        let image = Image::base().with_packages("ssh", &["openssh-server"]);
        let image = Host::image_on(image, "rollout");
        let network = Network::of(3);
        let first = Host::built_on(network.clone(), |builder| builder.image(&image));
        let others = [(); 2].map(|()| network.instance().image(&image).boot());
        let formation = Formation { first, others, directory: tempfile::tempdir().unwrap() };
        // The first object makes the bucket.
        formation.first.s3().put("releases", "README", "");
        formation.furnish();
        formation
    }

    fn instances(&self) -> [&Instance; 3] {
        [&self.first.instance, &self.others[0], &self.others[1]]
    }

    /// Makes a key that the instances accept, and an ssh that knows them by name.
    fn furnish(&self) {
        let key = self.path("id");
        let mut keygen = Command::new("ssh-keygen");
        keygen.args(["-q", "-t", "ed25519", "-N", "", "-f", &key]);
        assert!(keygen.status().expect("ssh-keygen").success());
        let public = fs::read_to_string(format!("{key}.pub")).unwrap();
        let mut config = format!(
            "User root\nIdentityFile {key}\nIdentitiesOnly yes\nStrictHostKeyChecking accept-new\n\
             UserKnownHostsFile {}\n",
            self.path("known_hosts")
        );
        for (n, instance) in self.instances().into_iter().enumerate() {
            instance.sh("mkdir -p -m 700 /root/.ssh && systemctl start ssh");
            instance.write("/root/.ssh/authorized_keys", public.clone());
            let address = instance.address();
            config = format!("{config}Host web{}\n  HostName {address}\n", n + 1);
        }
        self.write("ssh_config", &config);
        fs::create_dir_all(self.path("bin")).unwrap();
        let real = format!("#!/bin/sh\nexec /usr/bin/ssh -F {} \"$@\"\n", self.path("ssh_config"));
        self.write("bin/ssh", &real);
        fs::set_permissions(self.path("bin/ssh"), fs::Permissions::from_mode(0o755)).unwrap();
        self.write("ship.toml", SHIP_TOML);
    }

    fn path(&self, name: &str) -> String {
        self.directory.path().join(name).to_str().unwrap().to_owned()
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    fn ship(&self, words: &[&str]) -> Ended {
        let mut command = self.command(words);
        let output = self.first.network.within(|| command.output().expect("ship"));
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
        println!("$ ship {}\n{stderr}{stdout}", words.join(" "));
        Ended { code: output.status.code().unwrap_or(-1), stdout, stderr }
    }

    fn command(&self, words: &[&str]) -> Command {
        let path = std::env::var("PATH").unwrap_or_default();
        let mut command = Command::new(env!("CARGO_BIN_EXE_ship"));
        command.args(words).current_dir(self.directory.path()).env_clear();
        command.env("PATH", format!("{}:{path}", self.path("bin"))).env("SHIP_BY", "Ada");
        command.env("AWS_ENDPOINT_URL", "http://10.77.0.1:9000").env("AWS_REGION", "eu-central-1");
        command.env("AWS_ACCESS_KEY_ID", ACCESS_KEY).env("AWS_SECRET_ACCESS_KEY", SECRET_KEY);
        command
    }

    /// Kills ship as soon as it says this.
    fn killed_at(&self, words: &[&str], said: &str) {
        let mut command = self.command(words);
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        let mut ship = self.first.network.within(|| command.spawn().expect("ship"));
        let lines = BufReader::new(ship.stderr.take().expect("its stderr")).lines();
        let line = lines.map_while(Result::ok).find(|line| line.contains(said));
        assert!(line.is_some(), "ship never said {said}");
        ship.kill().expect("a kill");
        ship.wait().expect("its end");
    }

    #[track_caller]
    fn ok(&self, words: &[&str]) -> String {
        let ended = self.ship(words);
        assert_eq!(ended.code, 0, "{words:?}: {}{}", ended.stdout, ended.stderr);
        ended.stdout
    }

    /// Makes a release whose web process answers with this text.
    fn release(&self, version: &str, web: &str) -> String {
        let directory = self.path("app");
        fs::create_dir_all(&directory).unwrap();
        self.write("app/app.py", APP);
        self.write("app/VERSION", &format!("{version}\n"));
        self.write("app/Procfile", &format!("web: {web}\n"));
        self.ok(&["release", "production", "--source", &directory]).trim().to_owned()
    }

    fn served(&self) -> Vec<String> {
        let served = |instance: &Instance| {
            let url = format!("http://{}:5000/", instance.address());
            self.first.network.http_get(&url).map(|answer| answer.body).unwrap_or_default()
        };
        self.instances().map(served).to_vec()
    }

    fn load(&self) -> Load {
        let target = |instance: &Instance| SocketAddr::from((instance.address(), 5000));
        let targets = self.instances().map(target);
        Load::on(&targets)
            .connections(6)
            .pause(Duration::from_millis(5))
            .longest(Duration::from_secs(600))
    }
}

const WEB: &str = "python3 app.py web";

#[test]
fn a_group_is_deployed_taken_back_and_rolled_back_without_a_failed_request() {
    let group = Formation::boot();
    group.ok(&[&["config", "-e", "production", "set"], &SETTINGS[..]].concat());
    assert_eq!(group.release("one", WEB), "r1");
    assert_eq!(group.ok(&["deploy", "production"]), "r1 runs on 3 instances\n");
    assert_eq!(group.served(), ["one"; 3]);

    let load = group.first.network.within(|| group.load().start());
    load.wait_for(100);
    assert_eq!(group.release("two", WEB), "r2");
    assert_eq!(group.ok(&["deploy", "production"]), "r2 runs on 3 instances\n");
    assert_eq!(group.served(), ["two"; 3]);

    // Bad on the third instance only.
    group.others[1].write("/etc/broken", "");
    let broken = "if [ -e /etc/broken ]; then echo the disk is on fire; exit 1; fi; exec ";
    assert_eq!(group.release("three", &format!("{broken}{WEB}")), "r3");
    let ended = group.ship(&["deploy", "production"]);
    assert_eq!(ended.code, 12, "{}", ended.stderr);
    assert!(ended.stderr.contains("r3 failed on web3"), "{}", ended.stderr);
    assert!(ended.stderr.contains("the group runs r2"), "{}", ended.stderr);
    assert!(ended.stderr.contains("the disk is on fire"), "{}", ended.stderr);
    assert_eq!(group.served(), ["two"; 3]);
    let ps = group.ok(&["ps", "production"]);
    assert_eq!(ps.matches("healthy").count(), 3, "{ps}");

    assert_eq!(group.ok(&["rollback", "production"]), "r1 runs on 3 instances\n");
    assert_eq!(group.served(), ["one"; 3]);
    let tally = load.stop();
    assert_eq!(tally.failed(), 0, "{tally}");
    println!("{tally}");

    let history = group.ok(&["history", "production"]);
    assert_eq!(history.lines().count(), 5, "{history}");

    // The lease of a ship that was killed runs out; another one does the rest.
    group.killed_at(&["deploy", "production", "r2"], "r2 on web2");
    assert_eq!(group.ship(&["deploy", "production", "r2"]).code, 40);
    assert_eq!(group.ok(&["attach", "production"]), "r2 runs on 3 instances\n");
    assert_eq!(group.served(), ["two"; 3]);

    group.others[0].sh("systemctl stop ssh.socket ssh; pkill sshd; true");
    let ended = group.ship(&["deploy", "production", "r1"]);
    assert_eq!(ended.code, 41, "{}", ended.stderr);
    let ended = group.ship(&["deploy", "production", "r1", "--skip-unreachable"]);
    assert_eq!(
        (ended.code, ended.stdout.as_str()),
        (42, "r1 runs on 2 instances, and not on web2\n")
    );
}
