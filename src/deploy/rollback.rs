//! The way back: what a failed release leaves is undone, and whatever ran before
//! runs again.

use super::Candidate;
use super::clash;
use crate::clues;
use crate::context::Context;
use crate::converge::{self, converge};
use crate::health::{self, Watch};
use crate::host::journal::Line;
use crate::quote::{self, Quote};
use crate::store::Locked;
use jiff::Timestamp;
use model::error::{Error, Exit, Result};
use model::event::Step;
use model::installed::Stopped;
use model::reason::Reason;
use model::release::manifest::Manifest;
use model::release::name::Label;
use model::units;
use std::time::Instant;

/// How often the previous release is brought back before that counts as failed.
const TRIES: u32 = 5;

/// Why it is too late to cancel it.
const GOES_BACK: &str = "its release has failed, and what ran before is brought back";

/// A release that may fail, and the way back from it.
pub(super) struct Failed {
    manifest: Manifest,
    /// The release that is committed again.
    before: Option<Label>,
    /// The processes of it that the operator had stopped.
    stopped: Stopped,
    /// Since when its processes have written what is worth quoting.
    since: Timestamp,
    /// Until it has, the release that runs is as it was before.
    has_touched: bool,
}

/// What is to be done if this candidate fails.
pub(super) fn failure(candidate: &Candidate) -> Failed {
    let Candidate { manifest, before, stopped, .. } = candidate;
    Failed::new(manifest.clone(), before.clone(), stopped.clone())
}

impl Failed {
    /// To be made when the release begins to run.
    pub fn new(manifest: Manifest, before: Option<Label>, stopped: Stopped) -> Self {
        Failed { manifest, before, stopped, since: Timestamp::now(), has_touched: false }
    }

    /// From here on a failure has done something to the release that runs.
    pub fn touches_what_runs(&mut self) {
        self.has_touched = true;
    }

    /// Commits what was current before again, or nothing, and goes back to it.
    pub async fn undo(mut self, cx: &Context, app: &Locked, why: Error) -> Error {
        let _decided = cx.cut.decide(GOES_BACK).await;
        if cx.machine.is_stopping().await {
            return self.left_to_recovery(why);
        }
        self.touches_what_runs();
        let undone = match &self.before {
            Some(label) => app.commit(label),
            None if self.manifest.state.is_good() => Ok(()),
            None => app.uncommit(),
        };
        match undone.and_then(|()| app.set_stopped(&self.stopped)) {
            Ok(()) => self.go_back(cx, app, why).await,
            Err(error) => self.stuck(why, error),
        }
    }

    /// Makes what runs follow `current` again, and says how that went.
    pub async fn go_back(self, cx: &Context, app: &Locked, why: Error) -> Error {
        let _decided = cx.cut.decide(GOES_BACK).await;
        if cx.machine.is_stopping().await {
            return self.left_to_recovery(why);
        }
        let label = &self.manifest.label;
        let current = app.current().ok().flatten();
        let has_touched =
            self.has_touched && (current.as_ref() == Some(label) || !runs_on(cx, app).await);
        let next = match &current {
            Some(current) if current == label => "it is stopped".to_owned(),
            Some(current) if has_touched => format!("{current} takes over again"),
            Some(current) => format!("{current} runs on"),
            None => "it is stopped".to_owned(),
        };
        cx.events.step(Step::RollBack, format!("release {label} failed; {next}"));
        let untried = !has_touched && !why.reason().blames_candidate();
        if let Err(error) = app.set_state(label, self.manifest.state.after(why.reason())) {
            cx.events.warn(error.chain());
        }
        let restored = match has_touched {
            true => restore(cx, app, current.as_ref()).await,
            false => converge(cx, app).await,
        };
        let why = self.quote_log(cx, app, why).await;
        if let Err(error) = restored {
            return self.stuck(why, error);
        }
        let name = app.name();
        let current = current.filter(|current| current != label);
        if untried {
            return match current.filter(|_| why.exit() == Exit::Failed) {
                Some(current) => {
                    let what = format!("{name} {label} was not deployed, {current} runs on");
                    Error::failed(what).because(why)
                }
                None => why,
            };
        }
        match current {
            Some(current) if !has_touched => {
                let what = format!("{name} {label} failed, {current} runs on");
                Error::unhealthy(what).because(why)
            }
            Some(current) => {
                let what = format!("{name} {label} failed, {current} runs again");
                Error::new(Exit::RolledBack, what).because(why)
            }
            None if why.exit() == Exit::Failed => {
                Error::failed(format!("{name} {label} was not deployed")).because(why)
            }
            None => Error::unhealthy(format!("{name} {label} failed")).because(why),
        }
    }

    /// A machine that goes down stops every process: that says nothing of the
    /// release, and whatever is current will start at the next boot.
    fn left_to_recovery(self, why: Error) -> Error {
        let what = format!(
            "{} {} was interrupted: the instance is shutting down",
            self.manifest.url.app(),
            self.manifest.label
        );
        Error::failed(what).because(why).help("what is current starts at the next boot")
    }

    /// Neither release could be brought up: the operator has to look.
    fn stuck(self, why: Error, error: Error) -> Error {
        let (app, label) = (self.manifest.url.app(), &self.manifest.label);
        let what = format!(
            "{app} {label} failed ({}) and the previous release could not be brought back",
            why.chain()
        );
        let help = format!(
            "look at `deploy status {app}` and `deploy logs {app}`, then `deploy rollback {app} \
             --to LABEL` or `deploy start {app}`"
        );
        let log = why.log().to_vec();
        Error::new(Exit::RollbackFailed, what).because(error).help(help).with_log(log)
    }

    /// Names the memory where a process was killed for it and systemd has restarted it since:
    /// the new process knows nothing of that, the journal does.
    fn tell_of_memory(&self, why: Error, lines: &[Line]) -> Error {
        let killed = lines.iter().any(|line| line.tells_of_memory);
        if why.reason() != Reason::ProcessEnded || !killed {
            return why;
        }
        let help = health::help_for_memory(self.manifest.plan.memory_max);
        let error = Error::unhealthy(why.to_string()).because("it was killed for memory");
        error.help(help).with_reason(Reason::OutOfMemory)
    }

    /// Adds the last lines that the failed release's processes wrote.
    async fn quote_log(&self, cx: &Context, locked: &Locked, why: Error) -> Error {
        let (app, label) = (self.manifest.url.app(), &self.manifest.label);
        let unit = |process| units::service(app, label, &process);
        let units: Vec<String> = self.manifest.plan.instances().map(unit).collect();
        let prefix = format!("{app}.");
        let lines = cx.machine.last_lines(&units, self.since.as_second(), quote::KEPT).await;
        let own = lines.iter().filter_map(|line| {
            let process = line.identifier.strip_prefix(&prefix)?;
            Some(format!("{process}: {}", line.text))
        });
        let why = self.tell_of_memory(why, &lines).with_log(own.collect::<Quote>().into_lines());
        match clash::help(cx, locked, &self.manifest, why.log()).await {
            Some(help) => why.help(help),
            None => clues::explain(why, self.manifest.plan.sandbox),
        }
    }
}

/// Whether what is current runs, and clients reach it, as if nothing had been tried.
pub(super) async fn runs_on(cx: &Context, app: &Locked) -> bool {
    let Ok(snapshot) = app.snapshot() else { return false };
    let Ok(live) = converge::live(cx, app).await else { return false };
    let wanted = units::wanted(&snapshot);
    snapshot.current.is_some()
        && wanted.iter().all(|unit| live.contains(unit))
        && converge::ports::lead_to(cx, &snapshot).await
}

/// Starts what is current again and waits until it is healthy; then what has
/// failed is stopped, once nobody is connected to it any more.
pub(super) async fn restore(cx: &Context, app: &Locked, current: Option<&Label>) -> Result<()> {
    let mut tries = 1;
    while let Err(error) = converge::switch(cx, app).await {
        if tries == TRIES {
            return Err(error);
        }
        cx.events.warn(error.chain());
        tries += 1;
        tokio::time::sleep(cx.common.restore_pause).await;
    }
    let since = Instant::now();
    let Some(label) = current else { return converge(cx, app).await };
    let snapshot = app.snapshot()?;
    let manifest = app.manifest(label)?;
    let mut watch = Watch::new(&cx.machine, &manifest);
    watch.retain(|process| !snapshot.stopped.covers(process));
    watch.accept_any_address();
    let timeout = manifest.plan.health_timeout;
    let proved = watch.prove(timeout, &cx.events).await;
    converge::drain(cx, app, since + manifest.plan.drain_timeout).await?;
    proved.and(converge(cx, app).await)
}
