//! A limit of AWS: tokens that come back at a rate.

use tokio::time::Instant;

#[derive(Debug)]
pub struct Bucket {
    per_second: f64,
    most: f64,
    left: f64,
    at: Instant,
}

impl Bucket {
    pub fn new(per_second: f64, most: f64) -> Bucket {
        Bucket { per_second, most, left: most, at: Instant::now() }
    }

    /// Takes a token, if there is one.
    pub fn take(&mut self) -> bool {
        let now = Instant::now();
        let come = now.duration_since(self.at).as_secs_f64() * self.per_second;
        (self.left, self.at) = ((self.left + come).min(self.most), now);
        let is_there = self.left >= 1.0;
        if is_there {
            self.left -= 1.0;
        }
        is_there
    }
}
