//! Whether a deploy runs the release phase, and what its failure means.

use crate::context::Context;
use crate::preflight;
use crate::stage::phase;
use crate::store::{LastPhase, Locked, PhaseState};
use model::error::{Error, Result};
use model::event::Step;
use model::reason::Reason;
use model::release::manifest::Manifest;
use model::release::settings::{ReleasePhase, ReleaseSettings};
use model::text::quoted;
use std::fmt;
use std::time::Duration;

/// What the caller of a deploy asks of the release phase.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RunRelease {
    /// DEPLOY_RELEASE_PHASE alone decides.
    No,
    Yes,
    /// Once for all requests with this id.
    Once(String),
}

/// Characters of an id.
const LONGEST: usize = 64;

impl RunRelease {
    pub fn new(asked: bool, id: Option<String>) -> Result<RunRelease> {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        match id {
            None if asked => Ok(RunRelease::Yes),
            None => Ok(RunRelease::No),
            Some(id) if id.len() <= LONGEST && !id.is_empty() && id.chars().all(is_plain) => {
                Ok(RunRelease::Once(id))
            }
            Some(id) => {
                let error = Error::usage(format!("run the release phase as {}", quoted(&id)));
                Err(error.help(format!("give an id of at most {LONGEST} letters, digits and `-`")))
            }
        }
    }
}

/// The option as a caller writes it, after the URL.
impl fmt::Display for RunRelease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RunRelease::No => Ok(()),
            RunRelease::Yes => f.write_str(" --run-release"),
            RunRelease::Once(id) => write!(f, " --run-release={id}"),
        }
    }
}

/// Whether a deploy runs the release phase, and for how long at most.
pub(super) struct Phase {
    /// By its caller, with `--run-release`.
    asked: bool,
    /// The caller's id of the request, which may be repeated.
    id: Option<String>,
    /// By DEPLOY_RELEASE_PHASE.
    always: bool,
    timeout: Duration,
}

impl Phase {
    pub fn new(settings: &ReleaseSettings, asked: RunRelease) -> Phase {
        let always = settings.release_phase == ReleasePhase::Always;
        let (asked, id) = match asked {
            RunRelease::No => (false, None),
            RunRelease::Yes => (true, None),
            RunRelease::Once(id) => (true, Some(id)),
        };
        Phase { asked, id, always, timeout: settings.build_timeout }
    }

    /// Runs it where that was asked for, and says so where it was not. A release that
    /// fails here is not started; what runs is not touched.
    pub async fn run(&self, cx: &Context, app: &Locked, manifest: &Manifest) -> Result<()> {
        let Some(command) = self.command(cx, app, manifest)? else { return Ok(()) };
        if !self.asked && !self.always {
            let text = format!("not run, which `deploy --run-release` does: {command}");
            cx.events.step(Step::Release, text);
            return Ok(());
        }
        if self.was_run(cx, app, manifest)? {
            return preflight::in_time(cx, manifest);
        }
        cx.events.step(Step::Release, command.as_str());
        self.record(app, PhaseState::Begun)?;
        let ran = phase::run(cx, app, manifest, command, self.timeout).await;
        self.record(app, if ran.is_ok() { PhaseState::Done } else { PhaseState::Failed })?;
        if let Err(error) = ran {
            // One that is good, or current, stays what it was to a rollback.
            let is_new =
                !manifest.state.is_good() && app.current()? != Some(manifest.label.clone());
            if error.reason() == Reason::ReleasePhaseFailed && is_new {
                app.set_state(&manifest.label, manifest.state.after(error.reason()))?;
            }
            return Err(error);
        }
        preflight::in_time(cx, manifest)
    }

    /// Whether it ran for an earlier request with the same id. If it did not succeed then, it is
    /// not repeated.
    fn was_run(&self, cx: &Context, app: &Locked, manifest: &Manifest) -> Result<bool> {
        let Some(id) = &self.id else { return Ok(false) };
        let Some(last) = app.last_phase().filter(|last| last.id == *id) else { return Ok(false) };
        let why = match last.state {
            PhaseState::Done => {
                cx.events.step(Step::Release, format!("not run: it ran for {id} before"));
                return Ok(true);
            }
            PhaseState::Failed => format!("it failed before, for {id}"),
            PhaseState::Begun => format!("it was interrupted before, for {id}"),
        };
        let what = format!("release phase of {} {}", app.name(), manifest.label);
        let error = Error::unusable(what).because(why).with_reason(Reason::ReleasePhaseFailed);
        Err(error.help("see what it has done; a deploy with --run-release and another id runs it"))
    }

    fn record(&self, app: &Locked, state: PhaseState) -> Result<()> {
        match &self.id {
            Some(id) => app.set_last_phase(&LastPhase { id: id.clone(), state }),
            None => Ok(()),
        }
    }

    /// Says that there was nothing to run it for.
    pub fn pass_over(&self, cx: &Context, app: &Locked, manifest: &Manifest) -> Result<()> {
        let (name, label) = (app.name(), &manifest.label);
        if (self.asked || self.always) && self.command(cx, app, manifest)?.is_some() {
            let why = format!("{name} {label} is already running");
            cx.events.step(Step::Release, format!("not run: {why}"));
        }
        Ok(())
    }

    fn command(&self, cx: &Context, app: &Locked, manifest: &Manifest) -> Result<Option<String>> {
        let command = phase::command(app, manifest)?;
        if command.is_none() && self.asked {
            cx.events.warn("--run-release: the Procfile has no `release`");
        }
        Ok(command)
    }
}
