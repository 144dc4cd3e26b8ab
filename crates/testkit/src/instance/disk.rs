//! A disk of a single instance, whose power can be cut: an ext4 image on a loop device that is
//! detached with its last mount.

use super::{Must, poll};
use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// Leave the journal as it is on the disk: `EXT4_GOING_FLAGS_NOLOGFLUSH`.
const NO_LOG_FLUSH: u32 = 2;
nix::ioctl_read!(ext4_shutdown, b'X', 125, u32);

/// Creates an empty disk.
pub fn make(image: &Path, bytes: u64) {
    let file = File::create(image).must(format_args!("create {}", image.display()));
    file.set_len(bytes).must(format_args!("size {}", image.display()));
    let lazy = "lazy_itable_init=1,lazy_journal_init=1";
    // No blocks are reserved for root: overlayfs writes as root for every user.
    must_run(Command::new("mkfs.ext4").args(["-q", "-F", "-m", "0", "-E", lazy]).arg(image));
}

/// Mounts it so that unsynced writes stay in memory for long, and returns a handle of its file
/// system.
pub fn attach(image: &Path, at: &Path) -> File {
    let options = "loop,noauto_da_alloc,commit=300";
    must_run(Command::new("mount").args(["-o", options]).arg(image).arg(at));
    File::open(at).must(format_args!("open {}", at.display()))
}

/// Stops all writes to the disk; unsynced ones are lost.
pub fn cut_power(disk: &File) {
    let mut how = NO_LOG_FLUSH;
    // SAFETY: the descriptor is open, and the kernel reads one u32 from `how`.
    unsafe { ext4_shutdown(disk.as_raw_fd(), &raw mut how) }.must("cut a disk's power");
}

/// Waits until no mount is left: a new mount before that would share the file system of the old
/// one, page cache included.
pub fn wait_until_detached(image: &Path) {
    let gone = || (!loop_files().iter().any(|file| file == image)).then_some(());
    poll(Duration::from_secs(30), gone)
        .unwrap_or_else(|| panic!("{} stays attached", image.display()));
}

/// The files behind this machine's loop devices.
pub fn loop_files() -> Vec<PathBuf> {
    loops().into_iter().map(|(file, _)| file).collect()
}

/// Returns the numbers of the loop device on a file, such as `7:0`.
pub fn device(image: &Path) -> Option<String> {
    loops().into_iter().find(|(file, _)| file == image).map(|(_, device)| device)
}

fn loops() -> Vec<(PathBuf, String)> {
    let devices = fs::read_dir("/sys/block").into_iter().flatten().flatten();
    let read = |path: PathBuf| Some(fs::read_to_string(path).ok()?.trim_end().to_owned());
    let devices = devices.filter_map(|device| {
        let file = read(device.path().join("loop/backing_file"))?;
        Some((file.into(), read(device.path().join("dev"))?))
    });
    devices.collect()
}

fn must_run(command: &mut Command) {
    let ran = command.stdin(Stdio::null()).output().must(format_args!("start {command:?}"));
    let complaint = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "{command:?} ({}): {complaint}", ran.status);
}
