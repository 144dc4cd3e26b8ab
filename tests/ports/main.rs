//! The port map in a real kernel: who reaches what through it, and that a switch
//! harms no one.

#![allow(clippy::disallowed_methods, reason = "the tests are not the agent")]

mod reach;
mod switch;
mod table;
mod world;
