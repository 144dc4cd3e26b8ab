//! Deploys that succeed.

use super::{Story, WEB, texts};
use crate::context::Context;
use model::error::Exit;
use model::release::state::State;
use std::fs;
use std::time::{Duration, Instant};

const TWO: &str = "web: serve\nworker: work\n";

#[tokio::test(flavor = "multi_thread")]
async fn a_first_release_is_started_and_gets_the_traffic() {
    let story = Story::new();
    story.publish("r1", WEB, "");
    let done = story.deploy("r1").await.expect("it is good");
    assert!(done.message.starts_with("deployed my-app r1 (production) in "), "{}", done.message);
    assert_eq!(story.current().as_deref(), Some("r1"));
    assert_eq!(story.runs(), ["web-r1@1"]);
    assert_eq!(story.served_by(), ["web-r1@1"]);
    assert_eq!(story.state_of("r1"), State::Good);
    let last = story.last();
    assert_eq!((last.action.as_str(), last.exit), ("deploy", Exit::Done));
    assert_eq!((last.before, last.after.as_deref()), (None, Some("r1")));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_release_is_proved_beside_it_then_gets_the_traffic_then_the_old_one_stops() {
    let story = Story::serving_r1().await;
    story.publish("r2", WEB, "");
    story.jobs();
    story.deploy("r2").await.expect("it is good");
    let jobs = story.jobs();
    let at = |job: &str| jobs.iter().rposition(|done| done == job).expect(job);
    let started = at("start deploy-my-app-web-r2@1");
    let stopped = at("stop deploy-my-app-web-r1@1");
    assert!(jobs[started..stopped].contains(&"ports".to_owned()), "{jobs:?}");
    let others = |job: &&String| !["ports", "sync", "synced"].contains(&job.as_str());
    let before: Vec<_> = jobs[..started].iter().filter(others).collect();
    assert_eq!(before, ["units"], "no reload: {jobs:?}");
    assert_eq!(
        (story.runs(), story.served_by()),
        (vec!["web-r2@1".into()], vec!["web-r2@1".into()])
    );
    assert_eq!(story.installed(), ["r1", "r2"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn systemd_reloads_where_it_does_not_find_the_new_units() {
    let story = Story::serving_r1().await;
    story.publish("r2", WEB, "");
    story.state().adds_fail = true;
    story.jobs();
    story.deploy("r2").await.expect("it is good");
    let jobs = story.jobs();
    let at = |job: &str| jobs.iter().position(|done| done == job).expect(job);
    assert!(at("units") < at("reload"), "{jobs:?}");
    assert!(at("reload") < at("start deploy-my-app-web-r2@1"), "{jobs:?}");
    assert_eq!(story.served_by(), ["web-r2@1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_steps_are_reported_in_order() {
    let story = Story::new();
    story.publish("r1", "web: serve\nbuild: make\n", "");
    let cx = story.cx();
    story.deploy_in(&cx, "my-app", "r1").await.expect("it is good");
    let steps = ["resolve", "stage", "build", "prove", "commit", "converge", "settle", "finish"];
    assert_eq!(texts(&cx.events).await, steps);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_release_again_starts_nothing() {
    let story = Story::serving_r1().await;
    story.jobs();
    let done = story.deploy("r1").await.expect("it runs");
    assert_eq!(done.message, "my-app r1 is already running");
    assert_eq!(story.jobs(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_release_whose_process_is_down_is_started_again() {
    let story = Story::serving_r1().await;
    story.kill("web-r1");
    assert_eq!(story.served_by(), [""; 0]);
    story.deploy("r1").await.expect("it is good");
    assert_eq!(story.served_by(), ["web-r1@1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_bytes_under_another_name_start_nothing() {
    let story = Story::serving_r1().await;
    let (from, to) = (story.place("my-app", "r1"), story.place("my-app", "again"));
    copy(&from, &to);
    let done = story.deploy("again").await.expect("it runs");
    assert_eq!(done.message, "my-app again is the same content as r1, which is already running");
    assert_eq!(story.runs(), ["web-r1@1"]);
}

#[expect(clippy::disallowed_methods, reason = "a test's own directory")]
fn copy(from: &std::path::Path, to: &std::path::Path) {
    fs::create_dir_all(to).expect("a directory");
    for name in ["source.tar", "env"] {
        fs::copy(from.join(name), to.join(name)).expect("copy");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_env_is_a_release_of_its_own() {
    let story = Story::serving_r1().await;
    story.publish("r1", WEB, "export GREETING=hello");
    story.deploy("r1").await.expect("it is good");
    assert_eq!(story.current().as_deref(), Some("r1.2"));
    assert_eq!(story.served_by(), ["web-r1.2@1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn more_processes_of_a_type_all_get_traffic() {
    let story = Story::serving_r1().await;
    story.publish("r2", WEB, "export DEPLOY_CONCURRENCY=web=3");
    story.deploy("r2").await.expect("it is good");
    assert_eq!(story.runs(), ["web-r2@1", "web-r2@2", "web-r2@3"]);
    assert_eq!(story.served_by(), ["web-r2@1", "web-r2@2", "web-r2@3"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn fewer_processes_of_a_type_leave_none_behind() {
    let story = Story::new();
    story.publish("r1", TWO, "export DEPLOY_CONCURRENCY=web=2,worker=3");
    story.publish("r2", TWO, "export DEPLOY_CONCURRENCY=web=1,worker=0");
    story.deploy("r1").await.expect("it is good");
    story.deploy("r2").await.expect("it is good");
    assert_eq!(story.runs(), ["web-r2@1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_type_that_has_another_name_replaces_the_old_one() {
    let story = Story::new();
    story.publish("r1", "web: serve\nworker: work\n", "");
    story.publish("r2", "web: serve\njobs: work\n", "");
    story.deploy("r1").await.expect("it is good");
    story.deploy("r2").await.expect("it is good");
    assert_eq!(story.runs(), ["jobs-r2@1", "web-r2@1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_port_replaces_the_old_one() {
    let story = Story::serving_r1().await;
    story.publish("r2", WEB, "export PORT=5001");
    story.deploy("r2").await.expect("it is good");
    assert_eq!(story.machine.reached_by(5001), ["deploy-my-app-web-r2@1"]);
    assert_eq!(story.machine.reached_by(5000), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_of_a_singleton_never_run() {
    let story = Story::new();
    for release in ["r1", "r2"] {
        story.publish(release, TWO, "export DEPLOY_SINGLETON=worker");
    }
    story.deploy("r1").await.expect("it is good");
    story.jobs();
    story.deploy("r2").await.expect("it is good");
    let jobs = story.jobs();
    let at = |job: &str| jobs.iter().position(|done| done == job).expect(job);
    let web = (at("start deploy-my-app-web-r2@1"), at("stop deploy-my-app-web-r1@1"));
    let worker = (at("start deploy-my-app-worker-r2@1"), at("stop deploy-my-app-worker-r1@1"));
    assert!(web.0 < web.1, "web is handed over: {jobs:?}");
    assert!(worker.1 < worker.0, "the old worker ends first: {jobs:?}");
    assert!(web.0 < worker.1, "and not before the rest is healthy: {jobs:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn with_the_strategy_restart_the_old_release_stops_first() {
    let story = Story::new();
    for release in ["r1", "r2"] {
        story.publish(release, WEB, "export DEPLOY_STRATEGY=restart");
    }
    story.deploy("r1").await.expect("it is good");
    assert_eq!(story.served_by(), ["web-r1@1"]);
    story.jobs();
    story.deploy("r2").await.expect("it is good");
    let jobs = story.jobs();
    let at = |job: &str| jobs.iter().position(|done| done == job).expect(job);
    assert!(at("stop deploy-my-app-web-r1@1") < at("start deploy-my-app-web-r2@1"), "{jobs:?}");
    assert_eq!(story.served_by(), ["web-r2@1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_nftables_it_is_a_restart_with_a_warning() {
    let story = Story::new();
    story.state().no_nft = true;
    story.publish("r1", WEB, "");
    let cx = story.cx();
    story.deploy_in(&cx, "my-app", "r1").await.expect("it is good");
    let told = texts(&cx.events).await;
    assert!(told.iter().any(|text| text.starts_with("no handover, but a restart")), "{told:?}");
    assert_eq!(story.served_by(), ["web-r1@1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_build_runs_once_and_before_anything_is_started() {
    let story = Story::new();
    story.publish("r1", "web: serve\nbuild: make it\n", "");
    story.deploy("r1").await.expect("it is good");
    story.deploy("r1").await.expect("it runs");
    let runs = story.state().runs.clone();
    assert_eq!(runs.len(), 1, "{runs:?}");
    assert!(runs[0].starts_with("deploy-my-app-build:r1: ") && runs[0].contains("make it"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_release_phase_runs_on_request() {
    let story = Story::new();
    let procfile = "web: serve\nrelease: migrate\n";
    story.publish("r1", procfile, "");
    let cx = story.cx();
    story.deploy_in(&cx, "my-app", "r1").await.expect("it is good");
    assert_eq!(story.state().runs.len(), 0);
    assert!(texts(&cx.events).await.contains(&"release".to_owned()), "the phase is a step");
    story.publish("r2", procfile, "");
    story.release("r2").await.expect("it is good");
    assert_eq!(story.state().runs.len(), 1);
    story.publish("r3", procfile, "export DEPLOY_RELEASE_PHASE=always");
    story.deploy("r3").await.expect("it is good");
    assert_eq!(story.state().runs.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn old_releases_are_removed_but_not_the_target_of_a_rollback() {
    let story = Story::with("DEPLOY_KEEP_RELEASES=1\n");
    for release in ["r1", "r2", "r3", "r4"] {
        story.publish(release, WEB, "");
        story.deploy(release).await.expect("it is good");
    }
    assert_eq!(story.installed(), ["r3", "r4"]);
    let story = Story::with("DEPLOY_KEEP_RELEASES=2\n");
    for release in ["r1", "r2", "r3", "r4"] {
        story.publish(release, WEB, "");
        story.deploy(release).await.expect("it is good");
    }
    assert_eq!(story.installed(), ["r3", "r4"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_staged_release_starts_nothing_and_is_not_fetched_again() {
    let story = Story::serving_r1().await;
    story.publish("r2", WEB, "");
    story.stage("r2").await.expect("it can be used");
    assert_eq!((story.current().as_deref(), story.runs()), (Some("r1"), vec!["web-r1@1".into()]));
    assert_eq!(story.state_of("r2"), State::Staged);
    let cx = story.cx();
    story.deploy_in(&cx, "my-app", "r2").await.expect("it is good");
    assert!(!texts(&cx.events).await.contains(&"stage".to_owned()));
    assert_eq!(story.served_by(), ["web-r2@1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_pointer_names_the_release() {
    let story = Story::new();
    story.publish("r7", WEB, "");
    point(&story, "r7\n");
    story.deploy("current").await.expect("it is good");
    assert_eq!(story.current().as_deref(), Some("r7"));
}

#[expect(clippy::disallowed_methods, reason = "a test's own directory")]
fn point(story: &Story, to: &str) {
    fs::write(story.place("my-app", "current"), to).expect("write");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_apps_are_deployed_at_once_and_share_nothing() {
    let story = Story::new();
    story.publish("r1", WEB, "");
    story.publish_as("other", "r1", WEB, "export PORT=5001");
    let (one, other) = tokio::join!(story.deploy("r1"), story.deploy_as("other", "r1"));
    one.and(other).expect("both are good");
    assert_eq!(story.machine.reached_by(5000), ["deploy-my-app-web-r1@1"]);
    assert_eq!(story.machine.reached_by(5001), ["deploy-other-web-r1@1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_old_release_runs_as_long_as_a_client_is_connected_to_it() {
    let story = Story::serving_r1().await;
    let private = story.app().snapshot().expect("readable").releases[0].plan.private_ports[0];
    story.state().connections.insert(private, 1);
    story.publish("r2", WEB, "export DEPLOY_DRAIN_TIMEOUT=400ms");
    let begin = Instant::now();
    story.deploy("r2").await.expect("it is good");
    assert!(begin.elapsed() >= Duration::from_millis(400), "{:?}", begin.elapsed());
    assert_eq!(story.runs(), ["web-r2@1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_web_process_gets_its_time() {
    let story = Story::with("DEPLOY_HEALTH_TIMEOUT=5s\n");
    story.publish("r1", "web: serve does=late\n", "");
    story.deploy("r1").await.expect("it is good");
    assert_eq!(story.served_by(), ["web-r1@1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_history_records_the_caller_and_the_release() {
    let story = Story::serving_r1().await;
    story.publish("r2", WEB, "");
    story.deploy("r2").await.expect("it is good");
    let last = story.last();
    assert_eq!((last.who.as_str(), last.id.as_str()), ("ann", "000000000002"));
    assert_eq!((last.before.as_deref(), last.after.as_deref()), (Some("r1"), Some("r2")));
    assert!(last.url.is_some_and(|url| url.ends_with("/my-app/production/r2")));
    let parts: Vec<_> = last.timings.parts.iter().map(|part| part.part.as_str()).collect();
    assert!(parts.contains(&"stage") && parts.contains(&"prove"), "{parts:?}");
}

/// A deploy with a deadline works on the same app and release as one without.
#[tokio::test(flavor = "multi_thread")]
async fn a_distant_deadline_does_not_matter() {
    let story = Story::new();
    story.publish("r1", WEB, "");
    let deadline = Some(Instant::now() + Duration::from_secs(60));
    let cx = Context { deadline, ..story.cx() };
    story.deploy_in(&cx, "my-app", "r1").await.expect("it is good");
}

/// Their units would have one name: `deploy-my-app-b-web-r1@1`.
#[tokio::test(flavor = "multi_thread")]
async fn apps_whose_units_would_have_one_name_run_side_by_side() {
    let story = Story::new();
    story.publish_as("my-app-b", "r1", WEB, "export PORT=5001");
    story.publish("r1", "web: serve\nb-web: work\n", "");
    story.deploy_as("my-app-b", "r1").await.expect("it is good");
    let cx = story.cx();
    story.deploy_in(&cx, "my-app", "r1").await.expect("it is good");
    let runs = ["b-web-r1.2@1", "b-web-r1@1", "web-r1.2@1"];
    assert_eq!(story.runs(), runs);
    assert_eq!(story.machine.reached_by(5001), ["deploy-my-app-b-web-r1@1"]);
    assert_eq!(story.served_by(), ["web-r1.2@1"]);
    story.deploy("r1").await.expect("it runs");
    assert_eq!(story.runs(), runs);
}
