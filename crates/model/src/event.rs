//! What a deploy reports as it goes, and how it ended: one stream of events for its caller
//! and for whoever follows it.

use crate::error::{Error, Exit};
use crate::reason::Reason;
use crate::timings::Timings;
use serde::{Deserialize, Serialize};

/// The steps of a deploy, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    Lock,
    Resolve,
    Preflight,
    Stage,
    Build,
    Release,
    Prove,
    Commit,
    Converge,
    Settle,
    Drain,
    Finish,
    RollBack,
}

impl Step {
    pub fn name(self) -> &'static str {
        match self {
            Step::Lock => "lock",
            Step::Resolve => "resolve",
            Step::Preflight => "preflight",
            Step::Stage => "stage",
            Step::Build => "build",
            Step::Release => "release",
            Step::Prove => "prove",
            Step::Commit => "commit",
            Step::Converge => "converge",
            Step::Settle => "settle",
            Step::Drain => "drain",
            Step::Finish => "finish",
            Step::RollBack => "roll back",
        }
    }
}

/// One thing that happened. One JSON object a line on the control socket.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The first event of a stream: what is followed, and its id for `deploy attach`.
    Begun { id: String, what: String, who: String },
    /// A step begins.
    Step {
        step: Step,
        text: String,
        /// Seconds since the job began.
        #[serde(default)]
        after: f64,
        /// Seconds that the step takes at most, where that is known; a settle window takes as
        /// many.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        at_most: Option<f64>,
    },
    /// What the step waits for, as of now: an empty text, nothing any more.
    Waiting {
        text: String,
        /// Seconds from now after which it is given up; none if the step has a limit, or nothing has.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        at_most: Option<f64>,
    },
    /// How far the archive is: compressed bytes read, entries unpacked.
    Progress { bytes: u64, total: Option<u64>, files: u64 },
    /// A line that the release's own `build` wrote.
    Output { line: String },
    /// Something the operator should know that does not stop the deploy.
    Warning { text: String },
    /// The last event of a stream: how it ended.
    Ended { outcome: Outcome },
    /// An event that a later version has added.
    #[serde(other)]
    Unknown,
}

impl Event {
    /// How much text it holds. The last event always stays.
    pub fn bytes(&self) -> usize {
        match self {
            Event::Step { text, .. } | Event::Waiting { text, .. } | Event::Warning { text } => {
                text.len()
            }
            Event::Output { line } => line.len(),
            Event::Begun { .. } | Event::Progress { .. } | Event::Ended { .. } | Event::Unknown => {
                0
            }
        }
    }
}

/// How a request ended, in the words that the operator reads.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    pub exit: Exit,
    /// The number of `exit`, as the command ends with.
    #[serde(default)]
    pub code: u8,
    /// Why it failed, for programs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// One line: what was done, or what failed and why.
    pub message: String,
    /// What the operator can do about a failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
    /// The last lines the failed processes wrote.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub log: Vec<String>,
    /// Of the job, for `deploy attach` and the history.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub app: Option<String>,
    /// The label of the release that this was about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub release: Option<String>,
    /// The label of the release that is current now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub current: Option<String>,
    /// Wall time in seconds.
    pub seconds: f64,
    /// Where it went.
    #[serde(default)]
    pub timings: Timings,
}

impl Outcome {
    /// Returns the error that another process has printed as this outcome.
    pub fn into_error(self) -> Error {
        let reason = self.reason.unwrap_or_else(|| Reason::of_exit(self.exit));
        let error = Error::new(self.exit, self.message).with_reason(reason).with_log(self.log);
        match self.help {
            Some(help) => error.help(help),
            None => error,
        }
    }

    pub fn done(message: impl Into<String>) -> Self {
        Self::new(Exit::Done, message.into())
    }

    fn new(exit: Exit, message: String) -> Self {
        Outcome {
            exit,
            code: exit.code(),
            reason: None,
            message,
            help: None,
            log: Vec::new(),
            id: None,
            app: None,
            release: None,
            current: None,
            seconds: 0.0,
            timings: Timings::default(),
        }
    }
}

impl From<&Error> for Outcome {
    fn from(error: &Error) -> Self {
        let mut outcome = Outcome::new(error.exit(), error.chain());
        outcome.reason = Some(error.reason());
        outcome.help = error.advice().map(str::to_owned);
        outcome.log = error.log().to_vec();
        outcome
    }
}
