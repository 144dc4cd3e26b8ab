//! What the machine's kernel has no namespaces for.

use std::fs;

/// 0 on machines that are hardened so; user_namespaces(7).
const MOST_USERS: &str = "/proc/sys/user/max_user_namespaces";
const NEEDS_USERS: &str = "PrivateUsers=yes\n";

/// The lines of a unit file without those that would let no process start here.
pub fn possible(lines: String) -> String {
    let most = fs::read_to_string(MOST_USERS).unwrap_or_default();
    // Without the file the kernel has no such namespaces at all.
    match most.trim().parse::<u64>() {
        Ok(most) if most > 0 => lines,
        _ => lines.replace(NEEDS_USERS, ""),
    }
}
