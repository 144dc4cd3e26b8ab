//! The bake: the group is watched for a while, and at its end every instance has to be healthy.

use super::Event;
use super::record::{Failure, Phase, State};
use super::run::{PAUSE, Run};
use crate::fleet::{Host, names};
use model::error::{Exit, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokio::time::Instant;

/// How often an instance is looked at after the end before it is left out.
const LOOKS: u32 = 3;

/// What a look at the group has found.
enum Found {
    Failure(Failure),
    /// The instances that did not answer. All others are healthy.
    Unseen(Vec<Host>),
}

impl Run<'_> {
    /// Watches the group for a while. Instances that come meanwhile get the release too. One that
    /// does not answer at the end is left out: it proved the release before.
    pub async fn bake(&mut self) -> Result<Option<Failure>> {
        let bake = Duration::from_secs(self.rollout().bake);
        if bake.is_zero() {
            return Ok(None);
        }
        self.enter(Phase::Bake, format!("watch the group for {}s", bake.as_secs())).await?;
        let end = Instant::now() + bake;
        let (mut looks, mut doubtful) = (0, BTreeSet::new());
        loop {
            let left = end.saturating_duration_since(Instant::now());
            self.pause(if left.is_zero() { PAUSE } else { PAUSE.min(left) }).await?;
            let is_last = Instant::now() >= end;
            if is_last {
                self.alarms_asked = None;
            }
            if let Some(failure) = self.is_cancelled().await? {
                return Ok(Some(failure));
            }
            self.newcomers().await?;
            let new = self.hosts(|member| member.state == State::Waiting);
            if !new.is_empty()
                && let Some(failure) = self.batch(Phase::Bake, new).await?
            {
                return Ok(Some(failure));
            }
            let unseen = match self.found(&mut doubtful).await? {
                Found::Failure(failure) => return Ok(Some(failure)),
                Found::Unseen(unseen) => unseen,
            };
            looks += u32::from(is_last);
            if is_last && (unseen.is_empty() || looks == LOOKS) {
                for host in unseen {
                    self.member(&host).state = State::Skipped;
                }
                return Ok(None);
            }
        }
    }

    /// Looks for an instance that is not healthy on the new release, in two looks one after the
    /// other: one slow request is no reason to take a group back. The instances that were
    /// not healthy the last time are `doubtful`.
    async fn found(&mut self, doubtful: &mut BTreeSet<Host>) -> Result<Found> {
        let done = self.hosts(|member| member.state == State::Done);
        if done.is_empty() {
            return Ok(Found::Unseen(Vec::new()));
        }
        let app = self.cx().place.app.clone();
        let look = self.group.transport.look(app.as_str(), &done);
        let mut seen = match self.lease.during(self.group, look).await? {
            Ok(seen) => seen,
            Err(error) => {
                self.group.tell(Event::Warning { text: error.chain() });
                BTreeMap::new()
            }
        };
        let code = Exit::RolledBack.code();
        let (mut failure, mut unseen) = (None, Vec::new());
        let before = std::mem::take(doubtful);
        for host in &done {
            let message = match seen.remove(host) {
                Some(Ok(seen)) if seen.release.as_ref() != Some(&self.rollout().to) => {
                    format!("it runs {} now", seen.release.as_deref().unwrap_or("nothing"))
                }
                Some(Ok(seen)) if seen.healthy => continue,
                Some(Ok(_)) if !before.contains(host) => {
                    doubtful.insert(host.clone());
                    unseen.push((host.clone(), None));
                    continue;
                }
                Some(Ok(seen)) => seen.fault.unwrap_or("it is not healthy".into()),
                unanswered => {
                    unseen.push((host.clone(), unanswered.and_then(Result::err)));
                    continue;
                }
            };
            failure.get_or_insert(Failure { host: Some(host.clone()), code, message });
        }
        let failure = match failure {
            None => self.unhealthy_target(&done).await?,
            failure => failure,
        };
        if let Some(failure) = failure {
            if let Some(host) = &failure.host {
                self.member(host).runs = None;
            }
            return Ok(Found::Failure(failure));
        }
        if let Some((_, Some(why))) = unseen.first() {
            let hosts = names(unseen.iter().map(|(host, _)| host));
            let text = format!("{hosts} cannot be reached: {}", model::text::line(why, 200));
            self.group.tell(Event::Warning { text });
        }
        Ok(Found::Unseen(unseen.into_iter().map(|(host, _)| host).collect()))
    }
}
