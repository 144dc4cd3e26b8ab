use super::*;
use crate::objects::memory::Memory;
use crate::testing::in_store;
use std::sync::Arc;

const LEASE: SignedDuration = SignedDuration::from_secs(60);

fn two() -> (Context, Context, Arc<Memory>) {
    let store = Arc::new(Memory::default());
    let ada = in_store(&store, "production");
    let bob = Context { by: "Bob".to_owned(), ..ada.clone() };
    (ada, bob, store)
}

fn pass(store: &Memory, seconds: i64) {
    store.pass(SignedDuration::from_secs(seconds));
}

#[tokio::test]
async fn a_lock_says_who_has_it_why_and_since_when() {
    let (ada, bob, store) = two();
    let held = take(&ada, "deploy r7", Some(LEASE)).await.unwrap();
    pass(&store, 20);
    let error = take(&bob, "deploy r8", Some(LEASE)).await.unwrap_err();
    assert_eq!(error.exit().code(), 40);
    assert_eq!(error.chain(), "lock shop/production: Ada has locked it 20s ago: deploy r7");
    assert_eq!(error.advice(), Some("wait: the lock ends in 40s, unless it is renewed"));
    give_back(&ada, held).await.unwrap();
    take(&bob, "deploy r8", Some(LEASE)).await.unwrap();
}

#[tokio::test]
async fn a_lease_that_ran_out_is_taken_over_by_one() {
    let (ada, bob, store) = two();
    let held = take(&ada, "deploy r7", Some(LEASE)).await.unwrap();
    pass(&store, 59);
    assert!(take(&bob, "x", Some(LEASE)).await.is_err());
    pass(&store, 1);
    let (one, other) = tokio::join!(take(&bob, "x", Some(LEASE)), take(&bob, "y", Some(LEASE)));
    assert!(one.is_ok() != other.is_ok());
    assert!(renew(&ada, held, LEASE).await.unwrap_err().chain().contains("another has taken it"));
    let late = Held { lock: one.or(other).unwrap().lock, etag: "\"0\"".to_owned() };
    give_back(&ada, late).await.unwrap();
    assert_eq!(store.keys(), ["shop/production/lock"]);
}

#[tokio::test]
async fn a_renewed_lease_goes_on_from_the_renewal() {
    let (ada, bob, store) = two();
    let mut held = take(&ada, "deploy r7", Some(LEASE)).await.unwrap();
    for _ in 0..5 {
        pass(&store, 40);
        held = renew(&ada, held, LEASE).await.unwrap();
        assert!(take(&bob, "x", Some(LEASE)).await.is_err());
    }
    // Its owner slept, and nobody wanted it meanwhile.
    pass(&store, 3_600);
    held = renew(&ada, held, LEASE).await.unwrap();
    assert!(take(&bob, "x", Some(LEASE)).await.is_err());
    give_back(&ada, held).await.unwrap();
    assert!(store.keys().is_empty());
}

#[tokio::test]
async fn a_clock_that_is_set_back_keeps_the_lock() {
    let (ada, bob, store) = two();
    let held = take(&ada, "deploy r7", Some(LEASE)).await.unwrap();
    pass(&store, -7_200);
    let error = take(&bob, "x", Some(LEASE)).await.unwrap_err();
    assert!(error.chain().contains("has locked it 0s ago"), "{}", error.chain());
    let held = renew(&ada, held, LEASE).await.unwrap();
    pass(&store, 60);
    take(&bob, "x", Some(LEASE)).await.unwrap();
    drop(held);
}

#[tokio::test]
async fn a_person_s_lock_has_no_end_and_anybody_may_remove_it() {
    let (ada, bob, store) = two();
    take(&ada, "Black Friday", None).await.unwrap();
    pass(&store, 1_000_000);
    let error = take(&bob, "x", Some(LEASE)).await.unwrap_err();
    assert_eq!(error.chain(), "lock shop/production: Ada has locked it 11d ago: Black Friday");
    assert_eq!(unlock(&bob, false).await.unwrap().by, "Ada");
    assert_eq!(unlock(&bob, false).await.unwrap_err().exit().code(), 2);
    take(&ada, "deploy r7", Some(LEASE)).await.unwrap();
    assert_eq!(unlock(&bob, false).await.unwrap_err().exit().code(), 40);
    unlock(&bob, true).await.unwrap();
    assert!(store.keys().is_empty());
}

#[tokio::test]
async fn a_lost_answer_or_an_undecided_write_costs_no_lock() {
    let (ada, bob, store) = two();
    store.leave_undecided(2);
    let held = take(&ada, "deploy r7", Some(LEASE)).await.unwrap();
    pass(&store, 10);
    store.lose_answers(1);
    let held = renew(&ada, held, LEASE).await.unwrap();
    pass(&store, 10);
    store.leave_undecided(1);
    let held = renew(&ada, held, LEASE).await.unwrap();
    assert!(take(&bob, "x", Some(LEASE)).await.is_err());
    give_back(&ada, held).await.unwrap();
    store.lose_answers(1);
    take(&bob, "x", Some(LEASE)).await.unwrap();
}

/// The clock of the store says 2027, whatever those of two laptops say.
#[tokio::test]
async fn of_two_people_with_wrong_clocks_both_go_by_the_stores() {
    let (ada, bob, store) = two();
    let held = take(&ada, "deploy r8", Some(LEASE)).await.unwrap();
    assert_eq!(held.lock.since.to_string(), "2027-01-15T08:00:00Z");
    pass(&store, 61);
    let over = take(&bob, "deploy r9", Some(LEASE)).await.unwrap();
    assert_eq!(over.lock.until.unwrap().to_string(), "2027-01-15T08:02:01Z");
    assert_eq!(renew(&ada, held, LEASE).await.unwrap_err().exit().code(), 40);
}
