//! The instances of an environment, from Auto Scaling: of the groups that its tags name, or of
//! the one that ship.toml names.

use super::Calls;
use super::api::{Group, Target as Answered, Which};
use super::calls::Action;
use crate::fleet::{Fleet, Host, Instance, Standing, Target};
use crate::place::Place;
use async_trait::async_trait;
use model::error::{Error, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The tags that say which app and environment a group is.
pub const APP: &str = "deploy:app";
pub const ENVIRONMENT: &str = "deploy:environment";

/// One or several Auto Scaling groups.
pub struct Scaling {
    calls: Arc<Calls>,
    which: Which,
    place: Place,
}

impl Scaling {
    /// The group of this name; without one, those that are tagged.
    pub fn new(calls: Arc<Calls>, place: &Place, name: Option<String>) -> Scaling {
        let tag = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        let (app, environment) = (place.app.as_str(), place.environment.as_str());
        let tags = || Which::Tagged(vec![tag(APP, app), tag(ENVIRONMENT, environment)]);
        let which = name.map_or_else(tags, Which::Named);
        Scaling { calls, which, place: place.clone() }
    }

    pub async fn groups(&self) -> Result<Vec<Group>> {
        let groups = self.calls.groups(&self.which).await.map_err(|fault| {
            fault.error(Action::DescribeAutoScalingGroups, self.what("list the instances of"))
        })?;
        if groups.is_empty() { Err(self.missing()) } else { Ok(groups) }
    }

    /// Returns the targets of all target groups, of which an instance may have several.
    pub async fn balanced(&self) -> Result<Vec<Answered>> {
        let groups = self.groups().await?;
        let arns: BTreeSet<String> = groups.into_iter().flat_map(|one| one.targets).collect();
        let mut targets = Vec::new();
        for arn in arns {
            let found = self.calls.targets(&arn).await.map_err(|fault| {
                let what = format!("ask {arn} for the health of its targets");
                fault.error(Action::DescribeTargetHealth, what)
            });
            targets.extend(found?);
        }
        Ok(targets)
    }

    fn what(&self, verb: &str) -> String {
        format!("{verb} {}", self.place)
    }

    fn missing(&self) -> Error {
        let Place { app, environment } = &self.place;
        let error = Error::usage(self.what("find the Auto Scaling group of"));
        match &self.which {
            Which::Named(name) => {
                let why = format!("there is none with the name {}", model::text::quoted(name));
                error.because(why).help("check the name, the region and the account")
            }
            Which::Tagged(_) => error
                .because(format!(
                    "no group has the tags {APP}={app} and {ENVIRONMENT}={environment}"
                ))
                .help(format!(
                    "tag it, or name it: --group, or `group` of [environments.{environment}] in \
                     ship.toml; for instances without one, list them there: hosts = [\"web1\"]"
                )),
        }
    }
}

#[async_trait]
impl Fleet for Scaling {
    async fn instances(&self) -> Result<Vec<Instance>> {
        let members = self.groups().await?.into_iter().flat_map(|group| group.members);
        let mut instances: Vec<Instance> = members
            .map(|member| Instance {
                standing: standing(&member.state),
                host: Host(member.id),
                zone: member.zone,
            })
            .collect();
        instances.sort_by(|one, other| one.host.cmp(&other.host));
        instances.dedup_by(|one, other| one.host == other.host);
        Ok(instances)
    }

    /// Of an instance with several targets, returns the first that is not healthy.
    async fn targets(&self, hosts: &[Host]) -> Result<BTreeMap<Host, Target>> {
        let wanted: BTreeSet<&str> = hosts.iter().map(|host| host.0.as_str()).collect();
        let mut targets: BTreeMap<Host, Target> = BTreeMap::new();
        let found = self.balanced().await?.into_iter();
        for one in found.filter(|one| wanted.contains(one.id.as_str())) {
            let target = Target { state: one.state, reason: one.reason };
            let known = targets.entry(Host(one.id)).or_insert_with(|| target.clone());
            if known.state == "healthy" {
                *known = target;
            }
        }
        Ok(targets)
    }
}

/// Returns what a lifecycle state means for clients. An instance of a warm pool deploys the
/// pointer when it leaves the pool.
fn standing(state: &str) -> Standing {
    match state {
        "InService" => Standing::InService,
        "Pending" | "Pending:Wait" | "Pending:Proceed" => Standing::Starting,
        _ => Standing::Leaving,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::aws::api::{Fault, Kind, Member};
    use crate::fleet::aws::fake::Fake;

    fn place() -> Place {
        Place { app: "shop".parse().unwrap(), environment: "production".parse().unwrap() }
    }

    fn group(members: &[(&str, &str)]) -> Group {
        let member = |(id, state): &(&str, &str)| Member {
            id: (*id).to_owned(),
            zone: Some("eu-central-1a".to_owned()),
            state: (*state).to_owned(),
        };
        let members = members.iter().map(member).collect();
        Group { members, targets: vec![] }
    }

    fn scaling(fake: &Arc<Fake>, name: Option<&str>) -> Scaling {
        let calls = Calls::new(fake.clone());
        Scaling::new(Arc::new(calls), &place(), name.map(str::to_owned))
    }

    #[tokio::test(start_paused = true)]
    async fn lists_the_instances_of_all_pages_with_what_their_state_means() {
        let fake = Fake::of(vec![
            group(&[("i-3", "InService"), ("i-1", "Pending:Wait")]),
            group(&[("i-2", "Terminating:Wait"), ("i-4", "Warmed:Stopped")]),
        ]);
        fake.refuse(Action::DescribeAutoScalingGroups, Kind::Throttled, 3);
        let instances = scaling(&fake, None).instances().await.unwrap();
        let seen: Vec<_> =
            instances.iter().map(|one| (one.host.0.as_str(), one.standing)).collect();
        use Standing::*;
        assert_eq!(
            seen,
            [("i-1", Starting), ("i-2", Leaving), ("i-3", InService), ("i-4", Leaving)]
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_group_that_is_not_there_is_said_how_to_name() {
        let fake = Fake::of(vec![]);
        let error = scaling(&fake, None).instances().await.unwrap_err();
        assert_eq!(
            error.chain(),
            "find the Auto Scaling group of shop/production: no group has the tags \
             deploy:app=shop and deploy:environment=production"
        );
        assert!(error.advice().unwrap().contains("--group"));
        let error = scaling(&fake, Some("shop-asg")).instances().await.unwrap_err();
        assert!(error.chain().ends_with("there is none with the name \"shop-asg\""));
    }

    #[tokio::test(start_paused = true)]
    async fn a_right_that_is_missing_is_named() {
        let fake = Fake::of(vec![group(&[])]);
        fake.refuse(Action::DescribeAutoScalingGroups, Kind::Denied, 1);
        let error = scaling(&fake, None).instances().await.unwrap_err();
        assert!(error.advice().unwrap().starts_with("allow autoscaling:DescribeAutoScalingGroups"));
        assert_eq!(error.exit().code(), 11);
        let fault = Fault { kind: Kind::Denied, why: String::new() };
        let error = fault.error(Action::DescribeTargetHealth, "x");
        assert!(error.advice().unwrap().contains("elasticloadbalancing:DescribeTargetHealth"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_lost_answer_is_asked_for_again_a_few_times() {
        let fake = Fake::of(vec![group(&[("i-1", "InService")])]);
        fake.refuse(Action::DescribeAutoScalingGroups, Kind::Unanswered, 2);
        assert_eq!(scaling(&fake, None).instances().await.unwrap().len(), 1);
        fake.refuse(Action::DescribeAutoScalingGroups, Kind::Unanswered, 9);
        let error = scaling(&fake, None).instances().await.unwrap_err();
        assert_eq!(error.exit().code(), 41);
    }

    #[tokio::test(start_paused = true)]
    async fn an_instance_with_several_targets_is_as_healthy_as_the_worst() {
        let targets = vec!["http".to_owned(), "grpc".to_owned()];
        let fake = Fake::of(vec![Group { targets, ..group(&[("i-1", "InService")]) }]);
        let target = |id: &str, state: &str, reason: Option<&str>| Answered {
            id: id.to_owned(),
            state: state.to_owned(),
            reason: reason.map(str::to_owned),
        };
        let ill = target("i-1", "unhealthy", Some("Target.Timeout"));
        let set = |name: &str, all: Vec<Answered>| {
            fake.change(|inner| drop(inner.targets.insert(name.to_owned(), all)));
        };
        set("grpc", vec![ill, target("10.0.0.9", "unhealthy", None)]);
        set("http", vec![target("i-1", "healthy", None), target("i-2", "initial", None)]);
        let hosts = ["i-1", "i-2", "i-3"].map(|id| Host(id.to_owned()));
        let targets = scaling(&fake, None).targets(&hosts).await.unwrap();
        let seen: Vec<_> =
            targets.iter().map(|(host, one)| (host.0.as_str(), one.text())).collect();
        let ill = "unhealthy: Target.Timeout".to_owned();
        assert_eq!(seen, [("i-1", ill), ("i-2", "initial".to_owned())]);
    }

    #[tokio::test(start_paused = true)]
    async fn the_right_to_ask_for_targets_is_named() {
        let targets = vec!["http".to_owned()];
        let fake = Fake::of(vec![Group { targets, ..Group::default() }]);
        fake.refuse(Action::DescribeTargetHealth, Kind::Denied, 1);
        let error = scaling(&fake, None).targets(&[]).await.unwrap_err();
        let help = error.advice().unwrap();
        assert!(help.starts_with("allow elasticloadbalancing:DescribeTargetHealth"), "{help}");
    }
}
