//! Ties instances to the test process: they end with it, however it ends.
//!
//! The process holds one end of a pipe. A small watcher in a process group of its own reads the
//! other end; on end of file it kills the process's control group and removes its directory.
//! (`PR_SET_PDEATHSIG` would not do: it fires when the spawning thread ends.) The process also
//! holds a lock in its directory. The next test process considers the owner of an unlocked
//! directory dead, and lets the same watcher clear it.

use super::cgroup::Group;
use super::{Must, requirements};
use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{self, Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, SystemTime};
use std::{env, thread};

/// The most concurrent instances on this machine, over all test processes: with many more, the
/// kernel runs out of inotify instances.
const INSTANCES: usize = 4;

/// Clears the leftovers of the owner of the directory `$1` once standard input ends. The v1
/// groups have no `cgroup.kill` and need none: the v2 group contains all processes.
const WATCHER: &str = r#"
trap '' HUP INT TERM
cat >/dev/null
cd "$1" || exit 0
while read -r group; do echo 1 >"$group/cgroup.kill"; done <cgroups
tries=500
while [ $tries -gt 0 ]; do
    tries=$((tries - 1)) left=
    while read -r group; do
        find "$group" -depth -type d -exec rmdir {} +
        [ ! -e "$group" ] || left=1
    done <cgroups
    [ -n "$left" ] || break
    sleep 0.02
done
[ -n "$left" ] || rm -rf --one-file-system "$1"
"#;

/// This process's directory and control group, and its end of the watcher's pipe.
pub struct Lifeline {
    dir: PathBuf,
    group: Group,
    serial: AtomicU32,
    watcher: Mutex<Option<Child>>,
    watcher_id: u32,
    _owned: File,
}

static LIFELINE: OnceLock<Lifeline> = OnceLock::new();

impl Lifeline {
    /// Returns the lifeline of this process. The first call also clears the leftovers of dead
    /// test processes.
    pub fn get() -> &'static Lifeline {
        LIFELINE.get_or_init(Lifeline::begin)
    }

    fn begin() -> Lifeline {
        requirements::check();
        let run = cache().join("run");
        fs::create_dir_all(&run).must(format_args!("make {}", run.display()));
        let _order = lock(&cache().join("run.lock"));
        sweep(&run);

        let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
        let name = format!("{}-{:x}", process::id(), now.as_nanos());
        let dir = run.join(&name);
        let group = Group::top(&format!("deploy-tests-{name}"));
        let groups = group.dirs().iter().map(|dir| format!("{}\n", dir.display()));
        fs::create_dir(&dir).must(format_args!("make {}", dir.display()));
        let owned = lock(&dir.join("owned"));
        fs::write(dir.join("cgroups"), groups.collect::<String>()).must("write cgroups");
        let watcher = watcher(&dir, Stdio::piped());
        // SAFETY: the function exists as long as the program, and does not unwind.
        unsafe { atexit(let_go) };
        Lifeline {
            dir,
            group,
            serial: AtomicU32::new(0),
            watcher_id: watcher.id(),
            watcher: Mutex::new(Some(watcher)),
            _owned: owned,
        }
    }

    /// The directory of this process, which is removed when the process ends.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The process id of the watcher.
    pub fn watcher_id(&self) -> u32 {
        self.watcher_id
    }

    pub(super) fn group(&self) -> &Group {
        &self.group
    }

    /// Returns a name that is unique in this process.
    pub(super) fn name(&self, what: &str) -> String {
        format!("{what}-{}", self.serial.fetch_add(1, Ordering::Relaxed))
    }

    /// Creates an empty directory.
    pub(super) fn scratch(&self, what: &str) -> PathBuf {
        let dir = self.dir.join(self.name(what));
        fs::create_dir(&dir).must(format_args!("make {}", dir.display()));
        dir
    }
}

/// The directory of images and instances, on a file system that can be the upper layer of an
/// overlay: `$DEPLOY_TEST_CACHE`.
pub fn cache() -> PathBuf {
    env::var_os("DEPLOY_TEST_CACHE")
        .map_or_else(|| "/var/cache/deploy-agent-tests".into(), PathBuf::from)
}

/// Takes the lock file at `path`; waits while another process holds it.
pub fn lock(path: &Path) -> File {
    let file = File::create(path).must(format_args!("create {}", path.display()));
    file.lock().must(format_args!("lock {}", path.display()));
    file
}

/// Acquires the right to run `count` instances, which closing the files releases.
///
/// All are acquired at once, by one test at a time, so that no two tests wait for each other.
pub fn places(count: usize) -> Vec<File> {
    assert!(count <= INSTANCES, "at most {INSTANCES} instances run at once");
    let dir = cache().join("places");
    fs::create_dir_all(&dir).must(format_args!("make {}", dir.display()));
    let _first = lock(&dir.join("first"));
    let place = |number| File::create(dir.join(format!("{number}"))).must("create a place");
    let mut free: Vec<File> = (0..INSTANCES).map(place).collect();
    let mut taken = Vec::new();
    while taken.len() < count {
        let (got, rest) = free.into_iter().partition(|file| file.try_lock().is_ok());
        free = rest;
        taken.extend::<Vec<File>>(got);
        if taken.len() < count {
            thread::sleep(Duration::from_millis(20));
        }
    }
    taken.truncate(count);
    taken
}

unsafe extern "C" {
    fn atexit(last: extern "C" fn()) -> std::ffi::c_int;
}

/// At a normal exit, waits until the watcher has cleared everything.
extern "C" fn let_go() {
    let watcher = LIFELINE.get().and_then(|lifeline| lifeline.watcher.lock().ok()?.take());
    // `wait` closes the pipe first.
    let _ = watcher.map(|mut watcher| watcher.wait());
}

/// Clears the directories below `run` whose owner is dead.
fn sweep(run: &Path) {
    let entries = fs::read_dir(run).must(format_args!("list {}", run.display()));
    for dir in entries.flatten().map(|entry| entry.path()) {
        let owned = File::open(dir.join("owned"));
        if owned.as_ref().is_ok_and(|file| file.try_lock().is_err()) {
            continue;
        }
        let mut clearing = watcher(&dir, Stdio::null());
        clearing.wait().must("wait for the watcher");
    }
}

fn watcher(dir: &Path, input: Stdio) -> Child {
    Command::new("sh")
        .args(["-c", WATCHER, "watcher"])
        .arg(dir)
        .current_dir("/")
        .stdin(input)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        // Keeps the terminal's interrupt away.
        .process_group(0)
        .spawn()
        .must("start the watcher")
}
