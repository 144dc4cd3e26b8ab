//! What the daemon adds: the control socket, work that outlives its caller, and
//! questions about what is installed.

mod answer;
mod cancel;
mod connections;
pub mod daemon;
pub mod log;
mod operate;
mod operator;
mod port_watch;
mod plan;
mod remove;
mod server;
mod status;
mod watch;
mod work;
