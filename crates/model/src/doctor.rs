//! The rows of `deploy doctor`, as GET /v1/doctor returns them.

use crate::error::Error;
use crate::reason::Reason;
use serde::{Deserialize, Serialize};

/// The oldest systemd that the tests boot. Debian 12 has it. Amazon Linux 2023 and RHEL 9 have
/// the same. The packages depend on it, and `cargo xtask check` compares them.
pub const OLDEST_SYSTEMD: u32 = 252;

/// The query of GET /v1/doctor
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Ask {
    /// A release, or `current` of an environment, whose source is examined as well.
    pub url: Option<String>,
}

/// What a row is about, as a closed list for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Check {
    Deployd,
    Settings,
    SettingsTaken,
    Systemd,
    Cgroup,
    Sandbox,
    Nftables,
    PortMap,
    Ports,
    Conntrack,
    Disk,
    Inodes,
    Users,
    Machine,
    Journal,
    Rsyslog,
    Forwarding,
    SsmAgent,
    Signatures,
    Metadata,
    Credentials,
    Clock,
    Pointer,
    ListBucket,
    GetEnv,
    GetArchive,
    Release,
}

impl Check {
    /// Returns its name for people.
    pub fn name(self) -> &'static str {
        match self {
            Check::Deployd => "deployd",
            Check::Settings => "agent.env",
            Check::SettingsTaken => "settings in use",
            Check::Systemd => "systemd",
            Check::Cgroup => "cgroups",
            Check::Sandbox => "sandbox",
            Check::Nftables => "nftables",
            Check::PortMap => "port map",
            Check::Ports => "ports",
            Check::Conntrack => "conntrack",
            Check::Disk => "disk",
            Check::Inodes => "inodes",
            Check::Users => "users",
            Check::Machine => "machine",
            Check::Journal => "journal",
            Check::Rsyslog => "rsyslog",
            Check::Forwarding => "log forwarding",
            Check::SsmAgent => "SSM agent",
            Check::Signatures => "signatures",
            Check::Metadata => "metadata",
            Check::Credentials => "credentials",
            Check::Clock => "clock",
            Check::Pointer => "pointer",
            Check::ListBucket => "s3:ListBucket",
            Check::GetEnv => "get env",
            Check::GetArchive => "get archive",
            Check::Release => "release",
        }
    }
}

/// The result of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    Ok,
    /// It works, and may not for long, or not as well as it could.
    Warning,
    Failed,
    /// It does not apply here, or cannot be decided; the text says why.
    Skipped,
}

/// One line of the page.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    pub name: String,
    pub check: Check,
    pub result: Health,
    pub text: String,
    /// What the operator can do, if anything should be done.
    pub remedy: Option<String>,
    /// Why it failed, if the reason is one that a deploy would fail with.
    pub reason: Option<Reason>,
}

impl Row {
    pub fn ok(check: Check, text: impl Into<String>) -> Row {
        Row::new(check, Health::Ok, text.into())
    }

    /// A check that does not apply here or cannot be decided, and why.
    pub fn skipped(check: Check, why: impl Into<String>) -> Row {
        Row::new(check, Health::Skipped, why.into())
    }

    pub fn warning(check: Check, text: impl Into<String>, remedy: impl Into<String>) -> Row {
        Row { remedy: Some(remedy.into()), ..Row::new(check, Health::Warning, text.into()) }
    }

    pub fn failed(check: Check, text: impl Into<String>, remedy: impl Into<String>) -> Row {
        Row { remedy: Some(remedy.into()), ..Row::new(check, Health::Failed, text.into()) }
    }

    /// A check that failed with the error that a deploy would end with.
    pub fn of_error(check: Check, error: &Error) -> Row {
        Row {
            remedy: error.advice().map(str::to_owned),
            reason: Some(error.reason()),
            ..Row::new(check, Health::Failed, error.chain())
        }
    }

    fn new(check: Check, result: Health, text: String) -> Row {
        Row { name: check.name().to_owned(), check, result, text, remedy: None, reason: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_read_words_and_people_names() {
        let error = Error::source("s3://b/k").with_reason(Reason::AccessDenied).help("allow it");
        let row = Row::of_error(Check::SsmAgent, &error);
        let json = serde_json::to_value(&row).expect("JSON");
        assert_eq!(json["check"], "ssm_agent");
        assert_eq!(json["result"], "failed");
        assert_eq!(json["reason"], "access_denied");
        assert_eq!(
            (json["name"].as_str(), json["remedy"].as_str()),
            (Some("SSM agent"), Some("allow it"))
        );
    }
}
