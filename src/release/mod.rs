//! What a release is, as pure functions: text in, values out. No I/O, no clock,
//! no environment.

pub mod compression;
pub mod env;
pub mod procfile;
pub mod settings;
pub mod url;

use std::fmt;

/// Where a text of the operator is wrong, and what to do about it.
///
/// The text's own name (`env`, `Procfile`, a path, a URL) is added by whoever read it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseError {
    /// Counted from 1.
    pub line: usize,
    /// Counted in characters from 1.
    pub column: usize,
    /// What is wrong; never holds a value of an env file.
    pub what: String,
    /// What the operator can do.
    pub help: Option<String>,
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}: {}", self.line, self.column, self.what)
    }
}

impl std::error::Error for ParseError {}
