//! Other S3-compatible servers, and the programs that upload to them: the long form, which
//! `make stores` runs together with the short one. docs/stores.md has the table.

#![allow(clippy::disallowed_methods, reason = "the tests are not the agent")]

mod gateways;
