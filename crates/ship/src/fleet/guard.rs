//! What else says whether a group is well, beside the agents themselves.

use super::Host;
use async_trait::async_trait;
use model::error::Result;
use std::collections::BTreeMap;

#[async_trait]
pub trait Guard: Send + Sync {
    /// Notes the state before a rollout. Fails if it must not begin now, or if a question that
    /// will be asked later is not allowed. `bakes`: whether targets will be asked for.
    async fn before(&self, bakes: bool) -> Result<()>;

    /// Returns the alarm that has gone off, with its reason, if one has.
    async fn alarm(&self) -> Result<Option<String>>;

    /// Returns the instances that a load balancer finds unhealthy, and did not before, with its
    /// reasons.
    async fn unhealthy(&self) -> Result<BTreeMap<Host, String>>;
}
