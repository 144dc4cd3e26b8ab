//! Selects the processes to signal, and when.

use super::process::{Identity, Process};
use nix::sys::signal::Signal;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// How long the reader of a pipeline has for the data still in it.
const UNREAD: Duration = Duration::from_secs(1);

/// The processes seen and signalled so far.
pub(super) struct Progress {
    signal: Signal,
    /// The main process, as long as it has not ended.
    main: Option<i32>,
    began: Instant,
    /// The signalled processes, and whether each outlives the signal.
    signalled: BTreeMap<Identity, bool>,
    /// Processes that had no parent in the group when it began.
    apart: Option<BTreeSet<Identity>>,
    /// When each reader of a pipeline was last seen with a writer.
    fed: BTreeMap<Identity, Instant>,
}

impl Progress {
    pub fn new(signal: Signal, main: Option<i32>, began: Instant) -> Progress {
        let (signalled, fed) = (BTreeMap::new(), BTreeMap::new());
        Progress { signal, main, began, signalled, apart: None, fed }
    }

    /// Returns the processes to signal now, each once. While the main process lives, these are the
    /// main process and the children of a process that outlives the signal: a server ends its
    /// workers itself. Afterwards, these are all that are left.
    ///
    /// The reading end of a pipeline, as in `app | tee log`, ends by itself after the writer, when
    /// it has written the last lines: it is signalled only if it stays.
    pub fn due<'a>(&mut self, left: &'a [Process], now: Instant) -> Vec<&'a Process> {
        self.main = self.main.filter(|main| left.iter().any(|process| process.pid == *main));
        let orphans = left.iter().filter(|process| !has_parent(left, process));
        let apart = orphans.map(Process::identity);
        self.apart.get_or_insert_with(|| apart.collect());
        for process in left.iter().filter(|process| is_fed(left, process)) {
            self.fed.insert(process.identity(), now);
        }
        let due = left.iter().filter(|process| {
            !self.signalled.contains_key(&process.identity())
                && self.is_reached(left, process)
                && !self.reads(process, now)
        });
        let due: Vec<_> = due.collect();
        let outlived = due.iter().map(|process| (process.identity(), self.is_outlived_by(process)));
        let outlived: Vec<_> = outlived.collect();
        self.signalled.extend(outlived);
        due
    }

    fn is_reached(&self, left: &[Process], process: &Process) -> bool {
        let Some(main) = self.main else { return true };
        let outlived = |parent: &Process| {
            parent.pid == process.parent && self.signalled.get(&parent.identity()) == Some(&true)
        };
        let apart = self.apart.as_ref().is_some_and(|all| all.contains(&process.identity()));
        process.pid == main || left.iter().any(outlived) || (!has_parent(left, process) && !apart)
    }

    /// Call before the signal is sent: afterwards the process may ignore another one.
    fn is_outlived_by(&self, process: &Process) -> bool {
        self.main.is_some() && process.outlives(self.signal)
    }

    fn reads(&self, process: &Process, now: Instant) -> bool {
        let fed = self.fed.get(&process.identity()).unwrap_or(&self.began);
        process.stdin.is_some() && now.saturating_duration_since(*fed) < UNREAD
    }
}

fn has_parent(left: &[Process], process: &Process) -> bool {
    left.iter().any(|other| other.pid == process.parent)
}

/// Whether another process writes to this one's input without itself depending on its output.
fn is_fed(left: &[Process], process: &Process) -> bool {
    let before = upstream(left, process);
    before.iter().any(|pid| {
        let writer = left.iter().find(|other| other.pid == *pid);
        writer.is_some_and(|writer| !upstream(left, writer).contains(&process.pid))
    })
}

/// The processes whose output reaches this one, directly or through others.
fn upstream(left: &[Process], process: &Process) -> BTreeSet<i32> {
    let mut found = BTreeSet::new();
    let mut next = vec![process];
    while let Some(reader) = next.pop() {
        let Some(pipe) = &reader.stdin else { continue };
        let writes = |other: &&Process| other.pid != reader.pid && other.outputs.contains(pipe);
        next.extend(left.iter().filter(writes).filter(|writer| found.insert(writer.pid)));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(pid: i32, stdin: &str, outputs: &[&str]) -> Process {
        let stdin = (!stdin.is_empty()).then(|| stdin.to_owned());
        let outputs = outputs.iter().map(|&name| name.to_owned()).collect();
        Process { pid, parent: 0, started: 1, stdin, outputs }
    }

    fn pids(due: Vec<&Process>) -> Vec<i32> {
        due.into_iter().map(|process| process.pid).collect()
    }

    #[test]
    fn the_reading_end_of_a_pipeline_has_a_second_after_the_writer() {
        let app = process(1, "", &["pipe:[7]", "pipe:[7]"]);
        let filter = process(2, "pipe:[7]", &["pipe:[8]"]);
        let tee = process(3, "pipe:[8]", &[]);
        let other = process(4, "", &[]);
        let began = Instant::now();
        let after = |tenths: u64| began + Duration::from_millis(100 * tenths);
        let mut progress = Progress::new(Signal::SIGTERM, None, began);
        let all = [app, filter.clone(), tee.clone(), other];
        assert_eq!(pids(progress.due(&all, after(0))), [1, 4]);
        assert!(progress.due(&all, after(50)).is_empty());
        let readers = [filter, tee.clone()];
        assert!(progress.due(&readers, after(59)).is_empty());
        assert_eq!(pids(progress.due(&readers, after(60))), [2]);
        assert!(progress.due(std::slice::from_ref(&tee), after(69)).is_empty());
        assert_eq!(pids(progress.due(&[tee], after(70))), [3]);
    }

    #[test]
    fn processes_that_read_each_other_are_all_signalled() {
        let both = [process(1, "pipe:[1]", &["pipe:[2]"]), process(2, "pipe:[2]", &["pipe:[1]"])];
        let began = Instant::now();
        let mut progress = Progress::new(Signal::SIGTERM, None, began);
        assert_eq!(pids(progress.due(&both, began + UNREAD)), [1, 2]);
    }

    #[test]
    fn a_server_ends_its_workers_itself() {
        // This process, which SIGXCPU would end, stands for the server. Not SIGQUIT: a shell lets
        // what it starts in the background ignore that.
        let pid = i32::try_from(std::process::id()).expect("a pid");
        let workers = [-9, -10].map(|worker| Process { parent: pid, ..process(worker, "", &[]) });
        let [one, other] = workers;
        let main = process(pid, "", &[]);
        let began = Instant::now();
        let mut progress = Progress::new(Signal::SIGXCPU, Some(pid), began);
        let all = [main, one.clone(), other.clone()];
        assert_eq!(pids(progress.due(&all, began)), [pid]);
        assert!(progress.due(&all, began).is_empty());
        assert_eq!(pids(progress.due(&[one, other], began)), [-9, -10]);
    }
}
