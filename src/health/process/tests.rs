//! What counts as staying up, and as healthy.

use super::*;
use crate::store::Store;
use crate::story::Fake;
use model::error::Exit;
use model::release::reach::Families;
use model::release::settings::Clients;
use std::sync::Arc;

fn watched(port: Option<u16>) -> Watched {
    let (name, unit) = ("web.1".to_owned(), "deploy-my-app-web-r1@1.service".to_owned());
    let kind = "web".parse().expect("a type");
    Watched {
        kind,
        name,
        unit,
        logs: String::new(),
        port,
        memory_max: None,
        ready: Readiness::Port,
        seen: None,
        healthy: false,
        reached: None,
        said: String::new(),
    }
}

fn running() -> ServiceStatus {
    ServiceStatus {
        active_state: "active".into(),
        sub_state: "running".into(),
        result: "success".into(),
        main_pid: 42,
        n_restarts: 3,
        active_since: 1,
        ..ServiceStatus::default()
    }
}

#[test]
fn a_process_stays_up_across_new_pids_and_reloads() {
    let mut process = watched(None);
    for _ in 0..3 {
        process.must_stay(&running()).expect("the same process");
    }
    // As when a server re-executes itself.
    let another_pid = ServiceStatus { main_pid: 43, ..running() };
    process.must_stay(&another_pid).expect("still the same run");
    let reloading = ServiceStatus { active_state: "reloading".into(), ..running() };
    process.must_stay(&reloading).expect("still the same");
}

#[test]
fn a_process_that_ended_or_was_restarted_did_not_stay() {
    let ended = |result: &str, code, status| ServiceStatus {
        active_state: "activating".into(),
        sub_state: "auto-restart".into(),
        result: result.into(),
        exec_main_code: code,
        exec_main_status: status,
        main_pid: 0,
        ..running()
    };
    let stopped = ServiceStatus {
        active_state: "inactive".into(),
        sub_state: "dead".into(),
        main_pid: 0,
        ..running()
    };
    for (status, why) in [
        (
            ServiceStatus { invocation_id: "another".into(), ..running() },
            "it ended and was restarted",
        ),
        (ServiceStatus { n_restarts: 4, ..running() }, "it ended and was restarted"),
        (ended("exit-code", 1, 3), "it ended: exit-code, exit status 3"),
        (ended("signal", 2, 11), "it ended: signal, signal 11"),
        (ended("oom-kill", 2, 9), "it was killed for memory"),
        (ended("signal", 2, 9), "it was killed for memory, by all signs (signal 9)"),
        (ended("exit-code", 1, 137), "it was killed for memory, by all signs (signal 9)"),
        (ended("watchdog", 2, 9), "it ended: watchdog, signal 9"),
        (stopped, "it is not running"),
    ] {
        let mut process = watched(None);
        process.must_stay(&running()).expect("at first");
        let error = process.must_stay(&status).expect_err(why);
        let whole = "web.1 did not stay up (deploy-my-app-web-r1@1.service): ";
        assert_eq!(error.chain(), format!("{whole}{why}"));
        assert_eq!(error.exit(), Exit::Unhealthy);
    }
}

fn demand() -> Demand {
    let dir = std::path::PathBuf::from("/nonexistent");
    Demand {
        network: Arc::new(Fake::new(Store::at(&dir), dir)),
        clients: Clients::Anywhere,
        families: Families::IPV4,
        request: None,
        must_accept: false,
        statuses: Default::default(),
    }
}

#[tokio::test]
async fn a_process_without_a_port_is_healthy_when_it_has_stayed_up() {
    let process = watched(None);
    assert!(process.verdict(&running(), &demand()).await.is_ok());
    // Independent of the wall clock, which may be set meanwhile.
    let now = monotonic();
    for (active_since, active_since_monotonic) in [(1, now), (now, now), (1, now + 3_600_000_000)] {
        let status = ServiceStatus { active_since, active_since_monotonic, ..running() };
        let why = process.verdict(&status, &demand()).await.expect_err("not yet").why;
        assert_eq!(why, "it has only just started");
    }
}

/// A listener of another process proves nothing.
#[tokio::test]
async fn a_port_counts_only_when_the_process_itself_listens_on_it() {
    let other = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
    let port = other.local_addr().expect("address").port();
    let status = ServiceStatus { control_group: "/no/such.service".into(), ..running() };
    let why = watched(Some(port)).verdict(&status, &demand()).await.expect_err("not yet").why;
    assert_eq!(why, format!("it does not listen on port {port}"));
}
