//! The end of a deploy: the previous processes leave, and what is no longer needed is removed.

use super::{Committed, Done};
use crate::context::Context;
use crate::converge::{self, converge};
use crate::store::Locked;
use model::error::Result;
use model::event::Step;
use model::release::state::State;
use model::retention;
use std::time::Instant;

/// The release is good: what is no longer needed goes. From here on nothing can
/// fail the deploy; what cannot be tidied is a warning.
pub(super) async fn finish(
    cx: &Context,
    app: &Locked,
    committed: Committed,
    verb: &str,
    start: Instant,
) -> Done {
    cx.rollback_window.remember(None);
    for tidied in [
        app.set_state(&committed.manifest.label, State::Good),
        retire(cx, app, &committed).await,
        prune(cx, app).await,
    ] {
        if let Err(error) = tidied {
            cx.events.warn(error.chain());
        }
    }
    let label = committed.manifest.label;
    let snapshot = app.snapshot().ok();
    let target = snapshot.as_ref().and_then(|snapshot| snapshot.rollback_target());
    let kept = target.map(|manifest| format!("; {} is kept for rollback", manifest.label));
    let environment = committed.manifest.url.environment();
    let (name, seconds) = (app.name(), start.elapsed().as_secs_f32());
    let kept = kept.unwrap_or_default();
    let message = format!("{verb} {name} {label} ({environment}) in {seconds:.1} s{kept}");
    Done { message, release: Some(label) }
}

/// Stops the processes that the release has replaced, once nobody is connected
/// to them any more.
async fn retire(cx: &Context, app: &Locked, committed: &Committed) -> Result<()> {
    let timeout = committed.manifest.plan.drain_timeout;
    let end = committed.since + timeout;
    let left = end.saturating_duration_since(Instant::now());
    if converge::clients(cx, app).await? > 0 {
        let text = format!("at most {} s", timeout.as_secs_f32());
        cx.events.step_of_at_most(Step::Drain, text, left);
    }
    let _draining = cx.rollback_window.draining(left);
    converge::drain(cx, app, end).await?;
    converge(cx, app).await
}

async fn prune(cx: &Context, app: &Locked) -> Result<()> {
    cx.events.step(Step::Finish, "prune old releases");
    for old in retention::prunable(&app.snapshot()?, cx.settings.keep_releases) {
        app.retire(&old)?;
    }
    app.sweep_in_background();
    converge::load_units(cx, &app.snapshot()?).await?;
    converge::ports::load(cx).await
}
