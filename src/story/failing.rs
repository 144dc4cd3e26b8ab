//! Deploys that fail: their exit codes, and the processes that run afterwards.

use super::{Story, WEB, texts};
use crate::context::Context;
use crate::host::journal::Line;
use model::error::Exit;
use model::reason::Reason;
use model::release::state::State;
use std::time::{Duration, Instant};

/// Deploys r2 over r1; r2 fails and r1 is not touched. Returns the error as text.
async fn leaves_r1_alone(procfile: &str, env: &str, exit: Exit) -> String {
    let story = Story::serving_r1().await;
    story.publish("r2", procfile, env);
    story.jobs();
    let error = Story::fails(story.deploy("r2").await, exit);
    let jobs = story.jobs();
    let touched = jobs.iter().any(|job| job.ends_with("deploy-my-app-web-r1@1"));
    assert!(!touched, "{jobs:?}");
    runs_r1_alone(&story);
    assert!(!story.machine.state().expects_ports);
    assert_eq!(story.last().exit, exit);
    let help = error.advice().unwrap_or_default();
    assert!(!help.is_empty(), "the error has help: {}", error.chain());
    format!("{}\n{help}", error.chain())
}

fn runs_r1_alone(story: &Story) {
    assert_eq!(story.current().as_deref(), Some("r1"));
    assert_eq!(story.runs(), ["web-r1@1"]);
    assert_eq!(story.served_by(), ["web-r1@1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_ends_at_once_is_12_and_nothing_was_touched() {
    let why = leaves_r1_alone("web: serve does=crash\n", "", Exit::Unhealthy).await;
    assert!(why.contains("my-app r2 failed, r1 runs on: web.1 did not stay up"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_never_listens_is_12_and_the_port_is_named() {
    let why = leaves_r1_alone("web: serve does=hang\n", "", Exit::Unhealthy).await;
    assert!(why.contains("was not healthy within 0.15 s"), "{why}");
    assert!(why.contains("it does not listen on port 29"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_listens_elsewhere_is_12_and_the_address_is_named() {
    let why = leaves_r1_alone("web: serve does=elsewhere\n", "", Exit::Unhealthy).await;
    assert!(why.contains("it listens on 0.0.0.0:8080, not on port 29"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_no_client_reaches_is_12() {
    let why = leaves_r1_alone("web: serve does=local\n", "", Exit::Unhealthy).await;
    assert!(why.contains("where no client from another machine reaches it"), "{why}");
    assert!(why.contains("DEPLOY_CLIENTS=local"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_probe_that_answers_500_is_12() {
    let env = "export DEPLOY_HEALTH_PATH=/up";
    let why = leaves_r1_alone("web: serve does=status-500\n", env, Exit::Unhealthy).await;
    assert!(why.contains("answered 500"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_ends_at_once_fails_the_release_too() {
    let why = leaves_r1_alone("web: serve\nworker: work does=crash\n", "", Exit::Unhealthy).await;
    assert!(why.contains("worker.1 did not stay up"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_that_fails_is_10_and_the_release_does_not_stay() {
    let why = leaves_r1_alone("web: serve\nbuild: make does=fail\n", "", Exit::Unusable).await;
    assert!(why.contains("exit status 1"), "{why}");
    let story = Story::new();
    story.publish("r1", "web: serve\nbuild: make does=fail\n", "");
    Story::fails(story.deploy("r1").await, Exit::Unusable);
    assert_eq!(story.installed(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_that_hangs_ends_at_its_timeout() {
    let env = "export DEPLOY_BUILD_TIMEOUT=50ms";
    let why = leaves_r1_alone("web: serve\nbuild: make does=hang\n", env, Exit::Unusable).await;
    assert!(why.contains("timeout") && why.contains("DEPLOY_BUILD_TIMEOUT"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_phase_that_fails_is_10_and_nothing_is_started() {
    let story = Story::serving_r1().await;
    story.publish("r2", "web: serve\nrelease: migrate does=fail\n", "");
    Story::fails(story.release("r2").await, Exit::Unusable);
    runs_r1_alone(&story);
    assert_eq!(story.state_of("r2"), State::Failed);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invalid_procfile_is_10() {
    let why = leaves_r1_alone("serve\n", "", Exit::Unusable).await;
    assert!(why.contains("Procfile"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invalid_env_is_10_and_its_line_is_named() {
    let why = leaves_r1_alone(WEB, "export A=1;export B=$(id)", Exit::Unusable).await;
    assert!(why.contains("line 2"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invalid_setting_is_10_and_named() {
    let why = leaves_r1_alone(WEB, "export DEPLOY_SETTLE=soon", Exit::Unusable).await;
    assert!(why.contains("DEPLOY_SETTLE"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_above_a_limit_is_10_and_the_limit_is_named() {
    let story = Story::with("DEPLOY_MAX_PROCESSES=2\n");
    story.publish("r1", WEB, "export DEPLOY_CONCURRENCY=web=3");
    let error = Story::fails(story.deploy("r1").await, Exit::Unusable);
    assert!(error.chain().contains("DEPLOY_MAX_PROCESSES"), "{}", error.chain());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_release_is_11() {
    let story = Story::serving_r1().await;
    Story::fails(story.deploy("r9").await, Exit::Source);
    runs_r1_alone(&story);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mistyped_app_leaves_nothing() {
    let story = Story::serving_r1().await;
    Story::fails(story.deploy_as("my-ap", "r1").await, Exit::Source);
    assert!(!story.named("my-ap").dir().exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_port_of_another_app_is_10_and_that_app_is_named() {
    let story = Story::serving_r1().await;
    story.publish_as("other", "r1", WEB, "");
    let error = Story::fails(story.deploy_as("other", "r1").await, Exit::Unusable);
    assert!(error.chain().contains("my-app"), "{}", error.chain());
    runs_r1_alone(&story);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_port_of_another_program_is_10_and_its_pid_is_named() {
    let story = Story::new();
    story.state().strangers.insert(5000);
    story.publish("r1", WEB, "");
    let error = Story::fails(story.deploy("r1").await, Exit::Unusable);
    assert!(error.chain().contains("stranger (pid 99) listens on it"), "{}", error.chain());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_privileged_port_is_refused_before_the_old_release_stops() {
    let env = "export PORT=80 DEPLOY_STRATEGY=restart";
    let why = leaves_r1_alone(WEB, env, Exit::Unusable).await;
    assert!(why.contains("bind port 80"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_started_after_the_callers_deadline() {
    let story = Story::serving_r1().await;
    story.publish("r2", WEB, "");
    let cx = Context { deadline: Some(Instant::now()), ..story.cx() };
    Story::fails(story.deploy_in(&cx, "my-app", "r2").await, Exit::Source);
    runs_r1_alone(&story);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_started_with_too_little_time_left() {
    let story = Story::serving_r1().await;
    story.publish("r2", WEB, "export DEPLOY_HEALTH_TIMEOUT=1h");
    let deadline = Some(Instant::now() + Duration::from_millis(900));
    let cx = Context { deadline, ..story.cx() };
    let error = Story::fails(story.deploy_in(&cx, "my-app", "r2").await, Exit::Source);
    assert!(error.advice().unwrap_or_default().contains("deploy it again"), "{error:?}");
    runs_r1_alone(&story);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_unit_that_cannot_be_started_is_12() {
    let story = Story::serving_r1().await;
    story.publish("r2", WEB, "");
    story.state().cannot_start = Some("web-r2".to_owned());
    Story::fails(story.deploy("r2").await, Exit::Unhealthy);
    runs_r1_alone(&story);
}

#[tokio::test(flavor = "multi_thread")]
async fn units_that_cannot_be_loaded_are_1_and_r1_serves() {
    let story = Story::serving_r1().await;
    story.publish("r2", WEB, "");
    story.state().adds_fail = true;
    story.state().reload_fails = true;
    Story::fails(story.deploy("r2").await, Exit::Failed);
    runs_r1_alone(&story);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_that_fails_after_the_commit_brings_r1_back() {
    let story = Story::serving_r1().await;
    story.publish("r2", WEB, "");
    story.state().reload_fails = true;
    Story::fails(story.deploy("r2").await, Exit::RolledBack);
    story.state().reload_fails = false;
    runs_r1_alone(&story);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_map_that_cannot_be_loaded_is_1_and_r1_serves() {
    let story = Story::serving_r1().await;
    story.publish("r2", WEB, "");
    story.state().nft_fails = true;
    let error = Story::fails(story.deploy("r2").await, Exit::Failed);
    assert!(error.chain().contains("my-app r2 was not deployed, r1 runs on"), "{}", error.chain());
    runs_r1_alone(&story);
    assert_ne!(story.state_of("r2"), State::Failed, "the release is not at fault");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_release_that_fails_is_12_and_nothing_is_current() {
    let story = Story::new();
    story.publish("r1", "web: serve does=crash\n", "");
    let error = Story::fails(story.deploy("r1").await, Exit::Unhealthy);
    assert!(error.chain().starts_with("my-app r1 failed: web.1"), "{}", error.chain());
    assert_eq!((story.current(), story.runs()), (None, Vec::new()));
    assert_eq!(story.served_by(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_release_that_fails_after_its_commit_is_taken_back() {
    let story = Story::new();
    story.publish("r1", "web: serve does=crash-when-current\n", "");
    Story::fails(story.deploy("r1").await, Exit::Unhealthy);
    assert_eq!((story.current(), story.runs()), (None, Vec::new()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_that_fails_after_the_switch_is_20_and_r1_serves_again() {
    let story = Story::serving_r1().await;
    story.publish("r2", "web: serve does=crash-when-current\n", "");
    let error = Story::fails(story.deploy("r2").await, Exit::RolledBack);
    assert!(error.chain().starts_with("my-app r2 failed, r1 runs again: web.1"), "{error:?}");
    runs_r1_alone(&story);
    assert_eq!(story.state_of("r2"), State::Failed);
    assert_eq!(story.state_of("r1"), State::Good);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_that_stops_answering_after_the_switch_is_20() {
    let story = Story::serving_r1().await;
    story.publish("r2", "web: serve does=hang-when-current\n", "");
    let error = Story::fails(story.deploy("r2").await, Exit::RolledBack);
    assert!(error.chain().contains("web.1 stopped being healthy"), "{}", error.chain());
    runs_r1_alone(&story);
}

#[tokio::test(flavor = "multi_thread")]
async fn with_the_strategy_restart_a_failure_brings_r1_up_again() {
    let story = Story::new();
    story.publish("r1", WEB, "export DEPLOY_STRATEGY=restart");
    story.publish("r2", "web: serve does=crash\n", "export DEPLOY_STRATEGY=restart");
    story.deploy("r1").await.expect("it is good");
    Story::fails(story.deploy("r2").await, Exit::RolledBack);
    runs_r1_alone(&story);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_singleton_that_fails_is_20_and_the_old_one_runs_again() {
    let story = Story::new();
    story.publish("r1", "web: serve\nworker: work\n", "export DEPLOY_SINGLETON=worker");
    story.publish("r2", "web: serve\nworker: work does=crash\n", "export DEPLOY_SINGLETON=worker");
    story.deploy("r1").await.expect("it is good");
    Story::fails(story.deploy("r2").await, Exit::RolledBack);
    assert_eq!(story.runs(), ["web-r1@1", "worker-r1@1"]);
    assert_eq!(story.served_by(), ["web-r1@1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn when_neither_comes_up_it_is_30_and_says_what_to_do() {
    let story = Story::new();
    story.publish("r1", WEB, "export DEPLOY_STRATEGY=restart");
    story.publish("r2", "web: serve does=crash\n", "export DEPLOY_STRATEGY=restart");
    story.deploy("r1").await.expect("it is good");
    story.state().cannot_start = Some("web-r1".to_owned());
    let error = Story::fails(story.deploy("r2").await, Exit::RollbackFailed);
    assert!(error.chain().contains("web.1 did not stay up"), "the first cause: {}", error.chain());
    assert!(error.advice().unwrap_or_default().contains("deploy start my-app"), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_does_not_mark_the_release_failed() {
    let story = Story::serving_r1().await;
    story.publish("r2", "web: serve does=crash-when-current\n", "");
    story.state().is_stopping = true;
    let error = Story::fails(story.deploy("r2").await, Exit::Failed);
    assert!(error.chain().contains("the instance is shutting down"), "{}", error.chain());
    assert_ne!(story.state_of("r2"), State::Failed);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_environment_of_the_app_is_2() {
    let story = Story::serving_r1().await;
    let url = story.url("my-app", "r1").to_string().replace("/production/", "/staging/");
    let url = url.parse().expect("a URL");
    let locked = story.app().lock().expect("free");
    let done =
        crate::deploy::deploy(&story.cx(), locked, &url, crate::deploy::RunRelease::No).await;
    let error = Story::fails(done, Exit::Usage);
    assert!(error.chain().contains("production"), "{}", error.chain());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_lines_of_a_failed_process_are_quoted() {
    let story = Story::serving_r1().await;
    story.publish("r2", "web: serve does=crash\n", "");
    story.state().log =
        vec![line("my-app.web.1", "Traceback: no module named flask"), line("somebody", "else")];
    let error = Story::fails(story.deploy("r2").await, Exit::Unhealthy);
    assert_eq!(error.log(), ["web.1: Traceback: no module named flask"]);
    assert_eq!(error.reason(), Reason::ProcessEnded);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_for_memory_is_named_although_systemd_has_restarted_the_process() {
    let story = Story::serving_r1().await;
    story.publish("r2", "web: serve does=crash\n", "export DEPLOY_MEMORY_MAX=64M");
    let unit = "deploy-my-app-web-r2@1.service: A process of this unit has been killed by the OOM \
                killer.";
    story.state().log = vec![Line { tells_of_memory: true, ..line("systemd", unit) }];
    let error = Story::fails(story.deploy("r2").await, Exit::Unhealthy);
    assert_eq!(error.reason(), Reason::OutOfMemory);
    assert!(error.chain().ends_with("it was killed for memory"), "{}", error.chain());
    assert!(error.advice().is_some_and(|help| help.contains("DEPLOY_MEMORY_MAX")));
}

fn line(identifier: &str, text: &str) -> Line {
    Line { identifier: identifier.to_owned(), text: text.to_owned(), tells_of_memory: false }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_release_is_tried_again_on_request() {
    let story = Story::serving_r1().await;
    story.publish("r2", WEB, "");
    story.state().cannot_start = Some("web-r2".to_owned());
    Story::fails(story.deploy("r2").await, Exit::Unhealthy);
    story.state().cannot_start = None;
    story.deploy("r2").await.expect("it is good now");
    assert_eq!(story.served_by(), ["web-r2@1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_that_leaves_the_release_is_10_and_leaves_no_files() {
    let story = Story::serving_r1().await;
    story.publish("r2", WEB, "");
    hostile(&story);
    let error = Story::fails(story.deploy("r2").await, Exit::Unusable);
    assert!(error.chain().contains("evil"), "{}", error.chain());
    runs_r1_alone(&story);
    assert_eq!(story.installed(), ["r1"]);
}

#[expect(clippy::disallowed_methods, reason = "a test's own directory")]
fn hostile(story: &Story) {
    let mut archive = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Symlink);
    header.set_size(0);
    archive.append_link(&mut header, "evil", "../../../../etc").expect("in memory");
    let bytes = archive.into_inner().expect("in memory");
    std::fs::write(story.place("my-app", "r2").join("source.tar"), bytes).expect("write");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_during_the_proof_leaves_r1_alone() {
    let story = Story::serving_r1().await;
    story.publish("r2", WEB, "export DEPLOY_PROVE=60s");
    let cx = story.cx();
    let proved = async {
        while !story.runs().contains(&"web-r2@1".to_owned()) {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        cx.cut.cancel("bob").expect("it is not committed");
        cx.cut.due().await
    };
    tokio::select! {
        done = story.deploy_in(&cx, "my-app", "r2") => panic!("{done:?}"),
        _ = proved => {}
    }
    let locked = story.app().lock().expect("free");
    let error = crate::deploy::cancelled(&cx, locked, "deploy r2", "bob").await;
    assert_eq!(error.exit(), Exit::Cancelled);
    runs_r1_alone(&story);
    assert!(texts(&cx.events).await.contains(&"prove".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_committed_release_is_not_cancelled() {
    let story = Story::new();
    story.publish("r1", WEB, "");
    let cx = story.cx();
    story.deploy_in(&cx, "my-app", "r1").await.expect("it is good");
    assert_eq!(cx.cut.cancel("bob"), Err("its release is committed"));
}
