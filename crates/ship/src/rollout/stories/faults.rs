//! Releases, instances and people that fail.

use super::World;
use crate::fleet::Order;
use crate::rollout::{Event, State, cancel, record};
use jiff::SignedDuration;
use std::time::Duration;

#[tokio::test(start_paused = true)]
async fn a_release_that_is_bad_everywhere_stops_after_one_instance() {
    let world = World::of(5);
    world.group.each(|machine| {
        machine.fails.insert("r8".to_owned(), 12);
    });
    let verdict = world.deploy("r8").await;
    assert_eq!(verdict.code, 12);
    assert_eq!(verdict.message, "r8 failed on i-01: exit 12; the group runs r7");
    assert_eq!(world.order_sizes(), [1]);
    world.whole_group_runs("r7").await;
    let events = world.events.lock().unwrap().clone();
    let has_log = |event: &Event| matches!(event, Event::Host { log, .. } if log == &["boom"]);
    assert!(events.iter().any(has_log), "{events:?}");
}

#[tokio::test(start_paused = true)]
async fn each_exit_code_of_an_instance_is_that_of_the_rollout() {
    for code in [1, 10, 11, 12, 20] {
        let world = World::of(2);
        world.group.change("i-01", |machine| {
            machine.fails.insert("r8".to_owned(), code);
        });
        assert_eq!(world.deploy("r8").await.code, code);
        world.whole_group_runs("r7").await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_release_that_is_bad_on_the_third_alone_takes_the_group_back() {
    let world = World::of(5);
    world.group.change("i-03", |machine| {
        machine.fails.insert("r8".to_owned(), 12);
    });
    let verdict = world.deploy("r8").await;
    assert_eq!(verdict.code, 12, "{verdict:?}");
    world.whole_group_runs("r7").await;
    let orders = world.group.orders();
    let Some((Order::Rollback { to, .. }, hosts)) = orders.last() else { panic!("{orders:?}") };
    assert_eq!((to.as_str(), hosts.len()), ("r7", 2));
}

#[tokio::test(start_paused = true)]
async fn a_failure_among_the_late_born_takes_all_back_and_the_pointer_too() {
    let world = World::of(2);
    world.group.after(2, |machines| {
        let mut machine = crate::fleet::fake::Machine::running(Some("r7"));
        machine.fails.insert("r8".to_owned(), 12);
        machines.insert(crate::fleet::fake::host("i-03"), machine);
    });
    assert_eq!(world.deploy("r8").await.code, 12);
    world.whole_group_runs("r7").await;
}

#[tokio::test(start_paused = true)]
async fn an_unreachable_instance_is_named_and_refused_or_skipped() {
    let world = World::of(3);
    world.group.change("i-02", |machine| machine.reachable = false);
    let mut wish = world.wish("r8");
    let error = world.start(&wish).await.unwrap_err();
    assert_eq!(error.chain(), "reach i-02: no route to host");
    assert!(world.group.orders().is_empty() && !world.is_locked());
    wish.skip_unreachable = true;
    let verdict = world.start(&wish).await.unwrap();
    assert_eq!(
        (verdict.code, verdict.message.as_str()),
        (42, "r8 runs on 2 instances, and not on i-02")
    );
    assert_eq!(world.pointer(), "r8");
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_is_cut_off_for_good_is_a_mixed_group() {
    let world = World::of(3);
    world.group.after(2, |machines| {
        machines.get_mut(&crate::fleet::fake::host("i-02")).unwrap().reachable = false;
    });
    let verdict = world.deploy("r8").await;
    assert_eq!(verdict.code, 30);
    assert!(verdict.message.contains("an unknown release on i-02"), "{}", verdict.message);
    assert!(verdict.message.contains("r7 on i-01, i-03"), "{}", verdict.message);
    assert_eq!(
        verdict.help.as_deref(),
        Some("repair or terminate i-02, then `ship deploy production r7`")
    );
    assert_eq!(world.pointer(), "r7");
}

#[tokio::test(start_paused = true)]
async fn a_rollback_that_fails_says_who_runs_what() {
    let world = World::of(3);
    world.group.change("i-03", |machine| {
        machine.fails.insert("r8".to_owned(), 12);
    });
    world.group.change("i-02", |machine| {
        machine.fails.insert("r7".to_owned(), 12);
    });
    let verdict = world.deploy("r8").await;
    assert_eq!(verdict.code, 30);
    assert!(verdict.message.contains("r7 on i-01, i-03; r8 on i-02"), "{}", verdict.message);
}

#[tokio::test(start_paused = true)]
async fn of_two_rollouts_at_once_one_is_told_who_has_the_group() {
    let world = World::of(3);
    let (ada, bob) = (world.ship("Ada"), world.ship("Bob"));
    let (wish, other) = (world.wish("r8"), world.wish("r9"));
    let (one, two) =
        tokio::join!(super::super::start(&ada, &wish), super::super::start(&bob, &other));
    assert_eq!(one.unwrap().verdict.unwrap().code, 0);
    let error = two.unwrap_err();
    assert_eq!(error.exit().code(), 40);
    assert!(error.chain().contains("Ada has locked it"), "{}", error.chain());
    world.whole_group_runs("r8").await;
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_rollout_goes_back_and_who_attaches_sees_it() {
    let world = World::of(8);
    let cancelled = async {
        tokio::time::sleep(Duration::from_secs(9)).await;
        cancel(&world.cx("Bob"), None).await.unwrap();
        world.attach().await
    };
    let (verdict, attached) = tokio::join!(world.deploy("r8"), cancelled);
    assert_eq!(verdict.code, 43);
    assert_eq!(verdict.message, "r8 failed: Bob has cancelled it; the group runs r7");
    assert_eq!(attached, verdict);
    world.whole_group_runs("r7").await;
    assert_eq!(cancel(&world.cx("Bob"), None).await.unwrap_err().exit().code(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_slow_group_keeps_the_lock() {
    let world = World::of(3);
    world.group.each(|machine| machine.takes = Duration::from_secs(200));
    let intruder = async {
        tokio::time::sleep(Duration::from_secs(190)).await;
        super::super::start(&world.ship("Bob"), &world.wish("r9")).await.unwrap_err()
    };
    let (verdict, error) = tokio::join!(world.deploy("r8"), intruder);
    assert_eq!((verdict.code, error.exit().code()), (0, 40));
    world.whole_group_runs("r8").await;
}

#[tokio::test(start_paused = true)]
async fn a_slow_list_of_the_group_keeps_the_lock() {
    let world = World::of(2);
    world.group.list_slowly(Duration::from_secs(100));
    let intruder = async {
        tokio::time::sleep(Duration::from_secs(200)).await;
        super::super::start(&world.ship("Bob"), &world.wish("r9")).await
    };
    let (verdict, intruder) = tokio::join!(world.deploy("r8"), intruder);
    assert_eq!((verdict.code, intruder.unwrap_err().exit().code()), (0, 40));
    world.whole_group_runs("r8").await;
}

#[tokio::test(start_paused = true)]
async fn an_instance_without_an_outcome_has_an_end() {
    let world = World::of(2);
    world.group.change("i-01", |machine| machine.takes = Duration::from_secs(1_000_000));
    assert_eq!(world.deploy("r8").await.code, 30);
    assert!(!world.is_locked());
}

/// A laptop that slept: another ship has finished meanwhile.
#[tokio::test(start_paused = true)]
async fn a_ship_whose_lease_ran_out_does_no_more() {
    let world = World::of(5);
    let sleeper = world.ship("Ada");
    let (wish, other) = (world.wish("r8"), world.wish("r9"));
    let taken_over = async {
        tokio::time::sleep(Duration::from_secs(3)).await;
        world.store.pass(SignedDuration::from_secs(61));
        super::super::start(&world.ship("Bob"), &other).await
    };
    let (slept, over) = tokio::join!(super::super::start(&sleeper, &wish), taken_over);
    assert_eq!(slept.unwrap_err().exit().code(), 40);
    assert_eq!(over.unwrap().verdict.unwrap().code, 0);
    world.whole_group_runs("r9").await;
}

#[tokio::test(start_paused = true)]
async fn a_pointer_that_somebody_else_moves_takes_the_group_back() {
    let world = World::of(1);
    let moved = async {
        tokio::time::sleep(Duration::from_secs(3)).await;
        world.store.overwrite("shop/production/current", "r5\n");
    };
    let (verdict, ()) = tokio::join!(world.deploy("r8"), moved);
    assert_eq!(verdict.code, 40);
    assert!(verdict.message.contains("changed s3://releases/shop/production/current to \"r5\""));
    assert_eq!(world.group.settled().await["i-01"].as_deref(), Some("r7"));
}

#[tokio::test(start_paused = true)]
async fn the_history_has_the_newest_first_whatever_the_clock() {
    let world = World::of(2);
    for release in ["r8", "r9"] {
        world.deploy(release).await;
        // The store's clock is set back.
        world.store.pass(SignedDuration::from_secs(-3_600));
    }
    let records = record::newest(&world.cx("Ada"), 10).await.unwrap();
    let to: Vec<_> = records.iter().map(|record| record.rollout.to.as_str()).collect();
    assert_eq!(to, ["r9", "r8"]);
    assert!(records[0].rollout.hosts.values().all(|member| member.state == State::Done));
}

#[tokio::test(start_paused = true)]
async fn writes_that_are_undecided_or_whose_answer_is_lost_are_no_failure() {
    let world = World::of(2);
    world.store.leave_undecided(3);
    assert_eq!(world.deploy("r8").await.code, 0);
    world.store.lose_answers(100);
    assert_eq!(world.deploy("r9").await.code, 0);
    assert_eq!(world.pointer(), "r9");
}
