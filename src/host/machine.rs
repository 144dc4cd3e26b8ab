//! The identity of this instance, and of its boot.

use std::env;
use std::fs;
use std::sync::OnceLock;

/// Returns the EC2 instance id, if the firmware has it.
pub fn instance_id() -> Option<&'static str> {
    identity().split(' ').nth(1)
}

/// Returns machine-id(5), together with the EC2 instance id if the firmware has it (on Nitro;
/// "Identify EC2 instances" in Amazon's guide), since an image may have been created without
/// resetting the machine id.
pub fn identity() -> &'static str {
    static IDENTITY: OnceLock<String> = OnceLock::new();
    IDENTITY.get_or_init(|| {
        let read = |path| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
        let (machine, asset) = (read("/etc/machine-id"), read("/sys/class/dmi/id/board_asset_tag"));
        if asset.starts_with("i-") { format!("{machine} {asset}") } else { machine }
    })
}

/// Returns the id that the kernel has made up for this boot, as 32 hexadecimal digits: from
/// systemd (deployd.service sets BOOT_ID), or from random(4).
pub fn boot_id() -> &'static str {
    static BOOT: OnceLock<String> = OnceLock::new();
    BOOT.get_or_init(|| {
        let kernels = || fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let id = env::var("BOOT_ID").unwrap_or_else(|_| kernels());
        id.chars().filter(char::is_ascii_alphanumeric).collect()
    })
}
