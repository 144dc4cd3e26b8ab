//! Alarms and load balancers, which make a group go back although its agents find it healthy.

use super::Event;
use super::record::{Action, Failure};
use super::run::Run;
use crate::fleet::Host;
use model::error::{Exit, Result};
use std::time::Duration;
use tokio::time::Instant;

/// The time between two questions for the alarms.
const ALARMS: Duration = Duration::from_secs(10);

impl Run<'_> {
    /// Returns the failure to go back for if an alarm has gone off. A rollback may be what ends
    /// it, and is not stopped.
    pub async fn alarm(&mut self) -> Result<Option<Failure>> {
        let Some(guard) = &self.group.guard else { return Ok(None) };
        let is_early = self.alarms_asked.is_some_and(|at| at.elapsed() < ALARMS);
        if is_early || self.rollout().action != Action::Deploy {
            return Ok(None);
        }
        self.alarms_asked = Some(Instant::now());
        match self.lease.during(self.group, guard.alarm()).await? {
            Ok(alarm) => Ok(alarm.map(|message| {
                let code = Exit::RolledBack.code();
                Failure { host: None, code, message }
            })),
            Err(error) => {
                self.group.tell(Event::Warning { text: error.chain() });
                Ok(None)
            }
        }
    }

    /// Returns the first of these instances that a load balancer finds unhealthy now, and did not
    /// before.
    pub async fn unhealthy_target(&mut self, hosts: &[Host]) -> Result<Option<Failure>> {
        let Some(guard) = &self.group.guard else { return Ok(None) };
        let unhealthy = match self.lease.during(self.group, guard.unhealthy()).await? {
            Ok(unhealthy) => unhealthy,
            Err(error) => {
                self.group.tell(Event::Warning { text: error.chain() });
                return Ok(None);
            }
        };
        let before = &self.rollout().unhealthy;
        let is_new = |host: &Host| hosts.contains(host) && !before.contains(host);
        let first = unhealthy.into_iter().find(|(host, _)| is_new(host));
        Ok(first.map(|(host, reason)| {
            let message = format!("its load balancer finds it unhealthy: {reason}");
            Failure { host: Some(host), code: Exit::RolledBack.code(), message }
        }))
    }
}
