//! Takes commands back: of one order, or of all when ship is interrupted.

use super::{Sent, Ssm, locked};
use crate::fleet::aws::calls::Action;
use crate::fleet::{Host, Progress, Ticket, Transport};
use futures_util::future::join_all;
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
        let orders: Vec<(String, Arc<Sent>)> = locked(&self.sent)
            .iter()
            .map(|(ticket, sent)| (ticket.clone(), sent.clone()))
            .collect();
        let orders = orders.into_iter().map(|(ticket, sent)| async move {
            // What was not begun at the last look may have begun since. If nobody knows, it is
            // cancelled where it had not begun then.
            let looked = self.poll(&Ticket(ticket)).await;
            let mut failures = self.take_back(&sent).await;
            failures.extend(looked.err());
            failures
        });
        together(join_all(orders).await.into_iter().flatten().collect())
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
