//! The instances of an environment: which there are, and how a command gets to them.

mod agent;
pub mod aws;
#[cfg(test)]
pub mod fake;
mod guard;
mod listed;
mod seen;
mod shell;
mod ssh;
mod ssm;
mod target;
mod transport;

pub use guard::Guard;
pub use listed::Listed;
pub use shell::{Said, Shell, Stream, Task};
pub use ssh::Ssh;
pub use ssm::Ssm;
pub use target::Target;
pub use transport::{Ended, Order, Progress, Seen, Ticket, Transport};

use async_trait::async_trait;
use model::error::Result;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// An instance, by the name that its transport knows: an instance id, or a host of ssh.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Host(pub String);

/// Whether an instance has clients, as its group says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    InService,
    /// It boots, and deploys what the pointer names.
    Starting,
    /// It is being terminated, or stands by.
    Leaving,
}

/// An instance of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    pub host: Host,
    pub zone: Option<String>,
    pub standing: Standing,
}

/// A group of instances.
#[async_trait]
pub trait Fleet: Send + Sync {
    /// Lists the instances that there are now, in the order of their names.
    async fn instances(&self) -> Result<Vec<Instance>>;

    /// Returns the states of instances in the load balancer; without those that are in none.
    async fn targets(&self, _hosts: &[Host]) -> Result<BTreeMap<Host, Target>> {
        Ok(BTreeMap::new())
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// Returns the names in one line: the first few, and how many more there are.
pub fn names<'a>(hosts: impl IntoIterator<Item = &'a Host>) -> String {
    const MOST: usize = 10;
    let all: Vec<&str> = hosts.into_iter().map(|host| host.0.as_str()).collect();
    let shown = all.get(..MOST).unwrap_or(&all).join(", ");
    match all.len().saturating_sub(MOST) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// Quotes a word for a shell.
fn quote(word: &str) -> String {
    format!("'{}'", word.replace('\'', "'\\''"))
}
