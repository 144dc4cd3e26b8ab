//! The base image: a minimal Debian with what an instance has before our
//! package comes. Made once by mmdebstrap, from wherever this machine's apt
//! takes Debian; any change to this file makes a new one.

use super::Must;
use super::lifeline::Lifeline;
use super::suite::Suite;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Stdio};

const PACKAGES: [&str; 21] = [
    "bash",
    "ca-certificates",
    "curl",
    "dbus",
    "iproute2",
    "iputils-ping",
    "libnss-myhostname",
    "libpam-systemd",
    "netbase",
    "nftables",
    "openssh-server",
    "procps",
    "python3",
    "rsyslog",
    "rsyslog-gnutls",
    "sudo",
    "systemd",
    "systemd-sysv",
    "tar",
    "xz-utils",
    "zstd",
];

/// Left out while the base is made; packages installed later are complete.
const LEFT_OUT: [&str; 3] = ["/usr/share/doc/*", "/usr/share/locale/*", "/usr/share/man/*"];

/// Units that only make a test slower or its journal longer.
const MASKED: [&str; 10] = [
    "apt-daily-upgrade.timer",
    "apt-daily.timer",
    "console-getty.service",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "fstrim.timer",
    "getty.target",
    "man-db.timer",
    "systemd-networkd-wait-online.service",
];

/// What an instance starts as its first process.
pub const INIT: &str = "/usr/sbin/instance-init";

/// systemd-nspawn mounts v1 controllers read-only, and `MemoryMax=` would be
/// ignored without a word.
const INIT_SCRIPT: &str = "#!/bin/sh
for controller in blkio cpu cpuacct devices freezer memory pids; do
    [ ! -d /sys/fs/cgroup/$controller ] ||
        mount -o remount,bind,rw /sys/fs/cgroup/$controller
done
exec /lib/systemd/systemd \"$@\"
";

/// Changes whenever the base made here would.
pub fn recipe() -> &'static str {
    include_str!("base.rs")
}

/// Makes the base of this suite at `root`, a directory that does not exist yet.
pub fn make(suite: Suite, root: &Path) {
    let mut command = Command::new("mmdebstrap");
    command.args(["--quiet", "--mode=root", "--variant=minbase"]);
    command.arg(format!("--include={}", PACKAGES.join(",")));
    for path in LEFT_OUT {
        command.arg(format!("--dpkgopt=path-exclude={path}"));
    }
    for option in apt_options() {
        command.arg(format!("--aptopt={option}"));
    }
    let mut sources = apt_sources(suite);
    if sources.is_empty() {
        // Its sources may be set up but never have been read.
        output(&["apt-get", "update"]);
        sources = apt_sources(suite);
    }
    command.arg(suite.name()).arg(root).args(sources);
    let group = Lifeline::get().group().job("mmdebstrap");
    group.enter(&mut command);
    let made = command.stdin(Stdio::null()).stdout(Stdio::null()).output().must("start mmdebstrap");
    group.remove();
    assert!(
        made.status.success(),
        "mmdebstrap cannot make the base image ({}); does `apt-get update` work here?\n{}",
        made.status,
        String::from_utf8_lossy(&made.stderr)
    );
    furnish(root);
}

fn furnish(root: &Path) {
    let at = |path: &str| root.join(path.trim_start_matches('/'));
    for unit in MASKED {
        let mask = at("etc/systemd/system").join(unit);
        let _ = fs::remove_file(&mask);
        symlink("/dev/null", &mask).must(format_args!("mask {unit}"));
    }
    for path in ["etc/resolv.conf", "etc/hostname", "etc/hosts"] {
        let _ = fs::remove_file(at(path));
    }
    // The rule that leaves documentation out is for the base alone.
    let _ = fs::remove_file(at("etc/dpkg/dpkg.cfg.d/99mmdebstrap"));
    // Empty: every instance gets an id of its own at its first boot.
    fs::write(at("etc/machine-id"), "").must("empty the machine id");
    fs::write(at("etc/resolv.conf"), "").must("write resolv.conf");
    fs::write(at("etc/hosts"), "127.0.0.1 localhost\n").must("write hosts");
    // There, so that the journal is kept over a reboot.
    fs::create_dir_all(at("var/log/journal")).must("make the journal's directory");
    fs::write(at(INIT), INIT_SCRIPT).must("write the init script");
    fs::set_permissions(at(INIT), Permissions::from_mode(0o755)).must("make it executable");
}

/// This machine's sources of the suite, as lines of a sources.list. None when
/// apt here is set up for another suite: then mmdebstrap's own default serves.
fn apt_sources(suite: Suite) -> Vec<String> {
    let format = "$(ORIGIN) $(CODENAME) deb $(REPO_URI) $(RELEASE) $(COMPONENT)";
    let listed = output(&["apt-get", "indextargets", "--format", format, "Created-By: Packages"]);
    listed
        .lines()
        .filter_map(|line| line.strip_prefix("Debian "))
        .filter_map(|line| line.split_once(' '))
        .filter(|(codename, _)| codename.split('-').next() == Some(suite.name()))
        .map(|(_, source)| source.to_owned())
        .collect()
}

/// How this machine's apt fetches: its proxy, its patience, its clock.
fn apt_options() -> Vec<String> {
    let listed = output(&["apt-config", "dump", "--format", "%f \"%v\"%n", "Acquire"]);
    let telling = ["http", "https", "Check-", "ForceIPv", "Retries"];
    listed
        .lines()
        .filter(|line| !line.ends_with("\"\""))
        .filter(|line| {
            let option = line.trim_start_matches("Acquire::");
            telling.iter().any(|name| option.starts_with(name))
        })
        .map(str::to_owned)
        .collect()
}

fn output(command: &[&str]) -> String {
    let ran = Command::new(command[0])
        .args(&command[1..])
        .output()
        .must(format_args!("start {}", command[0]));
    String::from_utf8_lossy(&ran.stdout).into_owned()
}
