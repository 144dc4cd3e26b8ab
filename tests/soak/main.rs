//! A random walk: after every operation on an instance and every crash, it runs exactly one
//! release, complete, and reports which.
//!
//! ```text
//! make soak STEPS=1000 SEED=42      the same seed repeats the same walk
//! ```
//! `make test` runs a short walk with its own seed. The last line is JSON.

#![allow(clippy::disallowed_methods, reason = "the tests are not the agent")]

mod walk;
mod whole;

use serde_json::json;
use std::collections::BTreeMap;
use std::process::ExitCode;
use walk::{Step, Walk};

/// Number of steps in `make test`.
const STEPS: u64 = 25;

fn main() -> ExitCode {
    let number = |name: &str| std::env::var(name).ok().filter(|text| !text.is_empty());
    let number = |name| number(name).map(|text| text.parse::<u64>().expect("a number"));
    let seed = number("SEED").unwrap_or_else(|| u64::from(std::process::id()));
    let steps = number("STEPS").unwrap_or(STEPS);
    println!("walking {steps} steps: make soak STEPS={steps} SEED={seed}");
    let mut walk = Walk::begin(seed);
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    let mut violation = None;
    let mut walked = 0;
    while walked < steps && violation.is_none() {
        let step = walk.choose();
        walked += 1;
        println!("{walked:>5} {step:?} (runs {})", walk.runs());
        *counts.entry(name(&step)).or_default() += 1;
        violation = walk.take(&step).err();
    }
    if let Some(why) = &violation {
        println!("VIOLATION at step {walked}: {why}\n{}", walk.circumstances());
    }
    let violations = u64::from(violation.is_some());
    println!(
        "{}",
        json!({ "seed": seed, "steps": walked, "violations": violations, "counts": counts })
    );
    println!("{} passed, {violations} failed", walked - violations);
    if violations == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn name(step: &Step) -> String {
    let text = format!("{step:?}");
    text.split(['(', ' ', '{']).next().unwrap_or_default().to_owned()
}
