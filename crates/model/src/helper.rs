//! What `deploy` has deployd's program do without the daemon, so that only one program has the
//! code for it. Each run prints one JSON document: an [`Answer`].

use crate::doctor::Row;
use crate::event::Outcome;
use serde::{Deserialize, Serialize};

/// `deployd fetch URL DIR` unpacks a release into an empty directory: a [`Fetched`].
pub const FETCH: &str = "fetch";
/// `deployd examine` looks at what can be seen without the daemon: an [`Examined`].
pub const EXAMINE: &str = "examine";
/// `deployd metadata PATH` reads a text of the instance's metadata: an `Option<String>`.
pub const METADATA: &str = "metadata";

/// The document of a run.
pub type Answer<T> = Result<T, Outcome>;

/// A release that was fetched.
#[derive(Debug, Serialize, Deserialize)]
pub struct Fetched {
    /// The release's name, where the URL has `current`.
    pub name: String,
    /// The bytes of its env.
    pub env: Vec<u8>,
}

/// What `deploy doctor` tells when the daemon does not answer.
#[derive(Debug, Serialize, Deserialize)]
pub struct Examined {
    /// What systemd says of deployd's units.
    pub units: String,
    /// The rows that need no daemon; empty for a caller who is not root.
    pub rows: Vec<Row>,
}
