//! Packer's run over SSH, with the template packer/instance.

use crate::debian::Key;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use testkit::instance::{Instance, Lifeline, package};

/// A copy of packer/ that this machine's Packer can read, and the package.
pub struct Packer {
    templates: PathBuf,
    packages: PathBuf,
    key: Key,
    runs: AtomicU32,
}

/// The variables of a run; those left empty are the template's defaults.
#[derive(Clone, Copy, Default)]
pub struct Variables<'a> {
    pub frameworks: &'a str,
    pub release: &'a str,
    pub steps: &'a str,
}

impl Packer {
    /// Returns the one of this process.
    pub fn get() -> &'static Packer {
        static PACKER: OnceLock<Packer> = OnceLock::new();
        PACKER.get_or_init(Packer::new)
    }

    fn new() -> Packer {
        let dir = Lifeline::get().dir().join("packer");
        fs::create_dir(&dir).expect("make a directory");
        let (templates, packages) = (dir.join("templates"), dir.join("packages"));
        let copied = Command::new(source("tests/packer.sh"))
            .arg("--copy")
            .arg(&templates)
            .status()
            .expect("start tests/packer.sh");
        assert!(copied.success(), "tests/packer.sh --copy: {copied}");
        fs::create_dir(&packages).expect("make a directory");
        fs::copy(package(), packages.join("deploy-agent.deb")).expect("copy the package");
        Packer { templates, packages, key: Key::new(), runs: AtomicU32::new(0) }
    }

    /// Lets Packer log in, as a boot of the instance with this key pair would: sshd has host
    /// keys, and root an authorized key.
    pub fn admit(&self, instance: &Instance) {
        instance.sh("ssh-keygen -A && systemctl restart ssh.service");
        let install = ["install", "-D", "-m", "600", "/dev/stdin", "/root/.ssh/authorized_keys"];
        instance.command(&install).input(self.key.public()).output().ok();
    }

    /// A new file below target/tmp for the output of a run.
    fn log(&self) -> PathBuf {
        let number = self.runs.fetch_add(1, Ordering::Relaxed) + 1;
        Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("packer-{number}.log"))
    }

    /// Runs `packer build` for this instance, which must succeed. Returns its output, which is kept in target/tmp/packer-N.log.
    pub fn build(&self, instance: &Instance, variables: Variables) -> String {
        let began = Instant::now();
        let mut build = Command::new("packer");
        build.args(["build", "-color=false"]).current_dir(&self.templates);
        let mut set = |name: &str, value: &Path| {
            build.arg("-var").arg(format!("{name}={}", value.display()));
        };
        set("host", Path::new(&instance.address().to_string()));
        set("key", self.key.private());
        set("packages", &self.packages);
        let variables = [
            ("frameworks", variables.frameworks),
            ("release", variables.release),
            ("steps", variables.steps),
        ];
        for (name, value) in variables.into_iter().filter(|(_, value)| !value.is_empty()) {
            set(name, Path::new(value));
        }
        build.arg("instance").stdin(Stdio::null());
        build.env("CHECKPOINT_DISABLE", "1");
        let ran = instance.network().within(|| build.output().expect("start packer"));
        let said = String::from_utf8_lossy(&ran.stdout).into_owned();
        let complaint = String::from_utf8_lossy(&ran.stderr);
        assert!(ran.status.success(), "packer build: {}\n{said}{complaint}", ran.status);
        let took = Duration::from_secs(began.elapsed().as_secs());
        println!("packer build: {took:?}");
        fs::write(self.log(), &said).expect("keep Packer's output");
        said
    }
}

/// A path of this repository.
pub fn source(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}
