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
    let mut stdout = stdout();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        // A closed pipe (`ship releases | head -1`) is the reader's choice.
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(Error::failed("print the result").because(error))
        }
        _ => Ok(()),
    }
}

/// Prints one line of JSON.
pub fn json(value: &impl Serialize) -> Result<()> {
    let line = serde_json::to_string(value);
    exactly(&(line.map_err(|why| Error::failed("print the result").because(why))? + "\n"))
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
    if let Some(help) = error.advice() {
        let _ = writeln!(stderr, "{} {}", style("help:").for_stderr().cyan(), for_terminal(help));
    }
}

/// The columns of stdout; none in a pipe or a file, where nothing is cut.
pub fn width() -> Option<usize> {
    console::Term::stdout().size_checked().map(|(_, columns)| usize::from(columns).max(1))
}
