//! Checks settings of the agent and of a release: merged ones are valid, and mean the same when
//! written down.

use super::said::{self, SECRET, said};
use super::units;
use model::error::{Error, Exit};
use model::release::env::Env;
use model::release::manifest::Plan;
use model::release::procfile::Procfile;
use model::release::settings::{
    AgentSettings, ReleaseSettings, Strategy, WatchSettings, state_dir,
};
use model::release::url::ReleaseUrl;
use serde_json::to_value;
use std::collections::BTreeSet;
use std::path::{Component, Path};
use std::time::Duration;

/// The separator of agent.env and the release's env; without it there is only the latter.
const BETWEEN: &[u8] = b"---\n";
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

pub fn settings(data: &[u8]) -> bool {
    let at = data.windows(BETWEEN.len()).position(|window| window == BETWEEN);
    let (agent, release) = match at {
        Some(at) => (&data[..at], &data[at + BETWEEN.len()..]),
        None => (&b""[..], data),
    };
    let (Ok(agent), Ok(release)) = (Env::parse(agent), Env::parse(release)) else {
        return false;
    };
    let of_agent = AgentSettings::from_env(&agent);
    let watch = WatchSettings::from_env(&agent);
    let merged = ReleaseSettings::merge(&agent, &release);
    no_error_repeats_another_value(&agent, &release, &merged);
    match &of_agent {
        Ok(settings) => check_agent(settings, &agent),
        Err(error) => said::check(error, &[Exit::Usage]),
    }
    match &watch {
        Ok(settings) => check_watch(settings),
        Err(error) => said::check(error, &[Exit::Usage]),
    }
    match &merged {
        Ok(settings) => check_release(settings, &agent),
        Err(error) => said::check(error, &[Exit::Usage, Exit::Unusable]),
    }
    let (Ok(agent), Ok(settings)) = (&of_agent, &merged) else { return false };
    let procfile = Procfile::parse(b"web: a\nworker: b").expect("a Procfile");
    units::check(&procfile, agent, settings);
    check_ports(units::plan(&procfile, agent, settings));
    watch.is_ok()
}

fn check_agent(settings: &AgentSettings, agent: &Env) {
    let dir = &settings.state_dir;
    let plain = |part| matches!(part, Component::RootDir | Component::Normal(_));
    assert!(dir.is_absolute() && dir.components().all(plain) && dir != Path::new("/"), "{dir:?}");
    assert_eq!(state_dir(agent).as_ref(), Some(dir));
    assert!(settings.user.as_ref().is_none_or(|user| !user.is_empty() && user != "root"));
    assert!((1..=1000).contains(&settings.keep_releases));
    assert!(settings.max_unpacked >= 1 << 20 && settings.max_fetch_memory >= 1 << 20);
    assert!(settings.max_files >= 1 && settings.boot_timeout <= DAY);
}

fn check_watch(settings: &WatchSettings) {
    assert!(settings.interval >= Duration::from_secs(1) && settings.interval <= DAY);
    assert!(settings.urls.iter().all(ReleaseUrl::is_current));
    let apps: BTreeSet<_> = settings.urls.iter().map(ReleaseUrl::app).collect();
    assert_eq!(apps.len(), settings.urls.len(), "two environments of one app");
    let urls = settings.urls.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    let interval = milliseconds(settings.interval);
    let text = [("DEPLOY_WATCH", urls), ("DEPLOY_WATCH_INTERVAL", interval)].map(line).concat();
    let again = Env::parse(text.as_bytes()).expect("an env file");
    let again = WatchSettings::from_env(&again);
    assert_eq!(again.as_ref().map_err(Error::chain), Ok(settings), "{text}");
}

fn check_release(settings: &ReleaseSettings, agent: &Env) {
    let waits = [settings.prove, settings.settle, settings.drain_timeout, settings.watchdog];
    for wait in waits {
        assert!(wait <= DAY, "{wait:?}");
    }
    for timeout in [settings.health_timeout, settings.stop_timeout, settings.build_timeout] {
        assert!(!timeout.is_zero() && timeout <= DAY, "{timeout:?}");
    }
    assert!(settings.concurrency.values().all(|count| *count <= 100));
    for path in settings.writable.iter().chain(&settings.process_dirs) {
        let plain = |part| matches!(part, Component::Normal(_));
        assert!(!path.is_empty() && Path::new(path).components().all(plain), "{path:?}");
    }
    if let Some(path) = &settings.health_path {
        assert!(path.starts_with('/') && path.bytes().all(|b| b.is_ascii_graphic()), "{path:?}");
    }
    assert!(settings.memory_max.is_none_or(|bytes| bytes >= 1 << 20));

    let written = written(settings);
    let release = Env::parse(written.as_bytes()).expect("an env file");
    let again = ReleaseSettings::merge(agent, &release);
    assert_eq!(again.as_ref().map_err(Error::chain), Ok(settings), "{written}");
}

/// Every setting as text in the env of a release.
fn written(settings: &ReleaseSettings) -> String {
    let name = |value| match value {
        Ok(serde_json::Value::String(name)) => name,
        other => panic!("not a name: {other:?}"),
    };
    // Destructured, so that a new setting cannot be forgotten here.
    let ReleaseSettings {
        port,
        concurrency,
        strategy,
        health_path,
        health_timeout,
        prove,
        settle,
        drain_timeout,
        stop_timeout,
        build_timeout,
        singleton,
        writable,
        sandbox,
        memory_max,
        udp,
        clients,
        ready,
        health_host,
        health_status,
        watchdog,
        stop_signal,
        release_phase,
        process_dirs,
        // Settings of the agent.
        max_tasks: _,
        metadata,
    } = settings;
    let counts = concurrency.iter().map(|(kind, count)| format!("{kind}={count}"));
    let singleton = singleton.iter().map(ToString::to_string);
    let variables = [
        ("PORT", port.to_string()),
        ("DEPLOY_CONCURRENCY", counts.collect::<Vec<_>>().join(",")),
        ("DEPLOY_STRATEGY", name(to_value(strategy))),
        ("DEPLOY_HEALTH_PATH", health_path.clone().unwrap_or_default()),
        ("DEPLOY_HEALTH_TIMEOUT", milliseconds(*health_timeout)),
        ("DEPLOY_PROVE", milliseconds(*prove)),
        ("DEPLOY_SETTLE", milliseconds(*settle)),
        ("DEPLOY_DRAIN_TIMEOUT", milliseconds(*drain_timeout)),
        ("DEPLOY_STOP_TIMEOUT", milliseconds(*stop_timeout)),
        ("DEPLOY_BUILD_TIMEOUT", milliseconds(*build_timeout)),
        ("DEPLOY_SINGLETON", singleton.collect::<Vec<_>>().join(",")),
        ("DEPLOY_WRITABLE", writable.join(",")),
        ("DEPLOY_SANDBOX", name(to_value(sandbox))),
        ("DEPLOY_MEMORY_MAX", memory_max.map_or(String::new(), |b| format!("{}K", b >> 10))),
        ("DEPLOY_CLIENTS", name(to_value(clients))),
        ("DEPLOY_READY", name(to_value(ready))),
        ("DEPLOY_HEALTH_HOST", health_host.clone()),
        ("DEPLOY_HEALTH_STATUS", health_status.to_string()),
        ("DEPLOY_WATCHDOG", milliseconds(*watchdog)),
        ("DEPLOY_STOP_SIGNAL", stop_signal.name().to_owned()),
        ("DEPLOY_RELEASE_PHASE", name(to_value(release_phase))),
        ("DEPLOY_PROCESS_DIRS", process_dirs.join(",")),
        ("DEPLOY_METADATA", if *metadata { "yes" } else { "no" }.into()),
        ("DEPLOY_UDP", if *udp { "yes" } else { "no" }.into()),
    ];
    variables.map(line).concat()
}

fn milliseconds(duration: Duration) -> String {
    format!("{}ms", duration.as_millis())
}

fn line((name, value): (&str, String)) -> String {
    format!("{name}='{}'\n", value.replace('\'', r"'\''"))
}

/// Checks that no two processes get the same port, even on a machine without handover.
fn check_ports(plan: Plan) {
    for plan in [Plan { strategy: Strategy::Restart, ..plan.clone() }, plan] {
        let ports: Vec<u16> = plan.instances().filter_map(|process| process.port).collect();
        let web: usize =
            plan.processes.iter().filter(|s| s.is_web()).map(|s| usize::from(s.count)).sum();
        assert_eq!(ports.len(), web, "a process of web without a port");
        let distinct: BTreeSet<_> = ports.iter().collect();
        assert_eq!(distinct.len(), ports.len(), "PORT={} for {web} processes", plan.port);
    }
}

/// Checks that other variables of an app change nothing, and that no error contains them.
fn no_error_repeats_another_value(
    agent: &Env,
    release: &Env,
    merged: &Result<ReleaseSettings, Error>,
) {
    if [agent, release]
        .into_iter()
        .any(|env| env.iter().any(|(n, v)| format!("{n}{v}").contains(SECRET)))
    {
        return;
    }
    let with = |name: &str| {
        let text = format!("{}{name}={SECRET}\n", release.to_environment_file(&[name]));
        ReleaseSettings::merge(agent, &Env::parse(text.as_bytes()).expect("an env file"))
    };
    let of_app = with("DATABASE_PASSWORD");
    assert_eq!(of_app.map_err(|e| said(&e)), merged.as_ref().map_err(said).cloned());
    let error = with("DEPLOY_PASSWORD").expect_err("no setting has this name");
    assert!(!said(&error).contains(SECRET), "{}", said(&error));
}
