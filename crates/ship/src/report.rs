//! Progress for people, on stderr; stdout has the result alone.

use console::style;
use model::text::for_terminal;
use std::io::{Write, stderr};

/// Prints what a command does while it does it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Report {
    /// Nothing is printed but warnings: another program reads the result.
    pub quiet: bool,
}

impl Report {
    /// Prints that a step begins.
    pub fn step(&self, step: &str, text: impl AsRef<str>) {
        if !self.quiet {
            let _ = writeln!(stderr(), "{step:<9} {}", for_terminal(text.as_ref()));
        }
    }

    pub fn warn(&self, text: impl AsRef<str>) {
        let warning = style("warning:").for_stderr().yellow();
        let _ = writeln!(stderr(), "{warning} {}", for_terminal(text.as_ref()));
    }
}

/// Returns a size in the unit that fits: `12.3 MB`.
pub fn size(bytes: u64) -> String {
    let mut value = bytes as f64;
    for unit in ["B", "kB", "MB", "GB"] {
        if value < 999.5 {
            let digits = if unit == "B" || value >= 99.95 { 0 } else { 1 };
            return format!("{value:.digits$} {unit}");
        }
        value /= 1000.0;
    }
    format!("{value:.1} TB")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_has_the_unit_that_fits() {
        let sizes = [0, 999, 1000, 12_345, 999_950, 1_500_000_000, 7_000_000_000_000].map(size);
        assert_eq!(sizes, ["0 B", "999 B", "1.0 kB", "12.3 kB", "1.0 MB", "1.5 GB", "7.0 TB"]);
    }
}
