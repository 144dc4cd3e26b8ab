//! The wire types of the control socket: JSON over HTTP.
//!
//! A POST returns a stream of [`Event`](crate::event::Event)s, one JSON object per line; `ended`
//! is the last one. A GET returns one document, or an
//! [`Outcome`](crate::event::Outcome) and a status that is not 200.

use crate::error::Exit;
use crate::history::Entry;
use crate::release::signature::Signer;
use crate::release::state::State;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

/// The socket of `deployd`; created by `deployd.socket`.
pub const SOCKET: &str = "/run/deploy/deployd.sock";

/// The header of a request by which root names the person or job that it acts for, in UTF-8.
pub const BY: &str = "x-deploy-by";
/// Characters of that name that are kept.
pub const LONGEST_BY: usize = 60;

/// The timeout of a job whose caller gives none; no job runs without a bound.
pub const TIMEOUT: Duration = Duration::from_secs(3600);

/// POST /v1/deploy
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Deploy {
    pub url: String,
    #[serde(default)]
    pub no_wait: bool,
    /// Run the release phase, even if DEPLOY_RELEASE_PHASE does not ask for it.
    #[serde(default)]
    pub run_release: bool,
    /// The request for the release phase, which may be repeated: it runs once for this id.
    #[serde(default)]
    pub release_id: Option<String>,
    /// Respond as soon as the deploy has begun, with its first event.
    #[serde(default)]
    pub detach: bool,
    /// Milliseconds from now by which the release must be committed; without it,
    /// [`TIMEOUT`].
    #[serde(default)]
    pub timeout_ms: Option<u64>,
}

/// The query of GET /v1/attach, which returns a stream of events.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Attach {
    /// The id of a job. None: the only job under way.
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
    /// The words given as `[APP] [PROCESS]`: an app, a process type or a process.
    pub words: Vec<String>,
    /// For a restart: give the app a user of its own from now on.
    #[serde(default)]
    pub own_user: bool,
}

/// POST /v1/scale
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scale {
    pub app: Option<String>,
    /// The number of processes by process type.
    pub counts: BTreeMap<String, u16>,
}

/// POST /v1/remove
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Remove {
    pub app: String,
    /// Whatever state the app is in, and whatever job is under way.
    #[serde(default)]
    pub force: bool,
}

/// POST /v1/cancel
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cancel {
    /// An app, or the id of a job. None: the only job there is.
    pub word: Option<String>,
}

/// The query of GET /v1/status, /v1/releases
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
    /// Every process that should run does, and responds.
    pub healthy: bool,
    /// Why the app is not healthy.
    #[serde(default)]
    pub fault: Option<String>,
    /// Why its state on disk cannot be read, and the remedy. The other fields are from the last
    /// time that it could be read.
    #[serde(default)]
    pub damaged: Option<String>,
    /// The port on which clients reach `web`.
    pub port: Option<u16>,
    /// A report that another program has flushed the port map, if one has.
    #[serde(default)]
    pub port_map: Option<String>,
    pub processes: Vec<ProcessStatus>,
    /// What `deploy exec` runs.
    #[serde(default)]
    pub one_offs: Vec<OneOffStatus>,
    pub leaving: Option<Leaving>,
    /// The counts that `deploy scale` has changed, beside those of the release.
    #[serde(default)]
    pub scaled: Option<String>,
    /// What of agent.env the processes do not run by yet, or why it cannot be read.
    #[serde(default)]
    pub settings: Option<String>,
    /// What deployd found when it last looked at the processes by itself.
    #[serde(default)]
    pub health: Option<Health>,
    /// The path that `web` is asked for. None: it is only checked that it accepts connections.
    #[serde(default)]
    pub health_path: Option<String>,
    /// The target of `deploy rollback`.
    pub rollback: Option<String>,
    /// The job that is under way for the app, and its id for `deploy attach`.
    pub working: Option<String>,
    pub working_id: Option<String>,
    pub last: Option<Entry>,
    /// The state of watch mode, if DEPLOY_WATCH names the app.
    #[serde(default)]
    pub watch: Option<WatchStatus>,
}

/// The state of watch mode for an app.
#[derive(Debug, Serialize, Deserialize)]
pub struct WatchStatus {
    /// None if DEPLOY_WATCH is invalid.
    pub url: Option<String>,
    /// The release that the URL named at the last attempt.
    pub release: Option<String>,
    /// The outcome of that attempt.
    pub exit: Option<Exit>,
    pub at: Option<Timestamp>,
    /// Why DEPLOY_WATCH is invalid, or why the last poll failed.
    pub error: Option<String>,
    /// A summary in words.
    pub text: String,
}

/// The health of a release over time.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Health {
    pub healthy: bool,
    /// Since when it is so.
    pub since: Timestamp,
    /// When all processes last ran and answered.
    pub answered: Option<Timestamp>,
    /// How long the slowest took then.
    pub milliseconds: Option<f64>,
    /// The reason that a process did not answer at the last look.
    pub fault: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct ProcessStatus {
    pub process: String,
    pub unit: String,
    /// A state of systemd's, such as `running` or `auto-restart`; `stopped` if the operator
    /// stopped the process.
    pub state: String,
    pub pid: Option<u32>,
    pub since: Option<Timestamp>,
    pub restarts: u32,
    /// In bytes.
    pub memory: Option<u64>,
    /// The port that the process listens on; clients use the app's port.
    pub port: Option<u16>,
    /// The addresses that it listens on.
    #[serde(default)]
    pub addresses: Vec<String>,
    /// How it ended last, where it does not run.
    #[serde(default)]
    pub ended: Option<String>,
    /// Whether it ends again and again.
    #[serde(default)]
    pub crash_loop: bool,
    /// CPU time of its control group.
    #[serde(default)]
    pub cpu_seconds: Option<f64>,
    /// Open connections to its port.
    #[serde(default)]
    pub connections: Option<usize>,
}

/// A command of `deploy exec` that runs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct OneOffStatus {
    pub app: String,
    pub release: String,
    pub unit: String,
    /// The program, or the line of the Procfile, without arguments: they may hold secrets.
    pub command: String,
    /// The user who runs it.
    pub who: String,
    pub since: Option<Timestamp>,
    pub pid: Option<u32>,
    /// Whether its caller still runs, and waits for its end.
    pub has_caller: bool,
}

/// Processes of a release that is no longer current. They still run for the clients that are
/// connected to them, and for a rollback.
#[derive(Debug, Serialize, Deserialize)]
pub struct Leaving {
    pub units: Vec<String>,
    pub connections: usize,
    /// The latest time at which they are stopped.
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
    /// Whether it is the target of `deploy rollback`.
    pub rollback: bool,
    pub staged_at: Timestamp,
    pub files: u64,
    pub bytes: u64,
    /// Why its label is not the name that it was published under.
    #[serde(default)]
    pub why: Option<String>,
    /// The signer, of a release whose signature was required.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signed_by: Option<Signer>,
}

fn done() -> Exit {
    Exit::Done
}

/// The output of `deploy plan`: what a deploy would change. Values of env are compared, never
/// shown.
#[derive(Debug, Serialize, Deserialize)]
pub struct PlanStatus {
    pub app: String,
    pub release: String,
    pub url: String,
    pub current: Option<String>,
    /// Whether the same content already runs, so that nothing changes.
    pub nothing: bool,
    /// Whether the archive has to be fetched.
    pub fetch: bool,
    /// The exit code with which `deploy` would refuse it now; 0 if it would not.
    #[serde(default = "done")]
    pub exit: Exit,
    /// Why `deploy` would refuse it now, and what to do about that.
    #[serde(default)]
    pub refused: Vec<String>,
    pub build: Option<String>,
    /// The Procfile's `release` command.
    #[serde(default)]
    pub release_phase: Option<PlannedPhase>,
    /// All services of the Procfile, including those with a count of zero.
    #[serde(default)]
    pub types: Vec<PlannedType>,
    pub start: Vec<PlannedProcess>,
    pub stop: Vec<PlannedProcess>,
    /// Names of env variables that are added, removed or changed.
    pub env_added: Vec<String>,
    pub env_removed: Vec<String>,
    pub env_changed: Vec<String>,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct PlannedPhase {
    pub command: String,
    /// Whether it also runs in deploys that do not ask for it.
    pub always: bool,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct PlannedType {
    #[serde(rename = "type")]
    pub kind: String,
    /// How many processes of the type are started.
    pub count: u16,
    /// How many of it the current release has.
    #[serde(default)]
    pub now: Option<u16>,
    pub command: String,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct PlannedProcess {
    pub process: String,
    pub unit: String,
    pub command: String,
    /// How the process takes over from the old one, if it starts.
    pub how: String,
}

/// The query of GET /v1/history, which returns [`Recorded`] entries, newest first.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct History {
    /// An app, which may have been removed. None: all apps.
    pub app: Option<String>,
    /// The most entries of the answer.
    pub most: Option<usize>,
}

/// An entry of the history, and the app that it is about.
#[derive(Debug, Serialize, Deserialize)]
pub struct Recorded {
    pub app: String,
    #[serde(flatten)]
    pub entry: Entry,
}

/// The query of GET /v1/logs, which returns [`Logged`] apps.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Logs {
    /// The words given as `[APP…|APP PROCESS]`, with blanks between them.
    #[serde(default)]
    pub word: String,
    /// The label of a release, if only its lines are wanted.
    pub release: Option<String>,
}

/// How the lines of an app are found in the journal, and whose they are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Logged {
    pub app: String,
    /// The app's slice, which holds its processes of all releases; none if only the units of one
    /// release are wanted.
    pub slice: Option<String>,
    /// The units of installed releases: if a process ends before journald has read its slice,
    /// its stream still gives the unit.
    pub units: Vec<String>,
    /// The syslog identifiers of the processes that are wanted; none if all are.
    pub identifiers: Vec<String>,
    /// The process types of the installed releases.
    pub kinds: Vec<String>,
    /// The label of the current release.
    pub current: Option<String>,
    /// The labels of the releases that are or were current.
    pub ran: Vec<String>,
}

/// POST /v1/exec, on a connection over which the caller has passed its terminal, or three pipes,
/// by SCM_RIGHTS of unix(7). The response is a stream of [`ExecEvent`]s. The command ends when
/// the connection does.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Exec {
    /// The words given as `[APP] [LINE]`: an app, and a line of its Procfile.
    pub words: Vec<String>,
    /// The process type whose conditions the command gets.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// The program and its arguments; empty if a line is to run.
    pub command: Vec<String>,
    /// The caller's TERM.
    pub term: Option<String>,
}

/// The query of GET /v1/exec, by which the process that has started a one-off follows it again, if
/// deployd was restarted meanwhile. The response is that of POST /v1/exec.
#[derive(Debug, Serialize, Deserialize)]
pub struct Following {
    pub unit: String,
}

/// The stages of a one-off command.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExecEvent {
    /// It runs, as this unit.
    Begun { unit: String },
    /// It ended with this status; `why` is a reason that was not the command's own.
    Ended { status: u8, why: Option<String> },
}

/// The query of GET /v1/env
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct EnvQuery {
    /// The words given as `[APP] [NAME…]`, separated by blanks.
    pub words: String,
}

/// The variables of an app's processes, as `deploy env` shows them.
#[derive(Debug, Serialize, Deserialize)]
pub struct EnvStatus {
    pub app: String,
    pub release: String,
    /// The release that the variables are compared with: the target of a rollback.
    pub before: Option<String>,
    pub variables: Vec<Variable>,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Variable {
    pub name: String,
    /// `release`, `agent.env` or `agent`.
    pub from: String,
    /// `same`, `new`, `changed` or `gone`; none if there is no release before.
    pub change: Option<String>,
    /// Only if the name was asked for; a value of the release before is never shown.
    pub value: Option<String>,
}

/// POST /v1/lifecycle, a call about the launching hook of the instance's Auto Scaling group,
/// with a [`LifecycleAnswer`].
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lifecycle {
    pub call: LifecycleCall,
    pub group: String,
    pub hook: String,
    /// The id of the instance.
    pub instance: String,
    /// The region of the instance, which the release's store need not be in.
    #[serde(default)]
    pub region: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LifecycleCall {
    /// Prolong the time that the hook waits.
    Heartbeat,
    /// The instance may go into service.
    Continue,
    /// The instance is to be terminated.
    Abandon,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct LifecycleAnswer {
    /// Whether the hook waited for this instance.
    pub active: bool,
}
