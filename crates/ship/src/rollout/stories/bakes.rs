//! The bake, at whose end every instance has been seen healthy or is named.

use super::World;
use super::aws::Aws;
use crate::fleet::aws::api::Target;
use crate::rollout::{Wish, attach};
use std::time::Duration;
use tokio::time::timeout;

fn bake(world: &World, seconds: u64) -> Wish {
    Wish { bake: Duration::from_secs(seconds), ..world.wish("r8") }
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
