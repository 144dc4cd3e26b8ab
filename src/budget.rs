//! The memory quota of all concurrent stages: DEPLOY_MAX_FETCH_MEMORY.

use std::sync::{Mutex, PoisonError};
use tokio::sync::Notify;

/// The share of one stage: four parts of the archive, of 4 MiB each. Its buffers and its
/// decoder take about as much, unless the archive asks for a larger window.
const STAGE: u64 = 16 << 20;

/// A quota of bytes that stages share.
#[derive(Debug, Default)]
pub struct Budget {
    taken: Mutex<u64>,
    freed: Notify,
}

/// The share of a stage, until it is dropped.
#[derive(Debug)]
pub struct Share<'a> {
    budget: &'a Budget,
    /// The most that may be fetched ahead, in bytes.
    pub bytes: u64,
}

impl Budget {
    /// Waits until `all` (bytes) has room for one more stage. A single stage always has room.
    pub async fn share(&self, all: u64, wait: impl Fn()) -> Share<'_> {
        let mut waits = false;
        loop {
            let freed = self.freed.notified();
            tokio::pin!(freed);
            // Registers before the check, so that no freed share is missed.
            freed.as_mut().enable();
            if let Some(share) = self.take(all) {
                return share;
            }
            if !waits {
                wait();
            }
            waits = true;
            freed.await;
        }
    }

    fn take(&self, all: u64) -> Option<Share<'_>> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes = STAGE.min(all);
        if *taken > 0 && taken.saturating_add(STAGE) > all {
            return None;
        }
        *taken = taken.saturating_add(STAGE);
        Some(Share { budget: self, bytes })
    }
}

impl Drop for Share<'_> {
    fn drop(&mut self) {
        let mut taken = self.budget.taken.lock().unwrap_or_else(PoisonError::into_inner);
        *taken = taken.saturating_sub(STAGE);
        drop(taken);
        self.budget.freed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    #[test]
    fn further_stages_wait_and_one_alone_never_does() {
        let budget = Budget::default();
        for (all, most) in [(0, 1), (STAGE - 1, 1), (4 * STAGE, 4)] {
            let share = || budget.share(all, || ()).now_or_never();
            let mut held: Vec<_> = (0..most).map(|_| share().expect("room")).collect();
            assert!(held.iter().all(|share| share.bytes == STAGE.min(all)));
            assert!(share().is_none(), "{all}");
            let mut waiting = Box::pin(budget.share(all, || ()));
            assert!(waiting.as_mut().now_or_never().is_none());
            held.pop();
            assert!(waiting.now_or_never().is_some(), "{all}");
        }
    }
}
