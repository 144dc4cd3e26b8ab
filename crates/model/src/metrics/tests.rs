use super::*;
use serde_json::{Value, json};

fn app(changes: Value) -> App {
    let mut status = json!({
        "app": "my-app", "environment": "production", "release": "r2",
        "url": "s3://releases/my-app/production/r2", "state": "good", "healthy": true,
        "port": 5000, "rollback": "r1", "working": null, "working_id": null, "last": null,
        "leaving": {"units": ["deploy-my-app-web-r1@1.service"], "connections": 7,
            "until": "2026-01-01T00:00:00Z"},
        "health": {"healthy": false, "since": "2026-01-01T00:00:01.5Z",
            "answered": "2026-01-01T00:00:00Z", "milliseconds": 12.5, "fault": "web.1 hangs"},
        "watch": {"url": "s3://releases/my-app/production/current", "release": "r2",
            "exit": "done", "at": "2026-01-01T00:00:00Z", "error": "no route", "text": ""},
        "processes": [
            {"process": "web.1", "unit": "a", "state": "running", "pid": 7,
                "since": "2026-01-01T00:00:00Z", "restarts": 3, "memory": 4096, "port": 29000,
                "cpu_seconds": 1.5, "connections": 2},
            {"process": "web.2", "unit": "b", "state": "auto-restart", "pid": null,
                "since": null, "restarts": 9, "memory": null, "port": 29001, "crash_loop": true},
            {"process": "web.3", "unit": "c", "state": "stopped", "pid": null,
                "since": null, "restarts": 0, "memory": null, "port": 29002}],
    });
    for (name, value) in changes.as_object().into_iter().flatten() {
        status[name] = value.clone();
    }
    let release = |label: &str, state: &str, bytes: u64| {
        serde_json::from_value(json!({
            "app": "my-app", "release": label, "url": "", "state": state, "current": false,
            "rollback": false, "staged_at": "2026-01-01T00:00:00Z", "files": 1, "bytes": bytes,
        }))
    };
    let deployed = json!({
        "at": "2026-01-01T00:00:00Z", "id": "1a", "action": "deploy", "who": "root", "url": null,
        "release": "r3", "before": "r2", "after": "r2", "exit": "unhealthy",
        "reason": "health_timeout", "message": "the password is hunter2", "seconds": 21.5,
        "timings": {
            "parts": [{"part": "reload", "seconds": 0.5}, {"part": "prove", "seconds": 20.0},
                {"part": "reload", "seconds": 0.25}],
            "archive": {"bytes": 100, "unpacked_bytes": 300, "files": 2, "seconds": 1.0,
                "fetch": 0.0, "inflate": 0.0, "unpack": 0.0},
        },
    });
    let releases =
        [release("r1", "good", 10), release("r2", "good", 20), release("r3", "staged", 5)];
    App {
        status: serde_json::from_value(status).expect("a status"),
        releases: releases.into_iter().collect::<Result<_, _>>().expect("releases"),
        deployed: serde_json::from_value(deployed).expect("an entry"),
    }
}

fn instance(apps: Vec<App>) -> Instance {
    let disk = Disk { free_bytes: 1 << 30, size_bytes: 2 << 30, free_inodes: Some(5) };
    let cpu = Some(Duration::from_millis(250));
    let daemon = Daemon { version: "0.1.0", memory: Some(8 << 20), cpu };
    Instance { host: "i-1".into(), daemon, disk: Some(disk), apps }
}

/// Every family of a full instance, by name.
fn families(text: &str) -> Vec<&str> {
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    types.filter_map(|line| line.split(' ').next()).collect()
}

#[test]
fn renders_what_the_status_knows() {
    let text = render(&instance(vec![app(json!({}))]));
    let expected = [
        r#"deployd_info{host="i-1",version="0.1.0"} 1"#,
        r#"deployd_memory_bytes{host="i-1"} 8388608"#,
        r#"deployd_cpu_seconds_total{host="i-1"} 0.25"#,
        r#"deploy_state_free_bytes{host="i-1"} 1073741824"#,
        r#"deploy_state_free_inodes{host="i-1"} 5"#,
        r#"deploy_release_info{host="i-1",app="my-app",environment="production",release="r2"} 1"#,
        r#"deploy_release_state{host="i-1",app="my-app",state="good"} 1"#,
        r#"deploy_release_state{host="i-1",app="my-app",state="taken_back"} 0"#,
        r#"deploy_job_active{host="i-1",app="my-app"} 0"#,
        r#"deploy_healthy{host="i-1",app="my-app"} 0"#,
        r#"deploy_healthy_since_timestamp_seconds{host="i-1",app="my-app"} 1767225601.5"#,
        r#"deploy_health_response_seconds{host="i-1",app="my-app"} 0.0125"#,
        r#"deploy_installed_releases{host="i-1",app="my-app",state="good"} 2"#,
        r#"deploy_installed_bytes{host="i-1",app="my-app",state="good"} 30"#,
        r#"deploy_installed_bytes{host="i-1",app="my-app",state="staged"} 5"#,
        r#"deploy_watch_info{host="i-1",app="my-app",release="r2"} 1"#,
        r#"deploy_watch_failing{host="i-1",app="my-app"} 1"#,
        r#"deploy_watch_attempt_exit_code{host="i-1",app="my-app"} 0"#,
        r#"deploy_processes_wanted{host="i-1",app="my-app",type="web"} 2"#,
        r#"deploy_processes_up{host="i-1",app="my-app",type="web"} 1"#,
        r#"deploy_process_up{host="i-1",app="my-app",process="web.2"} 0"#,
        r#"deploy_process_crash_loop{host="i-1",app="my-app",process="web.2"} 1"#,
        r#"deploy_process_restarts_total{host="i-1",app="my-app",process="web.1"} 3"#,
        r#"deploy_process_memory_bytes{host="i-1",app="my-app",process="web.1"} 4096"#,
        r#"deploy_process_cpu_seconds_total{host="i-1",app="my-app",process="web.1"} 1.5"#,
        r#"deploy_process_connections{host="i-1",app="my-app",process="web.1"} 2"#,
        r#"deploy_leaving_processes{host="i-1",app="my-app"} 1"#,
        r#"deploy_leaving_connections{host="i-1",app="my-app"} 7"#,
        r#"deploy_last_deploy_timestamp_seconds{host="i-1",app="my-app"} 1767225600"#,
        r#"deploy_last_deploy_exit_code{host="i-1",app="my-app"} 12"#,
        r#"deploy_last_deploy_seconds{host="i-1",app="my-app"} 21.5"#,
        r#"deploy_last_deploy_archive_bytes{host="i-1",app="my-app"} 100"#,
        r#"deploy_last_deploy_part_seconds{host="i-1",app="my-app",part="reload"} 0.75"#,
    ];
    for line in expected {
        assert!(text.lines().any(|found| found == line), "no {line} in\n{text}");
    }
    let info = r#"action="deploy",release="r3",exit="unhealthy",reason="health_timeout"} 1"#;
    assert!(text.contains(info), "{text}");
}

#[test]
fn what_is_not_known_has_no_series() {
    let fresh = json!({"release": null, "state": null, "health": null, "watch": null,
        "processes": [], "leaving": null});
    let fresh = App { deployed: None, ..app(fresh) };
    let text = render(&Instance { disk: None, ..instance(vec![fresh]) });
    for name in
        ["deploy_healthy", "deploy_release_", "deploy_watch_", "deploy_process", "deploy_last"]
    {
        assert!(!text.contains(name), "{name} in\n{text}");
    }
    assert!(text.contains(r#"deploy_leaving_connections{host="i-1",app="my-app"} 0"#), "{text}");
}

#[test]
fn no_text_of_a_person_gets_into_a_series() {
    let text = render(&instance(vec![app(json!({"fault": "hunter2", "damaged": "hunter2"}))]));
    assert!(!text.contains("hunter2") && !text.contains("no route"), "{text}");
    assert!(text.contains(r#"deploy_state_damaged{host="i-1",app="my-app"} 1"#), "{text}");
}

#[test]
fn a_family_is_one_group_and_no_series_occurs_twice() {
    let text = render(&instance(vec![app(json!({})), app(json!({"app": "other"}))]));
    let names = families(&text);
    let unique: std::collections::BTreeSet<_> = names.iter().collect();
    assert_eq!(unique.len(), names.len(), "{names:?}");
    let series: Vec<_> = text.lines().filter(|line| !line.starts_with('#')).collect();
    let labels = series.iter().filter_map(|line| line.rsplit_once(' ')).map(|(name, _)| name);
    let unique: std::collections::BTreeSet<_> = labels.collect();
    assert_eq!(unique.len(), series.len());
}

#[test]
fn every_family_is_in_the_manual() {
    let manual = include_str!("../../../../docs/operations.md");
    let text = render(&instance(vec![app(json!({}))]));
    for name in families(&text) {
        assert!(manual.contains(&format!("| `{name}` |")), "docs/operations.md: no row for {name}");
    }
}
