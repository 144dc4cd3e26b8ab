//! Instances by Run Command of AWS Systems Manager, which needs no open port and no key.
//!
//! A command that was sent goes on without ship. The outcome is what the agent printed last;
//! the status that AWS gives the command only says whether it was delivered.

mod command;
mod dispatch;
mod follow;
mod interrupted;
mod invocation;
mod session;
mod shell;
#[cfg(test)]
mod tests;

use super::aws::Calls;
use super::aws::api::{Answer, Fault};
use super::aws::calls::{Action, NOT_MANAGED};
use super::{Host, Order, Progress, Seen, Shell, Ticket, Transport, seen};
use crate::place::Place;
use async_trait::async_trait;
use command::{Line, Reply};
use dispatch::Doubtful;
use model::error::{Error, Result};
use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::Instant;

/// The most instances of one command.
const MOST: usize = 50;
/// The time in which an instance has to fetch a command. A command of a ship that is gone is not
/// begun any later.
const DELIVERY: Duration = Duration::from_secs(60);
/// The time for an answer that needs no work, and the pauses between two looks at it.
const ANSWER: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_secs(1);
/// Commands of people at once, each of which is asked for on its own.
const SLOTS: usize = 24;

/// A call that failed, and why.
type Failed = (Action, Fault);

pub struct Ssm {
    calls: Arc<Calls>,
    place: Place,
    /// The time that an instance has for an order.
    patience: Duration,
    /// The region for a login; otherwise the one that the AWS CLI finds.
    region: Option<String>,
    /// Commands of people under way.
    slots: Semaphore,
    rollout: Mutex<String>,
    /// Whether the right to fetch an output has been asked for.
    has_fetched: AtomicBool,
    /// A command that was perhaps sent.
    doubtful: Mutex<Option<Doubtful>>,
    /// Orders that are being sent, by their comments.
    sending: Mutex<BTreeMap<String, Doubtful>>,
    sent: Mutex<BTreeMap<String, Arc<Sent>>>,
}

/// An order that was sent.
#[derive(Debug)]
struct Sent {
    /// The ids of its commands, with their instances. None if no instance could be sent to.
    commands: Vec<(String, Vec<Host>)>,
    reply: Reply,
    at: Instant,
    progress: Mutex<BTreeMap<Host, Progress>>,
}

impl Ssm {
    pub fn new(calls: Arc<Calls>, place: &Place, patience: Duration) -> Ssm {
        Ssm {
            calls,
            place: place.clone(),
            patience,
            region: None,
            slots: Semaphore::new(SLOTS),
            rollout: Mutex::default(),
            has_fetched: AtomicBool::new(false),
            doubtful: Mutex::default(),
            sending: Mutex::default(),
            sent: Mutex::default(),
        }
    }

    pub fn in_region(self, region: Option<String>) -> Ssm {
        Ssm { region, ..self }
    }

    /// Returns why each of the instances cannot be sent to that Systems Manager does not reach.
    async fn unreachable(&self, hosts: &[Host]) -> Answer<BTreeMap<Host, String>> {
        let mut why: BTreeMap<Host, String> = hosts
            .iter()
            .map(|host| (host.clone(), format!("Systems Manager does not know it: {NOT_MANAGED}")))
            .collect();
        for chunk in hosts.chunks(MOST) {
            for managed in self.calls.managed(chunk).await? {
                let host = Host(managed.id);
                if managed.ping == "Online" {
                    why.remove(&host);
                } else if let Some(why) = why.get_mut(&host) {
                    let ping = model::text::line(&managed.ping, 40);
                    *why = format!("its SSM agent does not answer ({ping})");
                }
            }
        }
        Ok(why)
    }

    /// Keeps an order that was sent, until the end.
    fn note(&self, sent: Sent) -> (Ticket, Arc<Sent>) {
        let mut tickets = locked(&self.sent);
        let (ticket, sent) = (tickets.len().to_string(), Arc::new(sent));
        tickets.insert(ticket.clone(), Arc::clone(&sent));
        (Ticket(ticket), sent)
    }

    fn ticket(&self, ticket: &Ticket) -> Result<Arc<Sent>> {
        let sent = locked(&self.sent).get(&ticket.0).cloned();
        sent.ok_or_else(|| Error::failed("find a command that was sent by Systems Manager"))
    }
}

impl Sent {
    fn is_open(&self) -> bool {
        locked(&self.progress).values().any(is_open)
    }

    /// Whether an instance is so far.
    fn is(&self, host: &Host, what: impl Fn(&Progress) -> bool) -> bool {
        locked(&self.progress).get(host).is_some_and(what)
    }
}

fn is_open(progress: &Progress) -> bool {
    matches!(progress, Progress::Waiting | Progress::Running(_))
}

#[async_trait]
impl Transport for Ssm {
    fn belong_to(&self, rollout: &str) {
        rollout.clone_into(&mut locked(&self.rollout));
    }

    fn shell(&self) -> Option<&dyn Shell> {
        Some(self)
    }

    fn most(&self) -> usize {
        MOST
    }

    async fn look(
        &self,
        app: &str,
        hosts: &[Host],
    ) -> Result<BTreeMap<Host, Result<Seen, String>>> {
        let what = || format!("ask the instances of {}", self.place);
        let unreachable = self.unreachable(hosts).await;
        let unreachable = unreachable
            .map_err(|fault| fault.error(Action::DescribeInstanceInformation, what()))?;
        let reached: Vec<Host> =
            hosts.iter().filter(|host| !unreachable.contains_key(host)).cloned().collect();
        let asked = self.asked(&Line::status(), &reached).await;
        let asked = asked.map_err(|(action, fault)| fault.error(action, what()))?;
        let seen = asked.into_iter().map(|(host, progress)| {
            let seen = match progress {
                Progress::Ended(ended) => seen::parse(&ended.message, app),
                Progress::Lost(why) => Err(why),
                _ => Err("it does not answer".to_owned()),
            };
            (host, seen)
        });
        let unreachable = unreachable.into_iter().map(|(host, why)| (host, Err(why)));
        Ok(seen.chain(unreachable).collect())
    }

    async fn begin(&self, order: &Order, hosts: &[Host]) -> Result<Ticket> {
        let line = Line::of(order, self.patience);
        let sent = self.dispatch(&line, hosts).await.map_err(|(action, fault)| {
            fault.error(action, format!("send a command to {}", self.place))
        })?;
        Ok(self.note(sent).0)
    }

    async fn poll(&self, ticket: &Ticket) -> Result<BTreeMap<Host, Progress>> {
        let sent = self.ticket(ticket)?;
        self.look_at(&sent).await?;
        let progress = locked(&sent.progress).clone();
        Ok(progress)
    }

    /// Cancels the command where it has not begun. Where it has, the agent would go on anyway,
    /// and its outcome would be lost.
    async fn cancel(&self, ticket: &Ticket) -> Result<()> {
        let sent = self.ticket(ticket)?;
        let failures = self.take_back(&sent).await;
        failures.into_iter().next().map_or(Ok(()), Err)
    }

    async fn let_go(&self) -> Result<()> {
        self.let_all_go().await
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
