//! How much of the processors this machine gets, and how long it waited for them although it had
//! work: a burstable instance without credits, or a container with a quota.

use std::fs;
use std::time::Duration;

/// Of all processes since boot, all processors together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Granted {
    pub used: Duration,
    /// Steal time of a virtual machine, or the time that a quota stopped a container.
    pub denied: Duration,
}

/// The unit of /proc/stat in milliseconds, whatever the kernel's own.
const TICK: u64 = 10;

/// Reads the counters of the control group that this machine is, if it has a quota, or else of the
/// kernel.
pub fn granted() -> Option<Granted> {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let quota = of_group(&read("/sys/fs/cgroup/cpu.stat"));
    let quota = quota.or_else(|| {
        let used = read("/sys/fs/cgroup/cpuacct/cpuacct.usage");
        of_old_group(&read("/sys/fs/cgroup/cpu/cpu.stat"), &used)
    });
    quota.or_else(|| of_kernel(&read("/proc/stat")))
}

/// Control groups v2. The root of a real machine has no quota, and counts none.
fn of_group(stat: &str) -> Option<Granted> {
    let denied = number(stat, "throttled_usec").filter(|_| is_limited(stat))?;
    let used = number(stat, "usage_usec")?;
    Some(Granted { used: Duration::from_micros(used), denied: Duration::from_micros(denied) })
}

/// Control groups v1.
fn of_old_group(stat: &str, used: &str) -> Option<Granted> {
    let denied = number(stat, "throttled_time").filter(|_| is_limited(stat))?;
    let used = used.trim().parse().ok()?;
    Some(Granted { used: Duration::from_nanos(used), denied: Duration::from_nanos(denied) })
}

/// Without a quota there are no periods.
fn is_limited(stat: &str) -> bool {
    number(stat, "nr_periods").is_some_and(|periods| periods > 0)
}

fn number(stat: &str, name: &str) -> Option<u64> {
    let value = |line: &str| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok();
    stat.lines().find_map(value)
}

/// The line `cpu` of /proc/stat, proc(5).
fn of_kernel(stat: &str) -> Option<Granted> {
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let ticks: Vec<u64> = line.split_whitespace().map_while(|word| word.parse().ok()).collect();
    let [user, nice, system, _idle, _iowait, irq, softirq, steal, ..] = ticks[..] else {
        return None;
    };
    let time = |ticks: u64| Duration::from_millis(ticks.saturating_mul(TICK));
    Some(Granted { used: time(user + nice + system + irq + softirq), denied: time(steal) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_of_a_quota_are_read_and_a_group_without_one_has_none() {
        let granted = |used, denied| {
            Some(Granted {
                used: Duration::from_millis(used),
                denied: Duration::from_millis(denied),
            })
        };
        let v2 =
            "usage_usec 5000\nuser_usec 1\nnr_periods 7\nnr_throttled 2\nthrottled_usec 9000\n";
        assert_eq!(of_group(v2), granted(5, 9));
        assert_eq!(of_group("usage_usec 5000\nuser_usec 1\nsystem_usec 2\n"), None);
        assert_eq!(of_group(&v2.replace("nr_periods 7", "nr_periods 0")), None);
        let v1 = "nr_periods 3\nnr_throttled 1\nthrottled_time 4000000\n";
        assert_eq!(of_old_group(v1, "6000000\n"), granted(6, 4));
        assert_eq!(of_old_group("nr_periods 0\nthrottled_time 0\n", "6000000\n"), None);
        assert_eq!(of_old_group("", ""), None);
    }

    #[test]
    fn steal_time_is_what_a_virtual_machine_was_denied() {
        let stat = "cpu  10 1 20 900 30 2 3 40 0 0\ncpu0 1 1 1 1 1 1 1 1 0 0\n";
        let granted =
            Granted { used: Duration::from_millis(360), denied: Duration::from_millis(400) };
        assert_eq!(of_kernel(stat), Some(granted));
        let years = "cpu  10 1 20 99000000000 30 2 3 40 0 0\n";
        assert_eq!(of_kernel(years), Some(granted));
        assert_eq!(of_kernel("cpu  1 2 3\n"), None);
        assert_eq!(of_kernel(""), None);
    }

    #[test]
    fn this_machine_has_counters() {
        assert!(granted().is_some());
    }
}
