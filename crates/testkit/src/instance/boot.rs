//! An instance, from power on to power off.
//!
//! It stands in a mount and a network namespace that nobody but its own
//! processes hold, so killing its control group also takes its mounts, its
//! loop device and its cable away.

use super::cgroup::Group;
use super::image::{mount_overlay, with};
use super::lifeline::Lifeline;
use super::network::Network;
use super::{Image, Must, base, disk, on_a_thread, poll};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use std::fs::{self, File};
use std::net::Ipv4Addr;
use std::os::unix::process::CommandExt;
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// For systemd-nspawn on a host that may lack systemd. `--keep-unit` leaves it
/// in the control group we gave it.
pub(super) const NSPAWN: [&str; 6] = [
    "--quiet",
    "--register=no",
    "--keep-unit",
    "--settings=no",
    "--timezone=off",
    "--link-journal=no",
];

/// Longest boot and longest shutdown that are waited for.
const PATIENCE: Duration = Duration::from_secs(120);

/// `net.unix.max_dgram_qlen` of a real machine. systemd raises it from 10
/// only outside of containers, and with 10 rsyslog loses most of a burst.
const DGRAM_QUEUE: &str = "512";

/// An instance still to be booted.
pub struct Builder {
    network: Network,
    image: Image,
    host: u8,
    memory: Option<u64>,
    disk: Option<u64>,
}

impl Builder {
    pub(super) fn new(network: Network, image: Image, host: u8) -> Builder {
        Builder { network, image, host, memory: None, disk: None }
    }

    /// Boots from this image instead of the base.
    pub fn image(mut self, image: &Image) -> Builder {
        self.image = image.clone();
        self
    }

    /// The address will be 10.77.0.`host`.
    pub fn host(mut self, host: u8) -> Builder {
        self.host = host;
        self
    }

    /// Bounds the memory of the whole instance.
    pub fn memory(mut self, mib: u64) -> Builder {
        self.memory = Some(mib << 20);
        self
    }

    /// Gives it a disk of its own, which [`Instance::power_loss`] needs.
    /// Without one it writes to a directory of this machine.
    pub fn disk(mut self, mib: u64) -> Builder {
        self.disk = Some(mib << 20);
        self
    }

    /// Boots it and returns when systemd says that it is up.
    pub fn boot(self) -> Instance {
        self.network.join();
        let lifeline = Lifeline::get();
        let name = lifeline.name("instance");
        let dir = lifeline.dir().join(&name);
        for part in ["", "root", "disk"] {
            fs::create_dir(dir.join(part)).must(format_args!("make {}", dir.display()));
        }
        if let Some(bytes) = self.disk {
            disk::make(&dir.join("disk.img"), bytes);
        }
        let uuid = fs::read_to_string("/proc/sys/kernel/random/uuid").must("make a machine id");
        let instance = Instance {
            name,
            dir,
            machine_id: uuid.trim().replace('-', ""),
            address: Ipv4Addr::new(10, 77, 0, self.host),
            plan: self,
            boots: AtomicU32::new(0),
            running: Mutex::new(None),
        };
        instance.boot();
        instance
    }
}

/// A Debian machine. Dropped, it is gone with all it had; when the test is
/// failing then, the end of its journal is printed.
///
/// Everything takes `&self`: one thread may wait for a command in it while
/// another cuts its power.
pub struct Instance {
    pub(super) name: String,
    dir: PathBuf,
    machine_id: String,
    address: Ipv4Addr,
    plan: Builder,
    boots: AtomicU32,
    running: Mutex<Option<Running>>,
}

struct Running {
    nspawn: Child,
    group: Group,
    /// Its first process, by our reckoning.
    leader: i32,
    /// A hold on the disk's file system, to shut it down by.
    disk: Option<File>,
}

impl Instance {
    /// Its IPv4 address on the network.
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// The machine id that it boots with.
    pub fn machine_id(&self) -> &str {
        &self.machine_id
    }

    /// Runs `work` on a thread that stands in the instance's own network.
    pub fn within<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let (_, leader) = self.inside();
        let namespace = File::open(format!("/proc/{leader}/ns/net")).must("open its network");
        on_a_thread(|| {
            setns(&namespace, CloneFlags::CLONE_NEWNET).must("enter its network");
            work()
        })
    }

    /// The network that it is on.
    pub fn network(&self) -> &Network {
        &self.plan.network
    }

    /// Whether it is powered on.
    pub fn is_running(&self) -> bool {
        self.running().is_some()
    }

    /// Boots it again with the disk it has, and returns when it is up.
    pub fn boot(&self) {
        assert!(!self.is_running(), "{} is running already", self.name);
        self.boots.fetch_add(1, Ordering::Relaxed);
        let group = Lifeline::get().group().child(&self.name);
        if let Some(bytes) = self.plan.memory {
            group.limit_memory(bytes);
        }
        let (nspawn, disk) = on_a_thread(|| self.start(&group));
        *self.running() = Some(Running { nspawn, leader: 0, group, disk });
        let up = poll(PATIENCE, || {
            self.look_for_leader()?;
            let asked = self.exec(&["systemctl", "is-system-running", "--wait"]);
            ["running\n", "degraded\n"].contains(&asked.stdout.as_str()).then_some(())
        });
        assert!(up.is_some(), "{} does not boot: {}", self.name, self.console());
    }

    /// An orderly reboot; returns when it is up again.
    pub fn reboot(&self) {
        self.shut_down("reboot");
        self.boot();
    }

    /// An orderly end; [`Instance::boot`] boots it again.
    pub fn power_off(&self) {
        self.shut_down("poweroff");
    }

    /// Kills every process at once. What they wrote is still there at the next
    /// [`Instance::boot`], synced or not.
    pub fn kill_hard(&self) {
        let Some(mut running) = self.running().take() else {
            return;
        };
        running.group.kill();
        running.nspawn.wait().must("wait for systemd-nspawn");
        running.group.remove();
        drop(running.disk);
        disk::wait_until_detached(&self.dir.join("disk.img"));
    }

    /// Cuts the power: what was not synced to the disk is lost. Needs
    /// [`Builder::disk`].
    pub fn power_loss(&self) {
        if let Some(running) = self.running().as_ref() {
            let disk = running.disk.as_ref();
            let disk = disk.expect("power_loss needs an instance with a disk: use Builder::disk");
            disk::cut_power(disk);
        }
        self.kill_hard();
    }

    /// Pulls the network cable, until [`Instance::plug`].
    pub fn unplug(&self) {
        self.network().set_port(&self.port(), "down");
    }

    /// Plugs the network cable in again.
    pub fn plug(&self) {
        self.network().set_port(&self.port(), "up");
    }

    /// Paths that exist on this machine only because the running instance does.
    pub fn traces(&self) -> Vec<PathBuf> {
        let mut traces = vec![self.dir.clone()];
        traces.extend_from_slice(self.inside().0.dirs());
        traces
    }

    /// The control group of the running instance and its first process.
    pub(super) fn inside(&self) -> (Group, i32) {
        let running = self.running();
        let running = running.as_ref();
        let running = running.unwrap_or_else(|| panic!("{} is not running", self.name));
        (running.group.clone(), running.leader)
    }

    fn running(&self) -> MutexGuard<'_, Option<Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// On the switch's side; a new one for every boot, as the old one may stay
    /// for some milliseconds.
    fn port(&self) -> String {
        let [_, _, _, host] = self.address.octets();
        format!("host{host}.{}", self.boots.load(Ordering::Relaxed))
    }

    /// Starts systemd-nspawn in namespaces of its own: the calling thread's.
    fn start(&self, group: &Group) -> (Child, Option<File>) {
        private_mounts();
        let (disk, root) = (self.dir.join("disk"), self.dir.join("root"));
        let held = self.plan.disk.map(|_| disk::attach(&self.dir.join("disk.img"), &disk));
        for part in ["upper", "work"] {
            fs::create_dir_all(disk.join(part)).must(format_args!("make {}", disk.display()));
        }
        let lower = self.plan.image.lower();
        mount_overlay(&lower, &disk.join("upper"), &disk.join("work"), &root);
        // Where systemd-nspawn keeps its own state and locks.
        let tmpfs = Some("tmpfs");
        mount(tmpfs, "/run", tmpfs, MsFlags::empty(), None::<&str>).must("mount a /run");
        unshare(CloneFlags::CLONE_NEWNET).must("make a network namespace");
        fs::write("/proc/sys/net/unix/max_dgram_qlen", DGRAM_QUEUE).must("set max_dgram_qlen");
        self.network().plug(&self.port(), self.address);

        let console = File::create(self.dir.join("console")).must("create the console");
        let mut nspawn = Command::new("systemd-nspawn");
        nspawn
            .args(NSPAWN)
            .arg(with("--directory=", &root))
            .arg(format!("--machine={}", self.name))
            .arg(format!("--hostname=ip-{}", self.address.to_string().replace('.', "-")))
            .arg(format!("--uuid={}", self.machine_id))
            .args(["--network-namespace-path=/proc/self/ns/net", "--resolv-conf=off"])
            .args(["--kill-signal=SIGRTMIN+3", "--console=pipe"])
            .arg("--capability=CAP_NET_ADMIN,CAP_BPF,CAP_SYS_RESOURCE,CAP_IPC_LOCK")
            .args(["--system-call-filter=bpf", "--", base::INIT])
            .stdin(Stdio::null())
            .stdout(console.try_clone().must("share the console"))
            .stderr(console)
            // Out of reach of the terminal's interrupt.
            .process_group(0);
        group.enter(&mut nspawn);
        (nspawn.spawn().must("start systemd-nspawn"), held)
    }

    /// Finds the first process inside, once it is systemd and can be asked.
    fn look_for_leader(&self) -> Option<()> {
        let mut running = self.running();
        let running = running.as_mut()?;
        if let Some(status) = running.nspawn.try_wait().must("look after systemd-nspawn") {
            panic!("{} died at boot ({status}): {}", self.name, self.console());
        }
        let mut members = running.group.members().into_iter();
        running.leader = members.find(|&pid| {
            is_first_inside(pid)
                && Path::new(&format!("/proc/{pid}/root/run/systemd/private")).exists()
        })?;
        Some(())
    }

    fn shut_down(&self, how: &str) {
        // The command itself may be ended by it.
        self.exec(&["systemctl", how]);
        let ended = poll(PATIENCE, || {
            let mut running = self.running();
            let nspawn = &mut running.as_mut()?.nspawn;
            // With --keep-unit it ends (133) instead of starting over.
            nspawn.try_wait().must("look after systemd-nspawn")
        });
        assert!(ended.is_some(), "{} does not {how}: {}", self.name, self.console());
        self.kill_hard();
    }

    /// The end of what the instance printed on its console.
    fn console(&self) -> String {
        let console = fs::read(self.dir.join("console")).unwrap_or_default();
        let console = String::from_utf8_lossy(&console);
        let lines: Vec<_> = console.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        // A second panic while the first unwinds would end all tests at once.
        let ended = panic::catch_unwind(AssertUnwindSafe(|| {
            if thread::panicking() {
                let log = self.journal_tail().unwrap_or_else(|| self.console());
                eprintln!("--- the last of {} ({})\n{log}\n---", self.name, self.address);
            }
            self.kill_hard();
        }));
        self.network().leave();
        // Left to the lifeline where it fails. By rm(1): what an instance holds may be deeper
        // than a stack.
        let _ = Command::new("rm").arg("-rf").arg(&self.dir).status();
        if let Err(cause) = ended
            && !thread::panicking()
        {
            panic::resume_unwind(cause);
        }
    }
}

/// Puts the calling thread into a mount namespace that nothing leaks out of.
pub(super) fn private_mounts() {
    unshare(CloneFlags::CLONE_NEWNS).must("make a mount namespace");
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, "/", None::<&str>, private, None::<&str>).must("make the mounts private");
}

/// Whether the process is the first of a process namespace just below ours.
fn is_first_inside(pid: i32) -> bool {
    let ids = |of: &str| -> Vec<String> {
        let status = fs::read_to_string(format!("/proc/{of}/status")).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
        line.unwrap_or_default().split_whitespace().map(str::to_owned).collect()
    };
    let theirs = ids(&pid.to_string());
    theirs.len() == ids("self").len() + 1 && theirs.last().is_some_and(|id| id == "1")
}
