//! The release phase with an id: a request may be repeated, and runs it once.

use super::Story;
use model::error::Exit;
use model::reason::Reason;
use std::time::Duration;

impl Story {
    /// How often the release phase was begun.
    fn phases(&self) -> usize {
        self.state().runs.iter().filter(|run| run.contains("-release:")).count()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_request_runs_the_release_phase_once() {
    let story = Story::serving_r1().await;
    story.publish("r2", "web: serve does=crash\nrelease: migrate\n", "");
    for _ in 0..2 {
        // The phase succeeds, and the release does not become healthy.
        Story::fails(story.release_once("r2", "5b1f03c2").await, Exit::Unhealthy);
        assert_eq!(story.phases(), 1);
    }
    Story::fails(story.release_once("r2", "another").await, Exit::Unhealthy);
    assert_eq!(story.phases(), 2);
    Story::fails(story.release("r2").await, Exit::Unhealthy);
    assert_eq!(story.phases(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_phase_that_failed_fails_again_and_is_not_repeated() {
    let story = Story::serving_r1().await;
    story.publish("r2", "web: serve\nrelease: migrate does=fail\n", "");
    for words in ["exit status 1", "it failed before, for 5b1f03c2"] {
        let error = Story::fails(story.release_once("r2", "5b1f03c2").await, Exit::Unusable);
        assert_eq!(error.reason(), Reason::ReleasePhaseFailed);
        assert!(error.chain().contains(words), "{}", error.chain());
        assert_eq!((story.phases(), story.served_by()), (1, vec!["web-r1@1".to_owned()]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_phase_that_was_interrupted_is_not_repeated() {
    let mut story = Story::serving_r1().await;
    story.publish("r2", "web: serve\nrelease: migrate does=hang\n", "");
    let begun = async {
        while story.phases() == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::select! {
        done = story.release_once("r2", "5b1f03c2") => panic!("it ended: {done:?}"),
        () = begun => {}
    }
    story.starts_anew();
    Story::fails(story.recover().await, Exit::Failed);
    let error = Story::fails(story.release_once("r2", "5b1f03c2").await, Exit::Unusable);
    assert!(error.chain().contains("it was interrupted before"), "{}", error.chain());
    assert_eq!((story.phases(), story.served_by()), (1, vec!["web-r1@1".to_owned()]));
}
