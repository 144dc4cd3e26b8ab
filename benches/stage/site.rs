//! The test site: an instance with our package and the peers' programs, whose `/var/lib/deploy`
//! is an ext4 in memory; an S3 that checks signatures, and a machine with nginx, both reached
//! over the same bridge.

use crate::fixtures::{self, AT};
use crate::inside::{PROGRAM, WORD};
use crate::sample::Sample;
use std::fs::{self, File};
use std::net::SocketAddrV4;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;
use testkit::host::{ACCESS_KEY, Host, SECRET_KEY, SOON};
use testkit::instance::{Instance, Invocation, Network};

/// The directory of everything that is unpacked.
pub const DISK: &str = "/var/lib/deploy";
const DISK_BYTES: u64 = 6 << 30;

const NGINX_PORT: u16 = 8080;
const NGINX: &str = "\
worker_processes 2;
events {}
http {
    access_log off;
    sendfile on;
    tcp_nopush on;
    server { listen 8080; root /srv/bench; }
}
";

/// Prints the exit code, the time before, after, and after a sync; the CPU time of the shell
/// and its children; the daemon's in ticks, and the ticks per second; the daemon's peak memory.
const MEASURE: &str = r#"
daemon() {
    read -r line <"/proc/$1/stat" && line=${line##*) } && set -- $line &&
        echo $((${12} + ${13}))
}
PID=$(systemctl show -P MainPID deployd.service)
if [ "$PID" != 0 ]; then echo 5 >"/proc/$PID/clear_refs" && CPU=$(daemon "$PID"); fi
sync -f /var/lib/deploy
A=$EPOCHREALTIME
eval "$RUN" >/dev/null 2>/run/bench.err
CODE=$?
B=$EPOCHREALTIME
[ $CODE != 0 ] || sync -f /var/lib/deploy
C=$EPOCHREALTIME
echo "$CODE $A $B $C"
times
if [ "$PID" != 0 ]; then
    echo "$(($(daemon "$PID") - CPU)) $(getconf CLK_TCK)"
    sed -n 's/VmHWM:[[:space:]]*\([0-9]*\) kB/\1/p' "/proc/$PID/status"
else
    echo '0 100'
    echo 0
fi
[ $CODE = 0 ] || tail -n 3 /run/bench.err >&2
"#;

/// The timeout of one measurement.
const PATIENCE: Duration = Duration::from_secs(300);

pub struct Site {
    pub host: Host,
    pub origin: Instance,
    /// The numbers of the block device, such as `7:0`.
    pub disk: String,
}

impl Site {
    pub fn boot() -> Site {
        let image = fixtures::image();
        let network = Network::of(2);
        let host = Host::built_on(network.clone(), |builder| builder.image(&image));
        let origin = network.instance().image(&image).boot();
        origin.write("/etc/nginx/nginx.conf", NGINX);
        origin.sh("systemctl start nginx.service");
        let disk = mount_disk(&host);
        let site = Site { host, origin, disk };
        site.reconfigure("");
        site
    }

    /// The S3 endpoint for the peers.
    pub fn s3(&self) -> String {
        format!("http://{}:{}", Network::GATEWAY, self.host.s3().address().port())
    }

    /// Whether the image has this program.
    pub fn has(&self, program: &str) -> bool {
        self.host.exec(&["bash", "-c", &format!("command -v {program}")]).status == Some(0)
    }

    /// The base of the HTTP URLs.
    pub fn web(&self) -> String {
        format!("http://{}:{NGINX_PORT}", self.origin.address())
    }

    /// Adds settings for the agent and restarts it.
    pub fn reconfigure(&self, settings: &str) {
        self.host.configure(settings);
        self.restart();
    }

    pub fn restart(&self) {
        self.host.sh("systemctl restart deployd.service");
    }

    /// Turns syncfs(2) and fsync(2) of the agent into no-ops, or restores them, by a system
    /// call filter of systemd. The difference is the cost of durability.
    pub fn let_it_sync(&self, sync: bool) {
        let drop_in = "/run/systemd/system/deployd.service.d/no-sync.conf";
        if sync {
            self.host.sh(&format!("rm -f {drop_in}; systemctl daemon-reload"));
        } else {
            self.host.write(drop_in, "[Service]\nSystemCallFilter=~syncfs:0 fsync:0 fdatasync:0\n");
            self.host.sh("systemctl daemon-reload");
        }
        self.restart();
    }

    /// Runs a shell command in the instance, and returns its measurement.
    pub fn measure(&self, command: &str) -> Sample {
        self.warm();
        let run = self.host.command(&["bash", "-o", "pipefail", "-c", MEASURE]);
        let said = credentials(run.env("RUN", command)).deadline(PATIENCE).output();
        Sample::parse(&said.stdout, &said.stderr)
    }

    /// Makes the hypervisor return the memory that it has reclaimed from the instance: otherwise
    /// the first program that needs it would pay for that.
    pub fn warm(&self) {
        warm(&self.host);
    }

    /// Waits until nginx responds.
    pub fn wait_for_origin(&self) {
        let address = SocketAddrV4::new(self.origin.address(), NGINX_PORT);
        self.host.wait_for("nginx", SOON, || self.host.network.connect(address).ok());
        self.origin.sh(&format!("cat {AT}/*/production/*/* >/dev/null"));
    }
}

/// See [`Site::warm`].
pub fn warm(host: &Instance) {
    host.exec(&[PROGRAM, WORD, "touch"]).ok();
}

/// Adds the credentials with which the peers sign.
pub fn credentials(run: Invocation<'_>) -> Invocation<'_> {
    run.env("AWS_ACCESS_KEY_ID", ACCESS_KEY)
        .env("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
        .env("AWS_REGION", "eu-central-1")
        .env("AWS_DEFAULT_REGION", "eu-central-1")
}

/// Mounts a new ext4 in memory with only the agent's present files, and copies this program into
/// the instance. Returns the numbers of the device.
pub fn mount_disk(host: &Instance) -> String {
    host.push(std::env::current_exe().expect("this program"), PROGRAM);
    let image = PathBuf::from(format!("/dev/shm/deploy-agent-bench-{}", std::process::id()));
    let file = File::create(&image).expect("a file in memory");
    file.set_len(DISK_BYTES).expect("a size");
    tool("mkfs.ext4", &["-q", "-F", "-m", "0", "-E", "lazy_itable_init=0", path(&image)]);
    let device = tool("losetup", &["--find", "--show", path(&image)]);
    fs::remove_file(&image).expect("the name of the disk to go");
    let number = fs::metadata(&device).expect("a loop device").rdev();
    let (major, minor) = (number >> 8 & 0xfff, number & 0xff);
    let mounted = host.exec(&[
        "bash",
        "-euc",
        &format!(
            "systemctl stop deployd.socket deployd.service
            mknod /dev/bench-disk b {major} {minor}
            mkdir /run/bench
            mount /dev/bench-disk /run/bench
            cp -a {DISK}/. /run/bench/
            umount /run/bench
            mount /dev/bench-disk {DISK}
            systemctl start deployd.socket"
        ),
    ]);
    // From now on the last mount keeps the device, until the instance ends.
    tool("losetup", &["--detach", &device]);
    mounted.ok();
    format!("{major}:{minor}")
}

fn path(path: &std::path::Path) -> &str {
    path.to_str().expect("a path of letters")
}

fn tool(program: &str, arguments: &[&str]) -> String {
    let ran = Command::new(program).args(arguments).output().expect(program);
    let complaint = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "{program} {arguments:?}: {complaint}");
    String::from_utf8_lossy(&ran.stdout).trim().to_owned()
}
