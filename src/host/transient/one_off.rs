//! One-off commands whose standard streams are their caller's.

use super::{Command, Property, STOP_TIMEOUT, Streams, all_properties};
use crate::host::service_status::ServiceStatus;
use crate::host::systemd::Systemd;
use futures_util::StreamExt;
use model::error::{Error, Result};
use std::time::Duration;
use tokio::time::{sleep, timeout};
use zbus::OwnedObjectPath;
use zbus_systemd::systemd1::JobRemovedStream;

/// How often the state of the unit is read, in case systemd's signal is lost: systemd may execute
/// itself again meanwhile.
const LOOK: Duration = Duration::from_secs(5);
/// The pause between two looks at a unit whose last processes are being killed.
const PAUSE: Duration = Duration::from_millis(20);

/// The property of a unit that stays after a success.
pub const REMAIN: &str = "RemainAfterExit";

/// A command that runs as a transient unit. systemd keeps it running if this is dropped.
pub struct OneOff {
    systemd: Systemd,
    unit: String,
    removed: JobRemovedStream,
    /// The start of the unit, which lasts as long as the command; none if it has ended.
    job: Option<OwnedObjectPath>,
}

/// A unit of a command, as systemd lists it.
pub struct Listed {
    pub unit: String,
    pub description: String,
    /// False if only the result is left of the command.
    pub is_running: bool,
    job: Option<OwnedObjectPath>,
}

/// How a command ended.
#[derive(Debug, PartialEq, Eq)]
pub struct Ended {
    /// As a shell has it: its exit status, or 128 and the number of the signal.
    pub status: u8,
    /// The reason, if it was not the command's own.
    pub why: Option<String>,
}

impl OneOff {
    /// Starts a command. Its process becomes the leader of a session, whose controlling terminal
    /// is the input, if that is a terminal. The unit stays after a success too, so that its result
    /// is found by another run of the agent, unless its properties say otherwise.
    pub async fn start(systemd: Systemd, mut command: Command, streams: Streams) -> Result<OneOff> {
        let unit = format!("{}.service", command.unit);
        let cannot = |e: zbus::Error| Error::failed(format!("run {unit}")).because(e);
        if command.properties.iter().all(|(name, _)| *name != REMAIN) {
            command.properties.push((REMAIN, Property::Bool(true)));
        }
        let removed = systemd.manager.receive_job_removed().await.map_err(cannot)?;
        let properties = all_properties(command, streams).map_err(cannot)?;
        let job = systemd
            .manager
            .start_transient_unit(unit.clone(), "fail".into(), properties, Vec::new())
            .await
            .map_err(cannot)?;
        Ok(OneOff { systemd, unit, removed, job: Some(job) })
    }

    /// Takes over a command that an earlier run of the agent has started; none if there is no
    /// such unit.
    pub async fn find(systemd: Systemd, unit: &str) -> Result<Option<OneOff>> {
        let cannot = |e: zbus::Error| Error::failed(format!("follow {unit}")).because(e);
        let removed = systemd.manager.receive_job_removed().await.map_err(cannot)?;
        let listed = OneOff::list(&systemd, unit).await?;
        let found = listed.into_iter().find(|listed| listed.unit == unit);
        Ok(found.map(|found| OneOff { systemd, unit: found.unit, removed, job: found.job }))
    }

    /// Lists the units of this name pattern whose commands run, or whose results are there.
    pub async fn list(systemd: &Systemd, pattern: &str) -> Result<Vec<Listed>> {
        let states = ["activating", "active", "deactivating", "failed"].map(str::to_owned);
        let found = systemd.manager.list_units_by_patterns(states.into(), vec![pattern.to_owned()]);
        let found = found.await;
        let found = found.map_err(|e| Error::failed(format!("list {pattern}")).because(e))?;
        let listed = found.into_iter().map(|unit| Listed {
            unit: unit.0,
            description: unit.1,
            is_running: matches!(unit.3.as_str(), "activating" | "deactivating"),
            job: (unit.8 == "start").then_some(unit.9),
        });
        Ok(listed.collect())
    }

    /// The unit's name.
    pub fn unit(&self) -> &str {
        &self.unit
    }

    /// Waits for the end of the command. Cancel safe.
    pub async fn ended(&mut self) -> Result<Ended> {
        let result = match self.job.clone() {
            Some(job) => self.end_of(&job).await?,
            None => None,
        };
        let status = loop {
            let status = self.systemd.status(&self.unit).await?;
            // Processes that the command has left behind are being killed.
            if status.active_state != "deactivating" {
                break status;
            }
            sleep(PAUSE).await;
        };
        Ok(ending(&status, result.as_deref()))
    }

    /// Waits for the end of the job; returns its result, if systemd has reported it.
    async fn end_of(&mut self, job: &OwnedObjectPath) -> Result<Option<String>> {
        loop {
            match timeout(LOOK, self.removed.next()).await {
                Ok(Some(signal)) => match signal.args() {
                    Ok(args) if args.job == *job => return Ok(Some(args.result.clone())),
                    _ => {}
                },
                Ok(None) => {
                    let error = Error::failed(format!("follow {}", self.unit));
                    return Err(error.because("the connection to systemd was lost"));
                }
                Err(_) => match self.systemd.status(&self.unit).await {
                    Ok(status) if status.active_state != "activating" => return Ok(None),
                    Ok(_) => {}
                    // systemd itself may be busy, as when it re-executes.
                    Err(error) => tracing::warn!("{}", error.chain()),
                },
            }
        }
    }

    /// Stops the command, if it runs, and removes its unit with the result.
    pub async fn remove(self) -> Result<()> {
        let status = self.systemd.status(&self.unit).await?;
        match status.active_state.as_str() {
            "inactive" => {}
            "failed" => self.systemd.reset_failed(&self.unit).await,
            _ => self.systemd.stop(std::slice::from_ref(&self.unit), STOP_TIMEOUT).await?,
        }
        Ok(())
    }
}

/// Describes the end of a command by the state of its unit, and by the result of its job if that
/// is known.
fn ending(status: &ServiceStatus, result: Option<&str>) -> Ended {
    let number = u8::try_from(status.exec_main_status).unwrap_or(u8::MAX);
    let is_canceled = result == Some("canceled");
    let why = match status.result.as_str() {
        _ if is_canceled => Some("it was stopped".to_owned()),
        "exit-code" | "signal" | "core-dump" => None,
        "oom-kill" => Some("it was killed for memory".to_owned()),
        other => Some(format!("systemd reports {other}")),
    };
    match status.exec_main_code {
        1 if number != 0 => Ended { status: number, why },
        2 | 3 => Ended { status: number.saturating_add(128), why },
        // SIGTERM: systemd has forgotten the process.
        _ if is_canceled => Ended { status: 128 + 15, why },
        _ if result == Some("done") || status.active_state == "active" => {
            Ended { status: 0, why: None }
        }
        0 if status.active_state == "inactive" => {
            let why = "its end is unknown: it was stopped, or its unit was removed";
            Ended { status: 1, why: Some(why.to_owned()) }
        }
        _ => Ended { status: 1, why },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(state: &str, result: &str, code: i32, status: i32, job: Option<&str>) -> u8 {
        let found = ServiceStatus {
            active_state: state.into(),
            result: result.into(),
            exec_main_code: code,
            exec_main_status: status,
            ..ServiceStatus::default()
        };
        ending(&found, job).status
    }

    #[test]
    fn a_status_is_that_of_a_shell() {
        for job in [Some("failed"), None] {
            assert_eq!(ended("failed", "exit-code", 1, 7, job), 7);
            assert_eq!(ended("failed", "signal", 2, 9, job), 137);
            assert_eq!(ended("failed", "core-dump", 3, 6, job), 134);
            // It never ran.
            assert_eq!(ended("failed", "resources", 0, 0, job), 1);
        }
        assert_eq!(ended("inactive", "success", 0, 0, Some("canceled")), 143);
    }

    #[test]
    fn a_success_is_known_by_its_job_or_by_its_unit_and_by_nothing_else() {
        assert_eq!(ended("active", "success", 1, 0, Some("done")), 0);
        assert_eq!(ended("active", "success", 1, 0, None), 0);
        assert_eq!(ended("inactive", "success", 0, 0, None), 1);
    }
}
