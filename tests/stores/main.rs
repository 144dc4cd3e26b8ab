//! Whatever else speaks S3, and the programs that upload to it: the long form, which
//! `make stores` runs together with the short one. docs/stores.md has the table.

#![allow(clippy::disallowed_methods, reason = "the tests are not the agent")]
#![allow(dead_code, reason = "these tests use a part of what all have")]

#[path = "../../crates/testkit/src/app.rs"]
mod app;
#[path = "../../crates/testkit/src/host.rs"]
mod host;
#[path = "../../crates/testkit/src/instance/mod.rs"]
mod instance;
#[path = "../../crates/testkit/src/s3/mod.rs"]
mod s3;
#[path = "mod.rs"]
mod stores;

mod gateways;
