//! What has become of an installed release, and what follows from it.
//!
//! | state | what happened | rollback goes to it | kept by prune | kept by a full disk | recovery |
//! |---|---|---|---|---|---|
//! | staged | unpacked and checked; never judged | no | the newest, if newer than the current one | goes last | leaves it |
//! | proved | was healthy and got the traffic; the settle window is not over | no | while current | while current | settles it again |
//! | good | outlived the settle window | yes | DEPLOY_KEEP_RELEASES of them, and where a rollback goes | where a rollback goes | leaves it |
//! | failed | its processes or its release phase failed | no | while current | while current | leaves it |
//! | taken back | somebody asked for a rollback in its settle window; nobody found fault with it | no | as staged | as staged | leaves it |
//!
//! The next stage removes failed releases; the others can be deployed again without being
//! fetched.

use crate::reason::Reason;
use serde::{Deserialize, Serialize};
use std::fmt;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    Staged,
    Proved,
    Good,
    Failed,
    TakenBack,
}

impl State {
    pub const ALL: [State; 5] =
        [State::Staged, State::Proved, State::Good, State::Failed, State::TakenBack];

    /// Whether a rollback may go to it.
    pub fn is_good(self) -> bool {
        self == State::Good
    }

    /// Whether it is watched in a settle window, or was when the daemon ended.
    pub fn is_settling(self) -> bool {
        self == State::Proved
    }

    /// Whether it waits on the disk for a deploy.
    pub fn waits(self) -> bool {
        matches!(self, State::Staged | State::TakenBack)
    }

    pub fn is_failed(self) -> bool {
        self == State::Failed
    }

    /// The state of a release whose processes were found healthy.
    pub fn proved(self) -> State {
        if self.is_good() { State::Good } else { State::Proved }
    }

    /// The state of a release whose deploy failed: only its own processes, and its own release
    /// phase, make it a failed one, and a good one stays good.
    pub fn after(self, failure: Reason) -> State {
        match (self, failure) {
            (State::Good, _) => State::Good,
            (_, Reason::TakenBack) => State::TakenBack,
            (_, Reason::ReleasePhaseFailed) => State::Failed,
            (_, reason) if reason.blames_candidate() => State::Failed,
            (State::Proved, _) => State::Staged,
            (before, _) => before,
        }
    }

    /// The state of a release whose files have come to another machine.
    pub fn on_another_machine(self) -> State {
        if self.is_failed() { State::Failed } else { State::Staged }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            State::Staged => "staged",
            State::Proved => "proved",
            State::Good => "good",
            State::Failed => "failed",
            State::TakenBack => "taken back",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use State::{Failed, Good, Proved, Staged, TakenBack};

    #[test]
    fn what_becomes_of_a_release_whose_deploy_failed() {
        let rows = [
            (Staged, Reason::HealthTimeout, Failed),
            (Staged, Reason::ReleasePhaseFailed, Failed),
            (Staged, Reason::AgentFailed, Staged),
            (Staged, Reason::PortTaken, Staged),
            (Proved, Reason::StoppedAnswering, Failed),
            (Proved, Reason::AgentFailed, Staged),
            (Proved, Reason::TakenBack, TakenBack),
            (Failed, Reason::AgentFailed, Failed),
            (Failed, Reason::TakenBack, TakenBack),
            (TakenBack, Reason::ProcessEnded, Failed),
            (TakenBack, Reason::Interrupted, TakenBack),
            (Good, Reason::HealthTimeout, Good),
            (Good, Reason::TakenBack, Good),
        ];
        for (before, reason, after) in rows {
            assert_eq!(before.after(reason), after, "{before} after {reason:?}");
        }
    }

    #[test]
    fn each_state_has_one_part_in_the_table() {
        for state in State::ALL {
            let parts = [state.is_good(), state.is_settling(), state.waits(), state.is_failed()];
            assert_eq!(parts.iter().filter(|part| **part).count(), 1, "{state}");
        }
    }

    #[test]
    fn only_a_good_release_is_not_proved_again() {
        for state in State::ALL {
            let expected = if state == Good { Good } else { Proved };
            assert_eq!(state.proved(), expected);
        }
    }
}
