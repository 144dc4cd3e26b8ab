//! An instance, from power on to power off.
//!
//! It runs in a mount and a network namespace that only its own processes hold. So killing its
//! control group also removes its mounts, its loop device and its cable.

use super::cgroup::Group;
use super::lifeline::Lifeline;
use super::network::Network;
use super::nspawn::{NSPAWN, mount_overlay, private_mounts, with};
use super::suite::Suite;
use super::throttle::Throttle;
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

/// The timeout of a boot and of a shutdown.
const PATIENCE: Duration = Duration::from_secs(120);

/// `net.unix.max_dgram_qlen` of a real machine. systemd raises it from 10
/// only outside of containers, and with 10 rsyslog loses most of a burst.
const DGRAM_QUEUE: &str = "512";

impl Network {
    /// Describes an instance that is not booted yet: with the base image, at the next address
    /// (the first is 10.77.0.11).
    pub fn instance(&self) -> Builder {
        Builder::new(self.clone(), Image::base(), self.next_host())
    }
}

/// An instance that is not booted yet.
pub struct Builder {
    network: Network,
    image: Image,
    host: u8,
    memory: Option<u64>,
    disk: Option<u64>,
}

impl Builder {
    fn new(network: Network, image: Image, host: u8) -> Builder {
        Builder { network, image, host, memory: None, disk: None }
    }

    /// Boots from this image instead of the base.
    pub fn image(mut self, image: &Image) -> Builder {
        self.image = image.clone();
        self
    }

    /// Sets the address to 10.77.0.`host`.
    pub fn host(mut self, host: u8) -> Builder {
        self.host = host;
        self
    }

    /// Limits the memory of the whole instance.
    pub fn memory(mut self, mib: u64) -> Builder {
        self.memory = Some(mib << 20);
        self
    }

    /// Adds a disk of its own, which [`Instance::power_loss`] needs. Without one the instance
    /// writes to a directory of this machine.
    pub fn disk(mut self, mib: u64) -> Builder {
        self.disk = Some(mib << 20);
        self
    }

    /// Boots it and returns when systemd reports that it is up.
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

/// A Debian machine. Dropping it removes it with all its data; if the test is failing then, the
/// end of its journal is printed.
///
/// All methods take `&self`: one thread may wait for a command while another cuts the power.
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
    /// Its first process, as a pid of this machine.
    leader: i32,
    /// An open handle of the disk's file system, for cutting its power.
    disk: Option<File>,
}

impl Instance {
    /// Its IPv4 address on the network.
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// Its machine id, which it boots with.
    pub fn machine_id(&self) -> &str {
        &self.machine_id
    }

    /// Runs `work` on a thread in the instance's network namespace.
    pub fn within<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let (_, leader) = self.inside();
        let namespace = File::open(format!("/proc/{leader}/ns/net")).must("open its network");
        on_a_thread(|| {
            setns(&namespace, CloneFlags::CLONE_NEWNET).must("enter its network");
            work()
        })
    }

    /// The network that it is connected to.
    pub fn network(&self) -> &Network {
        &self.plan.network
    }

    /// Whether it is powered on.
    pub fn is_running(&self) -> bool {
        self.running().is_some()
    }

    /// Boots it again with its present disk, and returns when it is up.
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

    /// Reboots it in order; returns when it is up again.
    pub fn reboot(&self) {
        self.shut_down("reboot");
        self.boot();
    }

    /// Shuts it down in order; [`Instance::boot`] boots it again.
    pub fn power_off(&self) {
        self.shut_down("poweroff");
    }

    /// Kills all processes at once. Their writes are kept until the next [`Instance::boot`],
    /// synced or not.
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

    /// Cuts the power: writes that were not synced to the disk are lost. Needs
    /// [`Builder::disk`].
    pub fn power_loss(&self) {
        if let Some(running) = self.running().as_ref() {
            let disk = running.disk.as_ref();
            let disk = disk.expect("power_loss needs an instance with a disk: use Builder::disk");
            disk::cut_power(disk);
        }
        self.kill_hard();
    }

    /// Limits the processor time of the instance until its next boot, in percent of one processor.
    pub fn limit_cpu(&self, percent: u32) {
        self.inside().0.limit_cpu(percent);
    }

    /// Makes its disk slow until the result is dropped. Needs [`Builder::disk`].
    pub fn throttle_disk(&self, bytes_per_second: u64) -> Throttle {
        let device = disk::device(&self.dir.join("disk.img"));
        let device = device.expect("an instance with a disk: use Builder::disk");
        Throttle::of(&device, bytes_per_second)
    }

    /// Unplugs the network cable, until [`Instance::plug`].
    pub fn unplug(&self) {
        self.network().set_port(&self.port(), "down");
    }

    /// Plugs the network cable in again.
    pub fn plug(&self) {
        self.network().set_port(&self.port(), "up");
    }

    /// Paths that exist on this machine only while the instance runs.
    pub fn traces(&self) -> Vec<PathBuf> {
        let mut traces = vec![self.dir.clone()];
        traces.extend_from_slice(self.inside().0.dirs());
        traces
    }

    /// The directory of what it has changed in its image, unless it has a disk of its own.
    pub(super) fn changes(&self) -> PathBuf {
        assert!(self.plan.disk.is_none(), "{} has a disk of its own", self.name);
        self.dir.join("disk").join("upper")
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

    /// The name of the bridge's port; a new one for every boot, as the old port may stay for
    /// some milliseconds.
    fn port(&self) -> String {
        let [_, _, _, host] = self.address.octets();
        format!("host{host}.{}", self.boots.load(Ordering::Relaxed))
    }

    /// Starts systemd-nspawn in new namespaces of the calling thread.
    fn start(&self, group: &Group) -> (Child, Option<File>) {
        private_mounts();
        let (disk, root) = (self.dir.join("disk"), self.dir.join("root"));
        let held = self.plan.disk.map(|_| disk::attach(&self.dir.join("disk.img"), &disk));
        for part in ["upper", "work"] {
            fs::create_dir_all(disk.join(part)).must(format_args!("make {}", disk.display()));
        }
        let lower = self.plan.image.lower();
        mount_overlay(&lower, &disk.join("upper"), &disk.join("work"), &root);
        // systemd-nspawn keeps its own state and locks here.
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
            .args(Suite::get().init_arguments())
            .stdin(Stdio::null())
            .stdout(console.try_clone().must("share the console"))
            .stderr(console)
            // Keeps the terminal's interrupt away.
            .process_group(0);
        group.enter(&mut nspawn);
        (nspawn.spawn().must("start systemd-nspawn"), held)
    }

    /// Finds the first process inside, once it is systemd and responds.
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
        // The shutdown may end the command itself.
        self.exec(&["systemctl", how]);
        let ended = poll(PATIENCE, || {
            let mut running = self.running();
            let nspawn = &mut running.as_mut()?.nspawn;
            // With --keep-unit systemd-nspawn exits with 133 instead of rebooting.
            nspawn.try_wait().must("look after systemd-nspawn")
        });
        assert!(ended.is_some(), "{} does not {how}: {}", self.name, self.console());
        self.kill_hard();
    }

    /// The end of the instance's console output.
    fn console(&self) -> String {
        let console = fs::read(self.dir.join("console")).unwrap_or_default();
        let console = String::from_utf8_lossy(&console);
        let lines: Vec<_> = console.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        // A second panic while the first one unwinds would abort all tests.
        let ended = panic::catch_unwind(AssertUnwindSafe(|| {
            if thread::panicking() {
                let log = self.journal_tail().unwrap_or_else(|| self.console());
                eprintln!("--- the last of {} ({})\n{log}\n---", self.name, self.address);
            }
            self.kill_hard();
        }));
        self.network().leave();
        // The lifeline removes the directory if this fails. rm(1) is used since the tree may be
        // deeper than a stack.
        let _ = Command::new("rm").arg("-rf").arg(&self.dir).status();
        if let Err(cause) = ended
            && !thread::panicking()
        {
            panic::resume_unwind(cause);
        }
    }
}

/// Whether the process is the first of a pid namespace directly below ours.
fn is_first_inside(pid: i32) -> bool {
    let ids = |of: &str| -> Vec<String> {
        let status = fs::read_to_string(format!("/proc/{of}/status")).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
        line.unwrap_or_default().split_whitespace().map(str::to_owned).collect()
    };
    let theirs = ids(&pid.to_string());
    theirs.len() == ids("self").len() + 1 && theirs.last().is_some_and(|id| id == "1")
}
