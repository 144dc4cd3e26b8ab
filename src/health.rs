//! Health checks: a candidate is watched until it is healthy or fails; a committed release is
//! watched through the settle window.

mod demand;
mod process;

use crate::events::Events;
use crate::host::seams::Machine;
use demand::Demand;
use model::error::Result;
use model::release::manifest::Manifest;
use model::release::name::ProcessType;
use model::release::reach::Families;
use model::release::settings::Clients;
use process::Watched;
pub use process::help_for_memory;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often a candidate that is not yet healthy is checked again.
const PAUSE: Duration = Duration::from_millis(50);
/// How often its port is tried meanwhile. A try costs next to nothing, and a port that opens
/// triggers a check at once.
const TRY: Duration = Duration::from_millis(2);
/// How often a committed release is checked in the settle window.
const SETTLE_LOOK: Duration = Duration::from_millis(500);
/// A committed release fails when its probe fails this many times in a row.
const PROBE_FAILURES: u32 = 3;
/// The same if only its public port does not respond. Then the port map is at fault, which the
/// daemon repairs, and the previous release would stand behind the same map.
const MAP_FAILURES: u32 = 20;

/// The processes of one release, and the requirements on them.
pub struct Watch {
    machine: Arc<dyn Machine>,
    processes: Vec<Watched>,
    demand: Demand,
    /// The port by which clients reach `web` through the port map; none if its processes bind
    /// it themselves.
    public: Option<u16>,
}

impl Watch {
    pub fn new(machine: &Arc<dyn Machine>, manifest: &Manifest) -> Self {
        let processes = manifest.plan.instances().map(|one| Watched::new(manifest, &one)).collect();
        let mapped = !manifest.plan.private_ports.is_empty();
        let public = mapped.then_some(manifest.plan.port.get());
        Watch {
            machine: machine.clone(),
            processes,
            demand: Demand::new(machine, manifest),
            public,
        }
    }

    /// Requires the families over which clients reach the current release, too.
    pub fn also_serve(&mut self, current: &Manifest) {
        if self.demand.clients == Clients::Anywhere
            && current.plan.clients == Clients::Anywhere
            && let Some(served) = current.serves
        {
            let served = served.and(self.machine.families());
            self.demand.families = self.demand.families.or(served);
        }
    }

    /// Accepts the release wherever it listens: it served before, and there is nothing better.
    pub fn accept_any_address(&mut self) {
        self.demand.accept_any_address();
    }

    /// Requires that clients reach the release, although it was never required before.
    pub fn ask_for_reach(&mut self, manifest: &Manifest) {
        self.demand = Demand::of_new(&self.machine, manifest);
    }

    /// Returns a warning about a first release: a family of this instance's addresses over
    /// which no client reaches it.
    pub fn gap(&self) -> Option<String> {
        let served = self.serves().filter(|_| self.demand.clients == Clients::Anywhere)?;
        let gap = self.machine.families().without(served);
        let said = |gap: Families| {
            format!(
                "clients do not reach it over {gap}, which this instance has: to serve both, \
                 bind [::]"
            )
        };
        (!gap.is_empty()).then(|| said(gap))
    }

    /// Returns the families over which clients reach every process that has a port, if any
    /// process has one.
    pub fn serves(&self) -> Option<Families> {
        let reached = self.processes.iter().filter_map(|process| Some(process.reached?.families));
        reached.reduce(Families::and)
    }

    pub fn units(&self) -> Vec<String> {
        self.processes.iter().map(|process| process.unit.clone()).collect()
    }

    /// Leaves out the processes that are not expected to run.
    pub fn retain(&mut self, expected: impl Fn(&str) -> bool) {
        self.processes.retain(|process| expected(&process.name));
    }

    /// Moves the processes of these types into a watch of their own.
    pub fn split_off(&mut self, is: impl Fn(&ProcessType) -> bool) -> Watch {
        let (out, left) = self.processes.drain(..).partition(|process| is(&process.kind));
        self.processes = left;
        Watch {
            machine: self.machine.clone(),
            processes: out,
            demand: self.demand.clone(),
            public: self.public,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.processes.is_empty()
    }

    pub fn join(&mut self, other: Watch) {
        self.processes.extend(other.processes);
    }

    /// The units that have not been started yet.
    pub async fn not_running(&self) -> Result<Vec<String>> {
        let mut units = Vec::new();
        for process in &self.processes {
            if !self.machine.status(&process.unit).await?.is_running() {
                units.push(process.unit.clone());
            }
        }
        Ok(units)
    }

    /// Stops processes that run but are unhealthy, as a release that is deployed again may
    /// have; the others are left alone.
    pub async fn end_the_unhealthy(&self, timeout: Duration) -> Result<()> {
        let mut unhealthy = Vec::new();
        for process in &self.processes {
            let status = self.machine.status(&process.unit).await?;
            let runs = !matches!(status.active_state.as_str(), "inactive" | "failed");
            if runs && process.verdict(&status, &self.demand).await.is_err() {
                unhealthy.push(process.unit.clone());
            }
        }
        self.machine.stop(&unhealthy, timeout).await
    }

    /// Watches started processes until all of them are healthy. A process that ends or is
    /// restarted fails at once; the deadline fails the rest. Their status texts go to `events`.
    pub async fn prove(&mut self, timeout: Duration, events: &Events) -> Result<()> {
        let deadline = Instant::now() + timeout;
        let (mut before, mut said) = (None, String::new());
        loop {
            let mut waiting = None;
            for process in &mut self.processes {
                let status = self.machine.status(&process.unit).await?;
                process.must_stay(&status)?;
                process.pass_on(&status, events);
                // A healthy process is not checked again while the others start.
                if !process.healthy {
                    let demand = &self.demand;
                    match process.verdict_by(deadline, &status, demand, &mut before).await {
                        Ok(reached) => (process.healthy, process.reached) = (true, reached),
                        Err(why) => waiting = waiting.or(Some(why)),
                    }
                }
            }
            let Some(why) = waiting else {
                if !said.is_empty() {
                    events.waiting("");
                }
                return Ok(());
            };
            if Instant::now() >= deadline {
                return Err(why.deadline(timeout));
            }
            let text = format!("{}: {}", why.process, why.why);
            if said != text {
                events.waiting(text.as_str());
                said = text;
            }
            before = Some(why);
            self.wait_for_a_port().await;
        }
    }

    /// Waits for the next check: for [`PAUSE`], or until a closed port opens.
    async fn wait_for_a_port(&self) {
        let unhealthy = self.processes.iter().filter(|process| !process.healthy);
        let opened = async {
            let mut closed = Vec::new();
            for port in unhealthy.filter_map(|process| process.port) {
                let over_ipv4 = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
                let over_ipv6 = SocketAddr::from((Ipv6Addr::LOCALHOST, port));
                for address in [over_ipv4, over_ipv6] {
                    if self.machine.connect(address).await.is_err() {
                        closed.push(address);
                    }
                }
            }
            loop {
                tokio::time::sleep(TRY).await;
                for address in &closed {
                    if self.machine.connect(*address).await.is_ok() {
                        return;
                    }
                }
            }
        };
        let _ = tokio::time::timeout(PAUSE, opened).await;
    }

    /// Watches healthy processes for the settle window: each must stay the same process and
    /// keep responding. The window is extended while one does not respond: a single probe may
    /// take longer than the window.
    pub async fn settle(&mut self, window: Duration) -> Result<()> {
        let public = self.public;
        self.keep_healthy(window, public).await
    }

    /// The same for a candidate that has just been proved, and which no client reaches yet. Without
    /// a window, a single process is not checked again at once.
    pub async fn stay_healthy(&mut self, window: Duration) -> Result<()> {
        if window.is_zero() && self.processes.len() == 1 {
            return Ok(());
        }
        self.keep_healthy(window, None).await
    }

    async fn keep_healthy(&mut self, window: Duration, public: Option<u16>) -> Result<()> {
        let end = Instant::now() + window;
        let mut failures = 0;
        loop {
            let mut unanswered = None;
            for process in &mut self.processes {
                let answer = match self.machine.status(&process.unit).await {
                    Ok(status) => {
                        process.must_stay(&status)?;
                        process.answers_in_public(&status, &self.demand, public).await
                    }
                    // systemd itself may be busy, as when it re-executes.
                    Err(error) => Err(process.not_yet(error.chain(), "see `journalctl -b -p err`")),
                };
                unanswered = unanswered.or(answer.err());
            }
            failures = if unanswered.is_some() { failures + 1 } else { 0 };
            if let Some(why) = unanswered
                && failures >= if why.is_of_map { MAP_FAILURES } else { PROBE_FAILURES }
            {
                return Err(why.stopped_answering());
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() && failures == 0 {
                return Ok(());
            }
            let pause = if failures == 0 { left.min(SETTLE_LOOK) } else { SETTLE_LOOK };
            tokio::time::sleep(pause).await;
        }
    }

    /// Returns the reason that a process does not run or answer at this moment, if there is one.
    /// Whether it accepts connections is not asked: a deploy takes a process that works on one
    /// request for some seconds for one that runs.
    pub async fn fault(&self) -> Result<Option<String>> {
        Ok(self.look_for(&self.demand).await?.fault)
    }

    /// Looks once whether each process runs and answers, or accepts connections: for reports.
    pub async fn look(&self) -> Result<Look> {
        self.look_for(&Demand { must_accept: true, ..self.demand.clone() }).await
    }

    async fn look_for(&self, demand: &Demand) -> Result<Look> {
        let mut slowest = Duration::ZERO;
        for process in &self.processes {
            let status = self.machine.status(&process.unit).await?;
            let start = Instant::now();
            let verdict = match status.is_running() {
                true => process.answers_in_public(&status, demand, self.public).await,
                false => process.verdict_of_running(&status, demand).await.map(drop),
            };
            slowest = slowest.max(start.elapsed());
            if let Err(why) = verdict {
                let fault = format!("{}: {}", why.process, why.why);
                return Ok(Look { fault: Some(fault), slowest });
            }
        }
        Ok(Look { fault: None, slowest })
    }
}

/// One look at the processes of a release.
pub struct Look {
    /// The reason that the first unhealthy process does not run or answer.
    pub fault: Option<String>,
    /// The longest time that a process took to answer.
    pub slowest: Duration,
}
