//! The part that the programs of deploy-agent share, as pure functions and values: text in,
//! values out. No I/O, no clock, no environment.

#![forbid(unsafe_code)]
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used))]

pub mod api;
pub mod doctor;
pub mod error;
pub mod event;
pub mod exit;
#[cfg(any(test, feature = "fixtures"))]
pub mod fixtures;
pub mod helper;
pub mod history;
pub mod installed;
pub mod metrics;
pub mod one_off;
pub mod reason;
pub mod release;
pub mod retention;
pub mod selector;
pub mod syslog;
pub mod text;
pub mod timings;
pub mod units;
pub mod variant;
