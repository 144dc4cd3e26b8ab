//! What the build of an image and the boot of an instance share: options of systemd-nspawn, and
//! mounts.

use super::Must;
use super::lifeline::cache;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use std::ffi::OsString;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Options for a host that may lack systemd. `--keep-unit` leaves systemd-nspawn in our control
/// group.
pub(super) const NSPAWN: [&str; 6] = [
    "--quiet",
    "--register=no",
    "--keep-unit",
    "--settings=no",
    "--timezone=off",
    "--link-journal=no",
];

/// Moves the calling thread into a private mount namespace.
pub(super) fn private_mounts() {
    unshare(CloneFlags::CLONE_NEWNS).must("make a mount namespace");
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, "/", None::<&str>, private, None::<&str>).must("make the mounts private");
}

/// Mounts the directories `lower` and `upper` as one at `root`.
pub(super) fn mount_overlay(lower: &OsString, upper: &Path, work: &Path, root: &Path) {
    // The mode of the upper directory becomes the mode of the whole root, whatever umask the
    // tests run with.
    fs::set_permissions(upper, Permissions::from_mode(0o755)).must("open the upper directory");
    let mut options = OsString::from("lowerdir=");
    options.push(lower);
    options.push(with(",upperdir=", upper));
    options.push(with(",workdir=", work));
    mount(
        Some("overlay"),
        root,
        Some("overlay"),
        MsFlags::empty(),
        Some(options.as_os_str()),
    )
    .must(format_args!(
        "mount an overlay below {}; DEPLOY_TEST_CACHE may name a directory on ext4, xfs or tmpfs",
        cache().display()
    ));
}

/// Joins `prefix` and a path into one argument.
pub(super) fn with(prefix: &str, path: &Path) -> OsString {
    let mut argument = OsString::from(prefix);
    argument.push(path);
    argument
}
