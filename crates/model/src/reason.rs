//! Why a request failed, as a closed list for programs: a text can change, a reason does not.

use crate::exit::Exit;
use serde::{Deserialize, Serialize};

/// The reason of a failure. The exit code says how the instance was left; the reason, why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The command, or a word of it, makes no sense.
    InvalidRequest,
    /// A value in `agent.env`.
    InvalidAgentSetting,
    /// No such app, process, release or job on this instance.
    NotFound,
    /// The caller has no right to ask for this.
    NotAllowed,

    /// Anything else that makes a release unusable.
    InvalidRelease,
    InvalidArchive,
    InvalidProcfile,
    /// The release's env file, or a setting in it.
    InvalidEnv,
    /// The release holds more than a DEPLOY_MAX_… setting allows.
    LimitExceeded,
    /// This instance requires a signature, and the release has none.
    SignatureMissing,
    /// The signature is by a key, or for a purpose, that this instance does not trust now.
    SignerNotTrusted,
    /// The release is not the one that was signed.
    SignatureMismatch,
    BuildFailed,
    ReleasePhaseFailed,
    /// Another app, or another program, has the port.
    PortTaken,
    DiskFull,

    /// Anything else that keeps the source from being read.
    SourceFailed,
    ReleaseMissing,
    AccessDenied,
    CredentialsMissing,
    CredentialsExpired,
    RegionMissing,
    WrongRegion,
    /// The clock of this instance differs from the source's.
    ClockWrong,
    NameUnresolved,
    ConnectionRefused,
    NoRoute,
    NoAnswer,
    TlsFailed,
    CertificateUntrusted,
    ProxyRefused,
    /// The source has trouble of its own, or too many requests.
    SourceBusy,
    /// The release was published again while it was read.
    ChangedWhileRead,
    ChecksumMismatch,
    /// The time that the caller gave with `--timeout` is over.
    DeadlinePassed,

    /// Anything else about the candidate's health.
    Unhealthy,
    /// The candidate was not healthy within DEPLOY_HEALTH_TIMEOUT.
    HealthTimeout,
    /// A process ended, or was restarted, while it was watched.
    ProcessEnded,
    /// A process was killed for the memory that it used.
    OutOfMemory,
    /// A process that had been healthy stopped answering.
    StoppedAnswering,
    /// systemd could not start a process.
    StartFailed,
    /// Somebody asked for a rollback while the release settled.
    TakenBack,

    /// Anything else that the agent could not do.
    AgentFailed,
    /// `deployd` or the instance ended, or was about to.
    Interrupted,
    /// The agent's own state on the disk cannot be read.
    StateDamaged,
    RollbackFailed,
    Busy,
    NoAgent,
    Cancelled,
}

impl Reason {
    /// Returns the reason of a failure when nothing but its exit code is known.
    pub fn of_exit(exit: Exit) -> Reason {
        match exit {
            Exit::Done | Exit::Failed => Reason::AgentFailed,
            Exit::Usage => Reason::InvalidRequest,
            Exit::Unusable => Reason::InvalidRelease,
            Exit::Source => Reason::SourceFailed,
            Exit::Unhealthy | Exit::RolledBack => Reason::Unhealthy,
            Exit::RollbackFailed => Reason::RollbackFailed,
            Exit::Busy => Reason::Busy,
            Exit::NoAgent => Reason::NoAgent,
            Exit::Cancelled => Reason::Cancelled,
        }
    }

    /// Whether the processes of the candidate are at fault, rather than the machine, the
    /// source or a person.
    pub fn blames_candidate(self) -> bool {
        use Reason::{
            HealthTimeout, OutOfMemory, ProcessEnded, StartFailed, StoppedAnswering, Unhealthy,
        };
        matches!(
            self,
            Unhealthy | HealthTimeout | ProcessEnded | OutOfMemory | StoppedAnswering | StartFailed
        )
    }

    /// Whether the same request can succeed later although the release stays what it is.
    pub fn may_pass(self) -> bool {
        use Reason::{
            AgentFailed, Busy, DeadlinePassed, DiskFull, Interrupted, InvalidAgentSetting,
            InvalidRequest, NoAgent, NotAllowed, NotFound, PortTaken, SignatureMissing,
            SignerNotTrusted, StateDamaged,
        };
        let elsewhere = matches!(
            self,
            AgentFailed
                | Busy
                | DeadlinePassed
                | DiskFull
                | Interrupted
                | InvalidAgentSetting
                | InvalidRequest
                | NoAgent
                | NotAllowed
                | NotFound
                | PortTaken
                // It can be uploaded later, and the list of trusted keys can change.
                | SignatureMissing
                | SignerNotTrusted
                | StateDamaged
        );
        elsewhere || self.is_of_source()
    }

    /// Whether a machine that has only just booted may get over it by itself: no network,
    /// name server, role or clock yet.
    pub fn may_pass_at_boot(self) -> bool {
        use Reason::{
            ClockWrong, ConnectionRefused, CredentialsMissing, NameUnresolved, NoAnswer, NoRoute,
            RegionMissing,
        };
        matches!(
            self,
            ClockWrong
                | ConnectionRefused
                | CredentialsMissing
                | NameUnresolved
                | NoAnswer
                | NoRoute
                | RegionMissing
        )
    }

    fn is_of_source(self) -> bool {
        use Reason::{
            AccessDenied, CertificateUntrusted, ChangedWhileRead, ChecksumMismatch,
            CredentialsExpired, ProxyRefused, ReleaseMissing, SourceBusy, SourceFailed, TlsFailed,
            WrongRegion,
        };
        let stays = matches!(
            self,
            AccessDenied
                | CertificateUntrusted
                | ChangedWhileRead
                | ChecksumMismatch
                | CredentialsExpired
                | ProxyRefused
                | ReleaseMissing
                | SourceBusy
                | SourceFailed
                | TlsFailed
                | WrongRegion
        );
        stays || self.may_pass_at_boot()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_of_the_candidate_does_not_pass_by_itself() {
        for reason in [Reason::HealthTimeout, Reason::ProcessEnded, Reason::OutOfMemory] {
            assert!(reason.blames_candidate() && !reason.may_pass(), "{reason:?}");
        }
        assert!(!Reason::TakenBack.blames_candidate() && !Reason::TakenBack.may_pass());
    }

    #[test]
    fn what_passes_at_boot_passes_later_as_well() {
        for reason in [Reason::ClockWrong, Reason::NoRoute, Reason::CredentialsMissing] {
            assert!(reason.may_pass_at_boot() && reason.may_pass(), "{reason:?}");
        }
        assert!(!Reason::AccessDenied.may_pass_at_boot() && Reason::AccessDenied.may_pass());
    }

    #[test]
    fn programs_read_a_word() {
        let word = serde_json::to_string(&Reason::HealthTimeout).expect("a word");
        assert_eq!(word, "\"health_timeout\"");
    }
}
