//! Instances by Run Command of AWS Systems Manager, which needs no open port and no key.
//!
//! A command that was sent goes on without ship. The outcome is what the agent printed last;
//! the status that AWS gives the command only says whether it was delivered.

mod command;
mod invocation;
mod session;
mod shell;
#[cfg(test)]
mod tests;

use super::aws::api::{Answer, Command, Fault, Invocation, Kind};
use super::aws::calls::{Action, NOT_MANAGED};
use super::aws::{Calls, number};
use super::{Host, Order, Progress, Seen, Shell, Ticket, Transport, seen};
use crate::place::Place;
use async_trait::async_trait;
use command::{Line, Reply};
use model::error::{Error, Result};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep};

/// The most instances of one command.
const MOST: usize = 50;
/// The time in which an instance has to fetch a command. A command of a ship that is gone is not
/// begun any later.
const DELIVERY: Duration = Duration::from_secs(60);
/// The time after which a command should be listed for an instance.
const LISTED: Duration = Duration::from_secs(180);
/// The time for an answer that needs no work, and the pauses between two looks at it.
const ANSWER: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_secs(1);
/// Commands of people at once, each of which is asked for on its own.
const SLOTS: usize = 24;
/// How often a command is sent whose answer was lost, and the pauses before it is looked for.
const TRIES: u32 = 3;
const FINDS: [u64; 3] = [1, 3, 6];
/// The most that AWS's clock may differ from the one of a request that it accepts.
const SKEW: Duration = Duration::from_secs(15 * 60);

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
    sent: Mutex<BTreeMap<String, Arc<Sent>>>,
}

/// A command whose answer was lost, and when it was sent.
struct Doubtful {
    command: Command,
    at: Instant,
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

    /// Sends a command to instances that can be sent to; the others are lost.
    async fn dispatch(&self, line: &Line, hosts: &[Host]) -> Result<Sent, Failed> {
        let mut lost = BTreeMap::new();
        let mut reached = hosts.to_vec();
        let mut commands = Vec::new();
        for is_first in [true, false] {
            if reached.is_empty() {
                break;
            }
            match self.submit(line, &reached).await {
                Ok(id) => {
                    commands.push((id, reached.clone()));
                    break;
                }
                // One of them has gone, and the whole command is refused for it.
                Err((_, Fault { kind: Kind::NotManaged, .. })) if is_first => {
                    let action = Action::DescribeInstanceInformation;
                    lost = self.unreachable(&reached).await.map_err(|fault| (action, fault))?;
                    if lost.is_empty() {
                        sleep(POLL).await;
                    }
                    reached.retain(|host| !lost.contains_key(host));
                }
                // What Systems Manager says of its agents may be minutes old.
                Err((_, Fault { kind: Kind::NotManaged, .. })) => {
                    commands = self.each_alone(line, &reached, &mut lost).await;
                }
                Err(failed) => return Err(failed),
            }
        }
        let waiting = hosts.iter().filter(|host| !lost.contains_key(host));
        let waiting: Vec<Host> = waiting.cloned().collect();
        let waiting = waiting.into_iter().map(|host| (host, Progress::Waiting));
        let lost = lost.into_iter().map(|(host, why)| (host, Progress::Lost(why)));
        let progress = Mutex::new(waiting.chain(lost).collect());
        Ok(Sent { commands, reply: line.reply, at: Instant::now(), progress })
    }

    /// Sends a command for each instance; adds those that are refused to the lost ones.
    async fn each_alone(
        &self,
        line: &Line,
        hosts: &[Host],
        lost: &mut BTreeMap<Host, String>,
    ) -> Vec<(String, Vec<Host>)> {
        let mut commands = Vec::new();
        for host in hosts {
            let alone = vec![host.clone()];
            match self.submit(line, &alone).await {
                Ok(id) => commands.push((id, alone)),
                Err((_, fault)) => drop(lost.insert(host.clone(), fault.why)),
            }
        }
        commands
    }

    /// Sends a command. If the answer is lost, the command is looked for by its comment, which no
    /// other one has. If that fails too, the next try begins with it.
    async fn submit(&self, line: &Line, hosts: &[Host]) -> Result<String, Failed> {
        let is_same = |it: &Doubtful| it.command.hosts == hosts && line.is(&it.command);
        let doubtful = locked(&self.doubtful).take().filter(is_same);
        let (doubtful, mut sent) = match doubtful {
            Some(doubtful) => (doubtful, None),
            None => {
                let rollout = locked(&self.rollout).clone();
                let command = line.command(hosts, &rollout, number(), &self.place);
                let doubtful = Doubtful { command, at: Instant::now() };
                let sent = self.calls.send(&doubtful.command).await;
                (doubtful, Some(sent))
            }
        };
        for last in (0..TRIES).rev() {
            if !matches!(&sent, None | Some(Err(Fault { kind: Kind::Unanswered, .. }))) {
                break;
            }
            match self.find(&doubtful, hosts).await {
                Ok(Some(id)) => return Ok(id),
                Ok(None) => {}
                Err(fault) => {
                    *locked(&self.doubtful) = Some(doubtful);
                    return Err((Action::ListCommands, fault));
                }
            }
            if last > 0 {
                sent = Some(self.calls.send(&doubtful.command).await);
            }
        }
        let unsent = || Err(Fault { kind: Kind::Unanswered, why: "it was not sent".to_owned() });
        sent.unwrap_or_else(unsent).map_err(|fault| (Action::SendCommand, fault))
    }

    async fn find(&self, doubtful: &Doubtful, hosts: &[Host]) -> Answer<Option<String>> {
        let Some(host) = hosts.first() else { return Ok(None) };
        for pause in FINDS {
            sleep(Duration::from_secs(pause)).await;
            let age = doubtful.at.elapsed() + SKEW;
            let found = self.calls.command(host, &doubtful.command.comment, age).await?;
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// Brings the state of a command up to date; returns whether all have ended.
    async fn refresh(&self, sent: &Sent) -> Answer<bool> {
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
    async fn asked(&self, line: &Line, hosts: &[Host]) -> Result<BTreeMap<Host, Progress>, Failed> {
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
        let mut tickets = locked(&self.sent);
        let ticket = tickets.len().to_string();
        tickets.insert(ticket.clone(), Arc::new(sent));
        Ok(Ticket(ticket))
    }

    async fn poll(&self, ticket: &Ticket) -> Result<BTreeMap<Host, Progress>> {
        let sent = self.ticket(ticket)?;
        let refreshed = self.refresh(&sent).await;
        refreshed.map_err(|fault| {
            let what = format!("see how far the instances of {} are", self.place);
            fault.error(Action::ListCommandInvocations, what)
        })?;
        let progress = locked(&sent.progress).clone();
        Ok(progress)
    }

    /// Cancels the command where it has not begun. Where it has, the agent would go on anyway,
    /// and its outcome would be lost.
    async fn cancel(&self, ticket: &Ticket) -> Result<()> {
        let sent = self.ticket(ticket)?;
        for (id, hosts) in &sent.commands {
            let waiting = hosts.iter().filter(|host| sent.is(host, |it| *it == Progress::Waiting));
            let waiting: Vec<Host> = waiting.cloned().collect();
            if waiting.is_empty() {
                continue;
            }
            self.calls.cancel(id, &waiting).await.map_err(|fault| {
                fault.error(Action::CancelCommand, format!("cancel a command to {}", self.place))
            })?;
        }
        Ok(())
    }

    async fn let_go(&self) -> Result<()> {
        let tickets: Vec<String> = locked(&self.sent).keys().cloned().collect();
        for ticket in tickets.into_iter().map(Ticket) {
            // What was not begun at the last look may have begun since.
            self.poll(&ticket).await?;
            self.cancel(&ticket).await?;
        }
        Ok(())
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
