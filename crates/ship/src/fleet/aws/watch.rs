//! Load balancers and alarms of CloudWatch, as judges of a rollout.

use super::api::Alarm;
use super::calls::Action;
use super::{Calls, Scaling};
use crate::fleet::{Guard, Host};
use async_trait::async_trait;
use model::error::{Error, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Alarms of one call.
const AT_ONCE: usize = 100;

pub struct Watch {
    calls: Arc<Calls>,
    /// The group, whose target groups are asked; none for instances that ship.toml lists.
    scaling: Option<Arc<Scaling>>,
    alarms: Vec<String>,
}

impl Watch {
    pub fn new(calls: Arc<Calls>, scaling: Option<Arc<Scaling>>, alarms: Vec<String>) -> Watch {
        Watch { calls, scaling, alarms }
    }

    async fn alarms(&self) -> Result<Vec<Alarm>> {
        let mut alarms = Vec::new();
        for names in self.alarms.chunks(AT_ONCE) {
            let answer = self.calls.alarms(names).await.map_err(|fault| {
                fault.error(
                    Action::DescribeAlarms,
                    format!("look at the alarm {}", names.join(", ")),
                )
            });
            alarms.extend(answer?);
        }
        Ok(alarms)
    }
}

#[async_trait]
impl Guard for Watch {
    async fn before(&self) -> Result<()> {
        let alarms = self.alarms().await?;
        let names: BTreeSet<&str> = alarms.iter().map(|alarm| alarm.name.as_str()).collect();
        if let Some(name) = self.alarms.iter().find(|name| !names.contains(name.as_str())) {
            let error = Error::usage(format!("find the alarm {}", model::text::quoted(name)));
            let help = "correct `alarms` in ship.toml; check the region";
            return Err(error.because("CloudWatch has none of this name").help(help));
        }
        if let Some(alarm) = alarms.iter().find(|alarm| is_off(alarm)) {
            let error = Error::unhealthy("begin the rollout").because(said(alarm));
            return Err(error.help("wait until it is OK; `ship rollback` does not ask for alarms"));
        }
        Ok(())
    }

    async fn alarm(&self) -> Result<Option<String>> {
        let alarms = self.alarms().await?;
        Ok(alarms.iter().find(|alarm| is_off(alarm)).map(said))
    }

    async fn unhealthy(&self) -> Result<BTreeMap<Host, String>> {
        let Some(scaling) = &self.scaling else { return Ok(BTreeMap::new()) };
        let ill = scaling.balanced().await?.into_iter().filter(|one| one.state == "unhealthy");
        let reason = |reason: Option<String>| model::text::line(&reason.unwrap_or_default(), 100);
        Ok(ill.map(|target| (Host(target.id), reason(target.reason))).collect())
    }
}

fn is_off(alarm: &Alarm) -> bool {
    alarm.state == "ALARM"
}

fn said(alarm: &Alarm) -> String {
    let name = model::text::line(&alarm.name, 255);
    match &alarm.reason {
        Some(reason) => {
            format!("the alarm {name} is in ALARM ({})", model::text::line(reason, 200))
        }
        None => format!("the alarm {name} is in ALARM"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::aws::api::{Group, Kind, Target};
    use crate::fleet::aws::fake::Fake;
    use crate::place::Place;

    fn watch(fake: &Arc<Fake>, alarms: &[&str]) -> Watch {
        let calls = Arc::new(Calls::new(fake.clone()));
        let place =
            Place { app: "shop".parse().unwrap(), environment: "production".parse().unwrap() };
        let scaling = Some(Arc::new(Scaling::new(Arc::clone(&calls), &place, None)));
        Watch::new(calls, scaling, alarms.iter().map(|&name| name.to_owned()).collect())
    }

    fn alarm(state: &str) -> Alarm {
        let reason = Some("errors > 5".to_owned());
        Alarm { name: "errors".to_owned(), state: state.to_owned(), reason }
    }

    fn target(id: &str, state: &str) -> Target {
        let reason = Some("Target.FailedHealthChecks".to_owned());
        Target { id: id.to_owned(), state: state.to_owned(), reason }
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_begins_while_an_alarm_is_off_or_unknown() {
        let fake = Fake::of(vec![]);
        let watch = watch(&fake, &["errors"]);
        let error = watch.before().await.unwrap_err();
        assert_eq!(error.chain(), "find the alarm \"errors\": CloudWatch has none of this name");
        fake.change(|inner| inner.alarms = vec![alarm("OK")]);
        watch.before().await.unwrap();
        assert_eq!(watch.alarm().await.unwrap(), None);
        fake.change(|inner| inner.alarms = vec![alarm("ALARM")]);
        let error = watch.before().await.unwrap_err();
        assert_eq!(error.chain(), "begin the rollout: the alarm errors is in ALARM (errors > 5)");
        assert!(watch.alarm().await.unwrap().is_some());
        fake.refuse(Action::DescribeAlarms, Kind::Denied, 1);
        let error = watch.before().await.unwrap_err();
        assert!(error.advice().unwrap().starts_with("allow cloudwatch:DescribeAlarms"));
    }

    #[tokio::test(start_paused = true)]
    async fn targets_are_unhealthy_that_a_load_balancer_finds_so() {
        let group = Group { targets: vec!["tg".to_owned()], ..Group::default() };
        let fake = Fake::of(vec![group]);
        let set = |targets: Vec<Target>| {
            fake.change(|inner| drop(inner.targets.insert("tg".to_owned(), targets)));
        };
        set(vec![
            target("i-1", "unhealthy"),
            target("i-2", "healthy"),
            target("i-3", "initial"),
            target("i-4", "draining"),
        ]);
        let watch = watch(&fake, &[]);
        let ill = watch.unhealthy().await.unwrap();
        let reason = "Target.FailedHealthChecks".to_owned();
        assert_eq!(ill, BTreeMap::from([(Host("i-1".to_owned()), reason)]));
        fake.refuse(Action::DescribeTargetHealth, Kind::Denied, 1);
        let error = watch.unhealthy().await.unwrap_err();
        let help = error.advice().unwrap();
        assert!(help.starts_with("allow elasticloadbalancing:DescribeTargetHealth"), "{help}");
    }
}
