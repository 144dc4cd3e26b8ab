//! The port map in a real kernel: which clients reach which process through it, and that a
//! switch harms no connection.

#![allow(clippy::disallowed_methods, reason = "the tests are not the agent")]

mod reach;
mod switch;
mod table;
mod world;
