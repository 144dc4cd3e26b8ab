//! Rollouts on an AWS in memory: the same engine over Auto Scaling, Systems Manager, load
//! balancers and alarms.

use super::world::World;
use crate::fleet::Host;
use crate::fleet::aws::api::{Alarm, Kind, Target};
use crate::fleet::aws::calls::Action;
use crate::fleet::aws::fake::{Fake, Machine};
use crate::fleet::aws::{Calls, Scaling, Watch};
use crate::fleet::{Guard, Ssm};
use crate::rollout::{Group, Verdict, Wish, attach, start};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{sleep, timeout};

pub struct Aws {
    pub fake: Arc<Fake>,
    pub world: World,
}

impl Aws {
    /// A group of instances that run r7.
    pub fn of(instances: usize) -> Aws {
        Aws { fake: Fake::running(instances, "r7"), world: World::of(0) }
    }

    pub fn ship(&self, alarms: &[&str]) -> Group {
        let ship = self.world.ship("Ada");
        let place = ship.cx.place.clone();
        let calls = Arc::new(Calls::new(self.fake.clone()));
        let scaling = Arc::new(Scaling::new(Arc::clone(&calls), &place, None));
        let transport = Ssm::new(Arc::clone(&calls), &place, ship.patience);
        let alarms = alarms.iter().map(|&name| name.to_owned()).collect();
        let guard = Watch::new(calls, Some(Arc::clone(&scaling)), alarms);
        let guard: Option<Arc<dyn Guard>> = Some(Arc::new(guard));
        Group { fleet: scaling, transport: Arc::new(transport), guard, ..ship }
    }

    pub async fn deploy(&self, wish: &Wish) -> Verdict {
        let rollout = start(&self.ship(&[]), wish).await.expect("an end");
        rollout.verdict.expect("a verdict")
    }

    pub fn each(&self, change: impl Fn(usize, &mut Machine)) {
        self.fake.change(|inner| {
            inner.machines.values_mut().enumerate().for_each(|(n, one)| change(n, one));
        });
    }

    /// Asserts that all instances that are still there run this release, and the pointer names it.
    pub fn whole_group_runs(&self, release: &str) {
        self.fake.change(|inner| {
            for (id, machine) in &inner.machines {
                assert_eq!(machine.runs.as_deref(), Some(release), "{id}");
            }
        });
        assert_eq!(self.world.pointer(), release);
        assert!(!self.world.is_locked());
    }

    pub fn host(&self, n: usize) -> Host {
        self.fake.change(|inner| Host(inner.machines.keys().nth(n).expect("a machine").clone()))
    }
}

fn wish(aws: &Aws, bake: u64) -> Wish {
    Wish { bake: Duration::from_secs(bake), ..aws.world.wish("r8") }
}

#[tokio::test(start_paused = true)]
async fn a_good_release_runs_on_the_whole_group() {
    let aws = Aws::of(60);
    let verdict = aws.deploy(&wish(&aws, 0)).await;
    assert_eq!((verdict.code, verdict.message.as_str()), (0, "r8 runs on 60 instances"));
    aws.whole_group_runs("r8");
    let id = aws.world.last_id();
    let orders = aws.fake.sent();
    let orders = orders.iter().filter(|one| one.line.contains("release"));
    assert!(orders.clone().count() > 4);
    for order in orders {
        assert!(order.comment.starts_with(&format!("ship {id} ")), "{}", order.comment);
    }
}

#[tokio::test(start_paused = true)]
async fn a_release_that_is_bad_on_one_goes_back_on_all() {
    let aws = Aws::of(60);
    aws.each(|n, machine| {
        if n == 40 {
            machine.fails.insert("r8".to_owned(), 12);
        }
    });
    let verdict = aws.deploy(&wish(&aws, 0)).await;
    assert_eq!(verdict.code, 12, "{verdict:?}");
    assert!(verdict.message.ends_with("the group runs r7"), "{}", verdict.message);
    aws.whole_group_runs("r7");
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_does_not_answer_is_refused_or_skipped() {
    let aws = Aws::of(3);
    aws.each(|n, machine| machine.online = n != 1);
    let ship = aws.ship(&[]);
    let error = start(&ship, &wish(&aws, 0)).await.unwrap_err();
    assert_eq!(error.exit().code(), 41);
    assert!(error.chain().contains("its SSM agent does not answer"), "{}", error.chain());
    let skipping = Wish { skip_unreachable: true, ..wish(&aws, 0) };
    assert_eq!(start(&ship, &skipping).await.unwrap().verdict.unwrap().code, 42);
}

#[tokio::test(start_paused = true)]
async fn calls_that_fail_and_answers_that_are_lost_change_nothing() {
    let aws = Aws::of(5);
    aws.fake.lose(1);
    for action in Action::ALL {
        aws.fake.refuse(action, Kind::Throttled, 5);
        aws.fake.refuse(action, Kind::Unanswered, 2);
    }
    let verdict = aws.deploy(&wish(&aws, 30)).await;
    assert_eq!(verdict.code, 0, "{verdict:?}");
    aws.whole_group_runs("r8");
}

#[tokio::test(start_paused = true)]
async fn a_right_that_is_missing_is_named_and_nothing_is_begun() {
    for (action, bake) in [
        (Action::DescribeAutoScalingGroups, 0),
        (Action::DescribeInstanceInformation, 0),
        (Action::SendCommand, 0),
        (Action::GetCommandInvocation, 0),
        (Action::DescribeTargetHealth, 60),
    ] {
        let aws = Aws::of(3);
        aws.fake.change(|inner| inner.groups[0].targets = vec!["tg".to_owned()]);
        aws.fake.refuse(action, Kind::Denied, 1);
        let error = start(&aws.ship(&[]), &wish(&aws, bake)).await.unwrap_err();
        assert!(error.advice().unwrap().starts_with(&format!("allow {}", action.iam())));
        aws.whole_group_runs("r7");
    }
}

fn alarm(state: &str) -> Vec<Alarm> {
    let reason = Some("errors > 5".to_owned());
    vec![Alarm { name: "errors".to_owned(), state: state.to_owned(), reason }]
}

#[tokio::test(start_paused = true)]
async fn an_alarm_refuses_the_start_and_takes_the_group_back() {
    let aws = Aws::of(4);
    aws.fake.change(|inner| inner.alarms = alarm("ALARM"));
    let ship = aws.ship(&["errors"]);
    let error = start(&ship, &wish(&aws, 0)).await.unwrap_err();
    assert_eq!(error.exit().code(), 12);
    for after in [30, 115] {
        aws.fake.change(|inner| inner.alarms = alarm("OK"));
        let off = async {
            sleep(Duration::from_secs(after)).await;
            aws.fake.change(|inner| inner.alarms = alarm("ALARM"));
        };
        let wish = wish(&aws, 60);
        let (rollout, ()) = tokio::join!(start(&ship, &wish), off);
        let verdict = rollout.unwrap().verdict.unwrap();
        assert_eq!(verdict.code, 20, "{verdict:?}");
        assert!(verdict.message.contains("the alarm errors is in ALARM (errors > 5)"));
        aws.whole_group_runs("r7");
    }
    // It may be what ends the alarm.
    assert_eq!(start(&ship, &rollback(&aws)).await.unwrap().verdict.unwrap().code, 0);
}

fn rollback(aws: &Aws) -> Wish {
    Wish { action: crate::rollout::Action::Rollback, ..aws.world.wish("r6") }
}

#[tokio::test(start_paused = true)]
async fn a_target_that_becomes_unhealthy_in_the_bake_takes_the_group_back() {
    let aws = Aws::of(3);
    let target = |n, state: &str| Target {
        id: aws.host(n).0,
        state: state.to_owned(),
        reason: Some("Target.Timeout".to_owned()),
    };
    let set = |states: [&str; 3]| {
        let targets = states.iter().enumerate().map(|(n, state)| target(n, state)).collect();
        aws.fake.change(|inner| drop(inner.targets.insert("tg".to_owned(), targets)));
    };
    aws.fake.change(|inner| inner.groups[0].targets = vec!["tg".to_owned()]);
    // One that was unhealthy before is no sign of a bad release.
    set(["unhealthy", "healthy", "healthy"]);
    assert_eq!(aws.deploy(&wish(&aws, 60)).await.code, 0);
    aws.whole_group_runs("r8");
    let sick = async {
        sleep(Duration::from_secs(100)).await;
        set(["unhealthy", "healthy", "unhealthy"]);
    };
    let wish = Wish { bake: Duration::from_secs(120), ..aws.world.wish("r9") };
    let (verdict, ()) = tokio::join!(aws.deploy(&wish), sick);
    assert_eq!(verdict.code, 20, "{verdict:?}");
    assert!(verdict.message.contains("its load balancer finds it unhealthy: Target.Timeout"));
    aws.whole_group_runs("r8");
}

/// A ship is killed before and after each command that it sends; another one does the rest.
async fn killed(is_bad: bool) {
    for point in 0.. {
        let aws = Aws::of(3);
        aws.each(|n, machine| {
            if is_bad && n == 2 {
                machine.fails.insert("r8".to_owned(), 12);
            }
        });
        aws.fake.die_at(Some(point));
        let long = Duration::from_secs(1800);
        let is_killed = timeout(long, aws.deploy(&wish(&aws, 0))).await.is_err();
        aws.fake.die_at(None);
        if !is_killed {
            assert!(point > 7, "only {point} points");
            return;
        }
        // Until its lease has run out.
        sleep(Duration::from_secs(61)).await;
        let is_written = aws.world.store.keys().iter().any(|key| key.contains("/deploys/"));
        let verdict = match is_written {
            true => attach(&aws.ship(&[]), None).await.unwrap().verdict.unwrap(),
            false => aws.deploy(&wish(&aws, 0)).await,
        };
        let (release, code) = if is_bad { ("r7", 12) } else { ("r8", 0) };
        assert_eq!(verdict.code, code, "killed at {point}: {verdict:?}");
        aws.whole_group_runs(release);
    }
}

#[tokio::test(start_paused = true)]
async fn a_ship_that_was_killed_leaves_nothing_undone() {
    killed(false).await;
    killed(true).await;
}
