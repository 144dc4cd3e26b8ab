//! A ship is killed before and after each of its writes, orders and questions. The table is made
//! from those of a rollout that nobody kills, and has each phase that the code has.

use super::World;
use crate::fleet::fake::{Machine, host};
use crate::rollout::{Action, Phase, Wish, newest};
use std::collections::BTreeSet;
use std::time::Duration;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scene {
    /// r8 to three instances and one that is born meanwhile, with a bake.
    Good,
    /// r8 fails on the third instance.
    Bad,
    /// Back to r6, which one instance has to fetch.
    Rollback,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    Attach,
    Again,
    DeployAnother,
}

impl Scene {
    fn world(self) -> World {
        let world = World::of(3);
        match self {
            Scene::Good => world.group.after(2, |machines| {
                machines.insert(host("i-04"), Machine::running(Some("r7")));
            }),
            Scene::Bad => world.group.change("i-03", |machine| {
                machine.fails.insert("r8".to_owned(), 12);
            }),
            Scene::Rollback => {
                for name in ["i-01", "i-03"] {
                    world.group.change(name, |machine| {
                        machine.has.insert("r6".to_owned());
                    });
                }
            }
        }
        world
    }

    fn wish(self, world: &World) -> Wish {
        match self {
            Scene::Good => Wish { bake: Duration::from_secs(10), ..world.wish("r8") },
            Scene::Bad => world.wish("r8"),
            Scene::Rollback => Wish { action: Action::Rollback, ..world.wish("r6") },
        }
    }

    /// The release on which the group ends, and the exit code.
    fn end(self) -> (&'static str, u8) {
        match self {
            Scene::Good => ("r8", 0),
            Scene::Bad => ("r7", 12),
            Scene::Rollback => ("r6", 0),
        }
    }
}

/// Kills a ship at each point; then another one does the rest. Returns the phases in which ships
/// were killed.
async fn table(scene: Scene, then: Then) -> BTreeSet<Phase> {
    let mut phases = BTreeSet::new();
    for point in 0.. {
        let world = scene.world();
        let wish = scene.wish(&world);
        if !world.is_killed(&wish, point).await {
            assert!(point > 10, "only {point} points");
            break;
        }
        let record = newest(&world.cx("Bob"), 1).await.expect("a list").pop();
        phases.extend(record.as_ref().map(|record| record.rollout.phase));
        let verdict = match then {
            Then::Attach if record.is_some() => world.attach().await,
            // No rollout was written down yet.
            Then::Attach | Then::Again => world.start(&wish).await.expect("an end"),
            Then::DeployAnother => world.deploy("r9").await,
        };
        let (release, code) = match then {
            Then::DeployAnother => ("r9", 0),
            _ => scene.end(),
        };
        assert_eq!(verdict.code, code, "killed at {point}: {verdict:?}");
        let runs = world.group.settled().await;
        assert!(runs.values().all(|runs| runs.as_deref() == Some(release)), "{point}: {runs:?}");
        assert_eq!(world.pointer(), release, "killed at {point}");
    }
    phases
}

#[tokio::test(start_paused = true)]
async fn attach_ends_a_good_rollout() {
    use Phase::{Bake, Batches, Ended, Pointer, Sweep};
    let phases = table(Scene::Good, Then::Attach).await;
    assert_eq!(phases, BTreeSet::from([Batches, Pointer, Sweep, Bake, Ended]));
}

#[tokio::test(start_paused = true)]
async fn attach_ends_a_bad_rollout() {
    use Phase::{Back, Batches, Ended};
    let phases = table(Scene::Bad, Then::Attach).await;
    assert_eq!(phases, BTreeSet::from([Batches, Back, Ended]));
}

#[tokio::test(start_paused = true)]
async fn attach_ends_a_rollback() {
    table(Scene::Rollback, Then::Attach).await;
}

#[tokio::test(start_paused = true)]
async fn the_same_deploy_ends_a_good_rollout() {
    table(Scene::Good, Then::Again).await;
}

#[tokio::test(start_paused = true)]
async fn the_same_deploy_ends_a_bad_rollout() {
    table(Scene::Bad, Then::Again).await;
}

#[tokio::test(start_paused = true)]
async fn the_same_rollback_ends_a_rollback() {
    table(Scene::Rollback, Then::Again).await;
}

#[tokio::test(start_paused = true)]
async fn another_deploy_ends_an_interrupted_one() {
    for scene in [Scene::Good, Scene::Bad, Scene::Rollback] {
        table(scene, Then::DeployAnother).await;
    }
}
