//! Instances of which nobody can say what they run: they count among those that go back.

use super::World;
use crate::fleet::fake::{Machine, host};
use crate::fleet::{Order, Standing};
use crate::rollout::Wish;
use std::time::Duration;
use tokio::time::sleep;

fn all_at_once(world: &World) -> Wish {
    Wish { batches: "100%".parse().unwrap(), ..world.wish("r8") }
}

/// Deploys r8 to two instances, of which one gets sick in the bake, while a third one boots: it
/// has read the pointer to r8. `serves`: whether it gets into service later.
async fn with_one_that_boots(world: &World, serves: bool) -> crate::rollout::Verdict {
    let wish = Wish { bake: Duration::from_secs(60), ..world.wish("r8") };
    let outside = async {
        sleep(Duration::from_secs(30)).await;
        world.group.add("i-03", Machine::booting(Some("r8")));
        sleep(Duration::from_secs(10)).await;
        world.group.change("i-02", |machine| machine.healthy = false);
        sleep(Duration::from_secs(100)).await;
        if serves {
            world.group.change("i-03", |machine| machine.standing = Standing::InService);
        }
    };
    let (verdict, ()) = tokio::join!(world.start(&wish), outside);
    verdict.unwrap()
}

#[tokio::test(start_paused = true)]
async fn one_that_boots_while_the_group_goes_back_goes_back_too() {
    let world = World::of(2);
    let verdict = with_one_that_boots(&world, true).await;
    assert_eq!(verdict.code, 20, "{verdict:?}");
    world.whole_group_runs("r7").await;
}

#[tokio::test(start_paused = true)]
async fn one_that_boots_for_ever_is_named_after_a_failure() {
    let world = World::of(2);
    let verdict = with_one_that_boots(&world, false).await;
    assert_eq!(verdict.code, 30, "{verdict:?}");
    assert!(verdict.message.contains("an unknown release on i-03"), "{}", verdict.message);
}

#[tokio::test(start_paused = true)]
async fn one_that_boots_is_not_waited_for_if_the_pointer_was_never_moved() {
    let world = World::of(2);
    world.group.add("i-03", Machine::booting(None));
    world.group.change("i-01", |machine| {
        machine.fails.insert("r8".to_owned(), 12);
    });
    let begun = tokio::time::Instant::now();
    assert_eq!(world.deploy("r8").await.code, 12);
    assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_client_that_has_lost_its_agent_does_not_know_what_runs() {
    let world = World::of(3);
    world.group.change("i-03", |machine| {
        machine.fails.insert("r8".to_owned(), 41);
    });
    let verdict = world.deploy("r8").await;
    assert_eq!(verdict.code, 1, "{verdict:?}");
    world.whole_group_runs("r7").await;
}

#[tokio::test(start_paused = true)]
async fn an_order_that_was_fetched_before_its_cancel_is_taken_back() {
    let world = World::of(3);
    world.group.change("i-01", |machine| {
        machine.fails.insert("r8".to_owned(), 12);
    });
    world.group.change("i-02", |machine| {
        machine.hides = true;
        machine.takes = Duration::from_secs(20);
    });
    let verdict = world.start(&all_at_once(&world)).await.unwrap();
    assert_eq!(verdict.code, 12, "{verdict:?}");
    world.whole_group_runs("r7").await;
}

#[tokio::test(start_paused = true)]
async fn after_a_failure_no_lost_instance_gets_the_new_release() {
    let world = World::of(2);
    world.group.change("i-01", |machine| {
        machine.fails.insert("r8".to_owned(), 12);
    });
    world.group.after(1, |machines| machines.get_mut(&host("i-02")).unwrap().reachable = false);
    let verdict = world.start(&all_at_once(&world)).await.unwrap();
    assert_eq!(verdict.code, 30, "{verdict:?}");
    let orders = world.group.orders();
    let is_new = |order: &Order| matches!(order, Order::Deploy { url, .. } if url.ends_with("/r8"));
    assert_eq!(orders.iter().filter(|(order, _)| is_new(order)).count(), 1, "{orders:?}");
}
