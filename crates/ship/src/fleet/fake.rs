//! A group in memory: each instance is a small state machine, and time passes while it is polled.

use super::{Ended, Fleet, Host, Instance, Order, Progress, Seen, Standing, Ticket, Transport};
use async_trait::async_trait;
use model::error::{Error, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// A job of the agent on an instance. Jobs go on whatever becomes of their caller.
#[derive(Clone, Debug)]
struct Job {
    ticket: usize,
    release: String,
    is_rollback: bool,
    /// The id of its release phase.
    phase: Option<String>,
    until: Instant,
    ended: Option<Ended>,
}

/// An instance.
#[derive(Clone, Debug)]
pub struct Machine {
    pub standing: Standing,
    pub runs: Option<String>,
    pub has: BTreeSet<String>,
    /// The release that it says a rollback takes.
    pub before: Option<String>,
    /// Whether what it runs came by a rollback.
    pub rolled_back: bool,
    /// Whether it reaches the store, from which it deploys what it does not have.
    pub fetches: bool,
    /// Releases that fail here, with the exit code.
    pub fails: BTreeMap<String, u8>,
    /// Releases to which a rollback fails here, with the exit code. A deploy does not.
    pub breaks: BTreeMap<String, u8>,
    pub reachable: bool,
    /// Whether nobody sees that it has fetched an order: a cancelled one seems not begun.
    pub hides: bool,
    pub healthy: bool,
    /// How long a deploy takes.
    pub takes: Duration,
    /// The ids for which the release phase has run here.
    pub phases: Vec<String>,
    /// Whether the release phase fails here.
    pub phase_fails: bool,
    jobs: Vec<Job>,
}

/// An event of the outside, after so many orders.
pub type Happening = (usize, Box<dyn Fn(&mut BTreeMap<Host, Machine>) + Send>);

#[derive(Default)]
struct Inner {
    machines: BTreeMap<Host, Machine>,
    /// The instances of each order.
    orders: Vec<(Order, Vec<Host>)>,
    happenings: Vec<Happening>,
    /// Polls that fail, as throttled ones do.
    throttled: usize,
    cancelled: BTreeSet<usize>,
    /// How long a list of the group takes.
    lists: Duration,
}

#[derive(Default)]
pub struct Group {
    inner: Mutex<Inner>,
}

pub fn host(name: &str) -> Host {
    Host(name.to_owned())
}

impl Machine {
    pub fn running(release: Option<&str>) -> Machine {
        Machine {
            standing: Standing::InService,
            runs: release.map(str::to_owned),
            has: release.map(str::to_owned).into_iter().collect(),
            before: None,
            rolled_back: false,
            fetches: true,
            fails: BTreeMap::new(),
            breaks: BTreeMap::new(),
            reachable: true,
            hides: false,
            healthy: true,
            takes: Duration::from_secs(5),
            phases: Vec::new(),
            phase_fails: false,
            jobs: Vec::new(),
        }
    }

    /// An instance that boots, and has brought this release up.
    pub fn booting(release: Option<&str>) -> Machine {
        Machine { standing: Standing::Starting, ..Machine::running(release) }
    }

    fn perform(&mut self, now: Instant) {
        for job in self.jobs.iter_mut().filter(|job| job.ended.is_none() && job.until <= now) {
            let fails = self.fails.get(&job.release).copied();
            let code = match fails {
                _ if self.runs.as_ref() == Some(&job.release) && self.healthy => 0,
                _ if job.is_rollback && self.breaks.contains_key(&job.release) => {
                    self.breaks.get(&job.release).copied().unwrap_or_default()
                }
                _ if job.is_rollback && !self.has.contains(&job.release) => 2,
                _ if !self.fetches && !self.has.contains(&job.release) => 11,
                _ if job.phase.as_ref().is_some_and(|id| {
                    if !self.phases.contains(id) {
                        self.phases.push(id.clone());
                    }
                    self.phase_fails
                }) =>
                {
                    10
                }
                Some(code) => code,
                None => 0,
            };
            // With 41 the client has lost the agent, whose job goes on.
            if matches!(code, 0 | 41) {
                self.rolled_back = job.is_rollback;
                if job.is_rollback {
                    // As the agent: the newest one that is older.
                    self.before = self.has.range(..job.release.clone()).next_back().cloned();
                }
                self.runs = Some(job.release.clone());
                self.has.insert(job.release.clone());
            }
            let log = if code == 0 { vec![] } else { vec!["boom".to_owned()] };
            job.ended = Some(Ended { code, message: format!("exit {code}"), help: None, log });
        }
    }

    fn is_working(&self) -> bool {
        self.jobs.iter().any(|job| job.ended.is_none())
    }
}

impl Group {
    /// Instances `i-01`, `i-02` … that all run this release.
    pub fn of(instances: usize, release: Option<&str>) -> Group {
        let group = Group::default();
        for n in 1..=instances {
            group.lock().machines.insert(host(&format!("i-{n:02}")), Machine::running(release));
        }
        group
    }

    pub fn change(&self, name: &str, change: impl FnOnce(&mut Machine)) {
        let mut inner = self.lock();
        change(inner.machines.get_mut(&host(name)).expect("a machine"));
    }

    pub fn add(&self, name: &str, machine: Machine) {
        self.lock().machines.insert(host(name), machine);
    }

    pub fn each(&self, change: impl Fn(&mut Machine)) {
        self.lock().machines.values_mut().for_each(change);
    }

    /// Makes something happen when that many orders have been given.
    pub fn after(
        &self,
        orders: usize,
        what: impl Fn(&mut BTreeMap<Host, Machine>) + Send + 'static,
    ) {
        self.lock().happenings.push((orders, Box::new(what)));
    }

    pub fn list_slowly(&self, time: Duration) {
        self.lock().lists = time;
    }

    pub fn throttle(&self, polls: usize) {
        self.lock().throttled = polls;
    }

    /// Returns what runs where, once all jobs have ended.
    pub async fn settled(&self) -> BTreeMap<String, Option<String>> {
        while self.now().machines.values().any(Machine::is_working) {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        let inner = self.lock();
        inner.machines.iter().map(|(host, one)| (host.0.clone(), one.runs.clone())).collect()
    }

    pub fn orders(&self) -> Vec<(Order, Vec<Host>)> {
        self.lock().orders.clone()
    }

    fn now(&self) -> MutexGuard<'_, Inner> {
        let mut inner = self.lock();
        inner.machines.values_mut().for_each(|machine| machine.perform(Instant::now()));
        inner
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Fleet for Group {
    async fn instances(&self) -> Result<Vec<Instance>> {
        let time = self.lock().lists;
        tokio::time::sleep(time).await;
        let inner = self.now();
        let instance = |(host, one): (&Host, &Machine)| Instance {
            host: host.clone(),
            zone: None,
            standing: one.standing,
        };
        Ok(inner.machines.iter().map(instance).collect())
    }
}

#[async_trait]
impl Transport for Group {
    fn most(&self) -> usize {
        50
    }

    async fn look(
        &self,
        _app: &str,
        hosts: &[Host],
    ) -> Result<BTreeMap<Host, Result<Seen, String>>> {
        let inner = self.now();
        let look = |host: &Host| match inner.machines.get(host) {
            Some(one) if one.reachable => Ok(Seen {
                release: one.runs.clone(),
                healthy: one.healthy,
                rollback: one.before.clone(),
                rolled_back: one.rolled_back,
                working: one.is_working(),
                ..Seen::default()
            }),
            _ => Err("no route to host".to_owned()),
        };
        Ok(hosts.iter().map(|host| (host.clone(), look(host))).collect())
    }

    async fn begin(&self, order: &Order, hosts: &[Host]) -> Result<Ticket> {
        assert!(hosts.len() <= self.most() && !hosts.is_empty());
        let mut inner = self.now();
        let ticket = inner.orders.len();
        inner.orders.push((order.clone(), hosts.to_vec()));
        let (release, is_rollback, phase) = match order {
            Order::Deploy { url, release, .. } => {
                (url.rsplit('/').next().unwrap_or_default(), false, release.clone())
            }
            Order::Rollback { to, .. } => (to.as_str(), true, None),
        };
        for host in hosts {
            let Some(one) = inner.machines.get_mut(host).filter(|one| one.reachable) else {
                continue;
            };
            let now = Instant::now();
            let free = one.jobs.iter().map(|job| job.until).max().unwrap_or(now).max(now);
            let takes =
                if one.runs.as_deref() == Some(release) { Duration::ZERO } else { one.takes };
            let release = release.to_owned();
            let (phase, until) = (phase.clone(), free + takes);
            one.jobs.push(Job { ticket, release, is_rollback, phase, until, ended: None });
        }
        let orders = inner.orders.len();
        let inner = &mut *inner;
        for (_, happening) in inner.happenings.iter().filter(|(after, _)| *after == orders) {
            happening(&mut inner.machines);
        }
        Ok(Ticket(ticket.to_string()))
    }

    async fn poll(&self, ticket: &Ticket) -> Result<BTreeMap<Host, Progress>> {
        let mut inner = self.now();
        if let Some(left) = inner.throttled.checked_sub(1) {
            inner.throttled = left;
            return Err(Error::source("list the invocations").because("Rate exceeded"));
        }
        let number: usize = ticket.0.parse().expect("a number");
        let (_, hosts) = inner.orders.get(number).expect("an order");
        let progress = |host: &Host| {
            let Some(one) = inner.machines.get(host).filter(|one| one.reachable) else {
                return Progress::Lost("the connection is lost".to_owned());
            };
            match one.jobs.iter().find(|job| job.ticket == number) {
                Some(_) if one.hides && inner.cancelled.contains(&number) => Progress::NotBegun,
                Some(Job { ended: Some(ended), .. }) => Progress::Ended(ended.clone()),
                Some(_) => Progress::Running(None),
                None => Progress::Lost("it never got the order".to_owned()),
            }
        };
        Ok(hosts.iter().map(|host| (host.clone(), progress(host))).collect())
    }

    async fn cancel(&self, ticket: &Ticket) -> Result<()> {
        self.lock().cancelled.insert(ticket.0.parse().expect("a number"));
        Ok(())
    }
}
