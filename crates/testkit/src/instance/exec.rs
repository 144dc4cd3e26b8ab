//! Running commands in an instance, and reading and writing its files.

use super::boot::Instance;
use super::cgroup::Group;
use super::{Must, poll};
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// The default timeout of a command.
const DEADLINE: Duration = Duration::from_secs(120);

/// Capabilities that systemd-nspawn drops for root inside, but that a process entering from
/// outside would keep: it could set this machine's clock.
const DROPPED: &str = "-audit_control,-audit_read,-block_suspend,-checkpoint_restore,-mac_admin,\
-mac_override,-perfmon,-sys_boot,-sys_module,-sys_pacct,-sys_rawio,-sys_time,-syslog,-wake_alarm";

/// The whole initial environment of a command.
const ENVIRONMENT: [&str; 4] = [
    "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME=/root",
    "LANG=C.UTF-8",
    "TERM=dumb",
];

/// The result of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// The exit code; none when a signal ended it.
    pub status: Option<i32>,
    /// All of its standard output, as text.
    pub stdout: String,
    /// All of its standard error, as text.
    pub stderr: String,
}

impl Output {
    /// Returns its standard output; panics unless it succeeded.
    #[track_caller]
    pub fn ok(self) -> String {
        self.exits(0).stdout
    }

    /// Returns itself; panics unless the exit code is this.
    #[track_caller]
    pub fn exits(self, code: i32) -> Output {
        assert_eq!(self.status, Some(code), "exit code of {self:#?}");
        self
    }
}

/// A command that is not started yet.
pub struct Invocation<'a> {
    instance: &'a Instance,
    command: Vec<String>,
    environment: Vec<String>,
    input: Vec<u8>,
    deadline: Duration,
}

impl<'a> Invocation<'a> {
    /// Sets an environment variable.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push(format!("{name}={value}"));
        self
    }

    /// Sets its standard input; empty by default.
    pub fn input(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.input = bytes.into();
        self
    }

    /// Sets the timeout after which it is killed and the test fails.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Runs it until it ends.
    pub fn output(self) -> Output {
        self.spawn().output()
    }

    /// Starts it without waiting.
    pub fn spawn(self) -> Job {
        let (group, leader) = self.instance.inside();
        let group = group.job(&super::Lifeline::get().name("exec"));
        let mut command = Command::new("setpriv");
        command
            .arg(format!("--bounding-set={DROPPED}"))
            .args(["nsenter", "--target", &leader.to_string()])
            .args(NAMESPACES)
            .args(["--", "env", "--ignore-environment"])
            .args(ENVIRONMENT)
            .args(&self.environment)
            .args(&self.command);
        let name = format!("`{}` in {}", self.command.join(" "), self.instance.name);
        Job::start(name, command, group, self.input, self.deadline)
    }
}

/// A command that runs in an instance. Dropped, it is killed.
pub struct Job {
    name: String,
    child: Child,
    group: Group,
    stdout: Option<JoinHandle<Vec<u8>>>,
    stderr: Option<JoinHandle<Vec<u8>>>,
    deadline: Duration,
}

impl Job {
    /// Starts a command in a group of its own, with this standard input.
    pub(super) fn start(
        name: String,
        mut command: Command,
        group: Group,
        input: Vec<u8>,
        deadline: Duration,
    ) -> Job {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        group.enter(&mut command);
        let mut child = command.spawn().must(format_args!("start {name}"));
        let (stdin, stdout, stderr) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take());
        // The command may end without reading all of it.
        thread::spawn(move || stdin.map(|mut stdin| stdin.write_all(&input)));
        Job { name, child, group, stdout: reader(stdout), stderr: reader(stderr), deadline }
    }

    /// Waits until it ends, and every process that shares its output.
    #[track_caller]
    pub fn output(self) -> Output {
        let (status, stdout, stderr) = self.finish();
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Output { status: status.code(), stdout: text(stdout), stderr: text(stderr) }
    }

    /// Whether the command has ended.
    pub fn has_ended(&mut self) -> bool {
        let ended = self.child.try_wait().must("look after a command");
        ended.is_some()
    }

    /// Kills it and every process that it started, as dropping it does.
    pub fn kill(self) {
        drop(self);
    }

    #[track_caller]
    fn finish(mut self) -> (ExitStatus, Vec<u8>, Vec<u8>) {
        let ended = poll(self.deadline, || {
            let read = [&self.stdout, &self.stderr];
            let read = read.iter().all(|one| one.as_ref().is_none_or(JoinHandle::is_finished));
            let status = self.child.try_wait().must("look after a command");
            status.filter(|_| read)
        });
        if ended.is_none() {
            self.group.kill();
        }
        let (stdout, stderr) = (read_by(self.stdout.take()), read_by(self.stderr.take()));
        let Some(status) = ended else {
            let said =
                String::from_utf8_lossy(&stdout).into_owned() + &String::from_utf8_lossy(&stderr);
            panic!("{} did not end within {:?}; it said:\n{said}", self.name, self.deadline);
        };
        (status, stdout, stderr)
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        if !matches!(self.child.try_wait(), Ok(Some(_))) {
            self.group.kill();
            let _ = self.child.wait();
        }
        // Fails if the command left a process running, which ends with the instance.
        self.group.remove_if_empty();
    }
}

/// What a command shares with the instance, as options of nsenter.
const NAMESPACES: [&str; 8] =
    ["--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--root", "--wd"];

impl Instance {
    /// Runs a command as root, outside of systemd: use [`Instance::run`] to test a service.
    #[track_caller]
    pub fn exec(&self, command: &[&str]) -> Output {
        self.command(command).output()
    }

    /// The same as [`Instance::exec`], with further options.
    pub fn command(&self, command: &[&str]) -> Invocation<'_> {
        Invocation {
            instance: self,
            command: command.iter().map(|&word| word.to_owned()).collect(),
            environment: Vec::new(),
            input: Vec::new(),
            deadline: DEADLINE,
        }
    }

    /// Runs a command as a transient service. Words before the command that begin with `-` are
    /// options of systemd-run, such as `--uid=nobody`.
    #[track_caller]
    pub fn run(&self, command: &[&str]) -> Output {
        let service =
            ["systemd-run", "--quiet", "--pipe", "--wait", "--collect", "--service-type=exec"];
        self.exec(&[&service, command].concat())
    }

    /// Runs a shell script that stops at the first error, and returns its output.
    #[track_caller]
    pub fn sh(&self, script: &str) -> String {
        self.exec(&["bash", "-euo", "pipefail", "-c", script]).ok()
    }

    /// Returns the command line that opens a shell in the instance, as root.
    pub fn shell(&self) -> String {
        let (_, leader) = self.inside();
        let namespaces = NAMESPACES.join(" ");
        format!(
            "nsenter --target {leader} {namespaces} -- env -i HOME=/root TERM=$TERM bash --login"
        )
    }

    /// Copies a file of this machine, with its mode, to the path `to`.
    #[track_caller]
    pub fn push(&self, from: impl AsRef<Path>, to: &str) {
        let from = from.as_ref();
        let bytes = fs::read(from).must(format_args!("read {}", from.display()));
        let mode = fs::metadata(from).must(format_args!("stat {}", from.display()));
        self.install(mode.permissions().mode(), to, bytes);
    }

    /// Writes a file with mode 0644, and creates missing directories.
    #[track_caller]
    pub fn write(&self, path: &str, bytes: impl Into<Vec<u8>>) {
        self.install(0o644, path, bytes.into());
    }

    /// Reads a file in the instance.
    #[track_caller]
    pub fn read(&self, path: &str) -> Vec<u8> {
        let (status, bytes, stderr) = self.command(&["cat", path]).spawn().finish();
        assert!(status.success(), "{}", String::from_utf8_lossy(&stderr));
        bytes
    }

    /// Runs `journalctl` with these arguments.
    #[track_caller]
    pub fn journal(&self, arguments: &[&str]) -> String {
        self.exec(&[&["journalctl", "--no-pager"], arguments].concat()).ok()
    }

    /// Polls `probe` until it returns a value. If it returns none within `limit`, the test
    /// fails with the end of the journal.
    #[track_caller]
    pub fn wait_for<T>(&self, what: &str, limit: Duration, probe: impl FnMut() -> Option<T>) -> T {
        poll(limit, probe).unwrap_or_else(|| panic!("{}: no {what} within {limit:?}", self.name))
    }

    /// Writes the file from inside: `/proc/PID/root/…` would follow an absolute symlink into
    /// this machine's own files.
    #[track_caller]
    fn install(&self, mode: u32, to: &str, bytes: Vec<u8>) {
        let mode = format!("{:o}", mode & 0o7777);
        let install = ["install", "-D", "-m", &mode, "/dev/stdin", to];
        self.command(&install).input(bytes).output().ok();
    }

    /// The end of the journal, if the instance still responds.
    pub(super) fn journal_tail(&self) -> Option<String> {
        if !self.is_running() {
            return None;
        }
        let mut tail = self.command(&["journalctl", "--no-pager", "-n", "60"]).spawn();
        poll(Duration::from_secs(10), || tail.has_ended().then_some(()))?;
        let tail = tail.output();
        (tail.status == Some(0)).then_some(tail.stdout)
    }
}

fn reader(pipe: Option<impl Read + Send + 'static>) -> Option<JoinHandle<Vec<u8>>> {
    pipe.map(|mut pipe| {
        thread::spawn(move || {
            let mut bytes = Vec::new();
            // An error leaves the part that was read.
            let _ = pipe.read_to_end(&mut bytes);
            bytes
        })
    })
}

fn read_by(reader: Option<JoinHandle<Vec<u8>>>) -> Vec<u8> {
    reader.and_then(|reader| reader.join().ok()).unwrap_or_default()
}
