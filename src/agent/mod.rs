//! The daemon: the control socket, jobs that outlive their callers, and queries about what is
//! installed.

mod respond;
mod cancel;
mod connections;
pub mod daemon;
pub mod helper;
pub mod log;
mod logs;
pub mod processes;
mod caller;
mod port_watch;
mod health_watch;
mod environment;
mod plan;
mod remove;
mod server;
mod status;
mod watch;
pub mod history;
mod jobs;
mod env;
mod exec;
mod handed;
mod one_offs;
mod lifecycle;
mod metrics;
mod forwarding;

use crate::context;
use crate::store::Store;

/// The store, even while agent.env has a mistake: that stops deploys alone.
fn store() -> Store {
    Store::at(context::state_dir())
}
