//! ship deploys to three booted instances by ssh and by Systems Manager, under load. `make rollout`
//! runs it.

#![allow(clippy::disallowed_methods, reason = "it starts programs")]

mod formation;
mod group;
mod killed;
mod phase;
mod silent;
mod ssm;
mod story;
mod terminal;
