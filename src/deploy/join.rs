//! The join: a candidate boots while its files are written to the disk, and is committed only
//! once they are there. Until then the release may vanish with the power, and with it everything
//! that has begun for it; whatever is current has been on the disk for long.
//!
//! The state's own files are not written in that time: an fsync would wait for the release's.

use super::{Candidate, failure};
use crate::context::{Context, blocking};
use crate::converge;
use crate::stage::Syncing;
use crate::store::Locked;
use model::error::{Error, Result};
use model::reason::Reason;
use model::release::name::Label;
use std::time::Duration;

/// A candidate is watched for this long while its files are written: longer than any sync.
const LONG: Duration = Duration::from_secs(24 * 3600);

/// Waits until a candidate that has been proved is on the disk.
pub(super) async fn join(
    cx: &Context,
    app: &Locked,
    mut candidate: Candidate,
) -> Result<Candidate> {
    match until_synced(cx, &mut candidate).await {
        Ok(()) => Ok(candidate),
        Err(why) => Err(failure(&candidate).go_back(cx, app, why).await),
    }
}

/// Waits until the candidate is on the disk, and watches the processes of it that run.
pub(super) async fn until_synced(cx: &Context, candidate: &mut Candidate) -> Result<()> {
    let Candidate { sync, watch, manifest, .. } = candidate;
    if sync.has_ended() {
        return sync.end().await;
    }
    let over = || {
        let what = format!("write {} {} to the disk", manifest.url.app(), manifest.label);
        let error = Error::source(what).because("the time given with --timeout is over");
        error.with_reason(Reason::DeadlinePassed).help("it is staged now: deploy it again")
    };
    let _waited = cx.events.part("sync");
    cx.events.waiting(not_yet(&manifest.label));
    let joined = async {
        tokio::select! {
            biased;
            ended = sync.end() => ended,
            Err(why) = watch.stay_healthy(LONG) => Err(why),
        }
    };
    let joined = cx.in_time(joined).await.unwrap_or_else(|| Err(over()));
    cx.events.waiting("");
    joined
}

/// Waits until a release is on the disk, and removes it if that fails.
pub(super) async fn keep_if_synced(
    cx: &Context,
    app: &Locked,
    label: &Label,
    sync: &Syncing,
) -> Result<()> {
    let waited = cx.events.part("sync");
    cx.events.waiting(not_yet(label));
    let synced = sync.end().await;
    cx.events.waiting("");
    drop(waited);
    if synced.is_err() {
        remove(cx, app, label).await?;
    }
    synced
}

fn not_yet(label: &Label) -> String {
    format!("{label} is not on the disk yet")
}

/// Removes the releases that a deploy has left before they were on the disk. Some of their files
/// may be missing; and where deployd was killed, also the report of a failed write.
pub(super) async fn drop_unsynced(cx: &Context, app: &Locked) {
    let dropped = async {
        for label in app.unsynced()? {
            tracing::info!("removed {label}: it was not on the disk yet");
            remove(cx, app, &label).await?;
        }
        Ok(())
    };
    let dropped: Result<()> = dropped.await;
    if let Err(error) = dropped {
        cx.events.warn(error.chain());
    }
}

async fn remove(cx: &Context, app: &Locked, label: &Label) -> Result<()> {
    let snapshot = app.snapshot()?;
    let live = converge::live_of(cx, app, label).await?;
    cx.machine.stop(&live, converge::longest_stop(&snapshot)).await?;
    blocking(|| app.retire(label))?;
    app.sweep_in_background();
    converge::load_units(cx, &app.snapshot()?).await
}
