//! The parts of a release, as pure functions: text in, values out. No I/O, no clock, no
//! environment.

pub mod checksum;
pub mod compression;
pub mod digest;
pub mod env;
pub mod formation;
pub mod identity;
pub mod manifest;
pub mod name;
pub mod ports;
pub mod procfile;
pub mod reach;
pub mod settings;
pub mod signature;
pub mod signers;
pub mod state;
pub mod sums;
pub mod url;

use std::fmt;

/// The place of an error in a text of the operator, and the remedy.
///
/// The caller adds the name of the text (`env`, `Procfile`, a path, a URL).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseError {
    /// Counted from 1.
    pub line: usize,
    /// Counted in characters from 1.
    pub column: usize,
    /// The error; never contains a value of an env file.
    pub what: String,
    /// What the operator can do.
    pub help: Option<String>,
}

impl ParseError {
    pub fn new(line: usize, column: usize, what: impl Into<String>) -> Self {
        ParseError { line, column, what: what.into(), help: None }
    }

    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// An error at the end of `before`, the valid part of the text.
    fn after(before: &str, what: impl Into<String>) -> Self {
        let line = before.matches('\n').count() + 1;
        let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
        ParseError::new(line, column, what)
    }
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}: {}", self.line, self.column, self.what)
    }
}

impl std::error::Error for ParseError {}

/// Checks the bytes of a file of the release: UTF-8, no NUL, at most `limit` bytes.
fn text(bytes: &[u8], limit: usize) -> Result<&str, ParseError> {
    if bytes.len() > limit {
        return Err(ParseError::new(1, 1, format!("longer than {} KiB", limit / 1024)));
    }
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let valid = bytes.get(..error.valid_up_to()).unwrap_or_default();
        ParseError::after(&String::from_utf8_lossy(valid), "not UTF-8 text")
            .help("save the file as UTF-8")
    })?;
    match text.split_once('\0') {
        Some((before, _)) => Err(ParseError::after(before, "a NUL byte")),
        None => Ok(text),
    }
}

/// Unicode's noncharacters are valid UTF-8 except to systemd, which drops a line of a unit or
/// an EnvironmentFile that contains one (its `utf8_is_valid`).
fn is_noncharacter(c: char) -> bool {
    matches!(u32::from(c), 0xFDD0..=0xFDEF) || u32::from(c) & 0xFFFE == 0xFFFE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_has_the_place_where_utf8_ends() {
        let error = text(b"first\n\xc3\xa4b\xff", 100).unwrap_err();
        assert_eq!((error.line, error.column), (2, 3));
        assert_eq!(error.to_string(), "line 2, column 3: not UTF-8 text");
    }

    #[test]
    fn refuses_a_nul_byte_and_an_oversized_text() {
        assert_eq!(text(b"a\nb\0c", 100).unwrap_err().to_string(), "line 2, column 2: a NUL byte");
        assert_eq!(text(&[b'x'; 2049], 2048).unwrap_err().what, "longer than 2 KiB");
        assert!(text(&[b'x'; 2048], 2048).is_ok());
    }
}
