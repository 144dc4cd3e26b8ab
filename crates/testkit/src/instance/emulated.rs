//! A machine with a kernel of its own: QEMU emulates the processor, so that nothing of this
//! machine's kernel is under test. It is some ten times slower than an [`super::Instance`], and
//! needs neither KVM nor a boot loader.
//!
//! Its user-mode network is in the namespace of a [`Network`]: the machine reaches the test's
//! listeners on loopback at [`Emulated::GATEWAY`], and the test reaches the machine at
//! [`Emulated::address`].

use super::cgroup::Group;
use super::exec::{Job, Output};
use super::lifeline::Lifeline;
use super::nspawn::{mount_overlay, private_mounts, with};
use super::{Image, Must, Network, disk, on_a_thread, poll, requirements};
use nix::mount::umount;
use std::fs::{self, File, Permissions};
use std::io::{BufRead, BufReader, Read};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

/// The timeout of a boot, of a shutdown, and of a command.
const PATIENCE: Duration = Duration::from_secs(900);

/// The packages that make a base image bootable, as Debian's cloud images have them.
const PACKAGES: [&str; 6] =
    ["apparmor", "cloud-init", "initramfs-tools", "kmod", "linux-image-cloud-amd64", "udev"];

/// What Debian's images have beside packages: a file system table, and a network set up by DHCP.
const FURNISH: &str = "
    echo '/dev/vda / ext4 defaults 0 1' >/etc/fstab
    printf '[Match]\\nName=en*\\n[Network]\\nDHCP=ipv4\\n' >/etc/systemd/network/10-dhcp.network
    systemctl unmask systemd-networkd-wait-online.service
    systemctl enable systemd-networkd.service
    cat >/etc/cloud/cloud.cfg.d/95-nocloud.cfg <<'END'
datasource_list: [NoCloud]
disable_root: false
locale: C.UTF-8
network: {config: disabled}
END
";

/// The size of the machine's disk, and of the one of this machine that it lies on.
const DISK: u64 = 4 << 30;
const OUTER_DISK: u64 = 5 << 30;

const MEMORY_MIB: u32 = 1024;

/// Ports of loopback in the network's namespace that lead to ports of the machine.
const SSH: (u16, u16) = (2222, 22);
const WEB: (u16, u16) = (5000, 5000);

/// An emulated machine. Dropping it removes it with its disk; if the test is failing then, the
/// end of its journal is printed.
pub struct Emulated {
    name: String,
    dir: PathBuf,
    network: Network,
    running: Mutex<Option<Running>>,
}

struct Running {
    qemu: Child,
    group: Group,
    /// An open handle of the file system below the machine's disk, for cutting its power.
    disk: File,
}

impl Image {
    /// Returns this image with Debian's kernel for clouds, an initramfs, and cloud-init, whose
    /// data source is NoCloud.
    pub fn with_kernel(self) -> Image {
        self.with_packages("kernel", &PACKAGES).layer("kernel-furnished", &[], FURNISH)
    }
}

impl Emulated {
    /// The address at which the machine finds the network's loopback.
    pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);

    /// Makes a machine that is off, whose disk has the image and its user-data.
    pub fn new(network: &Network, image: &Image, user_data: &str) -> Emulated {
        requirements::check_emulation();
        network.join();
        let lifeline = Lifeline::get();
        let name = lifeline.name("emulated");
        let dir = lifeline.dir().join(&name);
        for part in ["", "disk", "root", "upper", "work"] {
            fs::create_dir(dir.join(part)).must(format_args!("make {}", dir.display()));
        }
        let machine = Emulated { name, dir, network: network.clone(), running: Mutex::new(None) };
        machine.make_key();
        disk::make(&machine.dir.join("disk.img"), OUTER_DISK);
        on_a_thread(|| machine.install(image, user_data));
        disk::wait_until_detached(&machine.dir.join("disk.img"));
        machine
    }

    /// The address of its port 5000 for clients in the network's namespace.
    pub fn address(&self) -> SocketAddr {
        SocketAddrV4::new(Ipv4Addr::LOCALHOST, WEB.0).into()
    }

    /// Powers it on, and returns when it answers to ssh.
    pub fn boot(&self) {
        assert!(self.running().is_none(), "{} is running already", self.name);
        let group = Lifeline::get().group().job(&self.name);
        let (qemu, disk) = self.network.within(|| self.start(&group));
        *self.running() = Some(Running { qemu, group, disk });
        let up = poll(PATIENCE, || {
            assert!(!self.has_ended(), "{} died at boot: {}", self.name, self.console());
            self.answers_ssh().then_some(())
        });
        assert!(up.is_some(), "{} does not boot: {}", self.name, self.console());
        let mut master = self.ssh();
        master.args(["-M", "-N", "-f"]);
        let said = self.start_job(master, "ssh -M", PATIENCE).output();
        assert_eq!(said.status, Some(0), "{}: {said:?}", self.name);
    }

    /// Reboots it in order, and returns when it answers to ssh again.
    pub fn reboot(&self) {
        // The shutdown may end the command itself.
        self.exec(&["systemctl", "reboot"]);
        let ended = poll(PATIENCE, || self.has_ended().then_some(()));
        assert!(ended.is_some(), "{} does not reboot: {}", self.name, self.console());
        self.kill();
        self.boot();
    }

    /// Cuts the power. The machine's disk has a volatile write cache: a write that the machine
    /// has not flushed is lost, whether or not it has left the machine's memory.
    pub fn power_loss(&self) {
        if let Some(running) = self.running().as_ref() {
            disk::cut_power(&running.disk);
        }
        self.kill();
    }

    /// Runs a command as root.
    #[track_caller]
    pub fn exec(&self, command: &[&str]) -> Output {
        self.within(command, PATIENCE)
    }

    #[track_caller]
    fn within(&self, command: &[&str], deadline: Duration) -> Output {
        let mut ssh = self.ssh();
        ssh.arg("--").arg(quoted(command));
        self.start_job(ssh, &command.join(" "), deadline).output()
    }

    /// Runs a shell script that stops at the first error, and returns its output.
    #[track_caller]
    pub fn sh(&self, script: &str) -> String {
        self.exec(&["bash", "--norc", "-euo", "pipefail", "-c", script]).ok()
    }

    /// Runs a command until a line of its standard error begins with `start`. Returns while it
    /// is still running. Fails with what it wrote if there is no such line.
    #[track_caller]
    pub fn run_until(&self, command: &[&str], start: &str) {
        let mut ssh = self.ssh();
        ssh.arg("--").arg(quoted(command));
        ssh.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        self.group().enter(&mut ssh);
        let mut child = self.network.within(|| ssh.spawn()).must("start ssh");
        let stderr = child.stderr.take().expect("a pipe");
        let (tell, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                // After the line, nobody listens.
                let _ = tell.send(line);
            }
            child.wait()
        });
        let mut said = String::new();
        while let Ok(line) = lines.recv_timeout(PATIENCE) {
            if line.starts_with(start) {
                return;
            }
            said += &line;
            said.push('\n');
        }
        panic!("`{}` has no line {start:?}; it said:\n{said}", command.join(" "));
    }

    /// Polls `probe` until it returns a value. If it returns none in the time of a boot, the
    /// test fails.
    #[track_caller]
    pub fn wait_for<T>(&self, what: &str, probe: impl FnMut() -> Option<T>) -> T {
        poll(PATIENCE, probe).unwrap_or_else(|| panic!("{}: no {what} in {PATIENCE:?}", self.name))
    }

    /// Makes the key by which the test logs in.
    fn make_key(&self) {
        let made = Command::new("ssh-keygen")
            .args(["-q", "-t", "ed25519", "-N", "", "-C", "test", "-f"])
            .arg(self.key())
            .status()
            .must("start ssh-keygen");
        assert!(made.success(), "ssh-keygen: {made}");
    }

    fn key(&self) -> PathBuf {
        self.dir.join("key")
    }

    /// Writes the machine's disk, and takes kernel and initramfs out of it.
    fn install(&self, image: &Image, user_data: &str) {
        private_mounts();
        let at = |part: &str| self.dir.join(part);
        let root = at("root");
        mount_overlay(&image.lower(), &at("upper"), &at("work"), &root);
        let seed = "var/lib/cloud/seed/nocloud";
        for (path, mode, text) in [
            (format!("{seed}/meta-data"), 0o644, "instance-id: i-emulated\nlocal-hostname: web1\n"),
            (format!("{seed}/user-data"), 0o644, user_data),
            ("root/.ssh/authorized_keys".to_owned(), 0o600, &public_key(&self.key())),
        ] {
            let path = root.join(path);
            let dir = path.parent().expect("a directory");
            fs::create_dir_all(dir).must(format_args!("make {}", dir.display()));
            fs::write(&path, text).must(format_args!("write {}", path.display()));
            let mode = Permissions::from_mode(mode);
            fs::set_permissions(&path, mode).must(format_args!("open {}", path.display()));
        }
        for (start, file) in [("vmlinuz-", "vmlinuz"), ("initrd.img-", "initrd")] {
            let found = only_file(&root.join("boot"), start);
            fs::copy(&found, at(file)).must(format_args!("copy {}", found.display()));
        }
        let _outer = disk::attach(&at("disk.img"), &at("disk"));
        let file = File::create(self.disk()).must("create the machine's disk");
        file.set_len(DISK).must("size the machine's disk");
        let group = Lifeline::get().group().job(&Lifeline::get().name("mkfs"));
        let mut mkfs = Command::new("mkfs.ext4");
        mkfs.args(["-q", "-F", "-E", "lazy_itable_init=1,lazy_journal_init=1", "-d"]);
        mkfs.arg(&root).arg(self.disk()).stdin(Stdio::null());
        group.enter(&mut mkfs);
        let made = mkfs.output().must("start mkfs.ext4");
        group.remove();
        let said = String::from_utf8_lossy(&made.stderr);
        assert!(made.status.success(), "mkfs.ext4 ({}): {said}", made.status);
        umount(&root).must(format_args!("unmount {}", root.display()));
    }

    fn disk(&self) -> PathBuf {
        self.dir.join("disk").join("root.img")
    }

    /// Starts QEMU in a mount namespace of the calling thread, which holds the disk.
    fn start(&self, group: &Group) -> (Child, File) {
        private_mounts();
        let held = disk::attach(&self.dir.join("disk.img"), &self.dir.join("disk"));
        let forward = |(outside, inside)| format!(",hostfwd=tcp:127.0.0.1:{outside}-:{inside}");
        let network = format!("user,id=net{}{}", forward(SSH), forward(WEB));
        let mut drive = with("if=none,id=disk,format=raw,werror=stop,file=", &self.disk());
        // A flush of the machine is a sync of the file, and nothing else is.
        drive.push(",cache=writeback");
        let console = File::create(self.console_file()).must("create the console's log");
        let mut qemu = Command::new("qemu-system-x86_64");
        qemu.args(["-nodefaults", "-no-reboot", "-display", "none", "-serial", "stdio"])
            // /dev/kvm may be there and not work; emulation always does.
            .args(["-machine", "q35", "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2"])
            .args(["-m", &MEMORY_MIB.to_string()])
            .args(["-netdev", &network, "-device", "virtio-net-pci,netdev=net"])
            .arg("-drive")
            .arg(drive)
            .args(["-device", "virtio-blk-pci,drive=disk", "-device", "virtio-rng-pci"])
            .arg("-kernel")
            .arg(self.dir.join("vmlinuz"))
            .arg("-initrd")
            .arg(self.dir.join("initrd"))
            // Emulated, each of the mitigations costs time, and none is under test.
            .args(["-append", "root=/dev/vda rw console=ttyS0 quiet mitigations=off"])
            .stdin(Stdio::null())
            .stdout(console.try_clone().must("share the console's log"))
            .stderr(console)
            // Keeps the terminal's interrupt away.
            .process_group(0);
        group.enter(&mut qemu);
        (qemu.spawn().must("start qemu-system-x86_64"), held)
    }

    /// Whether its sshd sends its banner.
    fn answers_ssh(&self) -> bool {
        let address = SocketAddrV4::new(Ipv4Addr::LOCALHOST, SSH.0);
        let mut banner = [0; 4];
        let Ok(mut stream) = self.network.connect(address) else { return false };
        stream.set_read_timeout(Some(Duration::from_secs(10))).must("set a timeout");
        stream.read_exact(&mut banner).is_ok() && &banner == b"SSH-"
    }

    /// Returns an ssh that lacks its command. It uses the connection of the first one, as each
    /// handshake takes seconds.
    fn ssh(&self) -> Command {
        let mut ssh = Command::new("ssh");
        ssh.args(["-F", "none", "-o", "BatchMode=yes", "-o", "LogLevel=ERROR"])
            .args(["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"])
            .args(["-o", "ConnectTimeout=120", "-p", &SSH.0.to_string(), "-i"])
            .arg(self.key())
            .arg("-S")
            .arg(self.dir.join("ssh"))
            .arg(format!("root@{}", Ipv4Addr::LOCALHOST));
        ssh
    }

    #[track_caller]
    fn start_job(&self, command: Command, name: &str, deadline: Duration) -> Job {
        let group = self.group().job(&Lifeline::get().name("exec"));
        let name = format!("`{name}` in {}", self.name);
        self.network.within(|| Job::start(name, command, group, Vec::new(), deadline))
    }

    #[track_caller]
    fn group(&self) -> Group {
        let running = self.running();
        let running = running.as_ref().unwrap_or_else(|| panic!("{} is not running", self.name));
        running.group.clone()
    }

    fn running(&self) -> MutexGuard<'_, Option<Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn has_ended(&self) -> bool {
        let mut running = self.running();
        let qemu = running.as_mut().map(|running| &mut running.qemu);
        qemu.is_none_or(|qemu| qemu.try_wait().must("look after QEMU").is_some())
    }

    /// Ends QEMU and each ssh at once.
    fn kill(&self) {
        let Some(mut running) = self.running().take() else {
            return;
        };
        running.group.kill();
        running.qemu.wait().must("wait for QEMU");
        running.group.remove();
        drop(running.disk);
        disk::wait_until_detached(&self.dir.join("disk.img"));
    }

    fn console_file(&self) -> PathBuf {
        self.dir.join("console")
    }

    /// The end of its output to the serial console, and of QEMU's own.
    fn console(&self) -> String {
        let console = fs::read(self.console_file()).unwrap_or_default();
        let console = String::from_utf8_lossy(&console);
        let lines: Vec<_> = console.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    /// The end of its journal, or of its console if it does not answer.
    fn last_words(&self) -> String {
        if self.running().is_none() {
            return self.console();
        }
        let journal = ["journalctl", "--no-pager", "--lines=80"];
        let journal = self.within(&journal, Duration::from_secs(60));
        if journal.status == Some(0) { journal.stdout } else { self.console() }
    }
}

impl Drop for Emulated {
    fn drop(&mut self) {
        // A second panic while the first one unwinds would abort all tests.
        let ended = panic::catch_unwind(AssertUnwindSafe(|| {
            if thread::panicking() {
                eprintln!("--- the last of {}\n{}\n---", self.name, self.last_words());
            }
        }));
        let killed = panic::catch_unwind(AssertUnwindSafe(|| self.kill()));
        self.network.leave();
        // The lifeline removes what stays.
        let _ = fs::remove_dir_all(&self.dir);
        if let Err(cause) = ended.and(killed)
            && !thread::panicking()
        {
            panic::resume_unwind(cause);
        }
    }
}

fn public_key(key: &Path) -> String {
    fs::read_to_string(key.with_extension("pub")).must("read the public key")
}

/// The only file of the directory whose name begins with `start`.
fn only_file(dir: &Path, start: &str) -> PathBuf {
    let entries = fs::read_dir(dir).must(format_args!("list {}", dir.display()));
    let paths = entries.flatten().map(|entry| entry.path());
    let begins = |path: &PathBuf| {
        path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(start))
    };
    let mut found = paths.filter(begins);
    let (first, second) = (found.next(), found.next());
    assert!(second.is_none(), "{} has several {start}*", dir.display());
    first.unwrap_or_else(|| panic!("{} has no {start}*", dir.display()))
}

/// Returns the words as one line for a shell.
fn quoted(words: &[&str]) -> String {
    let quote = |word: &&str| format!("'{}'", word.replace('\'', "'\\''"));
    words.iter().map(quote).collect::<Vec<_>>().join(" ")
}
