//! How instances end with an order.

use crate::fleet::{Ended, Host};
use std::collections::BTreeMap;

/// How an instance ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    Ended(Ended),
    /// It was not asked: the rollout had failed or was cancelled.
    NotBegun,
    Lost(String),
    /// It is no more in the group.
    Gone,
}

pub type Ends = BTreeMap<Host, End>;

impl End {
    /// Whether an instance may have failed to roll back because the release is not on its disk.
    pub fn lacks_release(&self) -> bool {
        matches!(self, End::Ended(ended) if [1, 2, 10, 11, 30].contains(&ended.code))
    }

    /// Whether a rollback may have begun before it failed: no agent refuses a release that it does
    /// not have by these codes.
    pub fn may_have_broken(&self) -> bool {
        matches!(self, End::Ended(ended) if [1, 30].contains(&ended.code))
    }
}
