//! The product as an operator uses it: the package on a booted instance with S3 beside it,
//! driven by the public command alone.

#![allow(clippy::disallowed_methods, reason = "the tests are not the agent")]

mod archives;
mod boot;
mod budgets;
mod callers;
mod collectd;
mod commands;
mod credentials;
mod daemon;
mod deadlines;
mod deploying;
mod doctor;
mod env;
mod exec;
mod express;
mod foreground;
mod formation;
mod handover;
mod homes;
mod logs;
mod isolation;
mod launch;
mod metadata;
mod metrics;
mod network;
mod nftables;
mod operating;
mod package;
mod path;
mod phase;
mod ports;
mod reach;
mod recorded;
mod refused;
mod removal;
mod resources;
mod rollback;
mod rpm;
mod same;
mod sandbox;
mod signatures;
mod stop;
mod stopping;
mod stores;
mod syncing;
mod syslog;
mod units;
mod terminal;
mod usual;
mod walls;
mod watch;
