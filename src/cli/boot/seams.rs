//! Traits for what `deploy boot` talks to.

use super::End;
use async_trait::async_trait;
use model::api::Lifecycle;
use model::error::Result;
use std::time::Duration;
use tokio::time::Instant;

/// The instance's metadata.
#[async_trait(?Send)]
pub trait Metadata {
    /// Returns the text at a path; `None` if there is none. The error says why the service does
    /// not answer.
    async fn get(&self, path: &str) -> Result<Option<String>, String>;

    /// Whether somebody has said that there is none, so that nothing is waited for.
    fn is_disabled(&self) -> bool {
        false
    }
}

/// The lifecycle hooks of Auto Scaling.
#[async_trait(?Send)]
pub trait Hooks {
    /// Sends a call; false if no hook waits for the instance.
    async fn call(&self, call: &Lifecycle) -> Result<bool>;
}

/// The daemon.
#[async_trait(?Send)]
pub trait LocalDeployd {
    /// Waits until it can be asked, and says so if it takes a while.
    async fn wait(&self, deadline: Instant, say: &dyn Fn(&str));

    /// Whether the app of this URL has been deployed on this instance.
    async fn has_deployed(&self, url: &str) -> bool;

    async fn deploy(&self, url: &str, timeout: Duration) -> Result<End>;

    async fn stage(&self, url: &str, timeout: Duration) -> Result<End>;
}
