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
/// The uptime by which an instance has its address, and by which the metadata service answers an
/// instance that has one.
const ADDRESS: Duration = Duration::from_secs(60);
const METADATA: Duration = Duration::from_secs(10);

/// Resolves a URL to a release, within the deploy's deadline. `deploy …/current` in user-data runs
/// before the instance is fully up, so errors that the boot may cause are retried until
/// DEPLOY_BOOT_TIMEOUT.
pub async fn resolve(cx: &Context, url: &ReleaseUrl) -> Result<Resolved> {
    let mut last: Option<Error> = None;
    loop {
        let error = match cx.in_time(cx.sources.resolve(url)).await {
            None => return Err(over(url, last)),
            Some(Err(error)) => error,
            Some(resolved) => return resolved,
        };
        let Some(left) = left(cx, error.reason()).await else { return Err(error) };
        let said = error.chain();
        if last.is_none_or(|last| last.chain() != said) {
            cx.events.warn(format!("waiting for this instance to finish booting: {said}"));
            cx.events.waiting_at_most(said, cx.remaining(left));
        }
        if cx.remaining(PAUSE) < PAUSE {
            return Err(over(url, Some(error)));
        }
        last = Some(error);
        tokio::time::sleep(PAUSE).await;
    }
}

/// Returns how much longer the error may pass because the machine boots; none if its uptime is
/// unknown. A region that nobody has set does not come by itself: the metadata service, if there
/// is one, answers as soon as the instance has an address.
async fn left(cx: &Context, reason: Reason) -> Option<Duration> {
    let bound = match reason {
        Reason::RegionMissing if cx.machine.families().is_empty() => ADDRESS,
        Reason::RegionMissing => METADATA,
        _ => Duration::MAX,
    };
    let uptime = cx.machine.uptime().await.ok().filter(|_| reason.may_pass_at_boot())?;
    let left = bound.min(cx.settings.boot_timeout).saturating_sub(uptime);
    (!left.is_zero()).then_some(left)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::story::Story;

    /// Returns the seconds that are left to a machine that has been up for some.
    async fn seconds_left(reason: Reason, uptime: u64, has_address: bool) -> Option<u64> {
        let story = Story::with("DEPLOY_BOOT_TIMEOUT=5m\n");
        story.state().uptime = Some(Duration::from_secs(uptime));
        story.state().has_no_address = !has_address;
        left(&story.cx(), reason).await.map(|left| left.as_secs())
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_region_that_is_not_set_is_waited_for_only_while_it_may_come() {
        let region = Reason::RegionMissing;
        assert_eq!(seconds_left(region, 3, true).await, Some(7));
        assert_eq!(seconds_left(region, 11, true).await, None);
        assert_eq!(seconds_left(region, 11, false).await, Some(49));
        assert_eq!(seconds_left(region, 61, false).await, None);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_network_or_a_role_is_waited_for_until_the_boot_timeout() {
        for reason in [Reason::NoRoute, Reason::CredentialsMissing] {
            assert_eq!(seconds_left(reason, 60, true).await, Some(240));
            assert_eq!(seconds_left(reason, 300, true).await, None);
        }
        assert_eq!(seconds_left(Reason::AccessDenied, 3, true).await, None);
    }
}
