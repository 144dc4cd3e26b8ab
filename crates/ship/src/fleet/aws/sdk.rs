//! The calls, by AWS's SDK. Its own retries are off: those are decided in `calls.rs`, where it is
//! known which calls may be repeated, and how fast.

use super::alarms::CloudWatch;
use super::api::{Alarm, Answer, Api, Command, Group, Invocation};
use super::api::{Managed, Member, Output, Page, Target, Which};
use super::fault::{fault, unusable};
use crate::fleet::Host;
use async_trait::async_trait;
use aws_config::SdkConfig;
use aws_config::retry::RetryConfig;
use aws_sdk_autoscaling::types::Filter;
use aws_sdk_ssm::types::{CommandFilter, CommandFilterKey, InstanceInformationStringFilter};
use jiff::Timestamp;
use std::time::Duration;

/// The document that runs a shell command, and the limit of its own timeout, in seconds.
const DOCUMENT: &str = "AWS-RunShellScript";
/// The most that one page may have of each.
const GROUPS: i32 = 100;
const ENTRIES: i32 = 50;

/// The clients of a region.
pub struct Sdk {
    scaling: aws_sdk_autoscaling::Client,
    ssm: aws_sdk_ssm::Client,
    balancing: aws_sdk_elasticloadbalancingv2::Client,
    watch: CloudWatch,
}

impl Sdk {
    pub fn new(config: &SdkConfig) -> Sdk {
        let config = config.clone().into_builder().retry_config(RetryConfig::disabled()).build();
        Sdk {
            scaling: aws_sdk_autoscaling::Client::new(&config),
            ssm: aws_sdk_ssm::Client::new(&config),
            balancing: aws_sdk_elasticloadbalancingv2::Client::new(&config),
            watch: CloudWatch::new(&config),
        }
    }
}

fn ids(hosts: &[Host]) -> Option<Vec<String>> {
    Some(hosts.iter().map(|host| host.0.clone()).collect())
}

/// Returns a time in whole seconds, within the limits of SSM.
fn seconds(time: Duration, most: u64) -> i32 {
    i32::try_from(time.as_secs().clamp(30, most)).unwrap_or(i32::MAX)
}

/// Returns the time that was `age` ago as SSM reads it: `2026-11-26T17:00:00Z`.
fn before_now(age: Duration) -> Answer<String> {
    let second = Timestamp::now().checked_sub(age).map_err(unusable)?.as_second();
    Ok(Timestamp::from_second(second).map_err(unusable)?.to_string())
}

#[async_trait]
impl Api for Sdk {
    async fn groups(&self, which: &Which, page: Option<String>) -> Answer<Page<Group>> {
        let call = self.scaling.describe_auto_scaling_groups().max_records(GROUPS);
        let call = match which {
            Which::Named(name) => call.auto_scaling_group_names(name),
            Which::Tagged(tags) => tags.iter().fold(call, |call, (key, value)| {
                let filter = Filter::builder().name(format!("tag:{key}"));
                call.filters(filter.values(value).build())
            }),
        };
        let answer = call.set_next_token(page).send().await.map_err(fault)?;
        let groups = answer.auto_scaling_groups.unwrap_or_default().into_iter();
        Ok(Page { items: groups.map(group).collect(), next: answer.next_token })
    }

    async fn managed(&self, hosts: &[Host], page: Option<String>) -> Answer<Page<Managed>> {
        let filter = InstanceInformationStringFilter::builder().key("InstanceIds");
        let filter = filter.set_values(ids(hosts)).build().map_err(unusable)?;
        let call = self.ssm.describe_instance_information().filters(filter);
        let call = call.max_results(ENTRIES).set_next_token(page);
        let answer = call.send().await.map_err(fault)?;
        let instances = answer.instance_information_list.unwrap_or_default().into_iter();
        let managed = |one: aws_sdk_ssm::types::InstanceInformation| Managed {
            id: one.instance_id.unwrap_or_default(),
            ping: one.ping_status.map(|ping| ping.as_str().to_owned()).unwrap_or_default(),
        };
        Ok(Page { items: instances.map(managed).collect(), next: answer.next_token })
    }

    async fn send(&self, command: &Command) -> Answer<String> {
        let execution = seconds(command.execution, 172_800).to_string();
        let call = self.ssm.send_command();
        let call = call
            .document_name(DOCUMENT)
            .set_instance_ids(ids(&command.hosts))
            .parameters("commands", vec![command.line.clone()])
            .parameters("executionTimeout", vec![execution])
            .timeout_seconds(seconds(command.delivery, 2_592_000))
            .comment(&command.comment)
            // All at once, whatever becomes of some: the batches are the rollout's own.
            .max_concurrency("100%")
            .max_errors("100%");
        let answer = call.send().await.map_err(fault)?;
        let id = answer.command.and_then(|command| command.command_id);
        id.ok_or_else(|| unusable("the answer has no id of a command"))
    }

    async fn commands(
        &self,
        host: &Host,
        age: Duration,
        page: Option<String>,
    ) -> Answer<Page<(String, String)>> {
        let after = CommandFilter::builder().key(CommandFilterKey::InvokedAfter);
        let after = after.value(before_now(age)?).build().map_err(unusable)?;
        let call = self.ssm.list_commands().instance_id(&host.0).filters(after);
        let call = call.max_results(ENTRIES).set_next_token(page);
        let answer = call.send().await.map_err(fault)?;
        let commands = answer.commands.unwrap_or_default().into_iter();
        let command = |one: aws_sdk_ssm::types::Command| {
            (one.command_id.unwrap_or_default(), one.comment.unwrap_or_default())
        };
        Ok(Page { items: commands.map(command).collect(), next: answer.next_token })
    }

    async fn invocations(&self, id: &str, page: Option<String>) -> Answer<Page<Invocation>> {
        let call = self.ssm.list_command_invocations().command_id(id).details(true);
        let call = call.max_results(ENTRIES).set_next_token(page);
        let answer = call.send().await.map_err(fault)?;
        let invocations = answer.command_invocations.unwrap_or_default().into_iter();
        Ok(Page { items: invocations.map(invocation).collect(), next: answer.next_token })
    }

    async fn output(&self, id: &str, host: &Host) -> Answer<Output> {
        let call = self.ssm.get_command_invocation().command_id(id).instance_id(&host.0);
        let answer = call.send().await.map_err(fault)?;
        Ok(Output {
            out: answer.standard_output_content.unwrap_or_default(),
            err: answer.standard_error_content.unwrap_or_default(),
        })
    }

    async fn cancel(&self, id: &str, hosts: &[Host]) -> Answer<()> {
        let call = self.ssm.cancel_command().command_id(id).set_instance_ids(ids(hosts));
        call.send().await.map(drop).map_err(fault)
    }

    async fn targets(&self, group: &str) -> Answer<Vec<Target>> {
        let call = self.balancing.describe_target_health().target_group_arn(group);
        let answer = call.send().await.map_err(fault)?;
        let targets = answer.target_health_descriptions.unwrap_or_default().into_iter();
        let target = |one: aws_sdk_elasticloadbalancingv2::types::TargetHealthDescription| {
            let health = one.target_health?;
            Some(Target {
                id: one.target?.id?,
                state: health.state?.as_str().to_owned(),
                reason: health.reason.map(|reason| reason.as_str().to_owned()),
            })
        };
        Ok(targets.filter_map(target).collect())
    }

    async fn alarms(&self, names: &[String]) -> Answer<Vec<Alarm>> {
        self.watch.alarms(names).await
    }
}

fn group(group: aws_sdk_autoscaling::types::AutoScalingGroup) -> Group {
    let member = |one: aws_sdk_autoscaling::types::Instance| Member {
        id: one.instance_id.unwrap_or_default(),
        zone: one.availability_zone,
        state: one.lifecycle_state.map(|state| state.as_str().to_owned()).unwrap_or_default(),
    };
    Group {
        members: group.instances.unwrap_or_default().into_iter().map(member).collect(),
        targets: group.target_group_arns.unwrap_or_default(),
    }
}

fn invocation(one: aws_sdk_ssm::types::CommandInvocation) -> Invocation {
    let plugin = one.command_plugins.unwrap_or_default().into_iter().next();
    let code = plugin.as_ref().map(|plugin| plugin.response_code);
    Invocation {
        host: one.instance_id.unwrap_or_default(),
        status: one.status.map(|status| status.as_str().to_owned()).unwrap_or_default(),
        details: one.status_details.unwrap_or_default(),
        code,
        has_begun: plugin.as_ref().is_some_and(|one| one.response_start_date_time.is_some()),
        output: plugin.and_then(|plugin| plugin.output).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_whole_seconds() {
        let time = before_now(Duration::from_secs(60)).unwrap();
        assert_eq!((time.len(), time.ends_with('Z')), (20, true), "{time}");
    }

    #[test]
    fn times_are_within_the_limits_of_ssm() {
        assert_eq!(seconds(Duration::ZERO, 172_800), 30);
        assert_eq!(seconds(Duration::from_secs(999_999), 172_800), 172_800);
    }
}
