//! One-off commands whose standard streams are their caller's.

use super::{Command, STOP_TIMEOUT, Streams, all_properties};
use crate::host::systemd::{ServiceStatus, Systemd};
use futures_util::StreamExt;
use model::error::{Error, Result};
use zbus::OwnedObjectPath;
use zbus_systemd::systemd1::JobRemovedStream;

/// A command that runs as a transient unit. systemd keeps it running if this is dropped.
pub struct OneOff {
    systemd: Systemd,
    unit: String,
    removed: JobRemovedStream,
    job: OwnedObjectPath,
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
    /// is the input, if that is a terminal.
    pub async fn start(systemd: Systemd, command: Command, streams: Streams) -> Result<OneOff> {
        let unit = format!("{}.service", command.unit);
        let cannot = |e: zbus::Error| Error::failed(format!("run {unit}")).because(e);
        let removed = systemd.manager.receive_job_removed().await.map_err(cannot)?;
        let properties = all_properties(command, streams).map_err(cannot)?;
        let job = systemd
            .manager
            .start_transient_unit(unit.clone(), "fail".into(), properties, Vec::new())
            .await
            .map_err(cannot)?;
        Ok(OneOff { systemd, unit, removed, job })
    }

    /// The units of this name pattern that run.
    pub async fn running(systemd: &Systemd, pattern: &str) -> Result<Vec<String>> {
        let states = ["activating", "active", "deactivating"].map(str::to_owned).to_vec();
        let found = systemd.manager.list_units_by_patterns(states, vec![pattern.to_owned()]);
        let found = found.await;
        let found = found.map_err(|e| Error::failed(format!("list {pattern}")).because(e))?;
        Ok(found.into_iter().map(|unit| unit.0).collect())
    }

    /// The unit's name.
    pub fn unit(&self) -> &str {
        &self.unit
    }

    /// Waits for the end of the command. Cancel safe.
    pub async fn ended(&mut self) -> Result<Ended> {
        let result = loop {
            match self.removed.next().await {
                Some(signal) => match signal.args() {
                    Ok(args) if args.job == self.job => break args.result.clone(),
                    _ => {}
                },
                None => {
                    let error = Error::failed(format!("follow {}", self.unit));
                    return Err(error.because("the connection to systemd was lost"));
                }
            }
        };
        if result == "done" {
            return Ok(Ended { status: 0, why: None });
        }
        let status = self.systemd.status(&self.unit).await?;
        // Until then systemd keeps the caller's terminal open.
        self.systemd.reset_failed(&self.unit).await;
        Ok(ending(&status, &result))
    }

    /// Stops the command and all its processes.
    pub async fn stop(self) -> Result<()> {
        self.systemd.stop(std::slice::from_ref(&self.unit), STOP_TIMEOUT).await
    }
}

/// What became of a unit whose job had another result than `done`.
fn ending(status: &ServiceStatus, result: &str) -> Ended {
    let number = u8::try_from(status.exec_main_status).unwrap_or(u8::MAX);
    let why = match status.result.as_str() {
        _ if result == "canceled" => Some("it was stopped".to_owned()),
        "exit-code" | "signal" | "core-dump" => None,
        "oom-kill" => Some("it was killed for memory".to_owned()),
        other => Some(format!("systemd reports {other}")),
    };
    match status.exec_main_code {
        1 if number != 0 => Ended { status: number, why },
        2 | 3 => Ended { status: number.saturating_add(128), why },
        // SIGTERM: systemd has forgotten the process.
        _ if result == "canceled" => Ended { status: 128 + 15, why },
        _ => Ended { status: 1, why },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(result: &str, code: i32, status: i32) -> u8 {
        let found = ServiceStatus {
            result: result.into(),
            exec_main_code: code,
            exec_main_status: status,
            ..ServiceStatus::default()
        };
        ending(&found, "failed").status
    }

    #[test]
    fn a_status_is_that_of_a_shell() {
        assert_eq!(ended("exit-code", 1, 7), 7);
        assert_eq!(ended("signal", 2, 9), 137);
        assert_eq!(ended("core-dump", 3, 6), 134);
        // It never ran.
        assert_eq!(ended("resources", 0, 0), 1);
    }
}
