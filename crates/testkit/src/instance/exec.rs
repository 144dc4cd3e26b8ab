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

/// How long a command may take when nothing else is said.
const DEADLINE: Duration = Duration::from_secs(120);

/// What systemd-nspawn takes from root inside, and a process that merely
/// enters from outside would keep: it could set this machine's clock.
const DROPPED: &str = "-audit_control,-audit_read,-block_suspend,-checkpoint_restore,-mac_admin,\
-mac_override,-perfmon,-sys_boot,-sys_module,-sys_pacct,-sys_rawio,-sys_time,-syslog,-wake_alarm";

/// The environment a command starts with, and nothing else.
const ENVIRONMENT: [&str; 4] = [
    "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME=/root",
    "LANG=C.UTF-8",
    "TERM=dumb",
];

/// How a command ended, and what it said.
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
    /// Its standard output; panics unless it succeeded.
    #[track_caller]
    pub fn ok(self) -> String {
        self.exits(0).stdout
    }

    /// Itself; panics unless it ended with this exit code.
    #[track_caller]
    pub fn exits(self, code: i32) -> Output {
        assert_eq!(self.status, Some(code), "exit code of {self:#?}");
        self
    }
}

/// A command still to be run in an instance.
pub struct Invocation<'a> {
    instance: &'a Instance,
    command: Vec<String>,
    environment: Vec<String>,
    input: Vec<u8>,
    deadline: Duration,
}

impl<'a> Invocation<'a> {
    /// Sets a variable of its environment.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push(format!("{name}={value}"));
        self
    }

    /// What it reads from standard input; empty if not given.
    pub fn input(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.input = bytes.into();
        self
    }

    /// After this long it is killed and the test fails.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Runs it to its end.
    pub fn output(self) -> Output {
        self.spawn().output()
    }

    /// Starts it and lets it run.
    pub fn spawn(self) -> Job {
        let (group, leader) = self.instance.inside();
        let group = group.job(&super::Lifeline::get().name("exec"));
        let mut command = Command::new("setpriv");
        command
            .arg(format!("--bounding-set={DROPPED}"))
            .args(["nsenter", "--target", &leader.to_string()])
            .args(["--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--root", "--wd"])
            .args(["--", "env", "--ignore-environment"])
            .args(ENVIRONMENT)
            .args(&self.environment)
            .args(&self.command)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        group.enter(&mut command);
        let mut child = command.spawn().must("start setpriv");
        let (stdin, stdout, stderr) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let input = self.input;
        // It may end without having read all of it.
        thread::spawn(move || stdin.map(|mut stdin| stdin.write_all(&input)));
        Job {
            name: format!("`{}` in {}", self.command.join(" "), self.instance.name),
            child,
            group,
            stdout: reader(stdout),
            stderr: reader(stderr),
            deadline: self.deadline,
        }
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
    /// Waits for its end, and for that of whatever shares its output.
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

    /// Kills it and everything it started, as dropping it does.
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
        // Fails where the command left something running, which ends with the instance.
        self.group.remove_if_empty();
    }
}

impl Instance {
    /// Runs a command as root, beside systemd and not under it: what is to be
    /// tested as a service belongs into [`Instance::run`].
    #[track_caller]
    pub fn exec(&self, command: &[&str]) -> Output {
        self.command(command).output()
    }

    /// [`Instance::exec`], with more to say about it.
    pub fn command(&self, command: &[&str]) -> Invocation<'_> {
        Invocation {
            instance: self,
            command: command.iter().map(|&word| word.to_owned()).collect(),
            environment: Vec::new(),
            input: Vec::new(),
            deadline: DEADLINE,
        }
    }

    /// Runs a command as a transient service. Words that begin with `-` before
    /// the command are systemd-run's, such as `--uid=nobody`.
    #[track_caller]
    pub fn run(&self, command: &[&str]) -> Output {
        let service =
            ["systemd-run", "--quiet", "--pipe", "--wait", "--collect", "--service-type=exec"];
        self.exec(&[&service, command].concat())
    }

    /// Runs a shell script, of which every command must succeed, and gives
    /// what it printed.
    #[track_caller]
    pub fn sh(&self, script: &str) -> String {
        self.exec(&["bash", "-euo", "pipefail", "-c", script]).ok()
    }

    /// Copies a file of this machine, with its mode, to the path `to`.
    #[track_caller]
    pub fn push(&self, from: impl AsRef<Path>, to: &str) {
        let from = from.as_ref();
        let bytes = fs::read(from).must(format_args!("read {}", from.display()));
        let mode = fs::metadata(from).must(format_args!("stat {}", from.display()));
        self.install(mode.permissions().mode(), to, bytes);
    }

    /// Writes a file with mode 0644, and the directories it needs.
    #[track_caller]
    pub fn write(&self, path: &str, bytes: impl Into<Vec<u8>>) {
        self.install(0o644, path, bytes.into());
    }

    /// The content of a file in the instance.
    #[track_caller]
    pub fn read(&self, path: &str) -> Vec<u8> {
        let (status, bytes, stderr) = self.command(&["cat", path]).spawn().finish();
        assert!(status.success(), "{}", String::from_utf8_lossy(&stderr));
        bytes
    }

    /// `journalctl` with these arguments.
    #[track_caller]
    pub fn journal(&self, arguments: &[&str]) -> String {
        self.exec(&[&["journalctl", "--no-pager"], arguments].concat()).ok()
    }

    /// Asks `probe` until it has an answer. When it has none within `limit`,
    /// the test fails with the end of the journal.
    #[track_caller]
    pub fn wait_for<T>(&self, what: &str, limit: Duration, probe: impl FnMut() -> Option<T>) -> T {
        poll(limit, probe).unwrap_or_else(|| panic!("{}: no {what} within {limit:?}", self.name))
    }

    /// From inside, as `/proc/PID/root/…` would follow an absolute symlink
    /// into this machine's own files.
    #[track_caller]
    fn install(&self, mode: u32, to: &str, bytes: Vec<u8>) {
        let mode = format!("{:o}", mode & 0o7777);
        let install = ["install", "-D", "-m", &mode, "/dev/stdin", to];
        self.command(&install).input(bytes).output().ok();
    }

    /// The end of the journal, if the instance still answers.
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
            // Cut short, it is what there was.
            let _ = pipe.read_to_end(&mut bytes);
            bytes
        })
    })
}

fn read_by(reader: Option<JoinHandle<Vec<u8>>>) -> Vec<u8> {
    reader.and_then(|reader| reader.join().ok()).unwrap_or_default()
}
