//! The instances of an environment, from Auto Scaling: of the groups that its tags name, or of
//! the one that ship.toml names.

use super::Calls;
use super::api::{Group, Which};
use super::calls::Action;
use crate::fleet::{Fleet, Host, Instance, Standing};
use crate::place::Place;
use async_trait::async_trait;
use model::error::{Error, Result};
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
}
