//! Files for other programs, anywhere on the instance.

use super::durable;
use model::error::Result;
use std::path::Path;

/// Replaces a file that everybody may read; a reader sees all of it or all of the one before.
pub fn write_report(path: &Path, text: &str) -> Result<()> {
    durable::write(path, text.as_bytes(), 0o644)
}
