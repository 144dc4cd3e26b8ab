//! The product on Debian's own kernel, under emulation: `make kernel`. All other booted tests
//! share this machine's kernel.
//!
//! Emulation is some ten times slower than the machine, so no time is measured here, and the
//! settings are those of an operator of a slow machine.

#![allow(clippy::disallowed_methods, reason = "the tests are not the agent")]

mod machine;
mod power;
mod story;
