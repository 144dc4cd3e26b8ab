//! The wire types of the control socket: JSON over HTTP.
//!
//! A POST answers with a stream of [`Event`](crate::event::Event)s, one JSON
//! object a line, the last of which is `ended`. A GET answers with one document,
//! or with an [`Outcome`](crate::event::Outcome) and a status that is not 200.

use crate::error::Exit;
use crate::history::Entry;
use crate::release::state::State;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Where `deployd` listens; made by `deployd.socket`.
pub const SOCKET: &str = "/run/deploy/deployd.sock";

/// The timeout of a job whose caller gives none; no job runs without a bound.
pub const TIMEOUT: Duration = Duration::from_secs(3600);

/// POST /v1/deploy
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Deploy {
    pub url: String,
    #[serde(default)]
    pub no_wait: bool,
    /// Run the release phase, whatever DEPLOY_RELEASE_PHASE says.
    #[serde(default)]
    pub run_release: bool,
    /// Answer as soon as the deploy has begun, with the event that says so.
    #[serde(default)]
    pub detach: bool,
    /// Milliseconds from now by which the release must be committed; without it,
    /// [`TIMEOUT`].
    #[serde(default)]
    pub timeout_ms: Option<u64>,
}

/// The query of GET /v1/attach, which answers with a stream of events.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Attach {
    /// None: whatever is under way.
    pub id: Option<String>,
}

/// POST /v1/stage, /v1/plan
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Release {
    pub url: String,
}

/// POST /v1/rollback
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rollback {
    pub app: Option<String>,
    pub to: Option<String>,
}

/// POST /v1/restart, /v1/stop, /v1/start
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Processes {
    /// An app, a process type or a process: whichever of `[APP] [PROCESS]` were given.
    pub words: Vec<String>,
    /// Of a restart: with a user of its own from now on.
    #[serde(default)]
    pub own_user: bool,
}

/// POST /v1/remove
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Remove {
    pub app: String,
    /// Whatever state it is in, and whatever is being done with it.
    #[serde(default)]
    pub force: bool,
}

/// POST /v1/cancel
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cancel {
    /// An app, or the id of a job. None: the only one there is.
    pub word: Option<String>,
}

/// The query of every GET: /v1/status, /v1/releases, /v1/history
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Which {
    pub app: Option<String>,
}

/// One app, as `deploy status` shows it.
#[derive(Debug, Serialize, Deserialize)]
pub struct AppStatus {
    pub app: String,
    pub environment: Option<String>,
    /// The label of the current release.
    pub release: Option<String>,
    pub url: Option<String>,
    pub state: Option<State>,
    /// Every process that should run does, and answers.
    pub healthy: bool,
    /// Why it is not healthy.
    #[serde(default)]
    pub fault: Option<String>,
    /// Its state on disk cannot be read: why, and the remedy. The rest is as it was when
    /// that was last possible.
    #[serde(default)]
    pub damaged: Option<String>,
    /// Where clients reach `web`.
    pub port: Option<u16>,
    /// What happened to the port map that leads there, if anything did.
    #[serde(default)]
    pub port_map: Option<String>,
    pub processes: Vec<ProcessStatus>,
    pub leaving: Option<Leaving>,
    /// Where `deploy rollback` would go.
    pub rollback: Option<String>,
    /// What is being done with the app now, and its id for `deploy attach`.
    pub working: Option<String>,
    pub working_id: Option<String>,
    pub last: Option<Entry>,
    /// Where DEPLOY_WATCH says that the app follows something.
    #[serde(default)]
    pub watch: Option<WatchStatus>,
}

/// What watch mode has done for an app.
#[derive(Debug, Serialize, Deserialize)]
pub struct WatchStatus {
    /// None where DEPLOY_WATCH makes no sense.
    pub url: Option<String>,
    /// What it named when something was last done about it.
    pub release: Option<String>,
    /// How that ended.
    pub exit: Option<Exit>,
    pub at: Option<Timestamp>,
    /// Why it could not be asked for, or followed, the last time.
    pub error: Option<String>,
    /// All of this in words.
    pub text: String,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct ProcessStatus {
    pub process: String,
    pub unit: String,
    /// systemd's words, such as `running` or `auto-restart`; `stopped` where the
    /// operator stopped it.
    pub state: String,
    pub pid: Option<u32>,
    pub since: Option<Timestamp>,
    pub restarts: u32,
    /// Bytes.
    pub memory: Option<u64>,
    /// Where it listens; clients come by way of the app's port.
    pub port: Option<u16>,
}

/// Processes of a release that is no longer current, and are still up for those
/// who are connected to them, and to go back to.
#[derive(Debug, Serialize, Deserialize)]
pub struct Leaving {
    pub units: Vec<String>,
    pub connections: usize,
    /// When they are stopped at the latest.
    pub until: Timestamp,
}

/// One installed release, as `deploy releases` shows it.
#[derive(Debug, Serialize, Deserialize)]
pub struct ReleaseStatus {
    pub app: String,
    pub release: String,
    pub url: String,
    pub state: State,
    pub current: bool,
    /// Where `deploy rollback` would go.
    pub rollback: bool,
    pub staged_at: Timestamp,
    pub files: u64,
    pub bytes: u64,
}

/// What `deploy plan` shows: what a deploy would change. Values of env are
/// compared, never shown.
#[derive(Debug, Serialize, Deserialize)]
pub struct PlanStatus {
    pub app: String,
    pub release: String,
    pub url: String,
    pub current: Option<String>,
    /// The same content already runs.
    pub nothing: bool,
    /// Whether the archive has to be fetched.
    pub fetch: bool,
    pub build: Option<String>,
    /// The Procfile's `release`.
    #[serde(default)]
    pub release_phase: Option<PlannedPhase>,
    /// All services of the Procfile, including those with a count of zero.
    #[serde(default)]
    pub types: Vec<PlannedType>,
    pub start: Vec<PlannedProcess>,
    pub stop: Vec<PlannedProcess>,
    /// Names in env that come, go, or have another value.
    pub env_added: Vec<String>,
    pub env_removed: Vec<String>,
    pub env_changed: Vec<String>,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct PlannedPhase {
    pub command: String,
    /// Also in a deploy that does not ask for it.
    pub always: bool,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct PlannedType {
    #[serde(rename = "type")]
    pub kind: String,
    /// How many processes of it are started.
    pub count: u16,
    pub command: String,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct PlannedProcess {
    pub process: String,
    pub unit: String,
    pub command: String,
    /// How it takes over, as of a process that starts.
    pub how: String,
}
