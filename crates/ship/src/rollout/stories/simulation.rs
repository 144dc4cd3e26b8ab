//! A rollout to thousands of instances, on an AWS in memory whose limits, command times and
//! failures come from a seed, and whose time is tokio's.
//!
//! `make simulation` runs it with 10,000 instances, in a process of its own, and prints the table.

use super::aws::Aws;
use crate::fleet::aws::calls::Action;
use crate::rollout::{Group, Verdict, Wish, start};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// The most memory that ship may have, with the AWS in it; KiB.
const MEMORY: u64 = 100 << 10;

/// How hard AWS limits: calls a second, and calls at once.
#[derive(Clone, Copy)]
struct Limits {
    send: (f64, f64),
    list: (f64, f64),
}

/// As AWS is seen to do it, and far below what ship begins with.
const USUAL: Limits = Limits { send: (5.0, 10.0), list: (10.0, 20.0) };
const HARD: Limits = Limits { send: (0.7, 2.0), list: (1.5, 3.0) };

struct Plan {
    instances: usize,
    seed: u64,
    limits: Limits,
    /// One in so many instances fails; none if it is 0.
    fails: u64,
}

/// SplitMix64, as published by Vigna: the nth number of a seed.
fn random(seed: u64, n: u64) -> u64 {
    let mut z = seed.wrapping_add(n.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

impl Plan {
    fn aws(&self) -> Aws {
        let aws = Aws::of(self.instances);
        for action in Action::ALL {
            let (per_second, burst) = match action {
                Action::SendCommand | Action::CancelCommand => self.limits.send,
                _ => self.limits.list,
            };
            aws.fake.limit(action, per_second, burst);
        }
        aws.each(|n, machine| {
            let n = u64::try_from(n).expect("a number");
            // Some take very long.
            let seconds = 15 + random(self.seed, n) % 30;
            let is_slow = random(self.seed, n + 1_000_000).is_multiple_of(100);
            machine.takes = Duration::from_secs(if is_slow { seconds * 8 } else { seconds });
            // Never the first, which is alone: the others then have nothing to go back from.
            let is_bad = self.fails > 0
                && n > 0
                && random(self.seed, n + 2_000_000).is_multiple_of(self.fails);
            if is_bad {
                machine.fails.insert("r8".to_owned(), 12);
            }
        });
        aws
    }

    async fn run(&self, what: &str) -> Verdict {
        let aws = self.aws();
        let begun = Instant::now();
        let wish = Wish { bake: Duration::from_secs(60), ..aws.world.wish("r8") };
        let ship = Group { events: Arc::new(|_| ()), ..aws.ship(&[]) };
        let rollout = start(&ship, &wish).await.expect("an end");
        let verdict = rollout.verdict.expect("a verdict");
        let took = begun.elapsed();
        let runs = if verdict.code == 0 { "r8" } else { "r7" };
        aws.whole_group_runs(runs);
        println!(
            "{what}: {} instances, seed {}: {} after {}m {:02}s; the group runs {runs}",
            self.instances,
            self.seed,
            if verdict.code == 0 {
                "deployed".to_owned()
            } else {
                format!("exit {}", verdict.code)
            },
            took.as_secs() / 60,
            took.as_secs() % 60,
        );
        for (action, (calls, busiest)) in aws.fake.calls() {
            let rate = f64::from(calls) / took.as_secs_f64();
            println!("  {:<40} {calls:>6}  {rate:>5.2}/s  at most {busiest}/s", action.iam());
            assert!(busiest <= action.per_second() + 1, "{action:?}: {busiest} in a second");
        }
        verdict
    }
}

/// Returns the most memory that this process ever had, in KiB.
fn memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("its status");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let digits = peak.and_then(|peak| peak.trim().split(' ').next()?.parse().ok());
    digits.expect("a number")
}

/// A bad release, and a good one where AWS is slow, on 1,000 instances; `make simulation` gives
/// their number, and has a process for it alone, whose memory counts.
#[tokio::test(start_paused = true)]
async fn a_large_group_ends_on_one_release() {
    let number = |name: &str| std::env::var(name).ok().and_then(|number| number.parse().ok());
    let instances = number("INSTANCES");
    let (count, seed) = (instances.unwrap_or(1000), number("SEED").unwrap_or(1) as u64);
    if instances.is_some() {
        let good = Plan { instances: count, seed, limits: USUAL, fails: 0 };
        assert_eq!(good.run("a good release").await.code, 0);
    }
    let bad = Plan { instances: count, seed: seed + 1, limits: USUAL, fails: 500 };
    assert_eq!(bad.run("bad on one in 500").await.code, 12);
    let throttled = Plan { instances: count, seed: seed + 2, limits: HARD, fails: 0 };
    assert_eq!(throttled.run("throttled hard").await.code, 0);
    if instances.is_some() {
        let memory = memory();
        println!("memory: at most {} MiB, with the instances", memory >> 10);
        assert!(memory < MEMORY, "{memory} KiB");
    }
}
