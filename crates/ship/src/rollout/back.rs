//! After a failure: the group goes back to the release that it had.

use super::record::{Failure, Member, Phase, State, Verdict};
use super::run::{PAUSE, Run, SWEEPS};
use crate::document;
use crate::fleet::{Host, names};
use model::error::{Exit, Result};
use std::collections::{BTreeMap, BTreeSet};
use tokio::time::Instant;

impl Run<'_> {
    /// Brings all instances that do not run the old release back to it: those that have the new
    /// one, and those whose release is unknown. The pointer goes first, for those that boot.
    pub async fn back(&mut self) -> Result<Verdict> {
        let from = self.rollout().from.clone();
        let to = self.rollout().to.clone();
        let was_going_back = self.rollout().phase == Phase::Back;
        let text = from.as_ref().map_or("there is no release to go back to".into(), |from| {
            format!("the group goes back to {from}")
        });
        self.enter(Phase::Back, text).await?;
        let Some(from) = from else { return self.judge(None).await };
        let named = document::current(&*self.cx().store, &self.cx().place).await?;
        self.point(Some(&to), &from).await?;
        // Instances that boot may have read the new release, if the pointer has named it.
        let may_be_read = was_going_back || named.as_ref() == Some(&to);
        let end = Instant::now() + self.group.patience;
        let mut starting: Option<BTreeSet<Host>> = None;
        let mut tried: BTreeSet<Host> = BTreeSet::new();
        for _ in 0..SWEEPS {
            let boots = self.newcomers().await?;
            let starting = starting.get_or_insert_with(|| boots.clone());
            let apart: Vec<Host> =
                self.apart(&from).into_iter().filter(|host| !tried.contains(host)).collect();
            if apart.is_empty() {
                if !may_be_read || boots.is_disjoint(starting) {
                    break;
                }
                tried.extend(self.booted(boots, starting, end).await?);
                continue;
            }
            tried.extend(apart.iter().cloned());
            self.enter(Phase::Back, format!("{from} on {}", names(&apart))).await?;
            for (host, end) in self.bring(&from, apart, true, false).await? {
                self.note(&host, end, &from);
            }
        }
        self.judge(Some(&from)).await
    }

    /// Waits for instances to boot until `end`. Those that still boot then are returned, and run
    /// nobody knows what.
    async fn booted(
        &mut self,
        mut boots: BTreeSet<Host>,
        starting: &BTreeSet<Host>,
        end: Instant,
    ) -> Result<Vec<Host>> {
        for host in boots.intersection(starting) {
            // The sweep may have given up on it.
            self.record.rollout.hosts.remove(host);
        }
        while !boots.is_disjoint(starting) && Instant::now() < end {
            self.pause(PAUSE).await?;
            boots = self.newcomers().await?;
        }
        let late: Vec<Host> = boots.intersection(starting).cloned().collect();
        for host in &late {
            *self.member(host) = Member { state: State::Failed, runs: None };
        }
        Ok(late)
    }

    /// The instances that do not run this release, as far as is known.
    fn apart(&self, release: &str) -> Vec<Host> {
        self.hosts(|member| {
            let is_there = !matches!(member.state, State::Skipped | State::Gone);
            is_there && member.runs.as_deref() != Some(release)
        })
    }

    async fn judge(&mut self, from: Option<&str>) -> Result<Verdict> {
        let (to, environment) = (self.rollout().to.clone(), self.cx().place.environment.clone());
        let unknown = Failure { host: None, code: Exit::Failed.code(), message: String::new() };
        let failure = self.rollout().failure.clone().unwrap_or(unknown);
        let at = failure.host.as_ref().map(|host| format!(" on {host}")).unwrap_or_default();
        let message = model::text::line(&failure.message, 500);
        let what = format!("{to} failed{at}: {message}");
        let apart = match from {
            Some(from) => self.apart(from),
            None => self.hosts(|member| member.runs.as_ref() == Some(&to)),
        };
        if apart.is_empty() {
            let now =
                from.map_or("nothing ran before".into(), |from| format!("the group runs {from}"));
            let (code, help) = (failure.code, None);
            return self.end(Verdict { code, message: format!("{what}; {now}"), help }).await;
        }
        let mut runs: BTreeMap<String, Vec<&Host>> = BTreeMap::new();
        for (host, member) in &self.rollout().hosts {
            if !matches!(member.state, State::Skipped | State::Gone) {
                let release = member.runs.clone().unwrap_or("an unknown release".to_owned());
                runs.entry(release).or_default().push(host);
            }
        }
        let runs: Vec<String> = runs
            .into_iter()
            .map(|(release, hosts)| format!("{release} on {}", names(hosts)))
            .collect();
        let goal = from.unwrap_or(&to);
        self.end(Verdict {
            code: Exit::RollbackFailed.code(),
            message: format!("{what}; the group is mixed: {}", runs.join("; ")),
            help: Some(format!(
                "repair or terminate {}, then `ship deploy {environment} {goal}`",
                names(&apart)
            )),
        })
        .await
    }
}
