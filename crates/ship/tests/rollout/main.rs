//! ship deploys to three booted instances by ssh, under load. `make rollout` runs it.

#![allow(clippy::disallowed_methods, reason = "it starts programs")]

mod formation;
mod group;
mod story;
