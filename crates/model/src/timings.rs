//! Where the time of a job went: what `--timings` prints and the history keeps.

use serde::{Deserialize, Serialize};

/// All of the wall time, in parts that do not overlap.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Timings {
    /// In the order in which they began.
    pub parts: Vec<Part>,
    /// Where an archive was brought onto the disk.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub archive: Option<Archive>,
}

/// A step, or what was singled out of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Part {
    pub part: String,
    pub seconds: f64,
}

/// What `stage` did with the archive. Its three stages work at the same time, so
/// their seconds overlap: each is how long the stage did not wait for another one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Archive {
    /// Compressed.
    pub bytes: u64,
    pub unpacked_bytes: u64,
    pub files: u64,
    /// Wall time of all of it.
    pub seconds: f64,
    pub fetch: f64,
    pub inflate: f64,
    pub unpack: f64,
}

impl Archive {
    /// The stage that the others have waited for.
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
