//! The exit codes of the commands.

use serde::{Deserialize, Serialize};

/// The exit code of the `deploy` command, and what it says about the instance.
///
/// 137, 168 and 194 mean something else to SSM Run Command and are never used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum Exit {
    /// Deployed, or already there.
    Done = 0,
    /// The agent itself could not do its work; what ran before runs on.
    Failed = 1,
    /// The command or a setting of the agent makes no sense; nothing was touched.
    Usage = 2,
    /// The release cannot be used: archive, env, Procfile or build. Untouched.
    Unusable = 10,
    /// The source cannot be reached or refuses us. Untouched.
    Source = 11,
    /// The candidate did not become healthy. Untouched.
    Unhealthy = 12,
    /// Failed after the switch; the previous release runs again.
    RolledBack = 20,
    /// Failed, and the previous release could not be brought back.
    #[serde(rename = "stuck")]
    RollbackFailed = 30,
    /// Another deploy of this app is running.
    Busy = 40,
    /// `deployd` cannot be reached.
    NoAgent = 41,
    /// Cancelled before its commit; what ran before runs on.
    Cancelled = 43,
}

impl Exit {
    pub const ALL: [Exit; 11] = [
        Exit::Done,
        Exit::Failed,
        Exit::Usage,
        Exit::Unusable,
        Exit::Source,
        Exit::Unhealthy,
        Exit::RolledBack,
        Exit::RollbackFailed,
        Exit::Busy,
        Exit::NoAgent,
        Exit::Cancelled,
    ];

    pub fn code(self) -> u8 {
        self as u8
    }
}
