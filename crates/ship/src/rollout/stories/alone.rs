//! Rollbacks while the store does not respond.

use super::World;
use crate::fleet::Order;
use crate::fleet::fake::{Machine, host};
use crate::rollout::{Action, Event, Phase, Verdict, Wish, roll_back, target};
use model::error::Result;
use model::reason::Reason;

/// A group on r8, whose instances keep r7, and a store that does not respond.
fn silent(instances: usize) -> World {
    let world = World::of(instances);
    world.store.overwrite("shop/production/current", "r8\n");
    world.group.each(|machine| {
        machine.has.insert("r8".to_owned());
        machine.runs = Some("r8".to_owned());
        machine.before = Some("r7".to_owned());
        machine.fetches = false;
    });
    world.store.fall_silent(Some(Reason::NoAnswer));
    world
}

impl World {
    async fn go_back(&self, to: Option<&str>) -> Result<Verdict> {
        let wish = |to: String| Wish { action: Action::Rollback, ..self.wish(&to) };
        let rollout = roll_back(&self.ship("Ada"), to.map(str::to_owned), wish).await?;
        Ok(rollout.verdict.expect("a verdict"))
    }

    async fn runs(&self) -> Vec<String> {
        self.group.settled().await.into_values().flatten().collect()
    }

    fn warnings(&self) -> String {
        let events = self.events.lock().expect("events");
        let warning = |event: &Event| match event {
            Event::Warning { text } => Some(text.clone()),
            _ => None,
        };
        events.iter().filter_map(warning).collect::<Vec<_>>().join("\n")
    }
}

#[tokio::test(start_paused = true)]
async fn a_group_goes_back_to_the_release_that_its_instances_name() {
    for reason in [Reason::NoAnswer, Reason::SourceBusy] {
        let world = silent(5);
        world.store.fall_silent(Some(reason));
        assert_eq!(target(&world.ship("Ada")).await.unwrap(), "r7");
        let verdict = world.go_back(None).await.unwrap();
        assert_eq!(
            (verdict.code, verdict.message.as_str()),
            (42, "r7 runs on 5 instances; current could not be moved")
        );
        let help = verdict.help.unwrap();
        assert!(help.contains("most likely r8"), "{help}");
        assert!(help.contains("`ship rollback production --to r7`"), "{help}");
        assert_eq!(world.runs().await, ["r7"; 5]);
        assert_eq!(world.order_sizes(), [1, 2, 2]);
        assert!(world.warnings().contains("goes on without the lock"), "{}", world.warnings());
        let events = world.events.lock().unwrap().clone();
        let moves = |event: &Event| matches!(event, Event::Step { phase: Phase::Pointer, .. });
        assert!(!events.iter().any(moves), "{events:?}");

        world.store.fall_silent(None);
        assert_eq!((world.pointer(), world.is_locked()), ("r8".to_owned(), false));
        // The same again moves the pointer, and is written down.
        let verdict = world.go_back(Some("r7")).await.unwrap();
        assert_eq!((verdict.code, verdict.message.as_str()), (0, "r7 runs on 5 instances"));
        world.whole_group_runs("r7").await;
        assert!(world.store.keys().iter().any(|key| key.contains("/deploys/")));
    }
}

/// After an interrupt in the bake, or a retry after exit 42.
#[tokio::test(start_paused = true)]
async fn the_same_without_a_name_goes_no_further_back() {
    let world = silent(3);
    world.group.each(|machine| {
        machine.has.insert("r6".to_owned());
    });
    assert_eq!(world.go_back(None).await.unwrap().code, 42);
    for found in [world.go_back(None).await.map(|_| ()), target(&world.ship("Ada")).await.map(drop)]
    {
        let error = found.unwrap_err();
        assert_eq!(error.exit().code(), 41);
        let said = "a rollback has brought i-01, i-02, i-03 to r7 already";
        assert!(error.chain().ends_with(said), "{}", error.chain());
        let help = "name the release: `ship rollback production --to r7` repeats it, \
            `--to r6` goes further";
        assert_eq!(error.advice(), Some(help));
    }
    // So does one of them alone.
    world.group.change("i-02", |machine| machine.rolled_back = false);
    world.go_back(None).await.unwrap_err();
    assert_eq!(world.go_back(Some("r7")).await.unwrap().code, 42);
    assert_eq!(world.runs().await, ["r7"; 3]);
    assert_eq!(world.go_back(Some("r6")).await.unwrap().code, 42);
    assert_eq!(world.runs().await, ["r6"; 3]);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_takes_no_writes_is_silent_too() {
    let world = silent(3);
    world.store.fall_silent(None);
    world.store.fall_silent_for_writes();
    let verdict = world.go_back(Some("r7")).await.unwrap();
    assert_eq!((verdict.code, world.pointer().as_str()), (42, "r8"), "{verdict:?}");
    assert_eq!(world.runs().await, ["r7"; 3]);
}

#[tokio::test(start_paused = true)]
async fn instances_that_do_not_agree_make_the_operator_name_it() {
    let world = silent(3);
    world.group.change("i-03", |machine| machine.before = Some("r6".to_owned()));
    let error = world.go_back(None).await.unwrap_err();
    assert_eq!(error.exit().code(), 41);
    let said = "the instances would go back to r6 on i-03; r7 on i-01, i-02";
    assert!(error.chain().ends_with(said), "{}", error.chain());
    assert_eq!(error.advice(), Some("name it: `ship rollback production --to rN`"));
    assert!(world.group.orders().is_empty());
    world.group.each(|machine| machine.reachable = false);
    let error = world.go_back(None).await.unwrap_err();
    assert!(error.chain().ends_with("no instance answers"), "{}", error.chain());
    world.group.each(|machine| machine.reachable = true);
    assert_eq!(world.go_back(Some("r7")).await.unwrap().code, 42);
    assert_eq!(world.runs().await, ["r7"; 3]);
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_lacks_the_release_is_left_out_and_the_others_go_back() {
    let world = silent(3);
    world.group.change("i-02", |machine| {
        machine.has.remove("r7");
    });
    // One that is born meanwhile has the bad release alone.
    world.group.after(2, |machines| {
        let mut machine = Machine::running(Some("r8"));
        machine.fetches = false;
        machines.insert(host("i-04"), machine);
    });
    let verdict = world.go_back(Some("r7")).await.unwrap();
    assert_eq!(
        (verdict.code, verdict.message.as_str()),
        (42, "r7 runs on 2 instances, and not on i-02, i-04; current could not be moved")
    );
    assert_eq!(world.runs().await, ["r7", "r8", "r7", "r8"]);
}

#[tokio::test(start_paused = true)]
async fn a_release_that_no_instance_has_changes_nothing() {
    let world = silent(3);
    let verdict = world.go_back(Some("r3")).await.unwrap();
    let said = "r3 is on the disk of none of i-01, i-02, i-03, and the store does not respond; \
        nothing is changed";
    assert_eq!((verdict.code, verdict.message.as_str()), (41, said));
    assert_eq!(world.runs().await, ["r8"; 3]);
}

#[tokio::test(start_paused = true)]
async fn a_release_that_fails_takes_the_group_to_where_it_was() {
    let world = silent(3);
    world.group.change("i-02", |machine| {
        machine.fails.insert("r7".to_owned(), 12);
    });
    let verdict = world.go_back(None).await.unwrap();
    assert_eq!(
        (verdict.code, verdict.message.as_str()),
        (12, "r7 failed on i-02: exit 12; the group runs r8")
    );
    assert_eq!(world.runs().await, ["r8"; 3]);
    let orders = world.group.orders();
    assert!(orders.iter().all(|(order, _)| matches!(order, Order::Rollback { .. })), "{orders:?}");
}

#[tokio::test(start_paused = true)]
async fn a_rollback_that_breaks_the_canary_stops_there() {
    for code in [1, 30] {
        let world = silent(3);
        world.group.each(|machine| {
            machine.has.remove("r7");
        });
        world.group.change("i-01", |machine| {
            machine.breaks.insert("r7".to_owned(), code);
        });
        let verdict = world.go_back(None).await.unwrap();
        let said = format!("r7 failed on i-01: exit {code}; the group runs r8");
        assert_eq!((verdict.code, verdict.message), (1, said));
        assert_eq!(world.runs().await, ["r8"; 3]);
        let of_others = |(_, hosts): &(Order, Vec<_>)| *hosts != [host("i-01")];
        assert!(!world.group.orders().iter().any(of_others), "{:?}", world.group.orders());
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_refuses_or_a_group_that_another_has_is_no_silence() {
    for reason in [Reason::AccessDenied, Reason::CredentialsMissing, Reason::SourceFailed] {
        let world = silent(3);
        world.store.fall_silent(Some(reason));
        let error = world.go_back(Some("r7")).await.unwrap_err();
        assert_eq!(error.reason(), reason);
        assert!(world.group.orders().is_empty());
    }
    let world = silent(3);
    world.store.fall_silent(None);
    crate::lock::take(&world.cx("Bob"), "look at it", None).await.unwrap();
    assert_eq!(world.go_back(Some("r7")).await.unwrap_err().exit().code(), 40);
    assert!(world.group.orders().is_empty());
}

#[tokio::test(start_paused = true)]
async fn the_same_command_ends_one_that_was_killed() {
    for point in 0.. {
        let world = silent(3);
        let ship = world.ship("Ada");
        let wish = |to: String| Wish { action: Action::Rollback, ..world.wish(&to) };
        let work = roll_back(&ship, Some("r7".to_owned()), wish);
        if !world.is_killed_in(work, point).await {
            assert!(point > 5, "only {point} points");
            break;
        }
        let verdict = world.go_back(Some("r7")).await.unwrap();
        assert_eq!(verdict.code, 42, "killed at {point}: {verdict:?}");
        assert_eq!(world.runs().await, ["r7"; 3], "killed at {point}");
    }
}

/// The store falls silent once the rollback has begun, and so does not end it alone.
#[tokio::test(start_paused = true)]
async fn a_rollback_that_was_interrupted_by_the_silence_is_ended_by_the_next() {
    let world = silent(4);
    world.store.fall_silent(None);
    let silence = async {
        tokio::time::sleep(std::time::Duration::from_secs(3)).await;
        world.store.fall_silent(Some(Reason::NoAnswer));
    };
    let (ended, ()) = tokio::join!(world.go_back(Some("r7")), silence);
    assert_eq!(ended.unwrap_err().reason(), Reason::NoAnswer);
    let verdict = world.go_back(Some("r7")).await.unwrap();
    assert_eq!(verdict.code, 42, "{verdict:?}");
    assert!(verdict.help.unwrap().contains("most likely r8"));
    assert_eq!(world.runs().await, ["r7"; 4]);
}
