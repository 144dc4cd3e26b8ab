//! Control groups of the harness. An instance lives in one, so that a single write to
//! `cgroup.kill` (Linux 5.14) ends all of it.
//!
//! Supports two layouts: cgroup v2 alone, as on modern hosts, and v1 controllers beside a v2
//! tree at `/sys/fs/cgroup/unified`.

use super::{Must, poll};
use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const TOP: &str = "/sys/fs/cgroup";

/// The v1 hierarchies that systemd in an instance uses.
const V1: [&str; 8] =
    ["blkio", "cpu", "cpuacct", "devices", "freezer", "memory", "pids", "systemd"];

/// One group: a directory in each hierarchy, the v2 one first.
#[derive(Clone)]
pub struct Group {
    dirs: Vec<PathBuf>,
}

impl Group {
    /// Creates a group that only contains other groups, no process.
    pub fn top(name: &str) -> Group {
        let top = Group { dirs: ours() };
        top.delegate();
        let group = top.child(name);
        let kill = group.dirs[0].join("cgroup.kill");
        assert!(kill.exists(), "no {}: Linux 5.14 is needed", kill.display());
        group.delegate();
        group
    }

    /// Creates a group below this one, for the processes of one instance.
    pub fn child(&self, name: &str) -> Group {
        let dirs: Vec<_> = self.dirs.iter().map(|dir| dir.join(name)).collect();
        for dir in &dirs {
            match fs::create_dir(dir) {
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                made => made.must(format_args!("make the control group {}", dir.display())),
            }
        }
        Group { dirs }
    }

    /// Creates a group below this one in the v2 tree only: enough to kill its processes.
    pub fn job(&self, name: &str) -> Group {
        let v2 = Group { dirs: vec![self.dirs[0].clone()] };
        v2.child(name)
    }

    pub fn dirs(&self) -> &[PathBuf] {
        &self.dirs
    }

    /// Makes `command` start in the group.
    pub fn enter(&self, command: &mut Command) {
        let open = |dir: &PathBuf| {
            let path = dir.join("cgroup.procs");
            File::options().write(true).open(&path).must(format_args!("open {}", path.display()))
        };
        let members: Vec<File> = self.dirs.iter().map(open).collect();
        let join = move || members.iter().try_for_each(|mut members| members.write_all(b"0"));
        // SAFETY: between fork and exec it only writes to files that are open already.
        unsafe { command.pre_exec(join) };
    }

    /// Limits the memory of all processes in the group.
    pub fn limit_memory(&self, bytes: u64) {
        let files = ["memory.max", "memory.limit_in_bytes"];
        let limit = self
            .dirs
            .iter()
            .flat_map(|dir| files.map(|file| dir.join(file)))
            .find(|path| path.exists())
            .expect("this host's control groups have no memory controller to give");
        fs::write(&limit, bytes.to_string()).must(format_args!("write {}", limit.display()));
    }

    /// Limits the processor time of all processes in the group, in percent of one processor, in
    /// periods of 100 ms.
    pub fn limit_cpu(&self, percent: u32) {
        let quota = percent * 1000;
        let files =
            [("cpu.max", format!("{quota} 100000")), ("cpu.cfs_quota_us", quota.to_string())];
        let (file, limit) = self
            .dirs
            .iter()
            .flat_map(|dir| files.iter().map(|(file, limit)| (dir.join(file), limit)))
            .find(|(path, _)| path.exists())
            .expect("this host's control groups have no cpu controller to give");
        fs::write(&file, limit).must(format_args!("write {}", file.display()));
    }

    /// Every process in the group and below it.
    pub fn members(&self) -> Vec<i32> {
        let mut members = Vec::new();
        collect_members(&self.dirs[0], &mut members);
        members
    }

    /// Kills every process at once and returns when none is left.
    pub fn kill(&self) {
        let dir = &self.dirs[0];
        match fs::write(dir.join("cgroup.kill"), "1") {
            Err(error) if error.kind() == ErrorKind::NotFound => return,
            killed => killed.must(format_args!("kill {}", dir.display())),
        }
        let empty = || {
            let events = fs::read_to_string(dir.join("cgroup.events")).unwrap_or_default();
            (!events.contains("populated 1")).then_some(())
        };
        poll(Duration::from_secs(30), empty)
            .unwrap_or_else(|| panic!("the processes of {} do not end", dir.display()));
    }

    /// Removes the directories. A directory that is still in use is left to the lifeline, which
    /// removes all of them at the end.
    pub fn remove(&self) {
        for dir in &self.dirs {
            // An exiting process may be listed a little longer.
            poll(Duration::from_secs(5), || remove_tree(dir).ok());
        }
    }

    /// Removes the directories unless a process is still in them.
    pub fn remove_if_empty(&self) {
        for dir in &self.dirs {
            let _ = remove_tree(dir);
        }
    }

    /// Delegates the controllers to groups below. This fails if the group has processes (as in
    /// a container), and then there are no memory limits.
    fn delegate(&self) {
        for controller in ["+cpu", "+io", "+memory", "+pids"] {
            let _ = fs::write(self.dirs[0].join("cgroup.subtree_control"), controller);
        }
    }
}

/// The directories below which groups can be created, the v2 tree first.
fn ours() -> Vec<PathBuf> {
    let top = Path::new(TOP);
    if top.join("cgroup.controllers").exists() {
        // Below the top rather than our own group: a v2 group with processes cannot delegate
        // controllers.
        return vec![top.to_owned()];
    }
    let own = fs::read_to_string("/proc/self/cgroup").must("read /proc/self/cgroup");
    let mut dirs = Vec::new();
    for line in own.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else {
            continue;
        };
        let path = path.trim_start_matches('/');
        let name = controllers.trim_start_matches("name=");
        if name.is_empty() {
            dirs.insert(0, top.join("unified").join(path));
        } else if name.split(',').all(|name| V1.contains(&name)) {
            dirs.push(top.join(name).join(path));
        }
    }
    let v2 = dirs.first().map(|dir| dir.join("cgroup.procs"));
    assert!(
        v2.is_some_and(|file| file.exists()),
        "no cgroup v2 tree at {TOP} or {TOP}/unified; the instances need one"
    );
    dirs.retain(|dir| dir.is_dir());
    dirs
}

fn collect_members(dir: &Path, members: &mut Vec<i32>) {
    let listed = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
    members.extend(listed.lines().filter_map(|pid| pid.parse::<i32>().ok()));
    for below in directories(dir) {
        collect_members(&below, members);
    }
}

fn remove_tree(dir: &Path) -> io::Result<()> {
    for below in directories(dir) {
        remove_tree(&below)?;
    }
    match fs::remove_dir(dir) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

fn directories(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect()
}
