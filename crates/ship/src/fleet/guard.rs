//! What else says whether a group is well, beside the agents themselves.

use super::Host;
use async_trait::async_trait;
use model::error::Result;
use std::collections::BTreeMap;

#[async_trait]
pub trait Guard: Send + Sync {
    /// Fails if a deploy must not begin now, or if the alarms may not be asked for.
    async fn before(&self) -> Result<()>;

    /// Returns the alarm that has gone off, with its reason, if one has.
    async fn alarm(&self) -> Result<Option<String>>;

    /// Returns the instances that a load balancer finds unhealthy, with its reasons.
    async fn unhealthy(&self) -> Result<BTreeMap<Host, String>>;
}
