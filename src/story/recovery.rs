//! Recovery after the daemon is killed or the machine boots, from each recorded state.

use super::{Story, WEB};
use crate::agent::processes::ProcessAction;
use model::error::Exit;
use model::reason::Reason;
use model::release::state::State;

/// r1 serves, and the daemon is killed in a deploy of r2 when it requests this job.
async fn killed_at(job: &str, procfile: &str) -> Story {
    let mut story = Story::serving_r1().await;
    story.publish("r2", procfile, "");
    story.dies_at(job, "r2").await;
    story
}

fn runs_alone(story: &Story, release: &str) {
    assert_eq!(story.current().as_deref(), Some(release));
    assert_eq!(story.runs(), [format!("web-{release}@1")]);
    assert_eq!(story.served_by(), [format!("web-{release}@1")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn running_processes_are_left_alone() {
    let mut story = Story::serving_r1().await;
    story.starts_anew();
    story.jobs();
    let done = story.recover().await.expect("nothing is wrong");
    assert_eq!(done.message, "my-app: release r1 is current");
    let jobs = story.jobs();
    assert!(!jobs.iter().any(|job| job.contains("@")), "{jobs:?}");
    runs_alone(&story, "r1");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_without_a_current_release_starts_nothing() {
    let story = Story::new();
    story.publish("r1", WEB, "");
    story.stage("r1").await.expect("it can be used");
    story.recover().await.expect("nothing is wrong");
    assert_eq!((story.current(), story.runs()), (None, Vec::new()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_boot_starts_the_current_release() {
    let mut story = Story::serving_r1().await;
    story.reboot();
    story.starts_anew();
    assert_eq!(story.runs(), [""; 0]);
    story.recover().await.expect("it comes up");
    runs_alone(&story, "r1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deploy_that_was_staging_is_undone() {
    let mut story = Story::serving_r1().await;
    story.publish("r2", WEB, "");
    story.dies_at("units", "r2").await;
    let error = Story::fails(story.recover().await, Exit::Failed);
    assert!(error.chain().contains("release r1 is current, as before"), "{}", error.chain());
    runs_alone(&story, "r1");
    let left = std::fs::read_dir(story.app().dir().join("releases")).expect("readable");
    let names: Vec<_> = left.flatten().map(|entry| entry.file_name()).collect();
    assert!(names.iter().all(|name| !name.to_string_lossy().starts_with('.')), "{names:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_candidate_that_was_not_committed_is_stopped() {
    let story = killed_at("start deploy-my-app-web-r2@1", WEB).await;
    Story::fails(story.recover().await, Exit::Failed);
    runs_alone(&story, "r1");
    let last = story.last();
    assert_eq!(last.url.as_deref().map(|url| url.ends_with("/r2")), Some(true), "{last:?}");
    assert_eq!(last.exit, Exit::Failed);
    assert_eq!(last.after.as_deref(), Some("r1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_release_that_was_cut_off_can_be_deployed_afterwards() {
    let story = killed_at("start deploy-my-app-web-r2@1", WEB).await;
    let _ = story.recover().await;
    story.deploy("r2").await.expect("it is good");
    runs_alone(&story, "r2");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_committed_release_is_watched_to_the_end_and_the_old_one_stops() {
    let story = killed_at("stop deploy-my-app-web-r1@1", WEB).await;
    assert_eq!(story.current().as_deref(), Some("r2"));
    story.recover().await.expect("it is good");
    runs_alone(&story, "r2");
    assert_eq!(story.state_of("r2"), State::Good);
    assert_eq!((story.last().exit, story.last().after.as_deref()), (Exit::Done, Some("r2")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_committed_release_that_fails_goes_back_to_r1() {
    let mut story = Story::serving_r1().await;
    story.publish("r2", "web: serve\n", "export DEPLOY_SETTLE=60s");
    let settling = async {
        while story.current().as_deref() != Some("r2") {
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
    };
    tokio::select! {
        done = story.deploy("r2") => panic!("{done:?}"),
        () = settling => {}
    }
    story.starts_anew();
    story.kill("web-r2");
    story.state().cannot_start = Some("web-r2".to_owned());
    Story::fails(story.recover().await, Exit::RolledBack);
    runs_alone(&story, "r1");
    assert_eq!(story.state_of("r2"), State::Failed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_boot_in_the_settle_window_goes_on_with_the_new_release() {
    let mut story = killed_at("stop deploy-my-app-web-r1@1", WEB).await;
    story.reboot();
    story.starts_anew();
    story.recover().await.expect("it is good");
    runs_alone(&story, "r2");
}

/// The daemon is killed in this work on processes when it requests this job.
async fn killed_in(story: &mut Story, action: ProcessAction, job: &str) {
    story.state().dies_at = Some(job.to_owned());
    tokio::select! {
        done = story.perform(action, None) => panic!("it lived: {done:?}"),
        () = story.machine.death() => {}
    }
    story.starts_anew();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_that_was_interrupted_is_in_the_history() {
    let mut story = Story::serving_r1().await;
    killed_in(&mut story, ProcessAction::Restart, "start deploy-my-app-web-r1@2").await;
    assert_eq!(story.last().action, "deploy", "nobody has recorded it yet");
    let error = Story::fails(story.recover().await, Exit::Failed);
    assert_eq!(error.reason(), Reason::Interrupted);
    runs_alone(&story, "r1");
    let last = story.last();
    assert_eq!((last.action.as_str(), last.who.as_str()), ("restart", "ann"));
    assert_eq!((last.exit, last.reason), (Exit::Failed, Some(Reason::Interrupted)));
    let message = "restart was interrupted: deployd or the instance ended: release r1 is current, \
                   web.1 runs";
    assert_eq!(last.message, message);
    assert_eq!((last.before.as_deref(), last.after.as_deref()), (Some("r1"), Some("r1")));
    // It is there once.
    story.starts_anew();
    story.recover().await.expect("nothing is wrong");
    let history = story.app().history(10).expect("readable");
    assert_eq!(history.iter().filter(|entry| entry.action == "restart").count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_that_was_interrupted_is_completed_and_in_the_history() {
    let mut story = Story::serving_r1().await;
    killed_in(&mut story, ProcessAction::Stop, "stop deploy-my-app-web-r1@1").await;
    Story::fails(story.recover().await, Exit::Failed);
    assert_eq!(story.runs(), [""; 0]);
    let last = story.last();
    assert_eq!(last.action, "stop");
    assert!(last.message.ends_with("release r1 is current, web.1 stays stopped"), "{last:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_that_ends_or_was_a_typing_error_leaves_no_trace_for_recovery() {
    let story = Story::serving_r1().await;
    story.restart(None).await.expect("it is good");
    assert_eq!((story.last().action.as_str(), story.last().exit), ("restart", Exit::Done));
    assert_eq!(story.app().under_way(), None);
    story.restart(Some("wep")).await.expect_err("there is none");
    assert_eq!(story.app().under_way(), None);
    let done = story.recover().await.expect("nothing is wrong");
    assert_eq!(done.message, "my-app: release r1 is current");
}

#[tokio::test(flavor = "multi_thread")]
async fn with_the_strategy_restart_r1_comes_up_again() {
    let mut story = Story::new();
    for release in ["r1", "r2"] {
        story.publish(release, WEB, "export DEPLOY_STRATEGY=restart");
    }
    story.deploy("r1").await.expect("it is good");
    story.dies_at("start deploy-my-app-web-r2@1", "r2").await;
    assert_eq!(story.runs(), [""; 0], "r1 was stopped for it");
    let _ = story.recover().await;
    runs_alone(&story, "r1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_that_cannot_be_started_is_1_and_stays_current() {
    let mut story = Story::serving_r1().await;
    story.reboot();
    story.starts_anew();
    story.state().cannot_start = Some("web-r1".to_owned());
    Story::fails(story.recover().await, Exit::Failed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_death_in_recovery_changes_nothing() {
    let mut story = killed_at("stop deploy-my-app-web-r1@1", WEB).await;
    story.state().dies_at = Some("stop deploy-my-app-web-r1@1".to_owned());
    tokio::select! {
        done = story.recover() => panic!("it lived: {done:?}"),
        () = story.machine.death() => {}
    }
    story.starts_anew();
    story.recover().await.expect("it is good");
    runs_alone(&story, "r2");
}
