//! A rollout: a release to all instances of a group, a batch at a time, or back on all of them.
//!
//! Its state is an object in the store that is written before each step, so that a ship that was
//! killed leaves nothing that another one could not take up. All orders to instances may be
//! repeated: a rollout that is taken up repeats its last steps, and there is no log to replay.

mod alone;
mod attach;
mod back;
mod bake;
mod batches;
mod ends;
mod event;
mod judges;
mod lease;
mod record;
mod release;
mod run;
mod send;
#[cfg(test)]
pub mod stories;
mod success;

pub use alone::{roll_back, target};
pub use attach::{attach, cancel};
pub use batches::Batches;
pub use event::{Event, Happened};
pub use record::{Action, Phase, Record, Rollout, State, Verdict, newest};

use crate::context::Context;
use crate::document;
use crate::fleet::{Fleet, Guard, Host, Seen, Standing, Transport, names};
use jiff::SignedDuration;
use lease::Lease;
use model::error::{Error, Exit, Result};
use record::Member;
use run::Run;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// The exit code of a rollout that has left out instances, or the pointer.
pub const SKIPPED: u8 = 42;

/// The instances of an environment, and the way to them.
#[derive(Clone)]
pub struct Group {
    pub cx: Context,
    pub fleet: Arc<dyn Fleet>,
    pub transport: Arc<dyn Transport>,
    /// What else judges the group.
    pub guard: Option<Arc<dyn Guard>>,
    /// The time that an instance has for an order.
    pub patience: Duration,
    pub events: Arc<dyn Fn(&Event) + Send + Sync>,
}

/// The rollout that is asked for.
#[derive(Clone, Debug)]
pub struct Wish {
    pub action: Action,
    pub to: String,
    pub batches: Batches,
    pub bake: Duration,
    pub skip_unreachable: bool,
    /// Whether the release phase runs, once.
    pub run_release: bool,
}

/// Rolls a release out, to the end of it, whichever that is.
pub async fn start(group: &Group, wish: &Wish) -> Result<Rollout> {
    let (record, lease) = begin(group, wish).await?;
    Run::new(group, record, lease).finish().await
}

/// Takes the lock, and writes the rollout down.
async fn begin(group: &Group, wish: &Wish) -> Result<(Record, Lease)> {
    let what = match wish.action {
        Action::Deploy => "deploy",
        Action::Rollback => "rollback to",
    };
    let mut unhealthy = BTreeSet::new();
    if let Some(guard) = &group.guard {
        if wish.action == Action::Deploy {
            guard.before().await?;
        }
        if !wish.bake.is_zero() {
            unhealthy = guard.unhealthy().await?.into_keys().collect();
        }
    }
    let mut lease = Lease::take(&group.cx, &format!("{what} {}", wish.to)).await?;
    match lease.during(group, plan(group, wish, unhealthy)).await.flatten() {
        Ok(record) => Ok((record, lease)),
        Err(error) => {
            lease.give_back(group).await;
            Err(error)
        }
    }
}

/// Returns the batches that a rollout would have now. Nothing is changed.
pub async fn preview(group: &Group, wish: &Wish) -> Result<Vec<Vec<Host>>> {
    let members = survey(group, wish.skip_unreachable).await?;
    let reached = members.into_iter().filter(|(_, member)| member.state == State::Waiting);
    let hosts: Vec<Host> = reached.map(|(host, _)| host).collect();
    Ok(match hosts.split_first() {
        Some((canary, rest)) if wish.run_release => {
            [vec![vec![canary.clone()]], wish.batches.split(rest)].concat()
        }
        _ => wish.batches.split(&hosts),
    })
}

/// Writes the rollout down. One that was interrupted ends in its favour.
async fn plan(group: &Group, wish: &Wish, unhealthy: BTreeSet<Host>) -> Result<Record> {
    let cx = &group.cx;
    let pointer = document::current(&*cx.store, &cx.place).await?;
    let last = newest(cx, 1).await?.pop();
    let mut hosts = survey(group, wish.skip_unreachable).await?;
    let id = record::id();
    let mut begun = cx.store.now().await?;
    if let Some(last) = &last {
        // Names have seconds, and the newest is the first of them.
        let after = last.rollout.begun.checked_add(SignedDuration::from_secs(1));
        begun = begun.max(after.unwrap_or(begun));
    }
    let interrupted = last.filter(|last| last.rollout.verdict.is_none());
    let release = wish.run_release.then(|| release::of(&id, &wish.to, interrupted.as_ref()));
    let mut from = pointer.clone();
    if let Some(mut old) = interrupted {
        let goes_back = old.rollout.phase == Phase::Back;
        if goes_back || (pointer.as_deref() == Some(&wish.to) && old.rollout.to == wish.to) {
            from = old.rollout.from.clone();
        }
        // Their orders may not have arrived yet.
        let running =
            |host| old.rollout.hosts.get(host).is_some_and(|one| one.state == State::Running);
        hosts.iter_mut().filter(|(host, _)| running(*host)).for_each(|(_, one)| one.runs = None);
        let message = format!("it was interrupted, and {id} has taken its place");
        old.rollout.verdict = Some(Verdict { code: Exit::Failed.code(), message, help: None });
        (old.rollout.phase, old.rollout.ended) = (Phase::Ended, Some(begun));
        let text = format!("the rollout {} to {} was interrupted", old.rollout.id, old.rollout.to);
        group.tell(Event::Warning { text });
        old.save(cx).await?;
    }
    let rollout = Rollout {
        id,
        by: cx.by.clone(),
        action: wish.action,
        to: wish.to.clone(),
        from,
        begun,
        ended: None,
        phase: Phase::Batches,
        batches: wish.batches.clone(),
        bake: wish.bake.as_secs(),
        unhealthy,
        release,
        failure: None,
        verdict: None,
        hosts,
    };
    let mut record = Record::new(cx, rollout);
    record.save(cx).await?;
    Ok(record)
}

/// Finds the instances in service and what runs on them. Those that cannot be reached are refused,
/// or skipped.
async fn survey(group: &Group, skip: bool) -> Result<BTreeMap<Host, Member>> {
    let seen = look(group).await?;
    let unreachable: Vec<(&Host, &String)> =
        seen.iter().filter_map(|(host, seen)| Some((host, seen.as_ref().err()?))).collect();
    if let (Some((_, why)), false) = (unreachable.first(), skip) {
        let hosts = names(unreachable.iter().map(|(host, _)| *host));
        let error = Error::new(Exit::NoAgent, format!("reach {hosts}"));
        let help = "repair or terminate them, or give --skip-unreachable";
        return Err(error.because(model::text::line(why, 300)).help(help));
    }
    let member = |seen: Result<Seen, String>| match seen {
        Ok(seen) => Member { state: State::Waiting, runs: seen.settled() },
        Err(_) => Member { state: State::Skipped, runs: None },
    };
    Ok(seen.into_iter().map(|(host, seen)| (host, member(seen))).collect())
}

/// Asks all instances in service what runs on them.
pub async fn look(group: &Group) -> Result<BTreeMap<Host, Result<Seen, String>>> {
    let instances = group.fleet.instances().await?;
    let in_service = instances.into_iter().filter(|one| one.standing == Standing::InService);
    let hosts: Vec<Host> = in_service.map(|instance| instance.host).collect();
    if hosts.is_empty() {
        return Ok(BTreeMap::new());
    }
    group.transport.look(group.cx.place.app.as_str(), &hosts).await
}

impl Group {
    /// The same group, with another receiver of its events.
    pub fn shown_by(&self, events: Arc<dyn Fn(&Event) + Send + Sync>) -> Group {
        Group { events, ..self.clone() }
    }

    fn tell(&self, event: Event) {
        (self.events)(&event);
    }
}
