//! Rollbacks, and releases that are taken back in their settle window.

use super::{Story, WEB};
use model::error::Exit;
use model::reason::Reason;
use model::release::state::State;
use std::time::Duration;

/// Deploys r1, then r2, both good; r2 serves.
async fn serving_r2() -> Story {
    let story = Story::serving_r1().await;
    story.publish("r2", WEB, "");
    story.deploy("r2").await.expect("it is good");
    story
}

#[expect(clippy::disallowed_methods, reason = "a test's own directory")]
fn without_its_source(story: &Story) {
    std::fs::remove_dir_all(story.dir.path().join("releases")).expect("removed");
}

#[tokio::test(flavor = "multi_thread")]
async fn goes_to_the_previous_release_without_any_source() {
    let story = serving_r2().await;
    without_its_source(&story);
    let done = story.roll_back(None).await.expect("r1 was good");
    assert!(done.message.starts_with("rolled back to my-app r1"), "{}", done.message);
    assert_eq!(
        (story.current().as_deref(), story.served_by()),
        (Some("r1"), vec!["web-r1@1".into()])
    );
    assert_eq!(story.runs(), ["web-r1@1"]);
    let last = story.last();
    assert_eq!((last.action.as_str(), last.after.as_deref()), ("rollback", Some("r1")));
    assert_eq!(story.state_of("r2"), State::Good, "the release is not at fault");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_new_release_may_be_deployed_again() {
    let story = serving_r2().await;
    story.roll_back(None).await.expect("r1 was good");
    story.deploy("r2").await.expect("it is good");
    assert_eq!(story.served_by(), ["web-r2@1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn goes_to_the_release_that_is_named() {
    let story = serving_r2().await;
    story.publish("r3", WEB, "");
    story.deploy("r3").await.expect("it is good");
    story.roll_back(Some("r1")).await.expect("r1 was good");
    assert_eq!(story.served_by(), ["web-r1@1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn needs_a_release_to_go_back_to() {
    let story = Story::serving_r1().await;
    Story::fails(story.roll_back(None).await, Exit::Usage);
    assert_eq!(story.served_by(), ["web-r1@1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_release_is_2_and_the_installed_ones_are_named() {
    let story = serving_r2().await;
    let error = Story::fails(story.roll_back(Some("r9")).await, Exit::Usage);
    let said = format!("{} {}", error.chain(), error.advice().unwrap_or_default());
    assert!(said.contains("r1") || said.contains("deploy releases"), "{said}");
    assert_eq!(story.served_by(), ["web-r2@1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn does_not_go_back_to_a_failed_release() {
    let story = serving_r2().await;
    story.publish("r3", "web: serve does=crash\n", "");
    Story::fails(story.deploy("r3").await, Exit::Unhealthy);
    Story::fails(story.roll_back(Some("r3")).await, Exit::Usage);
    story.roll_back(None).await.expect("r1 was good");
    assert_eq!(story.served_by(), ["web-r1@1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_to_the_current_release_starts_nothing() {
    let story = serving_r2().await;
    story.jobs();
    let done = story.roll_back(Some("r2")).await.expect("it runs");
    assert_eq!(done.message, "my-app r2 is already running");
    assert_eq!(story.jobs(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_that_fails_leaves_the_current_release_alone() {
    let story = serving_r2().await;
    story.state().cannot_start = Some("web-r1".to_owned());
    Story::fails(story.roll_back(None).await, Exit::Unhealthy);
    assert_eq!(
        (story.current().as_deref(), story.served_by()),
        (Some("r2"), vec!["web-r2@1".into()])
    );
    assert_eq!(story.state_of("r1"), State::Good, "it was good before");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_is_taken_back_at_once_in_its_settle_window() {
    let story = Story::serving_r1().await;
    story.publish("r2", WEB, "export DEPLOY_SETTLE=60s");
    let cx = story.cx();
    let taken_back = async {
        while story.current().as_deref() != Some("r2") || cx.rollback_window.until().is_none() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let to = cx.rollback_window.take_back("bob");
        assert_eq!(to.map(|label| label.to_string()).as_deref(), Some("r1"));
    };
    let (done, ()) = tokio::join!(story.deploy_in(&cx, "my-app", "r2"), taken_back);
    let error = Story::fails(done, Exit::RolledBack);
    assert!(error.chain().contains("bob"), "{}", error.chain());
    // Nobody found fault with it.
    assert_eq!((error.reason(), story.state_of("r2")), (Reason::TakenBack, State::TakenBack));
    assert_eq!(
        (story.current().as_deref(), story.served_by()),
        (Some("r1"), vec!["web-r1@1".into()])
    );
    assert_eq!(story.runs(), ["web-r1@1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn does_not_go_back_to_a_release_of_the_same_content() {
    let story = serving_r2().await;
    story.publish("r3", WEB, "export A=1");
    story.deploy("r3").await.expect("it is good");
    story.roll_back(None).await.expect("r2 was good");
    assert_eq!(story.served_by(), ["web-r2@1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_rollback_the_way_forward_is_named() {
    let story = Story::serving_r1().await;
    story.publish("r2", WEB, "");
    story.deploy("r2").await.expect("r2 is good");
    story.roll_back(None).await.expect("r1 is good");
    let error = Story::fails(story.roll_back(None).await, Exit::Usage);
    let help = error.advice().unwrap_or_default();
    assert!(help.contains("`deploy rollback my-app --to r2`"), "{help}");
}
