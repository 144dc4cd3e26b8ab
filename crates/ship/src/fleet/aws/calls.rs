//! Calls of AWS as often as they are needed: every page, at a rate that AWS allows, again after a
//! failure that passes.

use super::api::{Alarm, Answer, Api, Fault, Group, Kind, Managed, Page, Which};
use super::api::{Command, Invocation, Output, Target};
use super::jitter;
use super::pace::Pace;
use crate::fleet::Host;
use model::error::{Error, Exit};
use model::reason::Reason;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// How long a call is repeated while AWS throttles it.
const PATIENCE: Duration = Duration::from_secs(15 * 60);
/// How often it is repeated if there is no answer.
const TRIES: u32 = 4;
/// The most pages of a list; a group has at most 10,000 instances.
const PAGES: usize = 1000;

/// A call, as IAM names it, and how often ship makes it in a second. AWS publishes no limits of
/// Run Command: these are low, and what AWS says at the moment is stronger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Action {
    DescribeAutoScalingGroups,
    DescribeInstanceInformation,
    SendCommand,
    ListCommands,
    ListCommandInvocations,
    GetCommandInvocation,
    CancelCommand,
    DescribeTargetHealth,
    DescribeAlarms,
}

impl Action {
    pub const ALL: [Action; 9] = [
        Action::DescribeAutoScalingGroups,
        Action::DescribeInstanceInformation,
        Action::SendCommand,
        Action::ListCommands,
        Action::ListCommandInvocations,
        Action::GetCommandInvocation,
        Action::CancelCommand,
        Action::DescribeTargetHealth,
        Action::DescribeAlarms,
    ];

    /// Returns its name in a policy.
    pub fn iam(self) -> String {
        let service = match self {
            Action::DescribeAutoScalingGroups => "autoscaling",
            Action::DescribeTargetHealth => "elasticloadbalancing",
            Action::DescribeAlarms => "cloudwatch",
            _ => "ssm",
        };
        format!("{service}:{self:?}")
    }

    pub fn per_second(self) -> u32 {
        match self {
            Action::SendCommand | Action::CancelCommand | Action::ListCommands => 3,
            Action::ListCommandInvocations => 8,
            _ => 5,
        }
    }
}

impl Fault {
    /// Makes it the error of an operation, which `what` names.
    pub fn error(self, action: Action, what: impl Into<String>) -> Error {
        let error = Error::source(what).because(self.why);
        match self.kind {
            Kind::Denied => error
                .with_reason(Reason::AccessDenied)
                .help(format!("allow {}; docs/ship.md has a policy", action.iam())),
            Kind::NoCredentials => error.with_reason(Reason::CredentialsMissing).help(
                "log in (aws sso login), or set AWS_PROFILE; `aws sts get-caller-identity` must work",
            ),
            Kind::Unanswered | Kind::Throttled => error
                .with_exit(Exit::NoAgent)
                .with_reason(Reason::SourceFailed)
                .help("check network, proxy and region, and repeat the command"),
            Kind::NotManaged => error.help(NOT_MANAGED),
            Kind::Other => error.help("check the region, and repeat the command"),
        }
    }
}

/// What to do about an instance that Systems Manager does not know.
pub const NOT_MANAGED: &str = "install the SSM agent on it, and give its role the policy \
    AmazonSSMManagedInstanceCore";

/// The calls, with their rates.
pub struct Calls {
    api: Arc<dyn Api>,
    paces: [Pace; Action::ALL.len()],
}

impl Calls {
    pub fn new(api: Arc<dyn Api>) -> Calls {
        Calls { api, paces: Action::ALL.map(|action| Pace::new(action.per_second())) }
    }

    pub async fn groups(&self, which: &Which) -> Answer<Vec<Group>> {
        let action = Action::DescribeAutoScalingGroups;
        self.pages(action, |page| self.api.groups(which, page)).await
    }

    pub async fn managed(&self, hosts: &[Host]) -> Answer<Vec<Managed>> {
        let action = Action::DescribeInstanceInformation;
        self.pages(action, |page| self.api.managed(hosts, page)).await
    }

    /// Sends a command. It is not repeated if there is no answer, as it may have been sent.
    pub async fn send(&self, command: &Command) -> Answer<String> {
        self.throttled(Action::SendCommand, || self.api.send(command)).await
    }

    /// Finds the command with this comment among those of an instance that are no older than
    /// `age`.
    pub async fn command(
        &self,
        host: &Host,
        comment: &str,
        age: Duration,
    ) -> Answer<Option<String>> {
        let mut next = None;
        for _ in 0..PAGES {
            let get = || self.api.commands(host, age, next.clone());
            let page = self.repeated(Action::ListCommands, get).await?;
            if let Some((id, _)) = page.items.into_iter().find(|(_, other)| other == comment) {
                return Ok(Some(id));
            }
            next = page.next.filter(|token| !token.is_empty());
            if next.is_none() {
                break;
            }
        }
        Ok(None)
    }

    pub async fn invocations(&self, id: &str) -> Answer<Vec<Invocation>> {
        let action = Action::ListCommandInvocations;
        self.pages(action, |page| self.api.invocations(id, page)).await
    }

    pub async fn output(&self, id: &str, host: &Host) -> Answer<Output> {
        self.repeated(Action::GetCommandInvocation, || self.api.output(id, host)).await
    }

    pub async fn cancel(&self, id: &str, hosts: &[Host]) -> Answer<()> {
        self.repeated(Action::CancelCommand, || self.api.cancel(id, hosts)).await
    }

    pub async fn targets(&self, group: &str) -> Answer<Vec<Target>> {
        self.repeated(Action::DescribeTargetHealth, || self.api.targets(group)).await
    }

    pub async fn alarms(&self, names: &[String]) -> Answer<Vec<Alarm>> {
        self.repeated(Action::DescribeAlarms, || self.api.alarms(names)).await
    }

    /// Returns all pages of a list.
    async fn pages<T, F: Future<Output = Answer<Page<T>>>>(
        &self,
        action: Action,
        get: impl Fn(Option<String>) -> F,
    ) -> Answer<Vec<T>> {
        let mut items = Vec::new();
        let mut next = None;
        for _ in 0..PAGES {
            let page = self.repeated(action, || get(next.clone())).await?;
            items.extend(page.items);
            next = page.next.filter(|token| !token.is_empty());
            if next.is_none() {
                return Ok(items);
            }
        }
        let why = format!("the list has more than {PAGES} pages");
        Err(Fault { kind: Kind::Other, why })
    }

    /// Repeats a call that may be repeated.
    async fn repeated<T, F: Future<Output = Answer<T>>>(
        &self,
        action: Action,
        call: impl Fn() -> F,
    ) -> Answer<T> {
        let mut pause = Duration::from_millis(500);
        for _ in 1..TRIES {
            match self.throttled(action, &call).await {
                Err(Fault { kind: Kind::Unanswered, .. }) => {}
                answer => return answer,
            }
            sleep(pause + jitter(pause)).await;
            pause *= 2;
        }
        self.throttled(action, call).await
    }

    /// Makes a call in its turn, and again, ever slower, while it is throttled.
    async fn throttled<T, F: Future<Output = Answer<T>>>(
        &self,
        action: Action,
        call: impl Fn() -> F,
    ) -> Answer<T> {
        let pace = self.pace(action);
        let deadline = Instant::now() + PATIENCE;
        loop {
            pace.turn().await;
            match call().await {
                Err(Fault { kind: Kind::Throttled, .. }) if Instant::now() < deadline => {
                    pace.slower();
                }
                answer => {
                    pace.faster();
                    return answer;
                }
            }
        }
    }

    fn pace(&self, action: Action) -> &Pace {
        let [groups, managed, send, commands, invocations, output, cancel, targets, alarms] =
            &self.paces;
        match action {
            Action::DescribeAutoScalingGroups => groups,
            Action::DescribeInstanceInformation => managed,
            Action::SendCommand => send,
            Action::ListCommands => commands,
            Action::ListCommandInvocations => invocations,
            Action::GetCommandInvocation => output,
            Action::CancelCommand => cancel,
            Action::DescribeTargetHealth => targets,
            Action::DescribeAlarms => alarms,
        }
    }
}
