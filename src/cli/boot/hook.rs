//! The launching hook of this instance: heartbeats while it works, and its completion.

use super::Pace;
use super::facts::Facts;
use super::seams::Hooks;
use model::api::{Lifecycle, LifecycleCall};
use model::error::{Error, Result};
use model::reason::Reason;
use std::convert::Infallible;
use std::time::Duration;
use tokio::time::{Instant, sleep};

pub struct Session<'a> {
    hooks: &'a dyn Hooks,
    pace: &'a Pace,
    call: Lifecycle,
    /// Until then "no active action" may be wrong: Auto Scaling is not there yet.
    race: Instant,
    /// What went wrong with heartbeats, each once.
    notes: Vec<String>,
}

impl<'a> Session<'a> {
    pub fn new(
        hooks: &'a dyn Hooks,
        pace: &'a Pace,
        facts: &Facts,
        group: String,
        hook: String,
    ) -> Session<'a> {
        let call = Lifecycle {
            call: LifecycleCall::Heartbeat,
            group,
            hook,
            instance: facts.id.clone(),
            region: facts.region.clone(),
        };
        Session { hooks, pace, call, race: Instant::now() + pace.grace, notes: Vec::new() }
    }

    /// Believes "no active action" from now on: the instance was launched long ago, or the action
    /// has been active.
    pub fn expect_no_race(&mut self) {
        self.race = Instant::now();
    }

    /// Sends heartbeats. Only its caller ends it.
    pub async fn beat(&mut self) -> Infallible {
        loop {
            let pause = match self.send(LifecycleCall::Heartbeat).await {
                Ok(true) => {
                    self.expect_no_race();
                    self.pace.heartbeat
                }
                Ok(false) if Instant::now() < self.race => jittered(self.pace.again),
                // A hook that is added later does not wait for this instance.
                Ok(false) => std::future::pending().await,
                Err(error) => {
                    if !may_pass(&error) {
                        self.note(&error);
                    }
                    jittered(self.pace.again)
                }
            };
            sleep(pause).await;
        }
    }

    /// Sends one heartbeat, however it ends.
    pub async fn beat_once(&mut self) {
        let _: Result<bool> = self.send(LifecycleCall::Heartbeat).await;
    }

    /// Completes the hook; false if none waits for the instance. Calls that may succeed later are
    /// sent again.
    pub async fn complete(&mut self, is_good: bool) -> Result<bool> {
        let call = if is_good { LifecycleCall::Continue } else { LifecycleCall::Abandon };
        let deadline = Instant::now() + self.pace.completion;
        loop {
            match self.send(call).await {
                Ok(false) if Instant::now() < self.race => {}
                Err(error) if may_pass(&error) && Instant::now() < deadline => {}
                answer => return answer,
            }
            sleep(jittered(self.pace.again)).await;
        }
    }

    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    async fn send(&mut self, call: LifecycleCall) -> Result<bool> {
        self.call.call = call;
        self.hooks.call(&self.call).await
    }

    fn note(&mut self, error: &Error) {
        const MOST: usize = 5;
        let note = match error.advice() {
            Some(help) => format!("no heartbeat: {}; {help}", error.chain()),
            None => format!("no heartbeat: {}", error.chain()),
        };
        if self.notes.len() < MOST && !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }
}

/// Whether the same call may succeed in a minute: not where a name or a right is wrong.
fn may_pass(error: &Error) -> bool {
    let reason = error.reason();
    reason.may_pass_at_boot()
        || matches!(
            reason,
            Reason::SourceBusy
                | Reason::CredentialsExpired
                | Reason::NoAgent
                | Reason::Interrupted
                | Reason::TlsFailed
        )
}

/// From half of the pause to all of it: a group that launches together does not call together.
fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(0.5 + fastrand::f64() / 2.0)
}
