//! How long the parts of a job took: for `--timings` and the history.

use serde::{Deserialize, Serialize};

/// The wall time of a job, in parts that do not overlap.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Timings {
    /// In the order of their start.
    pub parts: Vec<Part>,
    /// Set if an archive was written to the disk.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub archive: Option<Archive>,
}

/// A step, or a part of one that is measured on its own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Part {
    pub part: String,
    pub seconds: f64,
}

/// The work of `stage` on the archive. Its three stages run concurrently, so their seconds
/// overlap: each is the time that the stage did not wait for another one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Archive {
    /// The compressed size.
    pub bytes: u64,
    pub unpacked_bytes: u64,
    pub files: u64,
    /// The total wall time.
    pub seconds: f64,
    pub fetch: f64,
    pub inflate: f64,
    pub unpack: f64,
}

impl Archive {
    /// Returns the stage that the others have waited for.
    pub fn limit(&self) -> &'static str {
        let stages = [("fetch", self.fetch), ("inflate", self.inflate), ("unpack", self.unpack)];
        let slowest = stages.into_iter().max_by(|one, other| one.1.total_cmp(&other.1));
        slowest.map_or("", |(name, _)| name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_the_stage_that_was_busy_longest() {
        let archive = Archive { fetch: 0.2, inflate: 0.5, unpack: 0.4, ..Archive::default() };
        assert_eq!(archive.limit(), "inflate");
    }
}
