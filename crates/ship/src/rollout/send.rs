//! One order to some instances of the group, until each of them has ended.

use super::ends::{End, Ends};
use super::record::Failure;
use super::run::Run;
use super::{Event, Happened};
use crate::fleet::{Ended, Host, Instance, Order, Progress, Standing, Ticket};
use model::error::{Exit, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// The pause between two questions to the store, and the longest one between two polls where the
/// answers are errors.
const POLL: Duration = Duration::from_secs(2);
const SLOWEST: Duration = Duration::from_secs(30);
/// How often an order is sent to an instance whose outcome is lost, or that cannot be sent.
const TRIES: u32 = 3;
/// The agent gives up by itself before.
const GRACE: Duration = Duration::from_secs(60);

impl Run<'_> {
    /// Brings a release to instances. A rollback first tries the release that they still have.
    /// With `stops`, nothing more is sent after the first failure or a cancellation.
    pub async fn bring(
        &mut self,
        release: &str,
        hosts: Vec<Host>,
        by_rollback: bool,
        stops: bool,
    ) -> Result<Ends> {
        let url = self.cx().store.url(&format!("{}{release}", self.cx().place.prefix()));
        let by = self.cx().by.clone();
        let deploy = Order::Deploy { url, by: by.clone(), release: self.release_now() };
        if !by_rollback {
            return self.send(&deploy, hosts, stops).await;
        }
        let (app, to) = (self.cx().place.app.to_string(), release.to_owned());
        let rollback = Order::Rollback { app, to, by };
        let mut ends = self.send(&rollback, hosts, stops).await?;
        let lacking = ends.iter().filter(|(_, end)| end.lacks_release());
        let lacking: Vec<Host> = lacking.map(|(host, _)| host.clone()).collect();
        if stops && (self.cancelled.is_some() || self.has_failed(&rollback, &ends)) {
            ends.extend(lacking.into_iter().map(|host| (host, End::NotBegun)));
        } else if !lacking.is_empty() {
            for (host, end) in self.send(&deploy, lacking, stops).await? {
                // Without the store nothing was deployed: what the rollback has left counts.
                let is_broken = ends.get(&host).is_some_and(End::may_have_broken);
                if !(is_broken && self.is_left_out(&end)) {
                    ends.insert(host, end);
                }
            }
        }
        Ok(ends)
    }

    /// Sends an order until each instance has answered, has left the group, or is lost for good.
    async fn send(&mut self, order: &Order, hosts: Vec<Host>, stops: bool) -> Result<Ends> {
        let mut ends = Ends::new();
        let mut asked = hosts;
        for last in (0..TRIES).rev() {
            ends.extend(self.once(order, &asked, stops).await?);
            let lost = ends.iter().filter(|(_, end)| matches!(end, End::Lost(_)));
            asked = lost.map(|(host, _)| host.clone()).collect();
            if asked.is_empty() {
                break;
            }
            let instances = self.instances().await?.into_iter();
            let there = instances.filter(|one| one.standing != Standing::Leaving);
            let there: BTreeSet<Host> = there.map(|one| one.host).collect();
            let (stay, gone): (Vec<Host>, Vec<Host>) =
                asked.into_iter().partition(|host| there.contains(host));
            asked = stay;
            for host in gone {
                self.say(&host, Happened::Gone, "it has left the group");
                ends.insert(host, End::Gone);
            }
            // What was lost is not sent again: the group goes back.
            if stops && (self.cancelled.is_some() || self.has_failed(order, &ends)) {
                break;
            }
            if last > 0 && !asked.is_empty() {
                self.pause(POLL).await?;
            }
        }
        Ok(ends)
    }

    /// Sends an order and waits for all outcomes.
    async fn once(&mut self, order: &Order, hosts: &[Host], stops: bool) -> Result<Ends> {
        let mut ends = Ends::new();
        let mut tickets = Vec::new();
        for chunk in hosts.chunks(self.group.transport.most().max(1)) {
            match self.begin(order, chunk).await? {
                Ok(ticket) => tickets.push(ticket),
                Err(why) => {
                    ends.extend(chunk.iter().map(|host| (host.clone(), End::Lost(why.clone()))))
                }
            }
        }
        let deadline = Instant::now() + self.group.patience + GRACE;
        let usual = self.group.transport.pause();
        let (mut pause, mut stopped, mut asked) = (usual, false, Instant::now());
        let mut steps: BTreeMap<Host, String> = BTreeMap::new();
        while ends.len() < hosts.len() {
            self.pause(pause).await?;
            pause = usual;
            for ticket in &tickets {
                let poll = self.group.transport.poll(ticket);
                match self.lease.during(self.group, poll).await? {
                    Ok(all) => self.gather(all, &mut ends, &mut steps),
                    Err(error) => {
                        pause = (pause * 2).min(SLOWEST);
                        self.group.tell(Event::Warning { text: error.chain() });
                    }
                }
            }
            let mut is_wanted = stops && self.has_failed(order, &ends);
            if stops && !is_wanted && asked.elapsed() >= POLL {
                asked = Instant::now();
                is_wanted = self.ask_to_cancel().await;
            }
            if is_wanted && !stopped {
                stopped = true;
                for ticket in &tickets {
                    let cancel = self.group.transport.cancel(ticket);
                    if let Err(error) = self.lease.during(self.group, cancel).await? {
                        self.group.tell(Event::Warning { text: error.chain() });
                    }
                }
            }
            if Instant::now() >= deadline {
                let why = format!("no outcome within {}s", self.group.patience.as_secs());
                for host in hosts {
                    ends.entry(host.clone()).or_insert_with(|| End::Lost(why.clone()));
                }
            }
        }
        Ok(ends)
    }

    /// Sends an order to a chunk of instances; says why if that is not possible.
    async fn begin(&mut self, order: &Order, hosts: &[Host]) -> Result<Result<Ticket, String>> {
        let mut why = String::new();
        for _ in 0..TRIES {
            let begin = self.group.transport.begin(order, hosts);
            match self.lease.during(self.group, begin).await? {
                Ok(ticket) => return Ok(Ok(ticket)),
                Err(error) => why = error.chain(),
            }
            self.pause(POLL).await?;
        }
        Ok(Err(why))
    }

    fn gather(
        &self,
        all: BTreeMap<Host, Progress>,
        ends: &mut Ends,
        steps: &mut BTreeMap<Host, String>,
    ) {
        for (host, progress) in all {
            if ends.contains_key(&host) {
                continue;
            }
            let end = match progress {
                Progress::Waiting => continue,
                Progress::Running(step) => {
                    let step = step.unwrap_or_default();
                    if steps.get(&host) != Some(&step) {
                        self.say(&host, Happened::Running, &step);
                        steps.insert(host, step);
                    }
                    continue;
                }
                Progress::NotBegun => End::NotBegun,
                Progress::Lost(why) => {
                    self.say(&host, Happened::Lost, &why);
                    End::Lost(why)
                }
                Progress::Ended(ended) => {
                    let is_done = ended.code == Exit::Done.code();
                    let happened = if is_done { Happened::Done } else { Happened::Failed };
                    let Ended { message: text, help, log, .. } = ended.clone();
                    self.group.tell(Event::Host { host: host.clone(), happened, text, help, log });
                    End::Ended(ended)
                }
            };
            ends.insert(host, end);
        }
    }

    fn say(&self, host: &Host, happened: Happened, text: &str) {
        let (host, text) = (host.clone(), text.to_owned());
        self.group.tell(Event::Host { host, happened, text, help: None, log: Vec::new() });
    }

    /// Lists the group. A few errors in a row are no reason to give up.
    pub async fn instances(&mut self) -> Result<Vec<Instance>> {
        for _ in 1..TRIES {
            let instances = self.group.fleet.instances();
            match self.lease.during(self.group, instances).await? {
                Ok(instances) => return Ok(instances),
                Err(error) => self.group.tell(Event::Warning { text: error.chain() }),
            }
            self.pause(POLL).await?;
        }
        self.lease.during(self.group, self.group.fleet.instances()).await.flatten()
    }

    /// Returns the failure to go back for, if the operator has cancelled the rollout.
    pub async fn is_cancelled(&mut self) -> Result<Option<Failure>> {
        if self.cancelled.is_none()
            && let Some(object) = self.cx().store.get(&self.record.cancel_key()).await?
        {
            let by = model::text::line(String::from_utf8_lossy(&object.bytes).trim(), 80);
            let message = format!("{by} has cancelled it");
            let code = Exit::Cancelled.code();
            self.cancelled = Some(Failure { host: None, code, message });
        }
        if self.cancelled.is_none() {
            self.cancelled = self.alarm().await?;
        }
        Ok(self.cancelled.clone())
    }

    /// The same while instances work: an error is no reason to leave them alone.
    async fn ask_to_cancel(&mut self) -> bool {
        match self.is_cancelled().await {
            Ok(failure) => failure.is_some(),
            Err(_) => {
                sleep(POLL).await;
                false
            }
        }
    }

    fn has_failed(&self, order: &Order, ends: &Ends) -> bool {
        // Where a release is not on the disk any more, it is deployed next.
        let is_rollback = matches!(order, Order::Rollback { .. });
        ends.values().any(|end| match end {
            End::Ended(ended) if ended.code == Exit::Done.code() => false,
            End::Ended(_) => !(self.is_left_out(end) || is_rollback && end.lacks_release()),
            _ => false,
        })
    }
}
