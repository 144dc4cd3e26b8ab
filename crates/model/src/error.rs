//! The one error of the agent: what failed, why, what the operator can do, and
//! with which exit code it ends.
//!
//! `Display` says what failed and on what; `source()` says why. The chain is
//! printed once, at the edge, by whoever talks to the operator.

pub use crate::exit::Exit;
use crate::reason::Reason;
use std::error::Error as StdError;
use std::fmt;

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What [`Error::because`] takes.
pub type Cause = Box<dyn StdError + Send + Sync + 'static>;

/// What failed, why, and what can be done about it.
#[derive(Debug)]
pub struct Error {
    exit: Exit,
    what: String,
    help: Option<String>,
    cause: Option<Cause>,
    log: Vec<String>,
    reason: Option<Reason>,
}

impl Error {
    /// `what` says what failed and on what (file, line, unit, URL), without the reason.
    pub fn new(exit: Exit, what: impl Into<String>) -> Self {
        Error { exit, what: what.into(), help: None, cause: None, log: Vec::new(), reason: None }
    }

    pub fn failed(what: impl Into<String>) -> Self {
        Self::new(Exit::Failed, what)
    }

    pub fn usage(what: impl Into<String>) -> Self {
        Self::new(Exit::Usage, what)
    }

    pub fn unusable(what: impl Into<String>) -> Self {
        Self::new(Exit::Unusable, what)
    }

    pub fn source(what: impl Into<String>) -> Self {
        Self::new(Exit::Source, what)
    }

    pub fn unhealthy(what: impl Into<String>) -> Self {
        Self::new(Exit::Unhealthy, what)
    }

    /// The reason, kept as the error's `source()`.
    pub fn because(mut self, cause: impl Into<Cause>) -> Self {
        self.cause = Some(cause.into());
        self
    }

    /// What the operator can do about it, as one sentence.
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// The last lines that the failed processes wrote.
    pub fn with_log(mut self, log: Vec<String>) -> Self {
        self.log = log;
        self
    }

    /// The same failure, ending with another exit code: a candidate that is
    /// unhealthy after the old release was stopped ends as rolled back.
    pub fn with_exit(mut self, exit: Exit) -> Self {
        self.exit = exit;
        self
    }

    /// Sets the reason that programs read. An error without one takes its cause's reason, or the
    /// reason that its exit code implies.
    pub fn with_reason(mut self, reason: Reason) -> Self {
        self.reason = Some(reason);
        self
    }

    /// Returns the reason of this error, or of the nearest one below it that names one.
    pub fn reason(&self) -> Reason {
        self.named_reason().unwrap_or_else(|| Reason::of_exit(self.exit))
    }

    fn named_reason(&self) -> Option<Reason> {
        let below = || self.cause.as_deref()?.downcast_ref::<Error>()?.named_reason();
        self.reason.or_else(below)
    }

    pub fn exit(&self) -> Exit {
        self.exit
    }

    /// The last lines written by what failed: this error's own, or the nearest below it.
    pub fn log(&self) -> &[String] {
        match self.cause.as_deref().and_then(|cause| cause.downcast_ref::<Error>()) {
            Some(cause) if self.log.is_empty() => cause.log(),
            _ => &self.log,
        }
    }

    /// What the operator can do: this error's own help, or the nearest below it.
    pub fn advice(&self) -> Option<&str> {
        let below = || self.cause.as_deref()?.downcast_ref::<Error>()?.advice();
        self.help.as_deref().or_else(below)
    }

    /// What failed and every reason for it, joined with colons, no text twice.
    pub fn chain(&self) -> String {
        let mut text = self.what.clone();
        let mut next = StdError::source(self);
        while let Some(cause) = next {
            let line = cause.to_string();
            if !text.ends_with(&line) {
                text.push_str(": ");
                text.push_str(&line);
            }
            next = cause.source();
        }
        text
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.cause.as_deref().map(|cause| cause as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_says_each_reason_once() {
        let inner = Error::failed("open env").because(std::io::Error::other("disk on fire"));
        let outer = Error::unusable("release r1").because(inner.help("replace the disk"));
        assert_eq!(outer.chain(), "release r1: open env: disk on fire");
        assert_eq!(outer.advice(), Some("replace the disk"));
        assert_eq!(outer.exit(), Exit::Unusable);
    }

    #[test]
    fn a_reason_is_that_of_the_nearest_error_which_names_one() {
        let inner = Error::source("https://host/env").with_reason(Reason::NoRoute);
        let outer = Error::source("release r1").because(inner);
        assert_eq!(outer.reason(), Reason::NoRoute);
        let unnamed = Error::source("release r1").because(Error::failed("read it"));
        assert_eq!(unnamed.reason(), Reason::SourceFailed);
    }

    #[test]
    fn no_exit_code_means_something_else_to_ssm() {
        for exit in Exit::ALL {
            assert!(![137, 168, 194].contains(&exit.code()));
        }
    }
}
