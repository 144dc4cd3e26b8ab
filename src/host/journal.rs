//! The journal, read by `journalctl`: as a transient unit where the daemon needs
//! a few lines, in place of this process where an operator wants to read.

use super::systemd::Systemd;
use super::transient::Command;
use std::os::unix::process::CommandExt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How often the journal was read: each read is a unit of its own.
static READS: AtomicU64 = AtomicU64::new(0);

const JOURNALCTL: &str = "/usr/bin/journalctl";

impl Systemd {
    /// The last lines that a unit wrote with a syslog identifier since a moment, in
    /// seconds since the epoch. Best effort: what cannot be read is left out.
    pub async fn last_lines(
        &self,
        unit: &str,
        identifier: &str,
        since: i64,
        most: usize,
    ) -> Vec<String> {
        let arguments = [
            "--quiet",
            "--no-pager",
            "--output=cat",
            &format!("--identifier={identifier}"),
            &format!("--since=@{since}"),
            &format!("--lines={most}"),
            &format!("_SYSTEMD_UNIT={unit}"),
        ];
        let argv = std::iter::once(JOURNALCTL).chain(arguments).map(str::to_owned).collect();
        let command = Command {
            unit: format!("deploy-journal-{}", READS.fetch_add(1, Ordering::Relaxed)),
            description: format!("The last lines of {identifier}"),
            argv,
            timeout: Duration::from_secs(10),
            properties: Vec::new(),
        };
        let mut lines = Vec::new();
        if let Err(error) = self.run(command, |line| lines.push(line)).await {
            tracing::debug!("{}", error.chain());
        }
        lines
    }
}

/// Becomes `journalctl` for these syslog identifiers; returns only on failure.
#[expect(clippy::disallowed_methods, reason = "host/ is where programs are started")]
pub fn become_reader(identifiers: &[String], follow: bool, lines: u32) -> std::io::Error {
    let mut command = std::process::Command::new(JOURNALCTL);
    command.args(identifiers.iter().map(|id| format!("--identifier={id}")));
    command.arg(format!("--lines={lines}"));
    if follow {
        command.arg("--follow");
    }
    command.exec()
}
