//! A ship is killed before and after each of its writes. The table is made from the writes of a
//! rollout that nobody kills.

use super::World;

#[derive(Clone, Copy, Debug)]
enum Then {
    Attach,
    DeployAgain,
    DeployAnother,
}

/// Kills a ship at each point of a rollout of r8 to three instances; then another one does the
/// rest. With `is_bad`, r8 fails on the third instance.
async fn table(is_bad: bool, then: Then) {
    for point in 0.. {
        let world = World::of(3);
        if is_bad {
            world.group.change("i-03", |machine| {
                machine.fails.insert("r8".to_owned(), 12);
            });
        }
        if !world.is_killed(&world.wish("r8"), point).await {
            assert!(point > 10, "only {point} points");
            return;
        }
        let verdict = match then {
            // No rollout was written down yet, or it had ended.
            Then::Attach if !world.store.keys().iter().any(|key| key.contains("/deploys/")) => {
                world.deploy("r8").await
            }
            Then::Attach => world.attach().await,
            Then::DeployAgain => world.deploy("r8").await,
            Then::DeployAnother => world.deploy("r9").await,
        };
        let (release, code) = match (then, is_bad) {
            (Then::DeployAnother, _) => ("r9", 0),
            (_, true) => ("r7", 12),
            (_, false) => ("r8", 0),
        };
        assert_eq!(verdict.code, code, "killed at {point}: {verdict:?}");
        let runs = world.group.settled().await;
        assert!(runs.values().all(|runs| runs.as_deref() == Some(release)), "{point}: {runs:?}");
        assert_eq!(world.pointer(), release, "killed at {point}");
    }
}

#[tokio::test(start_paused = true)]
async fn attach_ends_a_good_rollout() {
    table(false, Then::Attach).await;
}

#[tokio::test(start_paused = true)]
async fn attach_ends_a_bad_rollout() {
    table(true, Then::Attach).await;
}

#[tokio::test(start_paused = true)]
async fn the_same_deploy_ends_a_good_rollout() {
    table(false, Then::DeployAgain).await;
}

#[tokio::test(start_paused = true)]
async fn the_same_deploy_ends_a_bad_rollout() {
    table(true, Then::DeployAgain).await;
}

#[tokio::test(start_paused = true)]
async fn another_deploy_ends_an_interrupted_one() {
    table(false, Then::DeployAnother).await;
    table(true, Then::DeployAnother).await;
}
