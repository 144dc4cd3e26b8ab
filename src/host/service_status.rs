//! What systemd says of a service, and what that means: whether it runs, and how it ended.

use std::collections::HashMap;
use std::time::Duration;
use zbus::OwnedVariant;

pub(super) type Properties = HashMap<String, OwnedVariant>;

/// The state of a service; the fields are named like its D-Bus properties.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceStatus {
    /// `active`, `inactive`, `failed`, `activating`, …
    pub active_state: String,
    /// `running`, `dead`, `auto-restart`, …
    pub sub_state: String,
    /// The reason why it is not running: `success`, `exit-code`, `signal`, `oom-kill`, …
    pub result: String,
    /// 0 if it has none.
    pub main_pid: u32,
    pub exec_main_status: i32,
    /// 1 exited, 2 killed, 3 dumped: CLD_* of sigaction(2).
    pub exec_main_code: i32,
    pub n_restarts: u32,
    /// Microseconds since the epoch; 0 if it was never active.
    pub active_since: u64,
    /// The same by CLOCK_MONOTONIC, which is never set.
    pub active_since_monotonic: u64,
    /// When its main process began, in microseconds since the epoch; 0 if it never did.
    pub started: u64,
    /// Bytes; `None` without memory accounting.
    pub memory: Option<u64>,
    /// `None` without CPU accounting.
    pub cpu: Option<Duration>,
    pub control_group: String,
    /// Whether it has Type=notify.
    pub notifies: bool,
    /// The last STATUS= that the process sent; sd_notify(3).
    pub status_text: String,
    pub invocation_id: String,
}

impl ServiceStatus {
    /// The state of a unit that has left no trace in systemd.
    pub(super) fn not_loaded() -> ServiceStatus {
        ServiceStatus {
            active_state: "inactive".to_owned(),
            sub_state: "dead".to_owned(),
            result: "success".to_owned(),
            ..ServiceStatus::default()
        }
    }

    pub fn is_running(&self) -> bool {
        match self.active_state.as_str() {
            "active" => self.sub_state == "running",
            // Set by RELOADING=1 of sd_notify(3): it serves meanwhile.
            state => state == "reloading",
        }
    }

    /// Whether its process runs, and systemd waits for its READY=1.
    pub fn is_getting_ready(&self) -> bool {
        self.notifies && self.sub_state == "start" && self.main_pid != 0
    }

    /// Whether it was killed because memory ran out. Under cgroup v1 the kernel does not report
    /// it, and the only trace is a SIGKILL, perhaps passed on by a shell. systemd's own kills have
    /// another result, so otherwise only a person could have sent it.
    pub fn was_killed_for_memory(&self) -> bool {
        let by_kernel = match self.exec_main_code {
            2 | 3 => self.result == "signal" && self.exec_main_status == 9,
            _ => self.result == "exit-code" && self.exec_main_status == 128 + 9,
        };
        by_kernel || self.result == "oom-kill"
    }

    /// Describes how it ended: `exit-code, status 1`, `signal 9`.
    pub fn ending(&self) -> String {
        match self.exec_main_code {
            _ if self.result == "oom-kill" => "killed for memory".to_owned(),
            _ if self.was_killed_for_memory() => {
                "killed for memory, by all signs (signal 9)".to_owned()
            }
            2 | 3 => format!("{}, signal {}", self.result, self.exec_main_status),
            _ => format!("{}, exit status {}", self.result, self.exec_main_status),
        }
    }
}

fn property<T: TryFrom<OwnedVariant> + Default>(properties: &Properties, name: &str) -> T {
    let value = properties.get(name).cloned();
    value.and_then(|value| T::try_from(value).ok()).unwrap_or_default()
}

pub(super) fn status_of(unit: &Properties, service: &Properties) -> ServiceStatus {
    let memory: u64 = property(service, "MemoryCurrent");
    let cpu: u64 = property(service, "CPUUsageNSec");
    let id: Vec<u8> = property(unit, "InvocationID");
    ServiceStatus {
        active_state: property(unit, "ActiveState"),
        sub_state: property(unit, "SubState"),
        result: property(service, "Result"),
        main_pid: property(service, "MainPID"),
        exec_main_status: property(service, "ExecMainStatus"),
        exec_main_code: property(service, "ExecMainCode"),
        n_restarts: property(service, "NRestarts"),
        active_since: property(unit, "ActiveEnterTimestamp"),
        active_since_monotonic: property(unit, "ActiveEnterTimestampMonotonic"),
        started: property(service, "ExecMainStartTimestamp"),
        memory: (memory != u64::MAX && memory != 0).then_some(memory),
        cpu: (cpu != u64::MAX && cpu != 0).then(|| Duration::from_nanos(cpu)),
        control_group: property(service, "ControlGroup"),
        notifies: property::<String>(service, "Type") == "notify",
        status_text: property(service, "StatusText"),
        invocation_id: id.iter().map(|byte| format!("{byte:02x}")).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::recorded;

    /// What each recorded service is, and how it ended in an operator's words.
    #[test]
    fn recorded_services_are_told_apart() {
        for (case, is_running, ending) in [
            ("running", true, "success, exit status 0"),
            ("never-started", false, "success, exit status 0"),
            ("exit-3", false, "exit-code, exit status 3"),
            ("restarts", false, "exit-code, exit status 3"),
            ("sigusr1", false, "signal, signal 10"),
            ("sigkill", false, "killed for memory, by all signs (signal 9)"),
            ("no-program", false, "exit-code, exit status 203"),
            ("no-user", false, "exit-code, exit status 217"),
            ("no-path", false, "exit-code, exit status 226"),
            ("not-ready", false, "success, exit status 0"),
            ("start-timeout", false, "timeout, signal 15"),
            ("stopping", false, "success, exit status 0"),
        ] {
            let status = recorded::status(case);
            assert_eq!(
                (status.is_running(), status.ending()),
                (is_running, ending.to_owned()),
                "{case}"
            );
            assert_eq!(status.is_getting_ready(), case == "not-ready", "{case}");
            assert_eq!(status.invocation_id, "07".repeat(16), "{case}");
        }
        assert_eq!(recorded::status("not-ready").status_text, "loading");
        assert_eq!(recorded::status("running").memory, None, "not accounted");
    }

    #[test]
    fn a_unit_that_is_not_loaded_is_as_one_that_never_ran() {
        let of = |status: ServiceStatus| {
            let ending = status.ending();
            (status.active_state, status.sub_state, status.result, status.main_pid, ending)
        };
        assert_eq!(of(ServiceStatus::not_loaded()), of(recorded::status("never-started")));
    }

    #[test]
    fn what_systemd_does_not_account_is_unknown() {
        let status = |cpu: u64| {
            let service = [("CPUUsageNSec".to_owned(), OwnedVariant::from(cpu))];
            status_of(&Properties::new(), &service.into_iter().collect())
        };
        assert_eq!(status(1_500_000_000).cpu, Some(Duration::from_millis(1500)));
        // "[not set]"
        assert_eq!(status(u64::MAX).cpu, None);
        assert_eq!(status(0).cpu, None);
    }
}
