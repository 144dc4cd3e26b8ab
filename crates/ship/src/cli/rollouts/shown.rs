//! Rollouts as people see them.

use crate::cli::print;
use crate::cli::progress::word;
use crate::fleet::{Host, names};
use crate::releases::age;
use crate::rollout::{Action, Rollout, SKIPPED};
use crate::table;
use console::style;
use jiff::Timestamp;
use model::error::{Error, Result};
use model::text::for_terminal;

/// Characters of an outcome in the history.
const OUTCOME: usize = 300;

/// Prints how a rollout ended: one line on stdout. The last event says it to a program.
pub fn ended(rollout: &Rollout, as_json: bool) -> Result<u8> {
    let Some(verdict) = &rollout.verdict else { return Err(Error::failed("end the rollout")) };
    if as_json {
        return Ok(verdict.code);
    }
    let message = for_terminal(&verdict.message);
    print::exactly(&match verdict.code {
        0 => format!("{}\n", style(message).green()),
        SKIPPED => format!("{}\n", style(message).yellow()),
        code => {
            let action = word(&rollout.action);
            let failed = style(format!("{action} failed (exit {code})")).red().bold();
            format!("{failed}: {message}\n")
        }
    })?;
    if let Some(help) = &verdict.help {
        print::help(help);
    }
    Ok(verdict.code)
}

pub fn batches(to: &str, batches: &[Vec<Host>]) -> String {
    let rows = batches.iter().enumerate();
    let rows = rows.map(|(n, batch)| format!("batch {}: {to} on {}\n", n + 1, names(batch)));
    rows.collect::<String>() + "nothing is changed\n"
}

pub fn history(rollouts: &[Rollout], now: Timestamp, width: Option<usize>) -> String {
    let mut rows = vec![["ID", "AGE", "BY", "TO", "FROM", "OUTCOME"].map(str::to_owned).to_vec()];
    for one in rollouts {
        let outcome = match &one.verdict {
            Some(verdict) if verdict.code == 0 => verdict.message.clone(),
            Some(verdict) => format!("exit {}: {}", verdict.code, verdict.message),
            None => format!("under way: {}", word(&one.phase)),
        };
        let back = if one.action == Action::Rollback { " (rollback)" } else { "" };
        rows.push(vec![
            model::text::line(&one.id, 20),
            age(one.begun, now),
            console::truncate_str(&model::text::line(&one.by, 80), 20, "…").into_owned(),
            format!("{}{back}", model::text::line(&one.to, 63)),
            model::text::line(one.from.as_deref().unwrap_or("-"), 63),
            model::text::line(&outcome, OUTCOME),
        ]);
    }
    table::with_sentences(&rows, width)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rollout::{Phase, Verdict};

    fn rollout(code: u8, message: &str) -> Rollout {
        let message = message.to_owned();
        let (from, to) = (Some("r7".to_owned()), "r8".to_owned());
        Rollout {
            id: "5b1f03c2".to_owned(),
            by: "Ada Lovelace of the night shift".to_owned(),
            action: Action::Rollback,
            to,
            from,
            begun: Timestamp::UNIX_EPOCH,
            ended: None,
            phase: Phase::Ended,
            batches: Default::default(),
            release: None,
            bake: 0,
            unhealthy: Default::default(),
            failure: None,
            verdict: Some(Verdict { code, message, help: None }),
            hosts: Default::default(),
        }
    }

    #[test]
    fn no_outcome_of_the_history_is_cut() {
        let outcome = "r8 failed on i-0123456789abcdef0: my-app r8 failed, r7 runs on: web.1: it \
            does not listen on port 29001; the group runs r7";
        let rollouts = [rollout(12, outcome), rollout(0, "r8 runs on 3 instances")];
        let now = Timestamp::from_second(240).unwrap();
        for width in [40, 60, 80, 100, 140] {
            let text = history(&rollouts, now, Some(width));
            println!("{text}");
            let widest = text.lines().map(console::measure_text_width).max().unwrap();
            assert!(widest <= width, "{text}");
            let words: Vec<&str> = text.split_whitespace().collect();
            assert!(words.join(" ").contains(outcome), "{text}");
        }
        assert_eq!(history(&rollouts, now, None).lines().count(), 3);
    }
}
