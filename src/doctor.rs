//! The checks of `deploy doctor`: each answers one question about this instance, with a remedy.
//!
//! Rows run side by side, each with its own deadline. No row changes anything.

mod forwarding;
mod logs;
mod machine;
mod signatures;
mod source;
mod state;
mod traffic;

#[cfg(test)]
mod tests;

use crate::context::{self, Common, Context};
use crate::events::Events;
use crate::host::linux::Linux;
use crate::source::Sources;
use crate::store::{Store, last_place};
use crate::trust::Trust;
use futures_util::future::{BoxFuture, FutureExt, join_all};
use model::doctor::{Check, Row};
use model::error::{Error, Result};
use model::release::env::Env;
use model::release::settings::{self, AgentSettings, STATE_DIR};
use model::release::url::ReleaseUrl;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::OnceCell;

/// The deadline of a row that asks this instance.
const HERE: Duration = Duration::from_secs(3);
/// The deadline of a row that asks the network.
const THERE: Duration = Duration::from_secs(5);

/// What the rows examine.
pub struct Instance {
    pub cx: Context,
    /// Why agent.env cannot be used; `cx` then has the built-in settings.
    pub settings_error: Option<Error>,
    pub url: Option<ReleaseUrl>,
    /// Files of the instance are looked up below it: `/`, except in tests.
    pub root: PathBuf,
    /// The release that `url` names, after its pointer.
    release: OnceCell<Result<ReleaseUrl>>,
}

impl Instance {
    /// Reads the settings, and connects to systemd.
    pub async fn open(
        common: Arc<Common>,
        sources: Arc<Sources>,
        url: Option<ReleaseUrl>,
    ) -> Result<Instance> {
        let (agent_env, settings, settings_error) = settings()?;
        let cx = Context {
            store: Store::at(&settings.state_dir),
            agent_env,
            settings,
            machine: Arc::new(Linux::connect().await?),
            common,
            sources,
            trust: Trust::default(),
            events: Events::default(),
            who: String::new(),
            id: String::new(),
            rollback_window: Default::default(),
            cut: Default::default(),
            deadline: None,
        };
        Ok(Instance::new(cx, settings_error, url, PathBuf::from("/")))
    }

    pub fn new(
        cx: Context,
        settings_error: Option<Error>,
        url: Option<ReleaseUrl>,
        root: PathBuf,
    ) -> Instance {
        Instance { cx, settings_error, url, root, release: OnceCell::new() }
    }

    /// Returns the path of one of the instance's files.
    fn path(&self, absolute: &str) -> PathBuf {
        self.root.join(absolute.trim_start_matches('/'))
    }

    /// Reads one of the instance's small files; `None` if it cannot be read.
    fn read(&self, absolute: &str) -> Option<String> {
        std::fs::read_to_string(self.path(absolute)).ok()
    }

    fn exists(&self, absolute: &str) -> bool {
        self.path(absolute).symlink_metadata().is_ok()
    }

    /// Whether systemd has a file for this unit.
    fn has_unit(&self, unit: &str) -> bool {
        ["/etc/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system"]
            .iter()
            .any(|dir| self.exists(&format!("{dir}/{unit}")))
    }
}

/// Reads agent.env; if it is invalid, returns the built-in settings and the error, with the state
/// directory that was last in use.
fn settings() -> Result<(Env, AgentSettings, Option<Error>)> {
    let error = match context::load_settings() {
        Ok((env, settings)) => return Ok((env, settings, None)),
        Err(error) => error,
    };
    let mut settings = AgentSettings::from_env(&Env::default())?;
    let written = context::load_env().ok().and_then(|env| settings::state_dir(&env));
    if let Some(dir) = written.or_else(|| last_place(Path::new(STATE_DIR))) {
        settings.state_dir = dir;
    }
    Ok((Env::default(), settings, Some(error)))
}

/// One row of the page.
struct Question {
    check: Check,
    deadline: Duration,
    ask: fn(Arc<Instance>) -> BoxFuture<'static, Row>,
}

/// Declares the rows: what they are about, their deadline, and the function that answers.
macro_rules! questions {
    ($($check:ident, $deadline:ident, $ask:path;)*) => {
        [$(Question {
            check: Check::$check,
            deadline: $deadline,
            ask: |instance| async move { $ask(&instance).await }.boxed(),
        }),*]
    };
}

/// The rows that need nothing but this instance, in the order in which they are printed.
const LOCAL: [Question; 19] = questions! {
    Settings, HERE, state::settings;
    SettingsTaken, HERE, state::taken;
    Machine, HERE, state::machine;
    Users, HERE, state::users;
    Disk, HERE, state::disk;
    Inodes, HERE, state::inodes;
    Systemd, HERE, machine::systemd;
    Cgroup, HERE, machine::cgroup;
    Sandbox, HERE, machine::sandbox;
    Nftables, THERE, traffic::nftables;
    PortMap, HERE, traffic::port_map;
    Ports, THERE, traffic::ports;
    Conntrack, HERE, traffic::conntrack;
    Journal, HERE, logs::journal;
    Rsyslog, HERE, logs::rsyslog;
    Forwarding, THERE, forwarding::forwarding;
    SsmAgent, HERE, logs::ssm_agent;
    Signatures, HERE, signatures::signatures;
    Metadata, THERE, source::metadata;
};

/// The rows about the store.
const REMOTE: [Question; 7] = questions! {
    Credentials, THERE, source::credentials;
    Clock, THERE, source::clock;
    Pointer, THERE, source::pointer;
    ListBucket, THERE, source::list_bucket;
    GetEnv, THERE, source::get_env;
    GetArchive, THERE, source::get_archive;
    Release, THERE, source::release;
};

/// Answers every question.
pub async fn examine(instance: Instance) -> Vec<Row> {
    let instance = Arc::new(instance);
    join_all(LOCAL.iter().chain(&REMOTE).map(|question| answer(question, &instance))).await
}

/// Answers what can be answered without deployd.
pub async fn examine_here(instance: Instance) -> Vec<Row> {
    let instance = Arc::new(instance);
    // What only deployd knows, or has the settings for.
    let needs_deployd = |check| matches!(check, Check::PortMap | Check::Metadata);
    let questions = LOCAL.iter().filter(|question| !needs_deployd(question.check));
    join_all(questions.map(|question| answer(question, &instance))).await
}

async fn answer(question: &Question, instance: &Arc<Instance>) -> Row {
    let (check, deadline) = (question.check, question.deadline);
    let row = tokio::spawn((question.ask)(instance.clone()));
    let stop = row.abort_handle();
    match tokio::time::timeout(deadline, row).await {
        Ok(Ok(row)) => row,
        Ok(Err(error)) => Row::skipped(check, format!("the check itself failed: {error}")),
        Err(_) => {
            stop.abort();
            Row::skipped(check, format!("not decided within {} s", deadline.as_secs()))
        }
    }
}

/// Runs a look at files or processes that may take long on a thread of its own; `None` if it
/// panicked. Unlike [`context::blocking`], it works in the command's runtime of one thread.
async fn aside<T: Send + 'static>(look: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    tokio::task::spawn_blocking(look).await.ok()
}

/// Returns the names joined with commas.
fn list(names: &[String]) -> String {
    names.join(", ")
}
