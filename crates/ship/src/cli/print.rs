//! Results on stdout, failures on stderr.

use console::style;
use model::error::{Error, Result};
use model::text::for_terminal;
use serde::Serialize;
use serde_json::json;
use std::io::{ErrorKind, Write, stderr, stdout};

/// Prints text for people.
pub fn text(text: &str) -> Result<()> {
    exactly(&for_terminal(text))
}

/// Prints text as it is: a value that was asked for.
pub fn exactly(text: &str) -> Result<()> {
    is_read(text).map(|_| ())
}

/// Prints text as it is; returns whether somebody still reads it.
pub fn is_read(text: &str) -> Result<bool> {
    let mut stdout = stdout();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Ok(()) => Ok(true),
        // A closed pipe (`ship releases | head -1`) is the reader's choice.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(Error::failed("print the result").because(error)),
    }
}

/// Prints one line of JSON.
pub fn json(value: &impl Serialize) -> Result<()> {
    exactly(&json_line(value)?)
}

/// Renders one line of JSON.
pub fn json_line(value: &impl Serialize) -> Result<String> {
    let line = serde_json::to_string(value);
    Ok(line.map_err(|why| Error::failed("print the result").because(why))? + "\n")
}

/// Prints why a command failed.
pub fn failed(error: &Error, command: &str, as_json: bool) {
    let code = error.exit().code();
    if as_json {
        let _ = json(&json!({
            "exit": error.exit(),
            "code": code,
            "reason": error.reason(),
            "message": error.chain(),
            "help": error.advice(),
        }));
        return;
    }
    let mut stderr = stderr();
    let failed = style(format!("{command} failed (exit {code})")).for_stderr().red().bold();
    let _ = writeln!(stderr, "{failed}: {}", for_terminal(&error.chain()));
    if let Some(advice) = error.advice() {
        help(advice);
    }
}

/// Prints what to do about a failure.
pub fn help(advice: &str) {
    let word = style("help:").for_stderr().cyan();
    let _ = writeln!(stderr(), "{word} {}", for_terminal(advice));
}

/// The lines and columns of stdout; none in a pipe or a file.
pub fn size() -> (Option<usize>, Option<usize>) {
    let size = console::Term::stdout().size_checked();
    (size.map(|(lines, _)| usize::from(lines).max(1)), width())
}

/// The columns of stdout; none in a pipe or a file, where nothing is cut.
pub fn width() -> Option<usize> {
    console::Term::stdout().size_checked().map(|(_, columns)| usize::from(columns).max(1))
}
