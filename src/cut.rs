//! Cutting off a job: by `deploy cancel`, by `deploy remove --force`, or because the daemon is
//! stopped. The job ends at its next await point, and leaves the state that a crash there would
//! leave, which recovery can undo or complete.

use std::sync::Arc;
use tokio::sync::watch;

/// The cut of one job; clones share its state.
#[derive(Clone, Debug, Default)]
pub struct Cut(Arc<watch::Sender<State>>);

#[derive(Debug, Default)]
struct State {
    asked: Option<Why>,
    /// The number of sections that nothing may cut: they are short.
    held: u32,
    /// The number of sections without a serving process: a stop waits a while for their end.
    touching: u32,
    /// Why the job can no longer be cancelled.
    decided: Option<&'static str>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// The daemon is stopped: recovery continues the job.
    Stop,
    /// Cancelled by this user.
    Cancelled(String),
    /// The app is removed by force, by this user.
    Removed(String),
}

impl State {
    fn due(&self) -> Option<Why> {
        let why = self.asked.as_ref().filter(|_| self.held == 0)?;
        (*why != Why::Stop || self.touching == 0).then(|| why.clone())
    }
}

impl Cut {
    /// Completes when the job is to end where it is.
    pub async fn due(&self) -> Why {
        let mut changes = self.0.subscribe();
        let due = changes.wait_for(|state| state.due().is_some()).await;
        match due.ok().and_then(|state| state.due()) {
            Some(why) => why,
            None => std::future::pending().await,
        }
    }

    /// Whether the job is to end before its end, or was told to.
    pub fn is_asked(&self) -> bool {
        self.0.borrow().asked.is_some()
    }

    /// Cuts the job off because the daemon is shutting down.
    pub fn stop(&self) {
        self.0.send_modify(|state| {
            state.asked.get_or_insert(Why::Stop);
        });
    }

    /// Cancels the job if it is not decided yet.
    ///
    /// # Errors
    ///
    /// Why it is too late to cancel.
    pub fn cancel(&self, who: &str) -> Result<(), &'static str> {
        let mut decided = None;
        self.0.send_modify(|state| {
            decided = state.decided;
            if decided.is_none() {
                state.asked.get_or_insert_with(|| Why::Cancelled(who.to_owned()));
            }
        });
        decided.map_or(Ok(()), Err)
    }

    /// Cuts the job off, even if it is decided.
    pub fn remove(&self, who: &str) {
        self.0.send_modify(|state| state.asked = Some(Why::Removed(who.to_owned())));
    }

    /// From here on the job cannot be cancelled, and a stop waits a while for the guard. Never
    /// completes for a job that is cancelled already.
    pub async fn decide(&self, why: &'static str) -> Guard {
        let mut cancelled = false;
        self.0.send_modify(|state| {
            cancelled = matches!(state.asked, Some(Why::Cancelled(_)));
            if !cancelled {
                state.decided.get_or_insert(why);
            }
        });
        match cancelled {
            true => std::future::pending().await,
            false => self.touch(),
        }
    }

    /// Begins a section whose end a stop waits for a while.
    pub fn touch(&self) -> Guard {
        self.guard(|state| &mut state.touching)
    }

    /// Begins a section that nothing cuts.
    pub fn hold(&self) -> Guard {
        self.guard(|state| &mut state.held)
    }

    fn guard(&self, count: fn(&mut State) -> &mut u32) -> Guard {
        self.0.send_modify(|state| *count(state) += 1);
        Guard { cut: self.clone(), count }
    }
}

/// A section that lasts until this is dropped.
#[derive(Debug)]
pub struct Guard {
    cut: Cut,
    count: fn(&mut State) -> &mut u32,
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.cut.0.send_modify(|state| *(self.count)(state) -= 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::{Duration, timeout};

    async fn due(cut: &Cut) -> Option<Why> {
        timeout(Duration::from_millis(1), cut.due()).await.ok()
    }

    #[tokio::test]
    async fn a_stop_waits_for_a_touching_section_and_a_cancel_does_not() {
        let cut = Cut::default();
        assert_eq!(due(&cut).await, None);
        let touching = cut.touch();
        cut.stop();
        assert_eq!(due(&cut).await, None);
        drop(touching);
        assert_eq!(due(&cut).await, Some(Why::Stop));

        let cut = Cut::default();
        let (_touching, held) = (cut.touch(), cut.hold());
        cut.cancel("ann").unwrap();
        assert_eq!(due(&cut).await, None, "a held section is not cut");
        drop(held);
        assert_eq!(due(&cut).await, Some(Why::Cancelled("ann".into())));
    }

    #[tokio::test]
    async fn a_decided_job_is_not_cancelled_and_a_cancelled_one_not_decided() {
        let cut = Cut::default();
        let decided = cut.decide("it is committed").await;
        assert_eq!(cut.cancel("ann"), Err("it is committed"));
        drop(decided);
        assert_eq!(cut.cancel("ann"), Err("it is committed"));
        assert_eq!(due(&cut).await, None);
        cut.remove("ann");
        assert_eq!(due(&cut).await, Some(Why::Removed("ann".into())));

        let cut = Cut::default();
        cut.cancel("ann").unwrap();
        let decided = timeout(Duration::from_millis(1), cut.decide("late")).await;
        assert!(decided.is_err());
        assert_eq!(due(&cut).await, Some(Why::Cancelled("ann".into())));
    }
}
