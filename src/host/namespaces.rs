//! Detects the namespaces that the instance's kernel lacks.

use model::units::Kernel;
use std::fs;

/// 0 on hardened instances; user_namespaces(7).
const MOST_USERS: &str = "/proc/sys/user/max_user_namespaces";

/// The configuration of that limit; sysctl.d(5). At boot, the generator runs before it is applied.
const SAID: [&str; 4] = ["/etc/sysctl.d", "/run/sysctl.d", "/usr/lib/sysctl.d", "/etc/sysctl.conf"];

/// Returns the kernel features that units may use here.
pub fn kernel() -> Kernel {
    Kernel { user_namespaces: has_users() }
}

fn has_users() -> bool {
    let most = fs::read_to_string(MOST_USERS).unwrap_or_default();
    // Without the file the kernel has no such namespaces.
    most.trim().parse::<u64>().is_ok_and(|most| most > 0)
        && !SAID.iter().any(|path| says_none(path))
}

fn says_none(path: &str) -> bool {
    let files = match fs::read_dir(path) {
        Ok(entries) => entries.flatten().map(|entry| entry.path()).collect(),
        Err(_) => vec![path.into()],
    };
    let none = |line: &str| {
        let line = line.trim_start_matches('-').replace('/', ".");
        let said = line.split_once('=').map(|(name, value)| (name.trim().to_owned(), value));
        said.is_some_and(|(name, value)| name == "user.max_user_namespaces" && value.trim() == "0")
    };
    let texts = files.iter().filter_map(|file| fs::read_to_string(file).ok());
    texts.into_iter().any(|text| text.lines().any(none))
}
