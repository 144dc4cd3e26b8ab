//! Resolves a URL to a release. An instance that has just booted gets time to bring up its
//! network, role and clock.

use super::TIME_OVER;
use crate::context::Context;
use crate::source::Resolved;
use model::error::{Error, Result};
use model::reason::Reason;
use model::release::url::ReleaseUrl;
use std::time::Duration;

/// The pause between two attempts while the instance boots.
const PAUSE: Duration = Duration::from_secs(1);
/// The uptime by which the metadata service answers, if there is one.
const METADATA: Duration = Duration::from_secs(60);

/// Resolves a URL to a release, within the deploy's deadline. `deploy …/current` in user-data runs
/// before the instance is fully up, so errors that the boot may cause are retried until
/// DEPLOY_BOOT_TIMEOUT.
pub async fn resolve(cx: &Context, url: &ReleaseUrl) -> Result<Resolved> {
    let mut last: Option<Error> = None;
    loop {
        let error = match cx.in_time(cx.sources.resolve(url)).await {
            None => return Err(over(url, last)),
            Some(Err(error)) if may_pass(cx, error.reason()).await => error,
            Some(resolved) => return resolved,
        };
        let said = error.chain();
        if last.is_none_or(|last| last.chain() != said) {
            cx.events.warn(format!("waiting for this instance to finish booting: {said}"));
            cx.events.waiting(said);
        }
        if cx.remaining(PAUSE) < PAUSE {
            return Err(over(url, Some(error)));
        }
        last = Some(error);
        tokio::time::sleep(PAUSE).await;
    }
}

/// Whether the error may pass while the machine boots; not if its uptime is unknown. A region
/// that nobody has set does not come by itself: it is waited for as long as the metadata service
/// may take.
async fn may_pass(cx: &Context, reason: Reason) -> bool {
    let bound = match reason {
        Reason::RegionMissing => cx.settings.boot_timeout.min(METADATA),
        _ => cx.settings.boot_timeout,
    };
    reason.may_pass_at_boot() && cx.machine.uptime().await.is_ok_and(|uptime| uptime < bound)
}

fn over(url: &ReleaseUrl, last: Option<Error>) -> Error {
    match last {
        Some(last) => {
            let what = format!("resolve {url} in the time given with --timeout");
            Error::source(what).because(last)
        }
        None => Error::source(format!("resolve {url}")).because(TIME_OVER),
    }
}
