use super::*;
use crate::error::Exit;
use proptest::prelude::{prop, proptest};

fn env(text: &str) -> Env {
    Env::parse(text.as_bytes()).unwrap()
}

fn of_release(text: &str) -> Result<ReleaseSettings, Error> {
    ReleaseSettings::merge(&Env::default(), &env(text))
}

fn of_agent(text: &str) -> Result<AgentSettings, Error> {
    AgentSettings::from_env(&env(text))
}

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

#[test]
fn nothing_needs_to_be_set() {
    let release = of_release("").unwrap();
    assert_eq!(release.port.get(), 5000);
    assert_eq!(release.processes(&"web".parse().unwrap()), 1);
    assert_eq!((release.strategy, release.sandbox), (Strategy::Handover, Sandbox::Strict));
    assert_eq!((release.health_path, release.memory_max), (None, None));
    assert_eq!((release.health_timeout, release.settle), (seconds(60), seconds(10)));
    assert_eq!((release.prove, release.udp), (seconds(0), false));
    assert_eq!((release.drain_timeout, release.stop_timeout), (seconds(30), seconds(30)));
    assert_eq!(release.build_timeout, seconds(600));
    assert!(release.singleton.is_empty());
    assert_eq!(release.writable, ["tmp", "log"]);
    assert_eq!(release.process_dirs, ["tmp/pids"]);
    assert_eq!((release.clients, release.ready), (Clients::Anywhere, Readiness::Port));
    assert_eq!((release.health_host.as_str(), release.watchdog), ("localhost", seconds(0)));
    assert_eq!(release.health_status.to_string(), "200-399");
    assert_eq!(release.stop_signal.name(), "SIGTERM");
    assert_eq!(release.release_phase, ReleasePhase::Manual);

    let agent = of_agent("").unwrap();
    assert_eq!(agent.state_dir, PathBuf::from("/var/lib/deploy"));
    assert_eq!(agent.user, None);
    assert_eq!(agent.keep_releases, 3);
    assert_eq!((agent.max_unpacked, agent.max_files), (8 << 30, 500_000));
    assert_eq!(agent.max_fetch_memory, 64 << 20);
    assert_eq!(agent.boot_timeout, seconds(300));
}

#[test]
fn the_release_wins_over_the_agent_and_the_agent_over_the_built_in() {
    let agent = env("PORT=80 DEPLOY_SETTLE=1m DEPLOY_MEMORY_MAX=1G");
    let release = env("PORT=8080 DEPLOY_MEMORY_MAX=");
    let settings = ReleaseSettings::merge(&agent, &release).unwrap();
    assert_eq!(settings.port.get(), 8080);
    assert_eq!(settings.settle, seconds(60));
    assert_eq!(settings.memory_max, None);
    assert_eq!(settings.stop_timeout, seconds(30));
}

#[test]
fn reads_every_form_of_a_value() {
    let settings = of_release(
        "DEPLOY_CONCURRENCY='web=2, worker=0' DEPLOY_STRATEGY=restart DEPLOY_HEALTH_PATH=/up?x=1
        DEPLOY_HEALTH_TIMEOUT=500ms DEPLOY_SETTLE=0s DEPLOY_BUILD_TIMEOUT=1h DEPLOY_MEMORY_MAX=512M
        DEPLOY_SINGLETON=clock,scheduler DEPLOY_WRITABLE='var/cache/, tmp' DEPLOY_SANDBOX=off",
    )
    .unwrap();
    assert_eq!(settings.processes(&"web".parse().unwrap()), 2);
    assert_eq!(settings.processes(&"worker".parse().unwrap()), 0);
    assert_eq!(settings.health_path.as_deref(), Some("/up?x=1"));
    assert_eq!(settings.health_timeout, Duration::from_millis(500));
    assert_eq!((settings.settle, settings.build_timeout), (seconds(0), seconds(3600)));
    assert_eq!(settings.memory_max, Some(512 << 20));
    assert_eq!(settings.singleton.len(), 2);
    assert_eq!(settings.writable, ["var/cache", "tmp"]);
    let settings = of_release(
        "DEPLOY_CLIENTS=local DEPLOY_READY=notify DEPLOY_WATCHDOG=30s DEPLOY_STOP_SIGNAL=sigquit
        DEPLOY_HEALTH_HOST=www.example.com:443 DEPLOY_HEALTH_STATUS='200-204, 401'
        DEPLOY_RELEASE_PHASE=always DEPLOY_PROCESS_DIRS=run",
    )
    .unwrap();
    assert_eq!((settings.clients, settings.ready), (Clients::Local, Readiness::Notify));
    assert_eq!((settings.watchdog, settings.stop_signal), (seconds(30), StopSignal::Quit));
    assert_eq!(settings.health_host, "www.example.com:443");
    assert!([200, 204, 401].iter().all(|status| settings.health_status.contains(*status)));
    assert!(![199, 205, 400, 402].iter().any(|status| settings.health_status.contains(*status)));
    assert_eq!(settings.health_status.to_string(), "200-204,401");
    assert_eq!(settings.release_phase, ReleasePhase::Always);
    assert_eq!(settings.process_dirs, ["run"]);
    assert_eq!(of_release("DEPLOY_WRITABLE=").unwrap().writable, [] as [&str; 0]);
}

#[test]
fn blames_the_file_that_holds_the_bad_value() {
    let error = of_release("DEPLOY_SETTLE=90").unwrap_err();
    assert_eq!(error.exit(), Exit::Unusable);
    assert_eq!(error.chain(), "env: DEPLOY_SETTLE=\"90\": a duration without a unit");
    assert_eq!(error.advice(), Some("write 90s if seconds are meant"));

    let agent = env("DEPLOY_SETTLE=soon");
    for error in [
        AgentSettings::from_env(&agent).unwrap_err(),
        ReleaseSettings::merge(&agent, &env("PORT=1")).unwrap_err(),
    ] {
        assert_eq!(error.exit(), Exit::Usage);
        assert_eq!(error.chain(), "/etc/deploy/agent.env: DEPLOY_SETTLE=\"soon\": not a duration");
    }
}

#[test]
fn refuses_values_that_make_no_sense() {
    for (text, why) in [
        ("PORT=0", "not a port"),
        ("PORT=65536", "not a port"),
        ("PORT=+80", "not a port"),
        ("PORT=", "not a port"),
        ("DEPLOY_SETTLE=", "not a duration"),
        ("DEPLOY_SETTLE=-1s", "not a duration"),
        ("DEPLOY_SETTLE=1.5s", "not a duration"),
        ("DEPLOY_SETTLE=1d", "a unit of time"),
        ("DEPLOY_SETTLE=25h", "longer than a day"),
        ("DEPLOY_SETTLE=99999999999999999h", "longer than a day"),
        ("DEPLOY_SETTLE=99999999999999999999h", "not a duration"),
        ("DEPLOY_STOP_TIMEOUT=0s", "a timeout of zero"),
        ("DEPLOY_UDP=1", "neither yes nor no"),
        ("DEPLOY_CLIENTS=all", "where clients are"),
        ("DEPLOY_READY=yes", "sign of readiness"),
        ("DEPLOY_HEALTH_HOST=", "not a host"),
        ("DEPLOY_HEALTH_HOST=$'x\\r\\ny'", "not a host"),
        ("DEPLOY_HEALTH_STATUS=", "no status"),
        ("DEPLOY_HEALTH_STATUS=2xx", "not a status"),
        ("DEPLOY_HEALTH_STATUS=399-200", "not a status"),
        ("DEPLOY_HEALTH_STATUS=600", "not a status"),
        ("DEPLOY_STOP_SIGNAL=KILL", "not a signal"),
        ("DEPLOY_RELEASE_PHASE=yes", "neither manual nor always"),
        ("DEPLOY_PROCESS_DIRS=/run", "below the release"),
        ("DEPLOY_STRATEGY=blue", "not a strategy"),
        ("DEPLOY_HEALTH_PATH=up", "not a path"),
        ("DEPLOY_HEALTH_PATH='/a b'", "cannot hold"),
        ("DEPLOY_HEALTH_PATH=$'/a\\r\\nHost: x'", "cannot hold"),
        ("DEPLOY_CONCURRENCY=web", "not a number of processes"),
        ("DEPLOY_CONCURRENCY=web=x", "not a number of processes"),
        ("DEPLOY_CONCURRENCY=web.1=1", "not a number of processes"),
        ("DEPLOY_CONCURRENCY=web=101", "more than 100"),
        ("DEPLOY_CONCURRENCY=web=1,web=2", "named twice"),
        ("DEPLOY_CONCURRENCY=web=1,", "between two commas"),
        ("DEPLOY_SINGLETON='a b'", "process types"),
        ("DEPLOY_WRITABLE=/tmp", "below the release"),
        ("DEPLOY_WRITABLE=a/../b", "below the release"),
        ("DEPLOY_WRITABLE=.", "below the release"),
        ("DEPLOY_WRITABLE='a b'", "below the release"),
        ("DEPLOY_WRITABLE=a//b", "below the release"),
        ("DEPLOY_SANDBOX=no", "not a sandbox"),
        ("DEPLOY_MEMORY_MAX=512", "without a unit"),
        ("DEPLOY_MEMORY_MAX=512MB", "a unit of size"),
        ("DEPLOY_MEMORY_MAX=1K", "too small"),
        ("DEPLOY_MEMORY_MAX=99999999999T", "beyond any machine"),
    ] {
        let error = of_release(text).expect_err(text);
        assert_eq!(error.exit(), Exit::Unusable, "{text}");
        assert!(error.chain().contains(why), "{text}: {}", error.chain());
        assert!(error.advice().is_some(), "{text}");
    }
    for text in [
        "DEPLOY_STATE_DIR=var",
        "DEPLOY_STATE_DIR=/",
        "DEPLOY_STATE_DIR='/var/my deploy'",
        "DEPLOY_STATE_DIR=/var/../etc",
        "DEPLOY_USER=root",
        "DEPLOY_USER=0",
        "DEPLOY_USER='a b'",
        "DEPLOY_KEEP_RELEASES=0",
        "DEPLOY_MAX_FILES=0",
        "DEPLOY_MAX_UNPACKED=8",
    ] {
        assert_eq!(of_agent(text).expect_err(text).exit(), Exit::Usage, "{text}");
    }
}

#[test]
fn every_process_of_web_gets_a_port() {
    for fine in ["PORT=65535", "PORT=65436 DEPLOY_CONCURRENCY=web=100"] {
        assert!(of_release(fine).is_ok(), "{fine}");
    }
    assert!(of_release("PORT=65535 DEPLOY_CONCURRENCY=web=0,worker=9").is_ok());
    let error = of_release("PORT=65535 DEPLOY_CONCURRENCY=web=2").unwrap_err();
    assert_eq!(error.exit(), Exit::Unusable);
    assert_eq!(error.to_string(), "env: PORT=65535 with 2 processes of web");
    let error = of_agent("PORT=65535 DEPLOY_CONCURRENCY=web=2").unwrap_err();
    assert_eq!(error.exit(), Exit::Usage);
}

#[test]
fn watches_only_pointers_of_different_apps() {
    let watched = |text: &str| WatchSettings::from_env(&env(text));
    let none = watched("").unwrap();
    assert_eq!((none.urls.len(), none.interval), (0, seconds(30)));
    let two = watched(
        "DEPLOY_WATCH=s3://releases/a/p/current,https://host/b/p/current/\nDEPLOY_WATCH_INTERVAL=1m",
    );
    let two = two.unwrap();
    assert_eq!((two.urls.len(), two.interval), (2, seconds(60)));
    for (text, why) in [
        ("DEPLOY_WATCH=my-app", "the release URL is unusable: it has no s3://"),
        ("DEPLOY_WATCH=https://user:marker@host/a/p/current", "the release URL is unusable"),
        ("DEPLOY_WATCH=s3://releases/a/p/r42", "does not end with `current`"),
        ("DEPLOY_WATCH=s3://releases/a/p/current,s3://releases/a/q/current", "same app twice"),
        ("DEPLOY_WATCH_INTERVAL=0s", "shorter than a second"),
        ("DEPLOY_WATCH_INTERVAL=30", "without a unit"),
    ] {
        let error = watched(text).expect_err(text);
        assert_eq!(error.exit(), Exit::Usage, "{text}");
        assert!(error.chain().contains(why), "{text}: {}", error.chain());
        assert!(!error.chain().contains("marker"), "{}", error.chain());
        assert!(of_agent(text).is_ok(), "{text} stops nothing else");
    }
    let error = of_release("DEPLOY_WATCH=s3://releases/a/p/current").unwrap_err();
    assert_eq!(error.exit(), Exit::Unusable);
}

#[test]
fn the_command_line_takes_the_same_durations() {
    assert_eq!(parse_duration("2m").unwrap(), seconds(120));
    let error = parse_duration("90").unwrap_err();
    assert_eq!(error.exit(), Exit::Usage);
    assert_eq!(error.to_string(), "a duration without a unit; write 90s if seconds are meant");
}

#[test]
fn suggests_a_near_name_for_an_unknown_one() {
    let error = of_release("DEPLOY_SETLE=90s").unwrap_err();
    assert_eq!(error.exit(), Exit::Unusable);
    assert_eq!(error.chain(), "env: DEPLOY_SETLE: no setting has this name");
    assert_eq!(error.advice(), Some("did you mean DEPLOY_SETTLE?"));
    for name in ["DEPLOY_ENV", "DEPLOY_TIMEOUT", "DEPLOY_HOST", "DEPLOY_"] {
        let error = of_release(&format!("{name}=production")).unwrap_err();
        let help = error.advice().unwrap();
        assert!(help.starts_with("give a variable of the app another name"), "{name}: {help}");
    }
    let error = of_agent("DATABASE_URL=x").unwrap_err();
    assert!(error.advice().unwrap().ends_with("set what an app needs in the env of its release"));
    for (name, meant) in [
        ("DEPLOY_KEEP_RELEASE", "DEPLOY_KEEP_RELEASES"),
        ("Port", "PORT"),
        ("HTTPS_PROXI", "HTTPS_PROXY"),
        ("Https_Proxy", "HTTPS_PROXY"),
    ] {
        let error = of_agent(&format!("{name}=secret")).unwrap_err();
        assert_eq!(error.exit(), Exit::Usage);
        assert!(error.advice().unwrap().contains(&format!("did you mean {meant}?")), "{name}");
        assert!(!error.chain().contains("secret"));
    }
}

#[test]
fn an_error_shortens_a_long_name() {
    let long = format!("DEPLOY_SETTLE{}", "E".repeat(100_000));
    for error in [of_release(&format!("{long}=1")).err(), of_agent(&format!("{long}=1")).err()] {
        let error = error.unwrap();
        assert!(error.chain().contains("DEPLOY_SETTLEE"));
        assert!(error.chain().len() < 200, "{} bytes", error.chain().len());
    }
}

#[test]
fn a_release_cannot_set_what_is_not_its_own() {
    for (text, why) in [
        ("DEPLOY_USER=me", "belongs to the agent"),
        ("DEPLOY_STATE_DIR=/tmp", "belongs to the agent"),
        ("DEPLOY_APP=other", "the agent sets this"),
        ("DEPLOY_RELEASE=r9", "the agent sets this"),
    ] {
        let error = of_release(text).expect_err(text);
        assert_eq!(error.exit(), Exit::Unusable);
        assert!(error.chain().contains(why), "{}", error.chain());
    }
    assert!(of_release("PS=x PUBLIC_PORT=1 AWS_REGION=x deploy_settle=x ANYTHING=x").is_ok());
}

#[test]
fn agent_env_also_serves_the_libraries() {
    let fine = "AWS_REGION=eu-west-1 AWS_ENDPOINT_URL=http://s3 https_proxy=p NO_PROXY=x SSL_CERT_DIR=/c PORT=80";
    assert!(of_agent(fine).is_ok());
    assert!(of_agent("DEPLOY_APP=x").unwrap_err().chain().contains("the agent sets this"));
}

proptest! {
    #[test]
    fn never_panics(name in prop::sample::select(names::FOR_ANYONE.map(|(name, _)| name).to_vec()), value in ".{0,20}") {
        let quoted = value.replace(['\'', '\0'], "");
        if let Ok(release) = Env::parse(format!("{name}='{quoted}'").as_bytes()) {
            let _ = ReleaseSettings::merge(&Env::default(), &release);
        }
    }

    #[test]
    fn never_panics_on_what_looks_right(
        name in prop::sample::select(names::FOR_ANYONE.map(|(name, _)| name).to_vec()),
        value in "([0-9]{0,21}[a-zA-Z]{0,2}|[a-z=,./0-9]{0,9})",
    ) {
        let _ = of_release(&format!("{name}={value}"));
    }
}

#[test]
fn a_release_that_asks_for_more_than_the_agent_allows_is_told_the_limit() {
    let asked = [
        ("DEPLOY_MAX_DURATION=5m", "DEPLOY_SETTLE=6m", "DEPLOY_SETTLE=10s"),
        ("DEPLOY_MAX_DURATION=15m", "DEPLOY_BUILD_TIMEOUT=16m", "DEPLOY_PROVE=15m"),
        ("DEPLOY_MAX_STOP_TIMEOUT=1m", "DEPLOY_STOP_TIMEOUT=61s", "DEPLOY_STOP_TIMEOUT=60s"),
        ("DEPLOY_MIN_SANDBOX=full", "DEPLOY_SANDBOX=off", "DEPLOY_SANDBOX=full"),
        ("DEPLOY_MIN_SANDBOX=strict", "DEPLOY_SANDBOX=full", "DEPLOY_SANDBOX=strict"),
        ("DEPLOY_PUBLIC_PORTS=80,5000-5999", "PORT=6000", "PORT=80"),
        ("DEPLOY_MAX_PROCESSES=4", "DEPLOY_CONCURRENCY=a=2,b=3", "DEPLOY_CONCURRENCY=a=2,b=2"),
        ("DEPLOY_MAX_MEMORY=1G", "DEPLOY_MEMORY_MAX=1025M", "DEPLOY_MEMORY_MAX=1024M"),
        ("DEPLOY_METADATA=no", "DEPLOY_METADATA=yes", "DEPLOY_METADATA=no"),
    ];
    for (limit, more, as_much) in asked {
        let agent = env(limit);
        let error = ReleaseSettings::merge(&agent, &env(more)).expect_err(more);
        assert_eq!(error.exit(), Exit::Unusable, "{more}");
        assert!(error.chain().contains(limit), "{more}: {}", error.chain());
        assert!(ReleaseSettings::merge(&agent, &env(as_much)).is_ok(), "{as_much}");
    }
    let own = of_agent("DEPLOY_MAX_DURATION=5s DEPLOY_SETTLE=6s").unwrap_err();
    assert_eq!(own.exit(), Exit::Usage, "{}", own.chain());
    let short = ReleaseSettings::merge(&env("DEPLOY_MAX_DURATION=5s"), &env("")).unwrap();
    assert_eq!((short.settle, short.build_timeout), (seconds(5), seconds(5)));
}

#[test]
fn built_in_limits_apply_without_agent_env() {
    for text in ["DEPLOY_SETTLE=24h", "DEPLOY_STOP_TIMEOUT=1h", "DEPLOY_CONCURRENCY=a=100,b=1"] {
        assert_eq!(of_release(text).unwrap_err().exit(), Exit::Unusable, "{text}");
    }
    let limited = ReleaseSettings::merge(&env("DEPLOY_MAX_MEMORY=1G"), &env("")).unwrap();
    assert_eq!((limited.memory_max, limited.max_tasks), (Some(1 << 30), 4096));
}

#[test]
fn a_public_port_among_the_private_ones_is_refused_under_every_strategy() {
    for (text, exit) in [
        ("PORT=29000", Some(Exit::Unusable)),
        ("PORT=29999 DEPLOY_STRATEGY=restart", Some(Exit::Unusable)),
        ("PORT=28990 DEPLOY_CONCURRENCY=web=11 DEPLOY_STRATEGY=restart", Some(Exit::Unusable)),
        ("PORT=28990 DEPLOY_CONCURRENCY=web=10", None),
        ("PORT=28999", None),
        ("PORT=30000", None),
    ] {
        let refused = of_release(text).err();
        assert_eq!(refused.as_ref().map(Error::exit), exit, "{text}");
        assert!(refused.is_none_or(|error| error.chain().contains("29000 to 29999")), "{text}");
    }
    assert_eq!(of_agent("PORT=29500").unwrap_err().exit(), Exit::Usage);
}
