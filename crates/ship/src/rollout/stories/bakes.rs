//! The bake, at whose end every instance has been seen healthy or is named.

use super::World;
use super::aws::Aws;
use crate::fleet::aws::api::{Alarm, Kind, Target};
use crate::fleet::aws::calls::Action;
use crate::fleet::fake::Machine;
use crate::rollout::{Wish, attach, start};
use std::time::Duration;
use tokio::time::{sleep, timeout};

fn bake(world: &World, seconds: u64) -> Wish {
    Wish { bake: Duration::from_secs(seconds), ..world.wish("r8") }
}

/// Waits until the rollout has moved the pointer.
async fn moved(world: &World, to: &str) {
    let wait = async {
        while world.pointer() != to {
            sleep(Duration::from_millis(100)).await;
        }
    };
    timeout(Duration::from_secs(3600), wait).await.expect("a pointer");
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_is_not_seen_at_the_end_is_named() {
    let world = World::of(3);
    let cut_off = async {
        moved(&world, "r8").await;
        sleep(Duration::from_secs(20)).await;
        world.group.change("i-02", |machine| machine.reachable = false);
    };
    let wish = bake(&world, 60);
    let (verdict, ()) = tokio::join!(world.start(&wish), cut_off);
    let verdict = verdict.unwrap();
    assert_eq!(
        (verdict.code, verdict.message.as_str()),
        (42, "r8 runs on 2 instances, and i-02 was not seen healthy at the end of the bake")
    );
    assert_eq!(world.pointer(), "r8");
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_answers_again_at_the_end_is_good() {
    let world = World::of(3);
    let away = async {
        moved(&world, "r8").await;
        world.group.change("i-02", |machine| machine.reachable = false);
        sleep(Duration::from_secs(66)).await;
        world.group.change("i-02", |machine| machine.reachable = true);
    };
    let wish = bake(&world, 60);
    let (verdict, ()) = tokio::join!(world.start(&wish), away);
    assert_eq!(verdict.unwrap().code, 0);
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_comes_in_the_bake_is_deployed_to_and_watched() {
    for is_bad in [false, true] {
        let world = World::of(2);
        let comes = async {
            moved(&world, "r8").await;
            sleep(Duration::from_secs(20)).await;
            world.group.add("i-03", Machine::running(Some("r7")));
            sleep(Duration::from_secs(20)).await;
            world.group.change("i-03", |machine| machine.healthy = !is_bad);
        };
        let wish = bake(&world, 60);
        let (verdict, ()) = tokio::join!(world.start(&wish), comes);
        assert_eq!(verdict.unwrap().code, if is_bad { 20 } else { 0 });
        world.whole_group_runs(if is_bad { "r7" } else { "r8" }).await;
    }
}

#[tokio::test(start_paused = true)]
async fn one_look_at_which_an_instance_is_not_healthy_takes_no_group_back() {
    for seconds in [5, 20] {
        let world = World::of(3);
        let hiccup = async {
            moved(&world, "r8").await;
            sleep(Duration::from_secs(11)).await;
            world.group.change("i-02", |machine| machine.healthy = false);
            sleep(Duration::from_secs(seconds)).await;
            world.group.change("i-02", |machine| machine.healthy = true);
        };
        let wish = bake(&world, 60);
        let (verdict, ()) = tokio::join!(world.start(&wish), hiccup);
        assert_eq!(verdict.unwrap().code, if seconds == 5 { 0 } else { 20 });
    }
}

#[tokio::test(start_paused = true)]
async fn a_group_that_cannot_be_looked_at_does_not_end_green() {
    let aws = Aws::of(3);
    let refused = async {
        moved(&aws.world, "r8").await;
        sleep(Duration::from_secs(10)).await;
        aws.fake.refuse(Action::DescribeInstanceInformation, Kind::Other, 99);
    };
    let wish = bake(&aws.world, 60);
    let (verdict, ()) = tokio::join!(aws.deploy(&wish), refused);
    assert_eq!(verdict.code, 42, "{verdict:?}");
    assert!(verdict.message.starts_with("r8 is current, and i-"), "{}", verdict.message);
}

fn alarm(state: &str) -> Vec<Alarm> {
    vec![Alarm { name: "errors".to_owned(), state: state.to_owned(), reason: None }]
}

#[tokio::test(start_paused = true)]
async fn an_alarm_of_the_last_seconds_takes_the_group_back() {
    let aws = Aws::of(2);
    aws.fake.change(|inner| inner.alarms = alarm("OK"));
    let goes_off = async {
        moved(&aws.world, "r8").await;
        aws.fake.change(|inner| inner.alarms = alarm("ALARM"));
    };
    let (ship, wish) = (aws.ship(&["errors"]), bake(&aws.world, 4));
    let (rollout, ()) = tokio::join!(start(&ship, &wish), goes_off);
    assert_eq!(rollout.unwrap().verdict.unwrap().code, 20);
    aws.whole_group_runs("r7");
}

/// A group whose first target was unhealthy before.
fn with_a_sick_target() -> Aws {
    let aws = Aws::of(2);
    let target = |n, state: &str| Target {
        id: aws.host(n).0,
        state: state.to_owned(),
        reason: Some("Target.Timeout".to_owned()),
    };
    let targets = vec![target(0, "unhealthy"), target(1, "healthy")];
    aws.fake.change(|inner| {
        inner.groups[0].targets = vec!["tg".to_owned()];
        inner.targets.insert("tg".to_owned(), targets);
    });
    aws
}

#[tokio::test(start_paused = true)]
async fn a_target_that_was_unhealthy_before_is_no_failure_to_who_attaches() {
    let aws = with_a_sick_target();
    let wish = bake(&aws.world, 60);
    aws.fake.die_at(Some(4));
    let killed = timeout(Duration::from_secs(1800), aws.deploy(&wish)).await;
    assert!(killed.is_err(), "{killed:?}");
    aws.fake.die_at(None);
    let verdict = attach(&aws.ship(&[]), None).await.unwrap().verdict.unwrap();
    assert_eq!(verdict.code, 0, "{verdict:?}");
    aws.whole_group_runs("r8");
}

#[tokio::test(start_paused = true)]
async fn a_target_that_was_unhealthy_before_does_not_stop_a_rollback() {
    let aws = with_a_sick_target();
    let wish = Wish { action: crate::rollout::Action::Rollback, ..bake(&aws.world, 60) };
    let verdict = aws.deploy(&wish).await;
    assert_eq!(verdict.code, 0, "{verdict:?}");
}
