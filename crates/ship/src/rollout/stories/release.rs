//! The release phase of a rollout: once, on one instance, whatever happens to ship.

use super::World;
use crate::fleet::Standing;
use crate::fleet::fake::{Machine, host};
use crate::rollout::{Verdict, Wish};
use std::time::Duration;

impl World {
    fn wish_with_release(&self, to: &str) -> Wish {
        Wish { run_release: true, ..self.wish(to) }
    }

    async fn deploy_with_release(&self, to: &str) -> Verdict {
        self.start(&self.wish_with_release(to)).await.expect("an end")
    }

    /// How often the release phase has run on each instance.
    fn phases(&self) -> Vec<usize> {
        let phases = std::sync::Mutex::new(Vec::new());
        self.group.each(|machine| phases.lock().expect("phases").push(machine.phases.len()));
        phases.into_inner().expect("phases")
    }
}

#[tokio::test(start_paused = true)]
async fn the_release_phase_runs_once_on_the_first_instance_and_not_on_those_born_later() {
    for batches in ["1,25%", "100%"] {
        let world = World::of(3);
        world.group.after(2, |machines| {
            machines.insert(host("i-04"), Machine::running(Some("r7")));
        });
        let wish = Wish { batches: batches.parse().unwrap(), ..world.wish_with_release("r8") };
        assert_eq!(world.start(&wish).await.expect("an end").code, 0);
        world.whole_group_runs("r8").await;
        assert_eq!(world.phases(), [1, 0, 0, 0]);
        assert_eq!(world.order_sizes()[0], 1);
        // Another rollout asks for it again.
        assert_eq!(world.deploy_with_release("r9").await.code, 0);
        assert_eq!(world.phases(), [2, 0, 0, 0]);
        assert_eq!(world.deploy("r10").await.code, 0);
        assert_eq!(world.phases(), [2, 0, 0, 0]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_release_phase_that_fails_is_10_and_touches_nothing() {
    let world = World::of(3);
    world.group.each(|machine| machine.phase_fails = true);
    let verdict = world.deploy_with_release("r8").await;
    assert_eq!((verdict.code, world.order_sizes()), (10, vec![1]), "{verdict:?}");
    world.whole_group_runs("r7").await;
    assert_eq!(world.phases(), [1, 0, 0]);
}

#[tokio::test(start_paused = true)]
async fn it_runs_once_wherever_its_ship_is_killed_and_whoever_goes_on() {
    for then_deploys in [false, true] {
        for fails in [false, true] {
            for point in 0.. {
                let world = World::of(3);
                world.group.each(|machine| machine.phase_fails = fails);
                let wish = world.wish_with_release("r8");
                if !world.is_killed(&wish, point).await {
                    assert!(point > 10, "only {point} points");
                    break;
                }
                let is_written = world.store.keys().iter().any(|key| key.contains("/deploys/"));
                let verdict = match is_written && !then_deploys {
                    true => world.attach().await,
                    false => world.deploy_with_release("r8").await,
                };
                let (code, runs) = if fails { (10, "r7") } else { (0, "r8") };
                assert_eq!(verdict.code, code, "killed at {point}: {verdict:?}");
                let group = world.group.settled().await;
                let is_there = |release: &Option<String>| release.as_deref() == Some(runs);
                assert!(group.values().all(is_there), "killed at {point}: {group:?}");
                assert_eq!(world.pointer(), runs, "killed at {point}");
                // A rollout that had ended was asked for twice.
                let most = if fails && then_deploys { 2 } else { 1 };
                let phases = world.phases();
                assert!((1..=most).contains(&phases[0]), "killed at {point}: {phases:?}");
                assert_eq!(phases[1..], [0, 0], "killed at {point}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn without_an_instance_that_can_run_it_the_group_stays() {
    let world = World::of(0);
    let verdict = world.deploy_with_release("r8").await;
    assert_eq!(verdict.code, 1);
    assert!(verdict.message.contains("no instance is in service"), "{verdict:?}");
    assert_eq!(world.pointer(), "r7");
    // The one that runs it goes away.
    let world = World::of(3);
    world.group.change("i-01", |machine| machine.takes = Duration::from_secs(60));
    world.group.after(1, |machines| {
        let machine = machines.get_mut(&host("i-01")).expect("a machine");
        (machine.standing, machine.reachable) = (Standing::Leaving, false);
    });
    let verdict = world.deploy_with_release("r8").await;
    assert_eq!(verdict.code, 1, "{verdict:?}");
    assert!(verdict.message.contains("has left the group, and nobody knows"), "{verdict:?}");
    assert_eq!(world.phases()[1..], [0, 0]);
    assert_eq!(world.pointer(), "r7");
}
