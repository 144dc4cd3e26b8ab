//! AWS in memory, on tokio's clock: instances that run commands, limits, and calls that fail.

mod bucket;
mod machine;

use super::api::{Alarm, Answer, Api, Command, Fault, Group, Invocation, Kind};
use super::api::{Managed, Member, Output, Page, Target, Which};
use super::calls::Action;
use crate::fleet::Host;
use async_trait::async_trait;
use bucket::Bucket;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

pub use machine::Machine;

/// A command is listed so long after it was sent.
const VISIBLE: Duration = Duration::from_millis(1500);
/// The time between sending and beginning.
const WAY: Duration = Duration::from_millis(700);
/// Characters of an output that a list has.
const LISTED: usize = 2500;
const OUTPUT: usize = 24_000;
const ERRORS: usize = 8_000;

/// A command on an instance.
#[derive(Debug)]
struct Run {
    begins: Option<Instant>,
    cancelled: bool,
    /// What it has printed, with its exit code, once it has ended.
    ended: Option<(String, i32)>,
}

#[derive(Debug)]
struct Sent {
    command: Command,
    at: Instant,
    runs: BTreeMap<String, Run>,
}

#[derive(Debug, Default)]
pub struct Inner {
    pub groups: Vec<Group>,
    pub machines: BTreeMap<String, Machine>,
    pub targets: BTreeMap<String, Vec<Target>>,
    pub alarms: Vec<Alarm>,
    /// Whether agents are still said to be online that are not, as for some minutes.
    pub pings_online: bool,
    sent: Vec<Sent>,
    /// When the commands under way end, in order.
    ends: BTreeMap<(Instant, usize), (usize, String)>,
    refusals: Vec<(Action, Kind, usize)>,
    /// Commands that are sent, and whose answer is lost.
    lost: usize,
    buckets: BTreeMap<Action, Bucket>,
    calls: BTreeMap<Action, BTreeMap<u64, u32>>,
    begun: Option<Instant>,
    /// How often a ship was about to send a command, or had sent one; and when it dies.
    points: usize,
    dies_at: Option<usize>,
}

#[derive(Debug, Default)]
pub struct Fake(Mutex<Inner>);

impl Fake {
    pub fn of(groups: Vec<Group>) -> Arc<Fake> {
        let fake = Fake::default();
        fake.change(|inner| inner.groups = groups);
        Arc::new(fake)
    }

    /// A group of instances that run this release.
    pub fn running(instances: usize, release: &str) -> Arc<Fake> {
        let id = |n: usize| format!("i-{n:017x}");
        let member = |n| Member { id: id(n), zone: None, state: "InService".to_owned() };
        let members = (1..=instances).map(member).collect();
        let group = Group { members, targets: vec![] };
        let fake = Fake::of(vec![group]);
        let machine = |n| (id(n), Machine::running(release));
        fake.change(|inner| inner.machines = (1..=instances).map(machine).collect());
        fake
    }

    /// Makes the next calls of an action fail.
    pub fn refuse(&self, action: Action, kind: Kind, times: usize) {
        self.change(|inner| inner.refusals.push((action, kind, times)));
    }

    /// Does the next commands, and loses the answers.
    pub fn lose(&self, times: usize) {
        self.change(|inner| inner.lost = times);
    }

    /// Throttles an action: so many calls a second, after so many at once.
    pub fn limit(&self, action: Action, per_second: f64, burst: f64) {
        self.change(|inner| {
            inner.buckets.insert(action, Bucket::new(per_second, burst));
        });
    }

    /// Makes the ship die before or after it sends a command; never with none.
    pub fn die_at(&self, point: Option<usize>) {
        self.change(|inner| (inner.points, inner.dies_at) = (0, point));
    }

    /// Never returns from the point on where the ship dies.
    async fn point(&self) {
        let is_dead = self.change(|inner| {
            inner.points += 1;
            inner.dies_at.is_some_and(|at| inner.points > at)
        });
        if is_dead {
            std::future::pending::<()>().await;
        }
    }

    pub fn change<T>(&self, change: impl FnOnce(&mut Inner) -> T) -> T {
        change(&mut self.now())
    }

    /// How often each action was called, and how often in its busiest second.
    pub fn calls(&self) -> BTreeMap<Action, (u32, u32)> {
        let inner = self.now();
        let counts = inner.calls.iter().map(|(action, seconds)| {
            let busiest = seconds.values().max().copied().unwrap_or_default();
            (*action, (seconds.values().sum(), busiest))
        });
        counts.collect()
    }

    /// The commands that were sent: comment, line and how many instances.
    pub fn sent(&self) -> Vec<Command> {
        self.now().sent.iter().map(|sent| sent.command.clone()).collect()
    }

    fn now(&self) -> MutexGuard<'_, Inner> {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        inner.go_on();
        inner
    }

    /// Counts a call, and refuses it if there is a reason to.
    fn called(&self, action: Action) -> Answer<MutexGuard<'_, Inner>> {
        let mut inner = self.now();
        let begun = *inner.begun.get_or_insert_with(Instant::now);
        let second = begun.elapsed().as_secs();
        *inner.calls.entry(action).or_default().entry(second).or_default() += 1;
        let fault = |kind| Fault { kind, why: format!("{kind:?}") };
        let refusal = inner.refusals.iter_mut().find(|(of, _, left)| *of == action && *left > 0);
        if let Some((_, kind, left)) = refusal {
            *left -= 1;
            return Err(fault(*kind));
        }
        if inner.buckets.get_mut(&action).is_some_and(|bucket| !bucket.take()) {
            return Err(fault(Kind::Throttled));
        }
        Ok(inner)
    }
}

impl Inner {
    /// Ends the commands whose time has come.
    fn go_on(&mut self) {
        let now = Instant::now();
        while let Some(entry) = self.ends.first_entry().filter(|entry| entry.key().0 <= now) {
            let (number, id) = entry.remove();
            let Some(sent) = self.sent.get_mut(number) else { continue };
            let (Some(machine), Some(run)) = (self.machines.get_mut(&id), sent.runs.get_mut(&id))
            else {
                continue;
            };
            run.ended = Some(machine.perform(&sent.command.line));
        }
    }

    fn submit(&mut self, command: &Command) -> Answer<String> {
        let is_managed =
            |host: &Host| self.machines.get(&host.0).is_some_and(|one| one.managed && !one.refused);
        if !command.hosts.iter().all(is_managed) {
            return Err(Fault { kind: Kind::NotManaged, why: "InvalidInstanceId".to_owned() });
        }
        assert!(command.hosts.len() <= 50 && command.comment.len() <= 100);
        let (number, now) = (self.sent.len(), Instant::now());
        let mut runs = BTreeMap::new();
        for Host(id) in &command.hosts {
            let Some(machine) = self.machines.get_mut(id) else { continue };
            let begins = machine.online.then(|| now + WAY);
            if let Some(begins) = begins {
                let ends = machine.begin(&command.line, begins);
                self.ends.insert((ends, self.ends.len() + number * 100), (number, id.clone()));
            }
            runs.insert(id.clone(), Run { begins, cancelled: false, ended: None });
        }
        self.sent.push(Sent { command: command.clone(), at: now, runs });
        Ok(number.to_string())
    }

    fn sent(&mut self, id: &str) -> Answer<&mut Sent> {
        let number = id.parse::<usize>().ok();
        let sent = number.and_then(|number| self.sent.get_mut(number));
        sent.ok_or_else(|| Fault { kind: Kind::Other, why: "InvalidCommandId".to_owned() })
    }
}

fn invocation(sent: &Sent, id: &str, run: &Run) -> Invocation {
    let has_begun = run.begins.is_some_and(|begins| begins <= Instant::now());
    let (status, details) = match run {
        Run { cancelled: true, .. } => ("Cancelled", "Cancelled"),
        Run { ended: Some((_, 0)), .. } => ("Success", "Success"),
        Run { ended: Some(_), .. } => ("Failed", "Failed"),
        Run { begins: None, .. } if sent.at.elapsed() > sent.command.delivery => {
            ("TimedOut", "DeliveryTimedOut")
        }
        Run { begins: None, .. } => ("Delayed", "Delayed"),
        _ if has_begun => ("InProgress", "InProgress"),
        _ => ("Pending", "Pending"),
    };
    let output = run.ended.as_ref().map(|(output, _)| output.chars().take(LISTED).collect());
    Invocation {
        host: id.to_owned(),
        status: status.to_owned(),
        details: details.to_owned(),
        code: Some(run.ended.as_ref().map_or(-1, |(_, code)| *code)),
        has_begun,
        output: output.unwrap_or_default(),
    }
}

/// Returns a page of this length.
fn page<T>(items: Vec<T>, length: usize, token: Option<String>) -> Page<T> {
    let first: usize = token.and_then(|token| token.parse().ok()).unwrap_or_default();
    let next = (items.len() > first + length).then(|| (first + length).to_string());
    Page { items: items.into_iter().skip(first).take(length).collect(), next }
}

#[async_trait]
impl Api for Fake {
    async fn groups(&self, _: &Which, token: Option<String>) -> Answer<Page<Group>> {
        let inner = self.called(Action::DescribeAutoScalingGroups)?;
        Ok(page(inner.groups.clone(), 1, token))
    }

    async fn managed(&self, hosts: &[Host], token: Option<String>) -> Answer<Page<Managed>> {
        let inner = self.called(Action::DescribeInstanceInformation)?;
        let managed = |Host(id): &Host| {
            let machine = inner.machines.get(id).filter(|machine| machine.managed)?;
            let ping =
                if machine.online || inner.pings_online { "Online" } else { "ConnectionLost" };
            Some(Managed { id: id.clone(), ping: ping.to_owned() })
        };
        Ok(page(hosts.iter().filter_map(managed).collect(), 50, token))
    }

    async fn send(&self, command: &Command) -> Answer<String> {
        self.point().await;
        let id = {
            let mut inner = self.called(Action::SendCommand)?;
            let id = inner.submit(command)?;
            if let Some(left) = inner.lost.checked_sub(1) {
                inner.lost = left;
                return Err(Fault { kind: Kind::Unanswered, why: "connection reset".to_owned() });
            }
            id
        };
        self.point().await;
        Ok(id)
    }

    async fn commands(
        &self,
        host: &Host,
        age: Duration,
        token: Option<String>,
    ) -> Answer<Page<(String, String)>> {
        let inner = self.called(Action::ListCommands)?;
        let listed = VISIBLE..=age;
        let sent = inner.sent.iter().enumerate().filter(|(_, sent)| {
            sent.runs.contains_key(&host.0) && listed.contains(&sent.at.elapsed())
        });
        let sent = sent.map(|(n, sent)| (n.to_string(), sent.command.comment.clone()));
        // The newest first.
        Ok(page(sent.rev().collect(), 50, token))
    }

    async fn invocations(&self, id: &str, token: Option<String>) -> Answer<Page<Invocation>> {
        let mut inner = self.called(Action::ListCommandInvocations)?;
        let sent = inner.sent(id)?;
        if sent.at.elapsed() < VISIBLE {
            return Ok(Page::default());
        }
        let all = sent.runs.iter().map(|(id, run)| invocation(sent, id, run)).collect();
        let is_persons = machine::is_persons(&sent.command.line);
        // Short outputs are dropped: they would be most of the memory that a simulation measures.
        for (output, _) in sent.runs.values_mut().filter_map(|run| run.ended.as_mut()) {
            if output.len() <= LISTED && !is_persons {
                output.clear();
            }
        }
        Ok(page(all, 50, token))
    }

    async fn output(&self, id: &str, host: &Host) -> Answer<Output> {
        let mut inner = self.called(Action::GetCommandInvocation)?;
        let run = inner.sent(id)?.runs.get(&host.0);
        let output = run.and_then(|run| run.ended.as_ref()).map(|(output, _)| output);
        let Some(output) = output else { return Ok(Output::default()) };
        let (out, err) = output.split_once(machine::ERROR).unwrap_or((output, ""));
        let first = |text: &str, most| text.chars().take(most).collect();
        Ok(Output { out: first(out, OUTPUT), err: first(err, ERRORS) })
    }

    async fn cancel(&self, id: &str, hosts: &[Host]) -> Answer<()> {
        let mut inner = self.called(Action::CancelCommand)?;
        let sent = inner.sent(id)?;
        for Host(id) in hosts {
            let run = sent.runs.get_mut(id).filter(|run| run.ended.is_none());
            if let Some(run) = run {
                run.cancelled = true;
            }
        }
        Ok(())
    }

    async fn targets(&self, group: &str) -> Answer<Vec<Target>> {
        let inner = self.called(Action::DescribeTargetHealth)?;
        Ok(inner.targets.get(group).cloned().unwrap_or_default())
    }

    async fn alarms(&self, names: &[String]) -> Answer<Vec<Alarm>> {
        let inner = self.called(Action::DescribeAlarms)?;
        let named = inner.alarms.iter().filter(|alarm| names.contains(&alarm.name));
        Ok(named.cloned().collect())
    }
}
