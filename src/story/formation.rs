//! Restarts and changes of the number of processes: clients notice neither.

use super::{Story, WEB};
use model::error::Exit;
use model::reason::Reason;

/// Asserts that no process was stopped or restarted while clients reached it, and that they
/// always reached one.
fn nobody_noticed(story: &Story) {
    let state = story.state();
    for (job, reached) in &state.reached {
        let (verb, unit) = job.split_once(' ').unwrap_or((job, ""));
        assert!(!reached.is_empty(), "nobody served at {job}: {:?}", state.reached);
        if verb != "start" {
            assert!(!reached.iter().any(|one| one == unit), "{job} while it served");
        }
    }
}

async fn serving(procfile: &str, env: &str) -> Story {
    let story = Story::new();
    story.publish("r1", procfile, env);
    story.deploy("r1").await.expect("it is good");
    story.state().reached.clear();
    story.jobs();
    story
}

fn starts(story: &Story, process: &str) -> u32 {
    story.state().starts_of(&format!("deploy-my-app-{process}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_only_process_restarts_beside_another_one() {
    let story = serving(WEB, "").await;
    let said = story.restart(None).await.expect("it restarts");
    assert_eq!(said, "restarted my-app web.1");
    nobody_noticed(&story);
    assert_eq!(story.runs(), ["web-r1@1"]);
    assert_eq!((story.served_by(), starts(&story, "web-r1@1")), (vec!["web-r1@1".to_owned()], 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn several_processes_restart_one_after_the_other() {
    let story = serving(WEB, "export DEPLOY_CONCURRENCY=web=3").await;
    story.restart(None).await.expect("they restart");
    nobody_noticed(&story);
    assert_eq!(story.runs(), ["web-r1@1", "web-r1@2", "web-r1@3"]);
    assert_eq!(story.served_by().len(), 3);
    assert!(["web-r1@1", "web-r1@2", "web-r1@3"].iter().all(|one| starts(&story, one) == 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_several_processes_restarts_alone() {
    let story = serving(WEB, "export DEPLOY_CONCURRENCY=web=2").await;
    story.restart(Some("web.2")).await.expect("it restarts");
    nobody_noticed(&story);
    assert_eq!((starts(&story, "web-r1@1"), starts(&story, "web-r1@2")), (1, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_that_cannot_become_healthy_stops_nothing() {
    let story = serving(WEB, "").await;
    story.state().cannot_start = Some("web-r1@2".to_owned());
    let error = story.restart(None).await.expect_err("nothing can start");
    assert_eq!((error.exit(), error.reason()), (Exit::Unhealthy, Reason::StartFailed));
    assert!(error.chain().contains("it runs on"), "{}", error.chain());
    nobody_noticed(&story);
    assert_eq!((story.runs(), starts(&story, "web-r1@1")), (vec!["web-r1@1".to_owned()], 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_does_not_come_up_again_gets_no_clients() {
    let story = serving(WEB, "export DEPLOY_CONCURRENCY=web=2").await;
    story.state().cannot_start = Some("web-r1@1".to_owned());
    let error = story.restart(None).await.expect_err("one cannot start");
    assert!(error.chain().contains("the others serve"), "{}", error.chain());
    assert_eq!((story.served_by(), starts(&story, "web-r1@2")), (vec!["web-r1@2".to_owned()], 1));
    story.state().cannot_start = None;
    story.restart(None).await.expect("now it can");
    assert_eq!(story.served_by().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_that_the_end_of_the_daemon_cut_off_is_taken_back() {
    for job in ["start deploy-my-app-web-r1@2", "stop deploy-my-app-web-r1@1"] {
        let mut story = serving(WEB, "").await;
        story.state().dies_at = Some(job.to_owned());
        tokio::select! {
            done = story.restart(None) => panic!("{done:?}"),
            () = story.machine.death() => {}
        }
        story.starts_anew();
        Story::fails(story.recover().await, Exit::Failed);
        let manifest = story.app().manifest(&"r1".parse().expect("a label")).expect("a manifest");
        assert_eq!((manifest.plan.private_ports.len(), manifest.rolling), (1, None));
        assert_eq!(
            (story.runs(), story.served_by()),
            (vec!["web-r1@1".into()], vec!["web-r1@1".into()])
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_applies_the_settings_of_agent_env() {
    let mut story = serving(WEB, "").await;
    story.configure("DEPLOY_MEMORY_MAX=64M\nPORT=6000\n");
    let said = story.restart(None).await.expect("it restarts");
    assert!(said.ends_with("with the settings that agent.env has now"), "{said}");
    nobody_noticed(&story);
    let manifest = story.app().manifest(&"r1".parse().expect("a label")).expect("a manifest");
    assert_eq!((manifest.plan.memory_max, manifest.plan.port.get()), (Some(64 << 20), 5000));
    let said = story.restart(None).await.expect("it restarts");
    assert_eq!(said, "restarted my-app web.1", "they are applied");
}

#[tokio::test(flavor = "multi_thread")]
async fn more_processes_get_clients_when_they_are_healthy_and_fewer_when_they_have_none() {
    let story = serving("web: serve\nworker: work\n", "").await;
    let said = story.scale("web", 3).await.expect("it scales");
    assert_eq!(said, "scaled my-app: web from 1 to 3");
    nobody_noticed(&story);
    assert_eq!(story.served_by(), ["web-r1@1", "web-r1@2", "web-r1@3"]);
    story.scale("web", 1).await.expect("it scales");
    nobody_noticed(&story);
    assert_eq!((story.served_by(), story.runs().len()), (vec!["web-r1@1".to_owned()], 2));
    story.scale("worker", 2).await.expect("it scales");
    assert_eq!(story.runs(), ["web-r1@1", "worker-r1@1", "worker-r1@2"]);
    let manifest = story.app().manifest(&"r1".parse().expect("a label")).expect("a manifest");
    let deviations: Vec<_> =
        manifest.deviations().into_iter().map(|(_, now, was)| (now, was)).collect();
    assert_eq!(deviations, [(2, 1)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_release_decides_the_number_of_its_processes() {
    let story = serving(WEB, "").await;
    story.scale("web", 2).await.expect("it scales");
    story.reboot();
    story.recover().await.expect("it is good");
    assert_eq!(story.served_by().len(), 2, "a reboot changes nothing");
    story.publish("r2", WEB, "");
    story.deploy("r2").await.expect("it is good");
    assert_eq!(story.served_by(), ["web-r2@1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scaling_that_fails_changes_nothing() {
    let story = serving(WEB, "").await;
    story.state().cannot_start = Some("web-r1@3".to_owned());
    let error = story.scale("web", 3).await.expect_err("one cannot start");
    assert_eq!(error.exit(), Exit::Unhealthy);
    nobody_noticed(&story);
    assert_eq!(story.runs(), ["web-r1@1"]);
    let error = story.scale("clock", 1).await.expect_err("there is none");
    assert!(error.chain().contains("its Procfile has web"), "{}", error.chain());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_the_release_sets_has_not_changed_in_agent_env() {
    let story = serving(WEB, "export PORT=5002").await;
    assert_eq!(story.unapplied(), None);
    let mut story = serving(WEB, "").await;
    assert_eq!(story.unapplied(), None);
    story.configure("PORT=5003");
    let said = story.unapplied().expect("the port of agent.env has changed");
    assert!(said.contains("PORT in agent.env changed"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_that_was_scaled_is_the_same_release() {
    for scaled_to in [1, 3] {
        let story = serving(WEB, "export DEPLOY_CONCURRENCY=web=2").await;
        story.scale("web", scaled_to).await.expect("it is scaled");
        let again = story.deploy("r1").await.expect("it runs");
        assert!(again.message.contains("already"), "{}", again.message);
        story.publish("r2", WEB, "");
        story.deploy("r2").await.expect("it is good");
        story.deploy("r1").await.expect("it is good");
        assert_eq!(story.installed(), ["r1", "r2"], "r1 was staged once");
        assert_eq!(story.runs(), ["web-r1@1", "web-r1@2"], "the count of the release counts");
    }
}
