//! Whatever else speaks S3, and the programs that upload to it: the long form, which
//! `make stores` runs together with the short one. docs/stores.md has the table.

#![allow(clippy::disallowed_methods, reason = "the tests are not the agent")]

mod gateways;
