//! The transport on an AWS in memory.

mod refused;

use super::*;
use crate::fleet::Ended;
use crate::fleet::aws::api::Kind;
use crate::fleet::aws::fake::Fake;
use tokio::time::sleep;

fn ssm(fake: &Arc<Fake>) -> Ssm {
    let place = Place { app: "shop".parse().unwrap(), environment: "production".parse().unwrap() };
    Ssm::new(Arc::new(Calls::new(fake.clone())), &place, Duration::from_secs(600))
}

fn hosts(fake: &Fake) -> Vec<Host> {
    fake.change(|inner| inner.machines.keys().cloned().map(Host).collect())
}

fn order(name: &str) -> Order {
    let url = format!("s3://releases/shop/production/{name}");
    Order::Deploy { url, by: "Ada".to_owned(), release: None }
}

async fn ends(ssm: &Ssm, ticket: &Ticket) -> BTreeMap<Host, Progress> {
    let wait = async {
        loop {
            let progress = ssm.poll(ticket).await.unwrap();
            if !progress.values().any(is_open) {
                return progress;
            }
            sleep(Duration::from_secs(2)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(3600), wait).await.expect("an end")
}

#[tokio::test(start_paused = true)]
async fn an_order_is_sent_to_all_and_its_outcome_is_the_agents() {
    let fake = Fake::running(50, "r7");
    let ssm = ssm(&fake);
    ssm.belong_to("5b1f03c2");
    let hosts = hosts(&fake);
    let bad = hosts[7].clone();
    fake.change(|inner| inner.machines.get_mut(&bad.0).unwrap().fails.insert("r8".to_owned(), 12));
    let ticket = ssm.begin(&order("r8"), &hosts).await.unwrap();
    let first = ssm.poll(&ticket).await.unwrap();
    assert!(first.values().all(|one| *one == Progress::Waiting), "an empty list is normal");
    let ends = ends(&ssm, &ticket).await;
    let done = |one: &&Progress| matches!(one, Progress::Ended(Ended { code: 0, .. }));
    assert_eq!(ends.values().filter(done).count(), 49);
    let Progress::Ended(ended) = &ends[&bad] else { panic!() };
    // Its outcome is longer than a list keeps.
    assert_eq!((ended.code, ended.log.len()), (12, 1));
    assert_eq!(fake.calls()[&Action::GetCommandInvocation].0, 1);
    let comment = &fake.sent()[0].comment;
    assert!(comment.starts_with("ship 5b1f03c2 "), "{comment}");
    assert!(comment.ends_with(": r8, shop/production"), "{comment}");
    // Nothing is asked of a command that has ended.
    let before = fake.calls();
    ssm.poll(&ticket).await.unwrap();
    assert_eq!(fake.calls(), before);
}

#[tokio::test(start_paused = true)]
async fn a_look_says_what_runs_and_why_one_cannot_be_reached() {
    let fake = Fake::running(120, "r7");
    let all = hosts(&fake);
    fake.change(|inner| {
        inner.machines.get_mut(&all[3].0).unwrap().online = false;
        inner.machines.get_mut(&all[4].0).unwrap().managed = false;
        inner.machines.get_mut(&all[5].0).unwrap().healthy = false;
        inner.machines.get_mut(&all[6].0).unwrap().runs = None;
    });
    let seen = ssm(&fake).look("shop", &all).await.unwrap();
    assert_eq!(seen.len(), 120);
    let seen = |n: usize| seen[&all[n]].clone();
    assert_eq!(seen(0).unwrap().release.as_deref(), Some("r7"));
    assert_eq!(seen(0).unwrap().agent.as_deref(), Some("0.2.0"));
    assert_eq!(seen(3).unwrap_err(), "its SSM agent does not answer (ConnectionLost)");
    assert!(seen(4).unwrap_err().starts_with("Systems Manager does not know it: install"));
    assert!(!seen(5).unwrap().healthy);
    assert_eq!(seen(6).unwrap().release, None);
    assert_eq!(fake.calls()[&Action::SendCommand].0, 3);
}

#[tokio::test(start_paused = true)]
async fn a_command_whose_answer_was_lost_is_found_again() {
    let fake = Fake::running(3, "r7");
    let ssm = ssm(&fake);
    fake.lose(1);
    let ticket = ssm.begin(&order("r8"), &hosts(&fake)).await.unwrap();
    assert_eq!(fake.sent().len(), 1);
    assert_eq!(ends(&ssm, &ticket).await.len(), 3);
    // One that was not sent is sent again.
    fake.refuse(Action::SendCommand, Kind::Unanswered, 1);
    ssm.begin(&order("r9"), &hosts(&fake)).await.unwrap();
    assert_eq!(fake.sent().len(), 2);
    fake.refuse(Action::SendCommand, Kind::Unanswered, 99);
    let error = ssm.begin(&order("r9"), &hosts(&fake)).await.unwrap_err();
    assert_eq!(error.exit().code(), 41);
}

#[tokio::test(start_paused = true)]
async fn one_that_has_gone_is_no_reason_to_leave_out_the_others() {
    let fake = Fake::running(3, "r7");
    let ssm = ssm(&fake);
    let all = hosts(&fake);
    fake.change(|inner| drop(inner.machines.remove(&all[1].0)));
    let ticket = ssm.begin(&order("r8"), &all).await.unwrap();
    let ends = ends(&ssm, &ticket).await;
    assert!(matches!(ends[&all[0]], Progress::Ended(_)));
    assert!(matches!(ends[&all[1]], Progress::Lost(_)));
    assert!(matches!(ends[&all[2]], Progress::Ended(_)));
}

#[tokio::test(start_paused = true)]
async fn throttling_makes_it_slower_and_nothing_else() {
    let fake = Fake::running(3, "r7");
    let ssm = ssm(&fake);
    for action in [Action::SendCommand, Action::ListCommandInvocations] {
        fake.refuse(action, Kind::Throttled, 20);
    }
    let ticket = ssm.begin(&order("r8"), &hosts(&fake)).await.unwrap();
    let begun = Instant::now();
    assert_eq!(ends(&ssm, &ticket).await.len(), 3);
    assert!(begun.elapsed() > Duration::from_secs(60), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn only_what_has_not_begun_is_cancelled() {
    let fake = Fake::running(3, "r7");
    let ssm = ssm(&fake);
    let all = hosts(&fake);
    fake.change(|inner| inner.machines.get_mut(&all[2].0).unwrap().online = false);
    let ticket = ssm.begin(&order("r8"), &all).await.unwrap();
    sleep(Duration::from_secs(5)).await;
    ssm.poll(&ticket).await.unwrap();
    ssm.cancel(&ticket).await.unwrap();
    let ends = ends(&ssm, &ticket).await;
    assert!(matches!(ends[&all[0]], Progress::Ended(_)), "{ends:?}");
    assert_eq!(ends[&all[2]], Progress::NotBegun);
}

#[tokio::test(start_paused = true)]
async fn a_ship_that_is_interrupted_cancels_what_was_not_fetched() {
    let fake = Fake::running(4, "r7");
    let ssm = ssm(&fake);
    let all = hosts(&fake);
    let (first, second) = all.split_at(2);
    fake.change(|inner| inner.pings_online = true);
    for away in [&first[1], &second[1]] {
        fake.change(|inner| inner.machines.get_mut(&away.0).unwrap().online = false);
    }
    let one = ssm.begin(&order("r8"), first).await.unwrap();
    let other = ssm.begin(&order("r8"), second).await.unwrap();
    sleep(Duration::from_secs(3)).await;
    ssm.let_go().await.unwrap();
    // What is fetched goes on.
    for (ticket, hosts) in [(one, first), (other, second)] {
        let ends = ends(&ssm, &ticket).await;
        assert!(matches!(ends[&hosts[0]], Progress::Ended(Ended { code: 0, .. })), "{ends:?}");
        assert_eq!(ends[&hosts[1]], Progress::NotBegun);
    }
    let before = fake.calls()[&Action::CancelCommand].0;
    ssm.let_go().await.unwrap();
    assert_eq!(fake.calls()[&Action::CancelCommand].0, before);
}

#[tokio::test(start_paused = true)]
async fn an_order_that_cannot_be_taken_back_is_no_reason_to_leave_the_others() {
    let fake = Fake::running(3, "r7");
    let ssm = ssm(&fake);
    let all = hosts(&fake);
    fake.change(|inner| inner.pings_online = true);
    let mut tickets = Vec::new();
    for host in &all {
        fake.change(|inner| inner.machines.get_mut(&host.0).unwrap().online = false);
        tickets.push(ssm.begin(&order("r8"), std::slice::from_ref(host)).await.unwrap());
    }
    fake.refuse(Action::ListCommandInvocations, Kind::Denied, 1);
    fake.refuse(Action::CancelCommand, Kind::Denied, 1);
    let error = ssm.let_go().await.unwrap_err();
    let said = error.chain();
    assert!(said.contains("see how far the instances of shop/production are"), "{said}");
    assert!(said.contains("cancel a command to shop/production"), "{said}");
    assert_eq!(fake.calls()[&Action::CancelCommand].0, 3);
    let mut not_begun = 0;
    for (ticket, host) in tickets.iter().zip(&all) {
        not_begun += usize::from(ends(&ssm, ticket).await[host] == Progress::NotBegun);
    }
    assert_eq!(not_begun, 2);
}

#[tokio::test(start_paused = true)]
async fn a_command_that_was_being_sent_is_taken_back_too() {
    let fake = Fake::running(1, "r7");
    let ssm = ssm(&fake);
    let all = hosts(&fake);
    fake.change(|inner| inner.machines.get_mut(&all[0].0).unwrap().online = false);
    // Before the command arrives, and before its answer does.
    for (point, arrived) in [(0, 0), (1, 1)] {
        fake.die_at(Some(point));
        let order = order("r8");
        let sending = ssm.begin(&order, &all);
        tokio::time::timeout(Duration::from_secs(5), sending).await.unwrap_err();
        fake.die_at(None);
        let begun = Instant::now();
        ssm.let_go().await.unwrap();
        assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
        assert_eq!(fake.sent().len(), arrived);
        let cancelled = fake.calls().get(&Action::CancelCommand).map_or(0, |calls| calls.0);
        assert_eq!(cancelled, u32::try_from(arrived).unwrap());
    }
}

#[tokio::test(start_paused = true)]
async fn a_command_that_is_never_fetched_is_lost() {
    let fake = Fake::running(1, "r7");
    let ssm = ssm(&fake);
    let all = hosts(&fake);
    fake.change(|inner| inner.machines.get_mut(&all[0].0).unwrap().online = false);
    let ticket = ssm.begin(&order("r8"), &all).await.unwrap();
    let ends = ends(&ssm, &ticket).await;
    assert_eq!(
        ends[&all[0]],
        Progress::Lost("its SSM agent has not fetched the command".to_owned())
    );
}

#[tokio::test(start_paused = true)]
async fn a_right_that_is_missing_is_named_before_anything_is_begun() {
    let fake = Fake::running(1, "r7");
    fake.refuse(Action::SendCommand, Kind::Denied, 1);
    let error = ssm(&fake).look("shop", &hosts(&fake)).await.unwrap_err();
    assert_eq!(error.exit().code(), 11);
    assert!(error.advice().unwrap().starts_with("allow ssm:SendCommand"));
}
