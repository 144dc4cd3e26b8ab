//! What holds for every error, whatever it is about.

use model::error::{Error, Exit};
use model::release::ParseError;

/// Stands for a password; no error may repeat it.
pub const SECRET: &str = "Zq7xKw";

/// Longer than any error has a reason to be, in bytes.
const LONGEST: usize = 2000;

/// Everything an operator gets to read, as one text.
pub fn said(error: &Error) -> String {
    format!("{} {}", error.chain(), error.advice().unwrap_or_default())
}

/// It ends as one of `exits`, with advice, and can be shown on a terminal.
pub fn check(error: &Error, exits: &[Exit]) {
    let said = said(error);
    assert!(exits.contains(&error.exit()), "{:?}: {said}", error.exit());
    assert!(error.advice().is_some(), "no advice: {said}");
    check_text(&said);
}

/// It names a place that `text` has, and can be shown on a terminal.
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
