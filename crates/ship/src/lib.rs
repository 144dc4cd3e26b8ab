//! ship: makes releases from a commit, and keeps their config. It has no state of its own: all of
//! it is in the store.

#![allow(clippy::disallowed_methods, reason = "it is the operator's program, not the agent")]

pub mod cli;

mod config;
pub mod lock;
mod maker;
mod promote;
mod releases;
mod rollout;

mod archive;
mod check;
mod context;
mod document;
mod fleet;
mod objects;
mod place;
mod program;
mod publish;
mod report;
mod settings;
mod signature;
mod source;
mod table;
#[cfg(test)]
mod testing;
