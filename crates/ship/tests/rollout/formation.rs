//! Three booted instances that ship reaches by ssh, and a store beside them.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tempfile::TempDir;
use testkit::host::{ACCESS_KEY, Host, SECRET_KEY};
use testkit::instance::{Image, Instance, Network};
use testkit::load::Load;

const SHIP_TOML: &str = "app = \"my-app\"\nstore = \"s3://releases\"\n\
    [environments.production]\nhosts = [\"web1\", \"web2\", \"web3\"]\n";

/// Three instances, and a directory from which ship reaches them.
pub struct Formation {
    pub first: Host,
    pub others: [Instance; 2],
    directory: TempDir,
    /// Variables that ship is called with.
    pub environment: Vec<(&'static str, String)>,
}

pub struct Ended {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Formation {
    pub fn boot() -> Formation {
        let image = Image::base().with_packages("ssh", &["openssh-server"]);
        let image = Host::image_on(image, "rollout");
        let network = Network::of(3);
        let first = Host::built_on(network.clone(), |builder| builder.image(&image));
        let others = [(); 2].map(|()| network.instance().image(&image).boot());
        let directory = tempfile::tempdir().unwrap();
        let formation = Formation { first, others, directory, environment: vec![] };
        // The first object makes the bucket.
        formation.first.s3().put("releases", "README", "");
        formation.furnish();
        formation
    }

    pub fn instances(&self) -> [&Instance; 3] {
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

    pub fn path(&self, name: &str) -> String {
        self.directory.path().join(name).to_str().unwrap().to_owned()
    }

    pub fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    pub fn ship(&self, words: &[&str]) -> Ended {
        let mut command = self.command(words);
        let output = self.first.network.within(|| command.output().expect("ship"));
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
        println!("$ ship {}\n{stderr}{stdout}", words.join(" "));
        Ended { code: output.status.code().unwrap_or(-1), stdout, stderr }
    }

    fn command(&self, words: &[&str]) -> Command {
        self.program(env!("CARGO_BIN_EXE_ship"), words)
    }

    fn program(&self, program: &str, words: &[&str]) -> Command {
        let path = std::env::var("PATH").unwrap_or_default();
        let mut command = Command::new(program);
        command.args(words).current_dir(self.directory.path()).env_clear();
        command.env("PATH", format!("{}:{path}", self.path("bin"))).env("SHIP_BY", "Ada");
        // Connections of ssh outlive a ship for a while, and are those of these instances.
        command.env("XDG_RUNTIME_DIR", self.directory.path());
        command.env("AWS_ENDPOINT_URL", "http://10.77.0.1:9000").env("AWS_REGION", "eu-central-1");
        command.env("AWS_ACCESS_KEY_ID", ACCESS_KEY).env("AWS_SECRET_ACCESS_KEY", SECRET_KEY);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Runs ship at a terminal of this size; returns all that it has written there.
    pub fn at_terminal(&self, (rows, columns): (u16, u16), words: &str) -> (i32, String) {
        let ship = env!("CARGO_BIN_EXE_ship");
        let inside = format!("stty rows {rows} cols {columns}; {ship} {words}");
        let words = ["--quiet", "--return", "--command", &inside, "/dev/null"];
        let mut script = self.program("script", &words);
        script.env("TERM", "xterm-256color").env("LANG", "C.UTF-8").stdin(Stdio::null());
        let output = self.first.network.within(|| script.output().expect("script"));
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        (output.status.code().unwrap_or(-1), text)
    }

    /// Starts ship, whose stdout is read line by line.
    pub fn start(&self, words: &[&str]) -> Child {
        let mut command = self.command(words);
        command.stdout(Stdio::piped());
        self.first.network.within(|| command.spawn().expect("ship"))
    }

    /// Kills ship as soon as it says this; returns the directory of its sockets.
    pub fn killed_at(&self, words: &[&str], said: &str) -> Option<PathBuf> {
        let mut command = self.command(words);
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        let mut ship = self.first.network.within(|| command.spawn().expect("ship"));
        let lines = BufReader::new(ship.stderr.take().expect("its stderr")).lines();
        let line = lines.map_while(Result::ok).find(|line| line.contains(said));
        assert!(line.is_some(), "ship never said {said}");
        let sockets = fs::read_dir(self.path("ship")).is_ok().then(|| self.sockets());
        ship.kill().expect("a kill");
        ship.wait().expect("its end");
        sockets
    }

    /// The directory of the ship that is under way, by whose sockets calls of ssh share
    /// connections.
    pub fn sockets(&self) -> PathBuf {
        let mut ships = fs::read_dir(self.path("ship")).expect("the directory").flatten();
        ships.next().expect("a ship").path()
    }

    /// Calls ship, and does something as soon as it says this.
    pub fn ship_while(&self, words: &[&str], said: &str, then: impl FnOnce()) -> Ended {
        self.ship_until(words, said, |_| then())
    }

    /// The same, with the id of its process.
    pub fn ship_until(&self, words: &[&str], said: &str, then: impl FnOnce(u32)) -> Ended {
        let mut command = self.command(words);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut ship = self.first.network.within(|| command.spawn().expect("ship"));
        let mut then = Some(then);
        let mut stderr = String::new();
        for line in BufReader::new(ship.stderr.take().expect("its stderr")).lines() {
            let line = line.expect("a line");
            if let Some(then) = then.take_if(|_| line.starts_with(said)) {
                then(ship.id());
            }
            stderr += &format!("{line}\n");
        }
        let output = ship.wait_with_output().expect("its end");
        let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
        println!("$ ship {}\n{stderr}{stdout}", words.join(" "));
        Ended { code: output.status.code().unwrap_or(-1), stdout, stderr }
    }

    /// Runs git in the directory, as Ada.
    #[track_caller]
    pub fn git(&self, words: &[&str]) {
        let mut git = Command::new("git");
        git.args(["-c", "user.name=Ada", "-c", "user.email=ada@example.com"]).args(words);
        let status = git.current_dir(self.directory.path()).status().expect("git");
        assert!(status.success(), "git {words:?}");
    }

    /// Returns what a shell prints in the directory.
    pub fn shell(&self, line: &str) -> String {
        let mut shell = Command::new("sh");
        shell.args(["-c", line]).current_dir(self.directory.path());
        String::from_utf8_lossy(&shell.output().expect("sh").stdout).into_owned()
    }

    #[track_caller]
    pub fn ok(&self, words: &[&str]) -> String {
        let ended = self.ship(words);
        assert_eq!(ended.code, 0, "{words:?}: {}{}", ended.stdout, ended.stderr);
        ended.stdout
    }

    pub fn served(&self) -> Vec<String> {
        let served = |instance: &Instance| {
            let url = format!("http://{}:5000/", instance.address());
            self.first.network.http_get(&url).map(|answer| answer.body).unwrap_or_default()
        };
        self.instances().map(served).to_vec()
    }

    pub fn load(&self) -> Load {
        let target = |instance: &Instance| SocketAddr::from((instance.address(), 5000));
        let targets = self.instances().map(target);
        Load::on(&targets)
            .connections(6)
            .pause(Duration::from_millis(5))
            .longest(Duration::from_secs(600))
    }
}
