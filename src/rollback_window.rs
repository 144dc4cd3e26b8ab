//! The time in which a rollback need not start anything: the release before still runs.

use jiff::Timestamp;
use model::release::name::Label;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;

/// The time after a switch, in which the release before is still warm: a rollback
/// that is asked for then takes the new one back at once.
#[derive(Clone, Debug, Default)]
pub struct RollbackWindow {
    phase: Arc<watch::Sender<Phase>>,
    /// The release that ran before a deploy that is not good yet.
    before: Arc<Mutex<Option<Label>>>,
}

#[derive(Clone, Debug, Default)]
enum Phase {
    #[default]
    Over,
    Settling {
        until: Timestamp,
        /// What is committed again if the new release is taken back.
        before: Label,
    },
    TakenBack {
        by: String,
    },
    Draining {
        until: Timestamp,
    },
}

impl RollbackWindow {
    /// Remembers the release that a rollback during the deploy goes to.
    pub fn remember(&self, before: Option<Label>) {
        *self.before.lock().unwrap_or_else(PoisonError::into_inner) = before;
    }

    /// Waits until somebody takes the release back to `before`; who it was.
    pub async fn taken_back(&self, before: Option<&Label>, window: Duration) -> String {
        let Some(before) = before.cloned() else { return std::future::pending().await };
        let until = end_of(window);
        let _phase = self.begin(Phase::Settling { until, before });
        let mut changes = self.phase.subscribe();
        let who =
            match changes.wait_for(|now| matches!(now, Phase::TakenBack { .. })).await.as_deref() {
                Ok(Phase::TakenBack { by }) => Some(by.clone()),
                _ => None,
            };
        match who {
            Some(who) => who,
            None => std::future::pending().await,
        }
    }

    /// The old processes are waited for until then; the phase ends with the guard.
    pub fn draining(&self, timeout: Duration) -> impl Drop + '_ {
        self.begin(Phase::Draining { until: end_of(timeout) })
    }

    /// Takes back what settles now, if anything does; where that, or a rollback
    /// that comes after the deploy, goes.
    pub fn take_back(&self, who: &str) -> Option<Label> {
        let mut to = self.before.lock().unwrap_or_else(PoisonError::into_inner).clone();
        self.phase.send_if_modified(|now| {
            let Phase::Settling { before, .. } = now else { return false };
            to = Some(before.clone());
            *now = Phase::TakenBack { by: who.to_owned() };
            true
        });
        to
    }

    /// When the processes of the release before may be stopped, at the latest.
    pub fn until(&self) -> Option<Timestamp> {
        match *self.phase.borrow() {
            Phase::Settling { until, .. } | Phase::Draining { until } => Some(until),
            Phase::Over | Phase::TakenBack { .. } => None,
        }
    }

    fn begin(&self, phase: Phase) -> End<'_> {
        self.phase.send_replace(phase);
        End(&self.phase)
    }
}

/// However a phase ends, it is over.
struct End<'a>(&'a watch::Sender<Phase>);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.send_replace(Phase::Over);
    }
}

fn end_of(window: Duration) -> Timestamp {
    Timestamp::now().checked_add(window).unwrap_or(Timestamp::MAX)
}
