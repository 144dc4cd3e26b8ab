//! `deploy cancel`: ends a job that waits, or has not committed its release yet.

use super::caller::Caller;
use super::jobs::{Followed, Job, Jobs};
use model::error::{Error, Result};
use model::event::Outcome;
use std::sync::Arc;

/// Cancels the jobs that `[APP|ID]` selects, and waits until they have ended.
pub(super) async fn cancel(jobs: &Jobs, caller: &Caller, word: Option<&str>) -> Result<Outcome> {
    let chosen = choose(jobs, word)?;
    let (mut cancelled, mut too_late) = (Vec::new(), None);
    // Waiting jobs first: none of them may begin when the one ahead of it ends.
    for job in chosen.iter().rev() {
        match job.cut.cancel(&caller.name) {
            Ok(()) => cancelled.push(job.clone()),
            Err(why) => too_late = Some(late(job, why)),
        }
    }
    jobs.ended(&cancelled).await;
    match too_late {
        Some(error) if cancelled.is_empty() => Err(error),
        _ => {
            let what: Vec<_> = cancelled.iter().rev().map(|job| message_of(jobs, job)).collect();
            let rest = too_late.map(|error| format!("; {}", error.chain())).unwrap_or_default();
            Ok(Outcome::done(format!("{}{rest}", what.join("; "))))
        }
    }
}

/// The jobs of an app, the job with an id, or the only job there is.
fn choose(jobs: &Jobs, word: Option<&str>) -> Result<Vec<Arc<Job>>> {
    let mut live = jobs.live();
    live.retain(|job| !job.is_background());
    let list = || live.iter().map(|job| format!("{} ({})", job.id, job.what));
    let chosen: Vec<_> = match word {
        None if live.len() > 1 => {
            let why = format!("there are several: {}", list().collect::<Vec<_>>().join(", "));
            let error = Error::usage("cancel what is under way").because(why);
            return Err(error.help("name an app or an id"));
        }
        None => live,
        Some(word) => {
            let named = |job: &&Arc<Job>| job.id == word || job.app.as_str() == word;
            live.iter().filter(named).cloned().collect()
        }
    };
    if chosen.is_empty() {
        let what = word.map_or("cancel".to_owned(), |word| format!("cancel {word}"));
        let error = Error::usage(what).because("nothing of it waits or is under way");
        return Err(error.help("`deploy status` says what is"));
    }
    Ok(chosen)
}

fn late(job: &Job, why: &str) -> Error {
    let error = Error::usage(format!("cancel {}", job.what)).because(match why {
        "restart" | "stop" | "start" | "remove" => format!("a {why} cannot be taken back"),
        why => why.to_owned(),
    });
    error.help(format!("`deploy rollback {}` takes a committed release back", job.app))
}

/// How the job ended: it may have ended by itself before the cancel took effect.
fn message_of(jobs: &Jobs, job: &Job) -> String {
    match jobs.find(&job.id) {
        Some(Followed::Ended(ended)) => ended.outcome.message.clone(),
        _ => format!("cancelled {}", job.what),
    }
}
