//! The product as an operator has it: the package on a booted instance, S3
//! beside it, and nothing used but the public command.

#![allow(clippy::disallowed_methods, reason = "the tests are not the agent")]

#[path = "../../crates/testkit/src/instance/mod.rs"]
mod instance;
#[path = "../../crates/testkit/src/load/mod.rs"]
mod load;
#[path = "../../crates/testkit/src/s3/mod.rs"]
mod s3;
#[path = "../stores/mod.rs"]
mod stores;

#[path = "../../crates/testkit/src/app.rs"]
mod app;
mod archives;
mod boot;
mod budgets;
mod callers;
mod commands;
mod credentials;
mod daemon;
mod deadlines;
mod deploying;
mod env;
mod express;
mod foreground;
#[path = "../../crates/testkit/src/graceful.rs"]
mod graceful;
mod handover;
mod homes;
#[path = "../../crates/testkit/src/host.rs"]
mod host;
mod logs;
mod isolation;
mod metadata;
mod network;
mod nftables;
mod operating;
mod package;
mod phase;
mod ports;
mod reach;
mod refused;
mod removal;
mod resources;
mod rollback;
mod same;
mod sandbox;
mod stop;
mod stopping;
mod units;
mod usual;
mod walls;
mod watch;
