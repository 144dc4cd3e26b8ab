//! The steps of a rollout, in their order.

use super::ends::End;
use super::lease::Lease;
use super::record::{
    Action, Failure, Member, Phase, Record, Rollout, State, TRIES, Verdict, follow,
};
use super::{Event, Group};
use crate::context::Context;
use crate::fleet::{Ended, Host, Standing, names};
use crate::objects::{Condition, Written};
use model::error::{Error, Exit, Result};
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// How often the group is listed again before instances that come all the time are a failure.
pub const SWEEPS: u32 = 20;
/// The pause between two looks at the group or at its health.
pub const PAUSE: Duration = Duration::from_secs(5);

pub struct Run<'a> {
    pub group: &'a Group,
    pub record: Record,
    pub lease: Lease,
    /// Set once the operator has cancelled the rollout.
    pub cancelled: Option<Failure>,
    /// Whether the store does not respond: its documents are in memory, and the pointer stays.
    pub is_alone: bool,
    /// When the alarms were asked for last.
    pub alarms_asked: Option<Instant>,
}

impl<'a> Run<'a> {
    pub fn new(group: &'a Group, record: Record, lease: Lease) -> Run<'a> {
        group.transport.belong_to(&record.rollout.id);
        Run { group, record, lease, cancelled: None, is_alone: false, alarms_asked: None }
    }

    /// Goes on from wherever the rollout is, to its end. After an error it has not ended, and can
    /// be taken up.
    pub async fn finish(mut self) -> Result<Rollout> {
        let Rollout { id, to, from, hosts, .. } = self.rollout().clone();
        self.group.tell(Event::Begun { id: id.clone(), to, from, instances: hosts.len() });
        let verdict = self.steps().await;
        self.lease.give_back(self.group).await;
        self.group.tell(Event::Ended { id, verdict: verdict? });
        Ok(self.record.rollout)
    }

    async fn steps(&mut self) -> Result<Verdict> {
        if self.rollout().phase != Phase::Back {
            match self.forward().await? {
                None => return self.succeeded().await,
                failure => self.record.rollout.failure = failure,
            }
        }
        self.back().await
    }

    async fn forward(&mut self) -> Result<Option<Failure>> {
        if let Some(failure) = self.release().await? {
            return Ok(Some(failure));
        }
        let waiting = self.hosts(|member| member.state == State::Waiting);
        for batch in self.rollout().batches.split(&waiting) {
            if let Some(failure) = self.batch(Phase::Batches, batch).await? {
                return Ok(Some(failure));
            }
        }
        if let Some(failure) = self.move_pointer().await? {
            return Ok(Some(failure));
        }
        match self.sweep().await? {
            None => self.bake().await,
            failure => Ok(failure),
        }
    }

    pub async fn batch(&mut self, phase: Phase, hosts: Vec<Host>) -> Result<Option<Failure>> {
        if let Some(failure) = self.is_cancelled().await? {
            return Ok(Some(failure));
        }
        for host in &hosts {
            self.member(host).state = State::Running;
        }
        let to = self.rollout().to.clone();
        self.enter(phase, format!("{to} on {}", names(&hosts))).await?;
        let by_rollback = self.rollout().action == Action::Rollback;
        let ends = self.bring(&to, hosts, by_rollback, true).await?;
        let mut failure = None;
        for (host, end) in ends {
            let failed = self.note(&host, end, &to);
            failure = failure.or(failed);
        }
        self.save().await?;
        Ok(failure.or_else(|| self.cancelled.clone()))
    }

    /// Notes how an instance ended; returns the failure, if it is one.
    pub fn note(&mut self, host: &Host, end: End, target: &str) -> Option<Failure> {
        let is_left_out = self.is_left_out(&end) && target == self.rollout().to;
        let member = self.member(host);
        let (code, message) = match end {
            _ if is_left_out => {
                member.state = State::Skipped;
                return None;
            }
            End::Ended(ended) if ended.code == Exit::Done.code() => {
                (member.state, member.runs) = (State::Done, Some(target.to_owned()));
                return None;
            }
            End::Gone => {
                member.state = State::Gone;
                return None;
            }
            // It may have fetched the order just before the order was cancelled.
            End::NotBegun => {
                *member = Member { state: State::Waiting, runs: None };
                return None;
            }
            End::Ended(ended) => (ended.code, ended.message),
            End::Lost(why) => (Exit::RollbackFailed.code(), why),
        };
        member.state = State::Failed;
        // With 30 nobody knows what runs there, nor with 41, by which deploy says that it has lost
        // the agent, whose job goes on; with the other codes, what ran before does.
        let stays = [1, 2, 10, 11, 12, 20, 40, 43].contains(&code);
        if !stays {
            member.runs = None;
        }
        let code = if stays && code != 2 { code } else { Exit::Failed.code() };
        Some(Failure { host: Some(host.clone()), code, message })
    }

    /// Whether an instance has not the release, and cannot fetch it from a store that does not
    /// respond: it is left out, as the others must not stay on a bad release for it.
    pub fn is_left_out(&self, end: &End) -> bool {
        let is_without = |ended: &Ended| ended.code == Exit::Source.code();
        self.is_alone && matches!(end, End::Ended(ended) if is_without(ended))
    }

    /// Deploys to instances that came while others were deployed to.
    async fn sweep(&mut self) -> Result<Option<Failure>> {
        let end = Instant::now() + self.group.patience;
        // Those that boot now may have read the pointer before it was moved. If it stays, those
        // that boot later read the same, and nobody is waited for.
        let mut starting: Option<BTreeSet<Host>> = self.is_alone.then(BTreeSet::new);
        for _ in 0..SWEEPS {
            let boots = self.newcomers().await?;
            let starting = starting.get_or_insert_with(|| boots.clone());
            let new = self.hosts(|member| member.state == State::Waiting);
            if !new.is_empty() {
                if let Some(failure) = self.batch(Phase::Sweep, new).await? {
                    return Ok(Some(failure));
                }
                continue;
            }
            let mut boots = boots;
            while !boots.is_disjoint(starting) && Instant::now() < end {
                self.pause(PAUSE).await?;
                if let Some(failure) = self.is_cancelled().await? {
                    return Ok(Some(failure));
                }
                boots = self.newcomers().await?;
            }
            for host in boots.intersection(starting) {
                let member = Member { state: State::Skipped, runs: None };
                self.record.rollout.hosts.insert(host.clone(), member);
            }
            if self.hosts(|member| member.state == State::Waiting).is_empty() {
                return Ok(None);
            }
        }
        let message = "instances are launched all the time".to_owned();
        Ok(Some(Failure { host: None, code: Exit::Failed.code(), message }))
    }

    /// Lists the group: adds the instances that are in service now, and marks those that have left
    /// it. Returns those that boot.
    pub async fn newcomers(&mut self) -> Result<BTreeSet<Host>> {
        let instances = self.instances().await?;
        let mut boots = BTreeSet::new();
        let mut there = BTreeSet::new();
        for instance in instances {
            match instance.standing {
                Standing::Leaving => continue,
                Standing::Starting => drop(boots.insert(instance.host.clone())),
                Standing::InService => {
                    let new = Member { state: State::Waiting, runs: None };
                    let hosts = &mut self.record.rollout.hosts;
                    let member = hosts.entry(instance.host.clone()).or_insert(new.clone());
                    if member.state == State::Gone {
                        *member = new;
                    }
                }
            }
            there.insert(instance.host);
        }
        for (host, member) in &mut self.record.rollout.hosts {
            if !there.contains(host) {
                member.state = State::Gone;
            }
        }
        Ok(boots)
    }

    async fn move_pointer(&mut self) -> Result<Option<Failure>> {
        if let Some(failure) = self.is_cancelled().await? {
            return Ok(Some(failure));
        }
        if self.is_alone {
            return Ok(None);
        }
        let (from, to) = (self.rollout().from.clone(), self.rollout().to.clone());
        self.enter(Phase::Pointer, format!("current is {to}")).await?;
        let now = self.point(from.as_deref(), &to).await?;
        Ok(now.map(|now| {
            let url = self.cx().store.url(&self.cx().place.pointer());
            let message =
                format!("somebody else has changed {url} to {}", model::text::quoted(&now));
            Failure { host: None, code: Exit::Busy.code(), message }
        }))
    }

    /// Moves the pointer if it still is as expected. Returns the name that it has otherwise.
    pub async fn point(&mut self, expected: Option<&str>, to: &str) -> Result<Option<String>> {
        let (store, key) = (self.cx().store.clone(), self.cx().place.pointer());
        for _ in 0..TRIES {
            let object = store.get(&key).await?;
            let named =
                object.as_ref().map(|it| String::from_utf8_lossy(&it.bytes).trim().to_owned());
            if named.as_deref() == Some(to) {
                return Ok(None);
            }
            if named.as_deref() != expected {
                return Ok(Some(named.unwrap_or_default()));
            }
            let unchanged = object.map_or(Condition::Absent, |it| Condition::Unchanged(it.etag));
            let bytes = format!("{to}\n").into_bytes();
            if let Written::Done(_) = store.put(&key, bytes, unchanged).await? {
                return Ok(None);
            }
        }
        let error = Error::new(Exit::Busy, format!("write {}", store.url(&key)));
        Err(error.because("others write it all the time").help(follow(self.cx())))
    }

    /// Writes that a step begins.
    pub async fn enter(&mut self, phase: Phase, text: String) -> Result<()> {
        self.record.rollout.phase = phase;
        self.save().await?;
        self.group.tell(Event::Step { phase, text });
        Ok(())
    }

    pub async fn save(&mut self) -> Result<()> {
        let cx = self.group.cx.clone();
        self.lease.keep(self.group).await?;
        self.record.save(&cx).await
    }

    /// Waits, with the lock in hand.
    pub async fn pause(&mut self, time: Duration) -> Result<()> {
        sleep(time).await;
        self.lease.keep(self.group).await
    }

    pub fn cx(&self) -> &'a Context {
        &self.group.cx
    }

    pub fn rollout(&self) -> &Rollout {
        &self.record.rollout
    }

    pub fn hosts(&self, is: impl Fn(&Member) -> bool) -> Vec<Host> {
        let hosts = self.rollout().hosts.iter().filter(|(_, member)| is(member));
        hosts.map(|(host, _)| host.clone()).collect()
    }

    pub fn member(&mut self, host: &Host) -> &mut Member {
        let new = Member { state: State::Waiting, runs: None };
        self.record.rollout.hosts.entry(host.clone()).or_insert(new)
    }
}
