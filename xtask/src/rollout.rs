//! What the command line of ship has of a rollout.

use model::error::Error;
use std::str::FromStr;

/// Replaces ship's own. No command line is parsed here, but clap checks the defaults.
#[derive(Clone, Debug)]
pub struct Batches;

impl FromStr for Batches {
    type Err = Error;

    fn from_str(_: &str) -> Result<Batches, Error> {
        Ok(Batches)
    }
}
