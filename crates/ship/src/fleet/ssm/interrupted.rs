//! Takes commands back: of one order, or of all when ship is interrupted.

use super::{Sent, Ssm, locked};
use crate::fleet::aws::calls::Action;
use crate::fleet::{Host, Progress};
use futures_util::future::{join, join_all};
use model::error::{Error, Result};
use std::collections::BTreeSet;
use std::sync::Arc;

impl Ssm {
    /// Cancels the commands of an order on the instances that have not begun. One that cannot be
    /// cancelled is no reason to leave out the others.
    pub(super) async fn take_back(&self, sent: &Sent) -> Vec<Error> {
        let mut failures = Vec::new();
        for (id, hosts) in &sent.commands {
            let waiting = hosts.iter().filter(|host| sent.is(host, |it| *it == Progress::Waiting));
            let waiting: Vec<Host> = waiting.cloned().collect();
            if waiting.is_empty() {
                continue;
            }
            if let Err(fault) = self.calls.cancel(id, &waiting).await {
                let what = format!("cancel a command to {}", self.place);
                failures.push(fault.error(Action::CancelCommand, what));
            }
        }
        failures
    }

    /// Takes back all orders at once, as the time is short; returns what failed of any.
    pub(super) async fn let_all_go(&self) -> Result<()> {
        let orders: Vec<Arc<Sent>> = locked(&self.sent).values().cloned().collect();
        let known = join_all(orders.iter().map(|sent| self.look_and_take_back(sent)));
        let interrupted = async {
            match self.find_interrupted().await {
                Ok(orders) => {
                    join_all(orders.iter().map(|sent| self.look_and_take_back(sent))).await
                }
                Err(fault) => {
                    let what = format!("find a command to {} that was being sent", self.place);
                    vec![vec![fault.error(Action::ListCommands, what)]]
                }
            }
        };
        let (known, interrupted) = join(known, interrupted).await;
        together(known.into_iter().chain(interrupted).flatten().collect())
    }

    /// What was not begun at the last look may have begun since. If nobody knows, it is cancelled
    /// where it had not begun then.
    async fn look_and_take_back(&self, sent: &Sent) -> Vec<Error> {
        let looked = self.look_at(sent).await;
        let mut failures = self.take_back(sent).await;
        failures.extend(looked.err());
        failures
    }

    /// Brings an order up to date.
    pub(super) async fn look_at(&self, sent: &Sent) -> Result<()> {
        let refreshed = self.refresh(sent).await;
        refreshed.map(drop).map_err(|fault| {
            let what = format!("see how far the instances of {} are", self.place);
            fault.error(Action::ListCommandInvocations, what)
        })
    }
}

/// Makes one error of several, each reason once.
fn together(failures: Vec<Error>) -> Result<()> {
    let reasons: BTreeSet<String> = failures.iter().map(Error::chain).collect();
    let Some(first) = failures.into_iter().next() else { return Ok(()) };
    if reasons.len() == 1 {
        return Err(first);
    }
    let all = reasons.into_iter().collect::<Vec<_>>().join("; cannot ");
    Err(Error::new(first.exit(), all).with_reason(first.reason()))
}
