//! The calls of AWS that ship makes, one page each. What a list, a retry or a limit is, is decided
//! above them; so a fake of this trait tests all of it.

use crate::fleet::Host;
use async_trait::async_trait;
use std::time::Duration;

/// A part of a list, and the token of the next part.
#[derive(Clone, Debug, Default)]
pub struct Page<T> {
    pub items: Vec<T>,
    pub next: Option<String>,
}

/// Which groups are listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Which {
    Named(String),
    /// Those that have all of these tags.
    Tagged(Vec<(String, String)>),
}

/// An Auto Scaling group.
#[derive(Clone, Debug, Default)]
pub struct Group {
    pub members: Vec<Member>,
    /// ARNs of target groups.
    pub targets: Vec<String>,
}

/// An instance of an Auto Scaling group.
#[derive(Clone, Debug)]
pub struct Member {
    pub id: String,
    pub zone: Option<String>,
    /// The lifecycle state: `InService`, `Pending:Wait` …
    pub state: String,
}

/// An instance that Systems Manager knows.
#[derive(Clone, Debug)]
pub struct Managed {
    pub id: String,
    /// `Online`, `ConnectionLost` or `Inactive`.
    pub ping: String,
}

/// A shell command for at most 50 instances.
#[derive(Clone, Debug)]
pub struct Command {
    pub line: String,
    pub hosts: Vec<Host>,
    /// At most 100 characters. No other command has the same.
    pub comment: String,
    /// How long an instance may take to fetch it, and to run it.
    pub delivery: Duration,
    pub execution: Duration,
}

/// A command on one instance.
#[derive(Clone, Debug, Default)]
pub struct Invocation {
    pub host: String,
    pub status: String,
    /// The detailed status, such as `DeliveryTimedOut`.
    pub details: String,
    /// The exit code; -1 until it has ended.
    pub code: Option<i32>,
    pub has_begun: bool,
    /// The first 2,500 characters of what it printed.
    pub output: String,
}

/// What a command has printed on an instance.
#[derive(Clone, Debug, Default)]
pub struct Output {
    /// The first 24,000 characters of standard output.
    pub out: String,
    /// The first 8,000 characters of standard error.
    pub err: String,
}

/// A target of a load balancer.
#[derive(Clone, Debug)]
pub struct Target {
    pub id: String,
    pub state: String,
    pub reason: Option<String>,
}

/// An alarm of CloudWatch.
#[derive(Clone, Debug)]
pub struct Alarm {
    pub name: String,
    /// `OK`, `ALARM` or `INSUFFICIENT_DATA`.
    pub state: String,
    pub reason: Option<String>,
}

/// Why a call failed, as far as that matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Throttled,
    Denied,
    /// Not all instances of a command are managed and running.
    NotManaged,
    /// There was no answer, or one that AWS itself failed: it may have been done.
    Unanswered,
    NoCredentials,
    Other,
}

#[derive(Clone, Debug)]
pub struct Fault {
    pub kind: Kind,
    pub why: String,
}

pub type Answer<T> = Result<T, Fault>;

/// The calls to AWS. Each method sends one request, and does not try again.
#[async_trait]
pub trait Api: Send + Sync {
    /// autoscaling:DescribeAutoScalingGroups
    async fn groups(&self, which: &Which, page: Option<String>) -> Answer<Page<Group>>;

    /// ssm:DescribeInstanceInformation, of at most 50 instances
    async fn managed(&self, hosts: &[Host], page: Option<String>) -> Answer<Page<Managed>>;

    /// ssm:SendCommand; returns the id of the command.
    async fn send(&self, command: &Command) -> Answer<String>;

    /// ssm:ListCommands of an instance, the newest first: ids and comments of those that are no
    /// older than `age`
    async fn commands(
        &self,
        host: &Host,
        age: Duration,
        page: Option<String>,
    ) -> Answer<Page<(String, String)>>;

    /// ssm:ListCommandInvocations, with details
    async fn invocations(&self, id: &str, page: Option<String>) -> Answer<Page<Invocation>>;

    /// ssm:GetCommandInvocation
    async fn output(&self, id: &str, host: &Host) -> Answer<Output>;

    /// ssm:CancelCommand
    async fn cancel(&self, id: &str, hosts: &[Host]) -> Answer<()>;

    /// elasticloadbalancing:DescribeTargetHealth
    async fn targets(&self, group: &str) -> Answer<Vec<Target>>;

    /// cloudwatch:DescribeAlarms, of at most 100 alarms
    async fn alarms(&self, names: &[String]) -> Answer<Vec<Alarm>>;
}
