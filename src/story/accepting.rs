//! Looks at processes for reports: a process that hangs may listen, and the kernel connects to it.

use super::Story;
use crate::health::Watch;
use crate::host::seams::Machine;
use std::sync::Arc;

const HANGS: &str = "web: serve does=accept-nothing\n";

/// The fault that `deploy status` reports of the current release.
async fn fault(story: &Story) -> Option<String> {
    let label = story.app().current().expect("readable").expect("a current release");
    let manifest = story.app().manifest(&label).expect("readable");
    let machine: Arc<dyn Machine> = story.machine.clone();
    Watch::new(&machine, &manifest).look().await.expect("a look").fault
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_accepts_nothing_is_reported() {
    let story = Story::serving_r1().await;
    assert_eq!(fault(&story).await, None);
    story.publish("r2", HANGS, "");
    story.deploy("r2").await.expect("it listens");
    let reported = "web.1: it has accepted no connection for 5 s, and 3 clients wait";
    assert_eq!(fault(&story).await.as_deref(), Some(reported));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_answers_requests_is_not_asked_whether_it_accepts() {
    let story = Story::new();
    story.publish("r1", HANGS, "export DEPLOY_HEALTH_PATH=/health");
    story.deploy("r1").await.expect("it answers");
    assert_eq!(fault(&story).await, None);
}

/// It may work on one request for some seconds: that is no reason to replace it.
#[tokio::test(flavor = "multi_thread")]
async fn a_deploy_takes_it_for_one_that_runs() {
    let story = Story::new();
    story.publish("r1", HANGS, "");
    story.deploy("r1").await.expect("it listens");
    let done = story.deploy("r1").await.expect("it runs");
    assert_eq!(done.message, "my-app r1 is already running");
}
