//! The requirements on this machine. A missing one fails the test with a remedy; it never skips
//! the test.

use nix::unistd::geteuid;
use std::env;

/// A program and its Debian package.
const PROGRAMS: [(&str, &str); 8] = [
    ("apt-get", "apt"),
    ("ip", "iproute2"),
    ("mkfs.ext4", "e2fsprogs"),
    ("mmdebstrap", "mmdebstrap"),
    ("mount", "mount"),
    ("nsenter", "util-linux"),
    ("setpriv", "util-linux"),
    ("systemd-nspawn", "systemd-container"),
];

/// Panics with all missing requirements and their remedy.
pub fn check() {
    let mut missing = Vec::new();
    if !geteuid().is_root() {
        missing.push("these tests boot instances and need root: run them with sudo".to_owned());
    }
    for (program, package) in PROGRAMS {
        if !installed(program) {
            missing.push(format!("{program} is not installed: apt-get install {package}"));
        }
    }
    assert!(
        missing.is_empty(),
        "this machine cannot boot test instances (`make requirements` installs what is needed):\n  {}",
        missing.join("\n  ")
    );
}

/// Panics unless this machine can emulate another one.
pub fn check_emulation() {
    assert_eq!(
        env::consts::ARCH,
        "x86_64",
        "the emulated machine is an amd64, and the package is of this machine's architecture: run \
         this test on amd64"
    );
    assert!(
        installed("qemu-system-x86_64"),
        "qemu-system-x86_64 is not installed: apt-get install qemu-system-x86 (`make kernel` \
         does that)"
    );
}

fn installed(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"].map(Into::into);
    env::split_paths(&path).chain(system).any(|dir| dir.join(program).is_file())
}
