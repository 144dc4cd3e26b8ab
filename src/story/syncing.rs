//! Deploys whose candidate boots while its files are written to the disk: nothing is committed,
//! and nothing that runs is stopped, before they are there.

use super::machine::Syncs;
use super::{Story, WEB, texts};
use crate::context::Context;
use crate::deploy::{self, Done};
use model::error::{Error, Exit, Result};
use model::release::state::State;
use nix::libc::{EIO, ENOSPC};
use std::time::{Duration, Instant};

const LATE: Duration = Duration::from_secs(30);

/// r1 serves, and a sync takes as long as a test wants.
async fn on_a_slow_disk(procfile: &str, env: &str) -> Story {
    let story = Story::serving_r1().await;
    story.publish("r2", procfile, env);
    story.syncs(Syncs::Slowly);
    story
}

/// A time in which a release is staged and its candidate starts, however busy the machine is:
/// many times what r1 took.
fn enough_to_stage(story: &Story) -> Duration {
    Duration::from_millis(300) + Duration::from_secs_f64(story.last().seconds * 5.0)
}

async fn until(what: &str, is_so: impl Fn() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < LATE, "never: {what}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Deploys r2 while something else happens to it.
async fn deploy_during(story: &Story, meanwhile: impl Future<Output = ()>) -> Result<Done> {
    let (done, ()) = tokio::join!(story.deploy("r2"), meanwhile);
    done
}

/// Deploys r2 until the deploy waits for the disk, and the daemon is killed.
async fn killed_while_it_syncs(story: &mut Story) {
    let cx = story.cx();
    tokio::select! {
        done = story.deploy_in(&cx, "my-app", "r2") => panic!("it did not wait: {done:?}"),
        () = until("the candidate runs", || runs(story, "web-r2@1")) => {}
    }
    story.starts_anew();
}

fn runs(story: &Story, process: &str) -> bool {
    story.runs().contains(&process.to_owned())
}

fn waits_for_the_disk(cx: &Context) -> bool {
    cx.events.timings().parts.iter().any(|part| part.part == "sync")
}

/// The seconds that it has waited for the disk.
fn waited(cx: &Context) -> f64 {
    let parts = cx.events.timings().parts;
    parts.iter().filter(|part| part.part == "sync").map(|part| part.seconds).sum()
}

/// Gives the mark of r2 the id of another boot, as a power loss does.
#[expect(clippy::disallowed_methods, reason = "a test's own directory")]
fn lose_power(story: &mut Story) {
    let mark = story.app().dir().join("releases/r2/unsynced");
    assert!(mark.exists(), "r2 is not on the disk");
    std::fs::write(mark, "another boot").expect("write");
    story.reboot();
    story.starts_anew();
}

fn unsynced(story: &Story) -> usize {
    story.app().unsynced().expect("readable").len()
}

fn r1_runs_alone(story: &Story) {
    assert_eq!(story.current().as_deref(), Some("r1"));
    assert_eq!(story.runs(), ["web-r1@1"]);
    assert_eq!(story.served_by(), ["web-r1@1"]);
    assert_eq!(unsynced(story), 0);
}

fn r2_is_gone(story: &Story, error: &Error) {
    r1_runs_alone(story);
    assert_eq!(story.installed(), ["r1"], "{}", error.chain());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_candidate_boots_before_it_is_on_the_disk_and_is_committed_after() {
    let story = on_a_slow_disk(WEB, "").await;
    story.jobs();
    let done = deploy_during(&story, async {
        until("the candidate runs", || runs(&story, "web-r2@1")).await;
        assert_eq!((story.current().as_deref(), unsynced(&story)), (Some("r1"), 1));
        story.syncs(Syncs::AtOnce);
    });
    done.await.expect("it is good");
    let jobs = story.jobs();
    let at = |job: &str| jobs.iter().rposition(|done| done == job).expect(job);
    assert!(at("start deploy-my-app-web-r2@1") < at("synced"), "{jobs:?}");
    assert!(at("synced") < at("ports"), "{jobs:?}");
    assert_eq!((story.current().as_deref(), unsynced(&story)), (Some("r2"), 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_waits_for_the_disk_however_long_that_takes() {
    let mut story = on_a_slow_disk(WEB, "").await;
    let cx = story.cx();
    tokio::select! {
        done = story.deploy_in(&cx, "my-app", "r2") => panic!("it did not wait: {done:?}"),
        () = until("it has waited", || waited(&cx) > 0.1) => {}
    }
    assert!(runs(&story, "web-r2@1"));
    assert_eq!(story.current().as_deref(), Some("r1"));
    story.starts_anew();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_fails_is_1_before_the_commit_and_the_release_does_not_stay() {
    for (errno, help) in [(EIO, "journalctl -k"), (ENOSPC, "free space")] {
        let story = on_a_slow_disk(WEB, "").await;
        let done = deploy_during(&story, async {
            until("the candidate runs", || runs(&story, "web-r2@1")).await;
            story.syncs(Syncs::Fails(errno));
        });
        let error = Story::fails(done.await, Exit::Failed);
        r2_is_gone(&story, &error);
        assert!(error.chain().contains("r2 was not deployed, r1 runs on"), "{}", error.chain());
        assert!(error.advice().is_some_and(|advice| advice.contains(help)), "{error:?}");
        story.syncs(Syncs::AtOnce);
        story.deploy("r2").await.expect("the disk is well again");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_candidate_that_fails_first_stays_installed_once_it_is_on_the_disk() {
    let story = on_a_slow_disk("web: serve does=crash\n", "").await;
    let done = deploy_during(&story, async {
        until("it has failed", || {
            story.app().unsynced().is_ok_and(|all| !all.is_empty())
                && story.state_of("r2") == State::Failed
        })
        .await;
        story.syncs(Syncs::AtOnce);
    });
    Story::fails(done.await, Exit::Unhealthy);
    r1_runs_alone(&story);
    assert_eq!(story.state_of("r2"), State::Failed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_candidate_that_fails_on_a_disk_that_fails_too_is_12_and_does_not_stay() {
    let story = on_a_slow_disk("web: serve does=crash\n", "").await;
    story.syncs(Syncs::Fails(EIO));
    let cx = story.cx();
    let error = Story::fails(story.deploy_in(&cx, "my-app", "r2").await, Exit::Unhealthy);
    r2_is_gone(&story, &error);
    let texts = texts(&cx.events).await;
    assert!(texts.iter().any(|text| text.contains("Input/output error")), "{texts:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_candidate_that_ends_while_it_waits_for_the_disk_is_12() {
    let story = on_a_slow_disk(WEB, "").await;
    let cx = story.cx();
    let dies = async {
        until("it waits for the disk", || waits_for_the_disk(&cx)).await;
        story.kill("web-r2");
        until("it is stopped", || !runs(&story, "web-r2@1")).await;
        until("it is judged", || story.state_of("r2") == State::Failed).await;
        story.syncs(Syncs::AtOnce);
    };
    let (done, ()) = tokio::join!(story.deploy_in(&cx, "my-app", "r2"), dies);
    Story::fails(done, Exit::Unhealthy);
    r1_runs_alone(&story);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_time_given_may_end_while_it_waits_for_the_disk() {
    let story = on_a_slow_disk(WEB, "").await;
    let mut cx = story.cx();
    cx.deadline = Some(Instant::now() + enough_to_stage(&story));
    let ends = async {
        until("the candidate runs", || runs(&story, "web-r2@1")).await;
        until("it is stopped", || !runs(&story, "web-r2@1")).await;
        story.syncs(Syncs::AtOnce);
    };
    let (done, ()) = tokio::join!(story.deploy_in(&cx, "my-app", "r2"), ends);
    let error = done.expect_err("it is late");
    assert!(error.chain().contains("--timeout is over"), "{}", error.chain());
    r1_runs_alone(&story);
    assert_eq!(story.state_of("r2"), State::Staged);
}

/// As a version of deployd leaves it that knows no marks.
#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::disallowed_methods, reason = "a test's own directory")]
async fn a_current_release_with_a_mark_is_kept_and_loses_it() {
    let mut story = Story::serving_r1().await;
    std::fs::write(story.app().dir().join("releases/r1/unsynced"), "another boot").expect("write");
    story.starts_anew();
    story.recover().await.expect("r1 is current");
    r1_runs_alone(&story);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deploy_that_has_failed_does_not_wait_for_the_disk_for_ever() {
    let mut story = on_a_slow_disk("web: serve does=crash\n", "").await;
    story.waits_for_the_disk(Duration::from_millis(50));
    let begun = Instant::now();
    let error = Story::fails(story.deploy("r2").await, Exit::Unhealthy);
    assert!(begun.elapsed() < LATE, "{:?}", begun.elapsed());
    r2_is_gone(&story, &error);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_time_given_may_end_while_a_stage_waits_for_the_disk() {
    let story = on_a_slow_disk(WEB, "").await;
    let mut cx = story.cx();
    cx.deadline = Some(Instant::now() + enough_to_stage(&story));
    let error = story.stage_in(&cx, "r2").await.expect_err("it is late");
    assert_eq!(error.reason(), model::reason::Reason::DeadlinePassed);
    r2_is_gone(&story, &error);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_that_was_not_on_the_disk_is_removed_when_deployd_was_killed() {
    let mut story = on_a_slow_disk(WEB, "").await;
    killed_while_it_syncs(&mut story).await;
    assert_eq!(unsynced(&story), 1);
    let error = Story::fails(story.recover().await, Exit::Failed);
    r2_is_gone(&story, &error);
    story.syncs(Syncs::AtOnce);
    story.deploy("r2").await.expect("it is fetched again");
    assert_eq!(story.current().as_deref(), Some("r2"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_that_was_lost_with_the_power_is_ignored_and_then_removed() {
    let mut story = on_a_slow_disk(WEB, "").await;
    killed_while_it_syncs(&mut story).await;
    lose_power(&mut story);
    assert_eq!(story.installed(), ["r1"], "the list of releases, retention and the generator");
    let generated = story.machine.generated_units();
    assert!(!generated.iter().any(|unit| unit.contains("-r2@")), "{generated:?}");
    Story::fails(story.roll_back(Some("r2")).await, Exit::Usage);
    let error = Story::fails(story.recover().await, Exit::Failed);
    r2_is_gone(&story, &error);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_release_that_was_lost_with_the_power_leaves_nothing() {
    let mut story = Story::new();
    story.publish("r2", WEB, "");
    story.syncs(Syncs::Slowly);
    killed_while_it_syncs(&mut story).await;
    lose_power(&mut story);
    Story::fails(story.recover().await, Exit::Failed);
    assert_eq!((story.current(), story.runs(), unsynced(&story)), (None, Vec::new(), 0));
    assert_eq!(story.installed(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_migration_whose_release_is_lost_with_the_power_is_run_again() {
    let mut story = on_a_slow_disk("web: serve\nrelease: migrate\n", "").await;
    story.state().dies_at = Some("start deploy-my-app-web-r2@1".to_owned());
    tokio::select! {
        done = story.release("r2") => panic!("it lived: {done:?}"),
        () = story.machine.death() => {}
    }
    lose_power(&mut story);
    let error = Story::fails(story.recover().await, Exit::Failed);
    r2_is_gone(&story, &error);
    story.syncs(Syncs::AtOnce);
    story.release("r2").await.expect("it is good");
    let migrations = story.state().runs.iter().filter(|run| run.contains("migrate")).count();
    assert_eq!(migrations, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_before_it_is_on_the_disk_removes_it() {
    let story = on_a_slow_disk(WEB, "").await;
    let cx = story.cx();
    let cancelled = async {
        until("the candidate runs", || runs(&story, "web-r2@1")).await;
        cx.cut.cancel("bob").expect("it is not committed");
        cx.cut.due().await
    };
    tokio::select! {
        done = story.deploy_in(&cx, "my-app", "r2") => panic!("{done:?}"),
        _ = cancelled => {}
    }
    let locked = story.app().lock().expect("free");
    let error = deploy::cancelled(&cx, locked, "deploy r2", "bob").await;
    assert_eq!(error.exit(), Exit::Cancelled);
    r2_is_gone(&story, &error);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stage_ends_when_the_release_is_on_the_disk() {
    let story = on_a_slow_disk(WEB, "").await;
    tokio::select! {
        done = story.stage("r2") => panic!("it did not wait: {done:?}"),
        () = tokio::time::sleep(Duration::from_millis(100)) => {}
    }
    story.syncs(Syncs::Fails(EIO));
    until("nobody stages", || story.app().lock().is_ok()).await;
    story.recover().await.expect("r1 is current");
    let error = Story::fails(story.stage("r2").await, Exit::Failed);
    r2_is_gone(&story, &error);
    story.syncs(Syncs::AtOnce);
    story.stage("r2").await.expect("it can be used");
    assert_eq!((story.installed(), unsynced(&story)), (vec!["r1".into(), "r2".into()], 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_stopped_for_a_release_that_is_not_on_the_disk() {
    let rows = [("restart", "web-r1@1"), ("handover DEPLOY_SINGLETON=worker", "worker-r1@1")];
    for (strategy, old) in rows {
        let story = Story::new();
        for release in ["r1", "r2"] {
            let env = format!("export DEPLOY_STRATEGY={strategy}");
            story.publish(release, "web: serve\nworker: work\n", &env);
        }
        story.deploy("r1").await.expect("it is good");
        story.syncs(Syncs::Slowly);
        story.jobs();
        let cx = story.cx();
        let syncs = async {
            until("it waits for the disk", || waits_for_the_disk(&cx)).await;
            assert!(runs(&story, old), "{strategy}");
            story.syncs(Syncs::AtOnce);
        };
        let (done, ()) = tokio::join!(story.deploy_in(&cx, "my-app", "r2"), syncs);
        done.expect("it is good");
        let jobs = story.jobs();
        let at = |job: &str| jobs.iter().position(|done| done == job).expect(job);
        assert!(at("synced") < at(&format!("stop deploy-my-app-{old}")), "{strategy}: {jobs:?}");
    }
}
