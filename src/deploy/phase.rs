//! Whether a deploy runs the release phase, and what its failure means.

use crate::context::Context;
use crate::preflight;
use crate::stage::phase;
use crate::store::Locked;
use model::error::Result;
use model::event::Step;
use model::reason::Reason;
use model::release::manifest::Manifest;
use model::release::settings::{ReleasePhase, ReleaseSettings};
use std::time::Duration;

/// Whether a deploy runs the release phase, and for how long at most.
pub(super) struct Phase {
    /// By its caller, with `--run-release`.
    asked: bool,
    /// By DEPLOY_RELEASE_PHASE.
    always: bool,
    timeout: Duration,
}

impl Phase {
    pub fn new(settings: &ReleaseSettings, asked: bool) -> Phase {
        let always = settings.release_phase == ReleasePhase::Always;
        Phase { asked, always, timeout: settings.build_timeout }
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
        cx.events.step(Step::Release, command.as_str());
        if let Err(error) = phase::run(cx, app, manifest, command, self.timeout).await {
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
