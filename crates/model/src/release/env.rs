//! The release's `env`: a bash file of assignments, read without bash.
//!
//! Accepted files give the environment that `set -a; . ./env` gives in a clean bash with a
//! UTF-8 locale and the standard PATH, byte for byte, except for variables that every bash sets
//! itself; `tests/env_differential.rs` compares the two. Anything else is refused with its line
//! and column. An error never contains a part of a value, not even a word that looks like a
//! command: it may be the rest of an unquoted password.

mod ansi_c;
mod cursor;
mod parse;
mod reserved;
#[cfg(test)]
mod tests;
mod value;
mod write;

use super::ParseError;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

pub use parse::{Command, Word};

type Result<T, E = ParseError> = std::result::Result<T, E>;

/// The longest env file, in bytes.
const LONGEST_FILE: usize = 1024 * 1024;
/// The longest `NAME=value`, in bytes: execve(2) allows MAX_ARG_STRLEN, 32 pages, with the NUL.
const LONGEST_VARIABLE: usize = 32 * 4096 - 1;
/// The most bytes the variables of one file may have together, counting those assigned
/// again: a quarter of what execve(2) allows with the usual 8 MiB stack, since arguments
/// and systemd's own variables share it. It also bounds the work that `B=$A$A` can ask for,
/// and keeps the canonical file, at most twice as long, one that `Env::parse` reads.
const LONGEST_TOTAL: usize = LONGEST_FILE / 2;

/// The PATH before an env file sets it: systemd's default for services, systemd.exec(5), with
/// the directories that only some machines keep apart.
pub const STANDARD_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The variables of an env file, sorted by name. `Debug` shows no value.
#[derive(Clone, Default)]
pub struct Env {
    variables: BTreeMap<String, String>,
    ignored: BTreeSet<&'static str>,
}

/// Two values are equal if they give a process the same environment.
impl PartialEq for Env {
    fn eq(&self, other: &Env) -> bool {
        self.variables == other.variables
    }
}

impl Eq for Env {}

impl Env {
    /// Parses a whole env file; the last of several assignments to a name wins.
    pub fn parse(bytes: &[u8]) -> Result<Env, ParseError> {
        Env::parse_on(bytes, STANDARD_PATH)
    }

    /// The same with another initial `$PATH`.
    pub fn parse_on(bytes: &[u8], path: &str) -> Result<Env, ParseError> {
        let text = super::text(bytes, LONGEST_FILE)?;
        let (variables, ignored) = parse::parse(text, path)?;
        Ok(Env { variables, ignored })
    }

    /// Returns where the assignments of an env file are, for programs that change one of them.
    pub fn commands(text: &str) -> Result<Vec<Command>, ParseError> {
        parse::commands(super::text(text.as_bytes(), LONGEST_FILE)?, STANDARD_PATH)
    }

    /// Names whose assignment in the file has no effect: every shell between it and the app
    /// sets them itself.
    pub fn ignored(&self) -> impl Iterator<Item = &'static str> {
        self.ignored.iter().copied()
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str)
    }

    /// The names and values.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.variables.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.variables.keys().map(String::as_str)
    }

    /// Returns the text from which systemd's `EnvironmentFile=` gives a process exactly these
    /// variables, except those in `leave_out`. It is also a valid env file.
    pub fn to_environment_file(&self, leave_out: &[&str]) -> String {
        write::environment_file(self.iter().filter(|(name, _)| !leave_out.contains(name)))
    }
}

impl fmt::Debug for Env {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Env")?;
        f.debug_set().entries(self.names()).finish()
    }
}
