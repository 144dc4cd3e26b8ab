//! Stories of rollouts, on a group and a store in memory, with a clock that stands still.

mod alone;
mod aws;
mod bakes;
mod doubts;
mod faults;
mod kills;
mod release;
mod simulation;
mod world;

pub use world::World;

use crate::fleet::fake::Machine;
use crate::fleet::{Order, Standing};
use std::time::Duration;

#[tokio::test(start_paused = true)]
async fn a_good_release_runs_everywhere_and_the_pointer_moves_last() {
    for instances in [1, 3, 25] {
        let world = World::of(instances);
        let verdict = world.deploy("r8").await;
        assert_eq!(verdict.code, 0, "{verdict:?}");
        world.whole_group_runs("r8").await;
        assert_eq!(world.order_sizes()[0], 1);
        assert!(!world.is_locked());
        let writes = world.store.writes();
        let moved = writes.iter().filter(|key| key.ends_with("/current")).count();
        assert_eq!(moved, 2, "{writes:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_group_without_instances_gets_the_pointer_alone() {
    let world = World::of(0);
    let verdict = world.deploy("r8").await;
    assert_eq!(
        (verdict.code, verdict.message.as_str()),
        (0, "r8 is current, and no instance is in service")
    );
    assert_eq!(world.pointer(), "r8");
}

#[tokio::test(start_paused = true)]
async fn sixty_instances_are_sent_to_in_chunks_of_fifty() {
    let world = World::of(60);
    let mut wish = world.wish("r8");
    wish.batches = "1,100%".parse().unwrap();
    assert_eq!(world.start(&wish).await.unwrap().code, 0);
    assert_eq!(world.order_sizes(), [1, 50, 9]);
    world.whole_group_runs("r8").await;
}

#[tokio::test(start_paused = true)]
async fn an_instance_born_in_the_middle_is_not_born_old() {
    let world = World::of(3);
    world.group.after(2, |machines| {
        machines.insert(crate::fleet::fake::host("i-04"), Machine::running(Some("r7")));
    });
    // One that boots while the pointer is moved has read the old one.
    world.group.after(3, |machines| {
        let mut machine = Machine::running(Some("r7"));
        machine.standing = Standing::Starting;
        machines.insert(crate::fleet::fake::host("i-05"), machine);
    });
    world.group.after(4, |machines| {
        machines.get_mut(&crate::fleet::fake::host("i-05")).unwrap().standing = Standing::InService;
    });
    let verdict = world.deploy("r8").await;
    assert_eq!((verdict.code, verdict.message.as_str()), (0, "r8 runs on 5 instances"));
    world.whole_group_runs("r8").await;
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_dies_in_the_middle_is_no_failure() {
    let world = World::of(3);
    world.group.after(2, |machines| drop(machines.remove(&crate::fleet::fake::host("i-02"))));
    let verdict = world.deploy("r8").await;
    assert_eq!((verdict.code, verdict.message.as_str()), (0, "r8 runs on 2 instances"));
    world.whole_group_runs("r8").await;
}

#[tokio::test(start_paused = true)]
async fn a_rollback_uses_the_release_that_instances_still_have() {
    let world = World::of(3);
    world.group.each(|machine| {
        machine.has.insert("r6".to_owned());
    });
    world.group.change("i-03", |machine| {
        machine.has.remove("r6");
    });
    let verdict = world.rollback("r6").await;
    assert_eq!(verdict.code, 0, "{verdict:?}");
    world.whole_group_runs("r6").await;
    let deploys = world.group.orders().into_iter();
    let deploys: Vec<_> =
        deploys.filter(|(order, _)| matches!(order, Order::Deploy { .. })).collect();
    assert_eq!(deploys.len(), 1, "{deploys:?}");
}

#[tokio::test(start_paused = true)]
async fn a_throttled_poll_is_no_failure() {
    let world = World::of(3);
    world.group.throttle(4);
    assert_eq!(world.deploy("r8").await.code, 0);
    world.whole_group_runs("r8").await;
}

#[tokio::test(start_paused = true)]
async fn a_group_that_gets_sick_in_the_bake_goes_back() {
    let world = World::of(3);
    let mut wish = world.wish("r8");
    wish.bake = Duration::from_secs(60);
    let sick = async {
        tokio::time::sleep(Duration::from_secs(40)).await;
        world.group.change("i-02", |machine| machine.healthy = false);
    };
    let (verdict, ()) = tokio::join!(world.start(&wish), sick);
    assert_eq!(verdict.unwrap().code, 20);
    world.whole_group_runs("r7").await;
}

#[tokio::test(start_paused = true)]
async fn the_same_release_again_changes_nothing() {
    let world = World::of(3);
    assert_eq!(world.deploy("r7").await.code, 0);
    world.whole_group_runs("r7").await;
}
