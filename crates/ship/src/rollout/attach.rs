//! `ship attach`: follows a rollout to its end, and takes it up if its ship is gone. `ship cancel`.

use super::lease::Lease;
use super::record::{Member, Phase, Record, Rollout, State, find, newest};
use super::run::Run;
use super::{Event, Group, look};
use crate::context::Context;
use crate::objects::Condition;
use model::error::{Error, Exit, Result};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::{Instant, sleep};

const POLL: Duration = Duration::from_secs(2);

/// Returns the rollout once it has ended.
pub async fn attach(group: &Group, id: Option<&str>) -> Result<Rollout> {
    let cx = &group.cx;
    let mut record = find(cx, id).await?;
    let mut seen = None;
    let mut changed = Instant::now();
    while record.rollout.verdict.is_none() {
        let what = format!("take up {}", record.rollout.to);
        match Lease::take(cx, &what).await {
            Ok(lease) => return take_up(group, record, lease).await,
            // Whoever has the lock may not be at work: a person.
            Err(error) if changed.elapsed() > group.patience => return Err(error),
            Err(error) if error.exit() != Exit::Busy => return Err(error),
            Err(_) => {}
        }
        let now = (record.rollout.phase, done(&record));
        if seen.as_ref() != Some(&now) {
            let text = format!("{} of {} instances", now.1, record.rollout.hosts.len());
            group.tell(Event::Step { phase: now.0, text });
            (seen, changed) = (Some(now), Instant::now());
        }
        sleep(POLL).await;
        record.again(cx).await?;
    }
    if let Some(verdict) = record.rollout.verdict.clone() {
        group.tell(Event::Ended { id: record.rollout.id.clone(), verdict });
    }
    Ok(record.rollout)
}

fn done(record: &Record) -> usize {
    record.rollout.hosts.values().filter(|member| member.state == State::Done).count()
}

/// Goes on where a ship was killed. What it knew of the instances is looked up again.
async fn take_up(group: &Group, mut record: Record, mut lease: Lease) -> Result<Rollout> {
    match lease.during(group, refreshed(group, &mut record)).await.flatten() {
        Ok(()) if record.rollout.verdict.is_none() => {
            let text = format!("the ship of {} is gone: this one goes on", record.rollout.by);
            group.tell(Event::Warning { text });
            Run::new(group, record, lease).finish().await
        }
        result => {
            lease.give_back(group).await;
            result.map(|()| record.rollout)
        }
    }
}

async fn refreshed(group: &Group, record: &mut Record) -> Result<()> {
    let cx = &group.cx;
    record.again(cx).await?;
    if record.rollout.verdict.is_some() {
        return Ok(());
    }
    if newest(cx, 1).await?.pop().is_some_and(|newest| newest.key != record.key) {
        let error = Error::usage(format!("take up {}", record.rollout.id));
        return Err(error.because("a newer rollout has begun").help("attach to the newest"));
    }
    let before = std::mem::take(&mut record.rollout.hosts);
    let mut hosts = BTreeMap::new();
    for (host, seen) in look(group).await? {
        let was = before.get(&host).map(|member| member.state);
        let is_skipped = was == Some(State::Skipped) && seen.is_err();
        let state = if is_skipped { State::Skipped } else { State::Waiting };
        let runs =
            seen.ok().and_then(|seen| seen.settled()).filter(|_| was != Some(State::Running));
        hosts.insert(host, Member { state, runs });
    }
    record.rollout.hosts = hosts;
    if record.rollout.phase != Phase::Back {
        record.rollout.phase = Phase::Batches;
    }
    record.save(cx).await
}

/// Asks the ship that rolls out to stop and go back; returns the rollout.
pub async fn cancel(cx: &Context, id: Option<&str>) -> Result<Rollout> {
    let record = find(cx, id).await?;
    if record.rollout.verdict.is_some() {
        let error = Error::usage(format!("cancel {}", record.rollout.id));
        let help = format!("`ship rollback {}` goes back", cx.place.environment);
        return Err(error.because("it has ended").help(help));
    }
    let by = cx.by.clone().into_bytes();
    cx.store.put(&record.cancel_key(), by, Condition::Any).await?;
    Ok(record.rollout)
}
