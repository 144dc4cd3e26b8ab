//! deploy-agent: one release in S3 becomes running systemd services on this instance.
//!
//! The modules in the order in which a release flows through them; none imports
//! one that stands above it.

pub mod cli;
pub mod agent;
pub mod deploy;
pub mod generator;
pub mod admit;
pub mod converge;
pub mod health;
pub mod stage;
pub mod units;
pub mod instance;
pub mod source;
pub mod store;
pub mod release;
pub mod host;
pub mod event;
pub mod error;
