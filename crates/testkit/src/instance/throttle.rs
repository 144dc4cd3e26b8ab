//! A slow disk: the kernel lets a block device read and write only so many bytes a second.
//!
//! Counts the bytes of requests as the file system submits them; a device that merges them later
//! transfers as many. It does not count requests: the kernel counts them before they are merged,
//! EBS afterwards.

use super::Must;
use std::fs;
use std::path::{Path, PathBuf};

/// Of the top group, which has all writes that no process waits for. Control groups v1 alone let
/// it be limited.
const V1: &str = "/sys/fs/cgroup/blkio";

/// The limit of a device, until it is dropped.
pub struct Throttle {
    device: String,
    files: [PathBuf; 2],
}

impl Throttle {
    /// Limits a block device, such as `7:0`, to so many bytes a second in each direction.
    pub fn of(device: &str, bytes_per_second: u64) -> Throttle {
        let file = |way: &str| Path::new(V1).join(format!("blkio.throttle.{way}_bps_device"));
        let throttle = Throttle { device: device.to_owned(), files: ["read", "write"].map(file) };
        throttle.set(bytes_per_second).must("limit a disk: this needs the controller blkio of v1");
        throttle
    }

    fn set(&self, bytes_per_second: u64) -> std::io::Result<()> {
        let line = format!("{} {bytes_per_second}", self.device);
        self.files.iter().try_for_each(|file| fs::write(file, &line))
    }
}

impl Drop for Throttle {
    fn drop(&mut self) {
        // A later disk may get the same device.
        let _ = self.set(0);
    }
}
