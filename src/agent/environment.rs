//! The variables of agent.env that libraries read from the process's environment when it starts:
//! those of AWS and of proxies. After a change of them the daemon starts again, behind the same
//! socket, before it does a job that needs them.

use super::jobs::Jobs;
use crate::context;
use model::error::{Error, Exit, Result};
use model::reason::Reason;
use model::release::env::Env;
use model::release::settings::AGENT_FILE;
use std::sync::Arc;
use tokio::sync::Notify;

/// The variables that this process was started with.
#[derive(Clone)]
pub struct Environment(Arc<Inner>);

struct Inner {
    variables: Vec<(String, String)>,
    needed: Notify,
}

impl Environment {
    /// Reads the variables and sets them for this process.
    ///
    /// # Safety
    ///
    /// No other thread runs yet.
    pub unsafe fn set() -> Environment {
        let variables = variables();
        for (name, value) in &variables {
            // SAFETY: as above.
            unsafe { std::env::set_var(name, value) };
        }
        Environment(Arc::new(Inner { variables, needed: Notify::new() }))
    }

    /// Whether agent.env has other ones now.
    pub fn is_stale(&self) -> bool {
        let stale = variables() != self.0.variables;
        if stale {
            tracing::info!(
                "the AWS or proxy variables of {AGENT_FILE} have changed: starting again"
            );
        }
        stale
    }

    /// Refuses a job that would use old variables; the daemon then starts again.
    ///
    /// # Errors
    ///
    /// [`Reason::Interrupted`] for a caller that is to ask again.
    pub fn must_be_current(&self, jobs: &Jobs) -> Result<()> {
        if !self.is_stale() {
            return Ok(());
        }
        let what = format!("take over the AWS variables of {AGENT_FILE}");
        if let Some(job) = jobs.live().into_iter().find(|job| !job.is_background()) {
            let why = format!("deployd starts again for them when this has ended: {}", job.what);
            let error = Error::new(Exit::Busy, what).because(why);
            return Err(
                error.help(format!("ask again then; `deploy attach {}` follows it", job.id))
            );
        }
        self.0.needed.notify_one();
        let error = Error::new(Exit::NoAgent, what).because("deployd starts again for them");
        Err(error.with_reason(Reason::Interrupted).help("ask again in a second"))
    }

    /// Completes when a caller needs the daemon to start again.
    pub async fn needed(&self) {
        self.0.needed.notified().await;
    }
}

/// A mistake in the file is reported by every deploy, and must not keep the daemon from starting.
fn variables() -> Vec<(String, String)> {
    let env = match context::load_settings() {
        Ok((env, _)) => env,
        Err(error) => {
            tracing::error!("{}", error.chain());
            Env::default()
        }
    };
    let ours = |name: &str| name == "PORT" || name.starts_with("DEPLOY_");
    let theirs = env.iter().filter(|(name, _)| !ours(name));
    theirs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}
