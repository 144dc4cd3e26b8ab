//! An instance as its load balancer sees it.

use serde::Serialize;

/// The state of an instance in the load balancer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Target {
    /// In the load balancer's word: `healthy`, `unhealthy`, `draining` …
    pub state: String,
    /// Why it is not healthy.
    pub reason: Option<String>,
}

impl Target {
    /// Returns state and reason in one line.
    pub fn text(&self) -> String {
        match &self.reason {
            Some(reason) => model::text::line(&format!("{}: {reason}", self.state), 100),
            None => model::text::line(&self.state, 100),
        }
    }
}
