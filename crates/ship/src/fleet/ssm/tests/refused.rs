//! Calls that AWS refuses for some of the instances, or for a while.

use super::*;

async fn in_time<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(600), work).await.expect("an end")
}

#[tokio::test(start_paused = true)]
async fn one_that_is_refused_although_it_is_online_is_lost_alone() {
    for (refused, gone) in [(vec![1], None), (vec![1, 3], None), (vec![1], Some(2))] {
        let fake = Fake::running(5, "r7");
        let ssm = ssm(&fake);
        let all = hosts(&fake);
        fake.change(|inner| {
            for n in &refused {
                inner.machines.get_mut(&all[*n].0).unwrap().refused = true;
            }
            gone.map(|n: usize| inner.machines.remove(&all[n].0));
        });
        let ticket = in_time(ssm.begin(&order("r8"), &all)).await.unwrap();
        let ends = ends(&ssm, &ticket).await;
        assert_eq!(ends.len(), 5);
        for (n, host) in all.iter().enumerate() {
            let is_lost = refused.contains(&n) || gone == Some(n);
            assert_eq!(matches!(ends[host], Progress::Lost(_)), is_lost, "{n}: {ends:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn each_alone_may_be_cancelled_too() {
    let fake = Fake::running(3, "r7");
    let ssm = ssm(&fake);
    let all = hosts(&fake);
    fake.change(|inner| {
        inner.machines.get_mut(&all[1].0).unwrap().refused = true;
        inner.machines.get_mut(&all[2].0).unwrap().online = false;
    });
    fake.change(|inner| inner.pings_online = true);
    let ticket = in_time(ssm.begin(&order("r8"), &all)).await.unwrap();
    sleep(Duration::from_secs(5)).await;
    ssm.poll(&ticket).await.unwrap();
    ssm.cancel(&ticket).await.unwrap();
    let ends = ends(&ssm, &ticket).await;
    assert!(matches!(ends[&all[0]], Progress::Ended(_)), "{ends:?}");
    assert_eq!(ends[&all[2]], Progress::NotBegun);
}

#[tokio::test(start_paused = true)]
async fn an_output_that_cannot_be_fetched_hides_no_outcome() {
    let fake = Fake::running(3, "r7");
    let ssm = ssm(&fake);
    let all = hosts(&fake);
    fake.change(|inner| {
        inner.machines.get_mut(&all[0].0).unwrap().fails.insert("r8".to_owned(), 12);
    });
    fake.refuse(Action::GetCommandInvocation, Kind::Denied, 99);
    let ticket = ssm.begin(&order("r8"), &all).await.unwrap();
    sleep(Duration::from_secs(30)).await;
    let ends = ssm.poll(&ticket).await.unwrap();
    assert!(matches!(ends[&all[0]], Progress::Ended(Ended { code: 12, .. })), "{ends:?}");
    assert!(matches!(ends[&all[2]], Progress::Ended(Ended { code: 0, .. })), "{ends:?}");
}

#[tokio::test(start_paused = true)]
async fn a_command_that_could_not_be_looked_for_is_not_sent_twice() {
    let fake = Fake::running(3, "r7");
    let ssm = ssm(&fake);
    fake.lose(1);
    fake.refuse(Action::ListCommands, Kind::Denied, 1);
    let error = ssm.begin(&order("r8"), &hosts(&fake)).await.unwrap_err();
    let help = error.advice().unwrap();
    assert!(help.starts_with("allow ssm:ListCommands;"), "{help}");
    let ticket = ssm.begin(&order("r8"), &hosts(&fake)).await.unwrap();
    assert_eq!(fake.sent().len(), 1);
    assert_eq!(ends(&ssm, &ticket).await.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_lost_command_is_not_looked_for_in_the_whole_history() {
    let fake = Fake::running(1, "r7");
    let ssm = ssm(&fake);
    for _ in 0..130 {
        ssm.begin(&order("r7"), &hosts(&fake)).await.unwrap();
    }
    sleep(Duration::from_secs(7200)).await;
    fake.lose(1);
    ssm.begin(&order("r8"), &hosts(&fake)).await.unwrap();
    // The command is not listed at once, and then on the first page.
    assert_eq!(fake.calls()[&Action::ListCommands].0, 2);
}
