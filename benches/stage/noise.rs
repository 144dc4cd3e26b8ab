//! How much else the machine did before the benchmark began.

use std::fs;
use std::thread;
use std::time::Duration;

/// How long the machine is watched.
const WATCHED: Duration = Duration::from_secs(3);

/// Describes the machine's other work: it lengthens every time that follows.
pub fn described() -> String {
    let before = times();
    thread::sleep(WATCHED);
    let passed: Vec<u64> = times().iter().zip(before).map(|(now, then)| now - then).collect();
    let [user, nice, system, idle, wait, irq, softirq, steal, ..] = passed[..] else {
        return "the machine's other work is not known".to_owned();
    };
    let busy = user + nice + system + irq + softirq;
    let all = (busy + idle + wait + steal).max(1);
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').take(3).collect::<Vec<_>>().join(", ");
    format!(
        "before it began, {} % of the processors were busy with other work, {} % were denied by \
         the hypervisor; load averages {load}",
        busy * 100 / all,
        steal * 100 / all
    )
}

/// The times of all processors since boot, in ticks; proc(5).
fn times() -> Vec<u64> {
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    let line = stat.lines().next().unwrap_or_default();
    line.split_whitespace().skip(1).map_while(|word| word.parse().ok()).collect()
}
