//! The processes of a control group, on cgroup v2 or on systemd's own v1 hierarchy.

use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, statfs};
use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The mount points of systemd's groups: v2, its own v1 hierarchy, and v2 beside that one.
const ROOTS: [&str; 3] = ["/sys/fs/cgroup", "/sys/fs/cgroup/systemd", "/sys/fs/cgroup/unified"];

/// The limit of groups visited below one.
const MOST: usize = 1000;

/// Returns the processes of a control group and the groups below it. A unit that does not run has
/// no group: its name is empty, and would mean the root of all groups.
pub fn members(control_group: &str) -> Vec<u32> {
    if control_group.is_empty() {
        return Vec::new();
    }
    let mut pids: Vec<u32> = ROOTS
        .iter()
        .flat_map(|root| members_below(format!("{root}{control_group}").into()))
        .collect();
    pids.sort_unstable();
    pids.dedup();
    pids
}

/// Returns the control group of this process, as systemd names it; cgroups(7).
pub fn own() -> Option<String> {
    systemds(&fs::read_to_string("/proc/self/cgroup").ok()?)
}

/// Returns the group of systemd's own v1 hierarchy, else the group of v2.
fn systemds(text: &str) -> Option<String> {
    let of = |hierarchy: &str| text.lines().find_map(|line| line.split_once(hierarchy));
    let (_, group) = of(":name=systemd:").or_else(|| of("0::"))?;
    Some(group.to_owned())
}

/// Returns the kernel's ids of a cgroup v2 control group and the groups below it; empty without
/// cgroup v2.
pub fn numbers(control_group: &str) -> HashSet<u64> {
    if control_group.is_empty() {
        return HashSet::new();
    }
    let is_v2 = |root: &&str| {
        statfs(*root).is_ok_and(|found| found.filesystem_type() == CGROUP2_SUPER_MAGIC)
    };
    let mut numbers = HashSet::new();
    for root in ROOTS.into_iter().filter(is_v2) {
        walk(format!("{root}{control_group}").into(), |group| {
            numbers.extend(fs::metadata(group).ok().map(|group| group.ino()));
        });
    }
    numbers
}

fn members_below(group: PathBuf) -> Vec<u32> {
    let mut pids = Vec::new();
    walk(group, |group| {
        let text = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
        pids.extend(text.lines().filter_map(|line| line.parse::<u32>().ok()));
    });
    pids
}

/// Visits a control group and the groups below it, in bounded number: an app with a delegated
/// group can create as many as it likes.
fn walk(group: PathBuf, mut visit: impl FnMut(&Path)) {
    let mut below = vec![group];
    let mut left = MOST;
    while let Some(group) = below.pop() {
        visit(&group);
        let Ok(entries) = fs::read_dir(&group) else { continue };
        let groups = entries.flatten().filter(|e| e.file_type().is_ok_and(|t| t.is_dir()));
        let before = below.len();
        below.extend(groups.take(left).map(|entry| entry.path()));
        left -= below.len() - before;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_include_processes_of_nested_groups() {
        let root = tempfile::tempdir().expect("a temporary directory");
        let nested = root.path().join("app/nested");
        fs::create_dir_all(&nested).expect("groups");
        fs::write(root.path().join("cgroup.procs"), "1\n").expect("members");
        fs::write(root.path().join("app/cgroup.procs"), "20\n21\n").expect("members");
        fs::write(nested.join("cgroup.procs"), "30\n").expect("members");
        assert_eq!(members_below(root.path().join("app")), [20, 21, 30]);
        assert!(members_below(root.path().join("gone")).is_empty());
    }

    #[test]
    fn a_unit_that_does_not_run_has_no_processes() {
        assert!(members("").is_empty());
    }

    #[test]
    fn finds_the_group_that_systemd_created() {
        let hybrid = "4:memory:/x\n1:name=systemd:/deploy.slice/a@1.service\n0::/\n";
        assert_eq!(systemds(hybrid).as_deref(), Some("/deploy.slice/a@1.service"));
        assert_eq!(
            systemds("0::/deploy.slice/b.service\n").as_deref(),
            Some("/deploy.slice/b.service")
        );
        assert_eq!(systemds(""), None);
    }
}
