//! Follows commands that were sent, until each instance has ended.

use super::command::{Line, Reply};
use super::{ANSWER, DELIVERY, Failed, MOST, POLL, Sent, Ssm, invocation, is_open, locked};
use crate::fleet::aws::api::{Answer, Invocation, Kind};
use crate::fleet::aws::calls::Action;
use crate::fleet::{Host, Progress};
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// The time after which a command should be listed for an instance.
const LISTED: Duration = Duration::from_secs(180);
impl Ssm {
    /// Brings the state of a command up to date; returns whether all have ended.
    pub(super) async fn refresh(&self, sent: &Sent) -> Answer<bool> {
        for (id, hosts) in &sent.commands {
            if !hosts.iter().any(|host| sent.is(host, is_open)) {
                continue;
            }
            for invocation in self.calls.invocations(id).await? {
                let host = Host(invocation.host.clone());
                if sent.is(&host, is_open) {
                    let progress = self.judged(id, &host, invocation, sent.reply).await;
                    locked(&sent.progress).insert(host, progress);
                }
            }
        }
        if sent.at.elapsed() > LISTED {
            let unlisted = |one: &&mut Progress| **one == Progress::Waiting;
            let why = "Systems Manager has not delivered the command".to_owned();
            let mut progress = locked(&sent.progress);
            progress.values_mut().filter(unlisted).for_each(|it| *it = Progress::Lost(why.clone()));
        }
        Ok(!sent.is_open())
    }

    /// Returns how far an instance is. Where its answer was cut, all of it is fetched; if that
    /// fails, an outcome still has its exit code.
    async fn judged(
        &self,
        id: &str,
        host: &Host,
        mut invocation: Invocation,
        reply: Reply,
    ) -> Progress {
        if reply != Reply::Printed && invocation::is_cut(&invocation) {
            match (self.calls.output(id, host).await, reply) {
                (Ok(output), _) => invocation.output = output.out,
                (Err(_), Reply::Outcome) => {}
                (Err(fault), Reply::Status | Reply::Printed) => {
                    return Progress::Lost(format!("its answer cannot be fetched: {}", fault.why));
                }
            }
        }
        invocation::progress(&invocation, reply)
    }

    /// Fails if the call that fetches the whole output of a command is not allowed.
    async fn may_fetch(&self, sent: &Sent) -> Result<(), Failed> {
        let first = sent.commands.iter().find_map(|(id, hosts)| Some((id, hosts.first()?)));
        let Some((id, host)) = first else { return Ok(()) };
        if self.has_fetched.swap(true, Ordering::Relaxed) {
            return Ok(());
        }
        match self.calls.output(id, host).await {
            Err(fault) if fault.kind == Kind::Denied => Err((Action::GetCommandInvocation, fault)),
            _ => Ok(()),
        }
    }

    /// Runs a command that needs no work, and returns what each instance has printed.
    pub(super) async fn asked(
        &self,
        line: &Line,
        hosts: &[Host],
    ) -> Result<BTreeMap<Host, Progress>, Failed> {
        let mut open = Vec::new();
        let mut ended = BTreeMap::new();
        for chunk in hosts.chunks(MOST) {
            open.push(self.dispatch(line, chunk).await?);
        }
        let deadline = Instant::now() + DELIVERY + ANSWER;
        while !open.is_empty() {
            sleep(POLL).await;
            let is_late = Instant::now() > deadline;
            for sent in std::mem::take(&mut open) {
                let refreshed = self.refresh(&sent).await;
                let has_ended =
                    refreshed.map_err(|fault| (Action::ListCommandInvocations, fault))?;
                if has_ended || is_late {
                    self.may_fetch(&sent).await?;
                    ended.extend(locked(&sent.progress).clone());
                } else {
                    open.push(sent);
                }
            }
        }
        Ok(ended)
    }
}
