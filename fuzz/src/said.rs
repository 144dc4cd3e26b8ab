//! Properties of every error.

use model::error::{Error, Exit};
use model::release::ParseError;

/// Stands for a password; no error may repeat it.
pub const SECRET: &str = "Zq7xKw";

/// The longest error in bytes; none has a reason to be longer.
const LONGEST: usize = 2000;

/// Everything in an error that an operator reads, as one text.
pub fn said(error: &Error) -> String {
    format!("{} {}", error.chain(), error.advice().unwrap_or_default())
}

/// Checks that an error has one of `exits` and advice, and is safe to print on a terminal.
pub fn check(error: &Error, exits: &[Exit]) {
    let said = said(error);
    assert!(exits.contains(&error.exit()), "{:?}: {said}", error.exit());
    assert!(error.advice().is_some(), "no advice: {said}");
    check_text(&said);
}

/// Checks that an error names a place in `text`, and is safe to print on a terminal.
pub fn check_place(error: &ParseError, text: &[u8]) {
    let line = text.split(|byte| *byte == b'\n').nth(error.line.wrapping_sub(1));
    let line = line.unwrap_or_else(|| panic!("no such line: {error}"));
    let columns = 1..=String::from_utf8_lossy(line).chars().count() + 1;
    assert!(columns.contains(&error.column), "no such column: {error}");
    check_text(&format!("{error} {}", error.help.as_deref().unwrap_or_default()));
}

fn check_text(said: &str) {
    assert!(!said.contains(char::is_control), "a control character: {said:?}");
    assert!(said.len() <= LONGEST, "{} bytes: {said:?}", said.len());
}
