//! Child processes of the `deploy` command, for running a release without systemd. The daemon
//! never has children.

use super::descendants::{self, Id, Stat, descendants};
use super::transient::lines;
use nix::sys::signal::Signal;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tokio::io::AsyncRead;
use tokio::process::Command;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout_at};

/// How often the remaining processes are checked.
const PAUSE: Duration = Duration::from_millis(20);
/// The longest time for killed processes to end, and for their last output to arrive.
const LAST: Duration = Duration::from_secs(5);

/// A shell command with all its descendants, in its own process group, so that a terminal's
/// signals do not reach it.
pub struct Child {
    /// The value of `PS` in its environment.
    name: String,
    child: tokio::process::Child,
    main: i32,
    output: Vec<JoinHandle<()>>,
    /// Whether its main process has ended.
    ended: bool,
}

impl Child {
    /// Starts `script` under bash with exactly this environment; calls `line` with each line of
    /// its output.
    #[expect(clippy::disallowed_methods, reason = "host/ is where programs are started")]
    pub fn spawn(
        name: &str,
        script: &str,
        dir: &Path,
        environment: &BTreeMap<String, String>,
        line: impl Fn(String) + Clone + Send + 'static,
    ) -> io::Result<Child> {
        let mut command = Command::new("/bin/bash");
        command.arg("-c").arg(script).current_dir(dir).env_clear().envs(environment);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.process_group(0).kill_on_drop(true).spawn()?;
        let main = child.id().map(u32::cast_signed).ok_or(io::ErrorKind::NotFound)?;
        let mut output = Vec::new();
        if let Some(stdout) = child.stdout.take() {
            output.push(tokio::spawn(copy(stdout, line.clone())));
        }
        if let Some(stderr) = child.stderr.take() {
            output.push(tokio::spawn(copy(stderr, line)));
        }
        Ok(Child { name: name.to_owned(), child, main, output, ended: false })
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Waits for the end of its main process.
    pub async fn wait(&mut self) -> io::Result<ExitStatus> {
        let status = self.child.wait().await;
        self.ended = true;
        status
    }

    fn has_ended(&mut self) -> bool {
        self.ended |= !matches!(self.child.try_wait(), Ok(None));
        self.ended
    }
}

/// Reaps descendants that the children have left behind, as long as it is polled.
pub async fn reap(mains: Vec<i32>) {
    loop {
        descendants::reap(&mains);
        sleep(Duration::from_secs(1)).await;
    }
}

/// Returns the pids of the main processes.
pub fn mains(children: &[Child]) -> Vec<i32> {
    children.iter().map(|child| child.main).collect()
}

/// Stops all children as systemd stops a service: sends `signal` to the main process only. After
/// it has ended, sends the signal once to each process left of it. Kills the processes that remain
/// at the timeout, or when `hurry` completes.
pub async fn stop(
    mut children: Vec<Child>,
    signal: Signal,
    timeout: Duration,
    hurry: impl Future<Output = ()>,
) {
    let deadline = Instant::now() + timeout;
    let mut stopping = Stopping { mains: mains(&children), signal, told: BTreeSet::new() };
    for child in &mut children {
        if !child.has_ended()
            && let Some(main) = descendants::stat(child.main)
        {
            stopping.tell(main.id);
        }
    }
    let ended = async {
        while stopping.goes_on(&mut children) {
            sleep(PAUSE).await;
        }
    };
    tokio::select! {
        _ = timeout_at(deadline, ended) => {}
        () = hurry => {}
    }
    kill_all(&mut children).await;
    for output in children.iter_mut().flat_map(|child| child.output.drain(..)) {
        let _ = timeout_at(Instant::now() + LAST, output).await;
    }
}

/// The processes that were signalled.
struct Stopping {
    mains: Vec<i32>,
    signal: Signal,
    told: BTreeSet<Id>,
}

impl Stopping {
    fn tell(&mut self, id: Id) {
        if self.told.insert(id) {
            id.signal(self.signal);
        }
    }

    /// Signals the processes whose turn it is; returns whether any are left.
    fn goes_on(&mut self, children: &mut [Child]) -> bool {
        descendants::reap(&self.mains);
        let there: Vec<Stat> = descendants().into_iter().filter(|stat| !stat.ended).collect();
        let all_ended = all_have_ended(children);
        let mut left_of: BTreeMap<usize, Vec<Stat>> = BTreeMap::new();
        for stat in there.iter().filter(|stat| !self.mains.contains(&stat.id.pid)) {
            // A process without an owner waits for all children: the last index stands for that.
            let owner = owner(stat, &there, children).unwrap_or(children.len());
            left_of.entry(owner).or_default().push(*stat);
        }
        for (owner, left) in left_of {
            let may_be_told = children.get(owner).map_or(all_ended, |child| child.ended);
            if may_be_told {
                due(&left).for_each(|stat| self.tell(stat.id));
            }
        }
        !all_ended || !there.is_empty()
    }
}

/// Returns the processes that may be signalled now. The reading end of a pipeline ends by itself
/// after the writer, when it has written the last lines: it is signalled only if it then stays.
fn due(left: &[Stat]) -> impl Iterator<Item = &Stat> {
    let readers: Vec<bool> = left
        .iter()
        .map(|stat| {
            let others = left.iter().filter(|other| other.id != stat.id);
            let mut written = others.flat_map(|other| [1, 2].map(|fd| other.id.pipe(fd)));
            stat.id.pipe(0).is_some_and(|pipe| written.any(|other| other.as_ref() == Some(&pipe)))
        })
        .collect();
    let all = readers.iter().all(|reads| *reads);
    left.iter().zip(readers).filter(move |(_, reads)| all || !reads).map(|(stat, _)| stat)
}

/// Returns the child that a process descends from: by its parents, its process group, or, if it
/// has left both, its environment.
fn owner(stat: &Stat, there: &[Stat], children: &[Child]) -> Option<usize> {
    let by_number = |pid: i32| children.iter().position(|child| child.main == pid);
    let mut at = *stat;
    for _ in 0..there.len() {
        if let Some(owner) = by_number(at.id.pid).or_else(|| by_number(at.group)) {
            return Some(owner);
        }
        match there.iter().find(|parent| parent.id.pid == at.parent) {
            Some(parent) => at = *parent,
            None => break,
        }
    }
    children.iter().position(|child| at.id.was_given(&format!("PS={}", child.name)))
}

/// Calls `has_ended` on every child, so that each records its own end.
fn all_have_ended(children: &mut [Child]) -> bool {
    let running = children.iter_mut().map(Child::has_ended).filter(|ended| !ended);
    running.count() == 0
}

async fn kill_all(children: &mut [Child]) {
    let mains = mains(children);
    let deadline = Instant::now() + LAST;
    loop {
        descendants::reap(&mains);
        let left: Vec<Stat> = descendants().into_iter().filter(|stat| !stat.ended).collect();
        left.iter().for_each(|stat| stat.id.signal(Signal::SIGKILL));
        let ended = all_have_ended(children);
        if (ended && left.is_empty()) || Instant::now() > deadline {
            return;
        }
        sleep(PAUSE).await;
    }
}

async fn copy(output: impl AsyncRead + Unpin, mut line: impl FnMut(String)) {
    let _ = lines(output, &mut line).await;
}
