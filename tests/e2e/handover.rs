//! Zero downtime: a candidate is proved beside the serving release, and only then gets the
//! traffic; whatever fails, no client notices.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};
use testkit::app::{Release, url};
use testkit::graceful::{graceful, loads, serving_r1};
use testkit::host::{Host, SOON};
use testkit::load::{Fault, Load, Tally};

/// Returns the result of `work`; fails if any request failed meanwhile.
#[track_caller]
pub fn unnoticed<T>(host: &Host, work: impl FnOnce() -> T) -> T {
    let loads = loads(host, 5000);
    for (_, load) in &loads {
        load.wait_for(10);
    }
    let result = work();
    for (_, load) in &loads {
        load.wait_for(10);
    }
    let tallies: Vec<(&str, Tally)> =
        loads.into_iter().map(|(name, load)| (name, load.stop())).collect();
    for (name, tally) in &tallies {
        println!("{name}: {tally}");
    }
    for (name, tally) in tallies {
        assert_eq!(tally.failed(), 0, "{name}: {tally}");
    }
    result
}

#[test]
fn no_client_notices_a_deploy_or_a_rollback() {
    let host = serving_r1();
    host.publish(&graceful("r2"));
    unnoticed(&host, || {
        for _ in 0..2 {
            host.deploys("r2");
            assert_eq!(host.served().as_deref(), Some("r2"));
            host.deploy(&["rollback"]).exits(0);
            assert_eq!(host.served().as_deref(), Some("r1"));
        }
    });
}

#[test]
fn no_client_ever_sees_a_release_that_fails() {
    let host = serving_r1();
    let before = host.pid("web.1");
    let broken = [
        ("crash", "BEHAVE=crash"),
        ("crash-after", "BEHAVE=crash-after=5 DEPLOY_PROVE=6s"),
        ("port", "BEHAVE=port=5001"),
        ("status", "BEHAVE=status DEPLOY_HEALTH_PATH=/health"),
        ("hang", "BEHAVE=hang"),
    ];
    unnoticed(&host, || {
        for (name, env) in broken {
            host.publish(&graceful(name).set(env).set("DEPLOY_HEALTH_TIMEOUT=5s"));
            let said = host.deploy(&[&url(name)]).exits(12);
            assert!(said.stdout.contains(&format!("{name} failed, r1 runs on")), "{said:?}");
            assert_eq!(host.pid("web.1"), before, "{name}");
        }
    });
}

/// The old processes still run: a rollback has to start nothing.
#[test]
fn a_failure_in_the_settle_window_goes_back_at_once() {
    let host = serving_r1();
    let before = host.pid("web.1");
    let sick = graceful("r2").set("BEHAVE=sick-after=2 DEPLOY_HEALTH_PATH=/health");
    host.publish(&sick.set("DEPLOY_SETTLE=30s"));
    let said = unnoticed(&host, || host.deploy(&[&url("r2")]).exits(20));
    assert!(said.stdout.contains("r2 failed, r1 runs again"), "{said:?}");
    assert_eq!(host.pid("web.1"), before);
    let journal = host.journal(&["--output=short-unix", "--unit=deployd", "--unit=deployd-nft"]);
    let at = |text: &str, from: f64| {
        let lines = journal.lines().filter(|line| line.contains(text));
        let mut times = lines.filter_map(|line| line.split(' ').next()?.parse::<f64>().ok());
        times.find(|time| *time >= from).unwrap_or_else(|| panic!("{text}: {journal}"))
    };
    let detected = at("roll back: release r2", 0.0);
    let switched = at("Finished deployd-nft.service", detected);
    assert!(switched - detected < 1.0, "{}", switched - detected);
}

#[test]
fn a_rollback_in_the_settle_window_is_instant() {
    let host = serving_r1();
    let before = host.pid("web.1");
    host.publish(&graceful("r2").set("DEPLOY_SETTLE=60s"));
    let deploying = host.command(&["deploy", &url("r2")]).spawn();
    host.wait_for("switch", SOON, || host.served().filter(|served| served == "r2"));
    let status = host.wait_for("window", SOON, || {
        Some(host.status()).filter(|status| !status["leaving"].is_null())
    });
    assert_eq!(status["leaving"]["units"][0], "deploy-my-app-web-r1@1.service", "{status:#}");
    unnoticed(&host, || host.deploy(&["rollback"]).exits(0));
    assert_eq!((host.served().as_deref(), host.pid("web.1")), (Some("r1"), before));
    let said = deploying.output().exits(20);
    assert!(said.stdout.contains("root asked for a rollback"), "{said:?}");
    assert_eq!(host.status()["release"], "r1");
}

#[test]
fn no_client_notices_that_deployd_is_killed_at_the_switch() {
    let host = serving_r1();
    let mut from = "r1";
    unnoticed(&host, || {
        for (to, at) in [("r2", "commit: "), ("r3", "converge: "), ("r4", "settle: ")] {
            host.publish(&graceful(to));
            let deploying = host.command(&["deploy", &url(to)]).spawn();
            let since = format!("{at}release {to}");
            let reached = || host.journal(&["-u", "deployd"]).matches(at).count();
            let before = reached();
            host.wait_for(&since, SOON, || (reached() > before).then_some(()));
            host.exec(&["systemctl", "kill", "--signal=KILL", "deployd"]).ok();
            let said = deploying.output();
            let runs = host.status()["release"].as_str().expect("a release").to_owned();
            assert!([from, to].contains(&runs.as_str()), "{said:?}");
            assert_eq!(host.served().as_ref(), Some(&runs));
            assert_eq!(said.status, Some(if runs == to { 0 } else { 1 }), "{said:?}");
            from = if runs == to { to } else { from };
        }
    });
}

/// One connection for as long as its client wants, like a WebSocket.
struct Kept(TcpStream);

impl Kept {
    fn open(host: &Host) -> Kept {
        let address = SocketAddr::from((host.address(), 5000));
        Kept(host.network.within(|| TcpStream::connect(address)).expect("connect"))
    }

    /// Returns the release that responds; `None` if the connection has ended.
    fn ask(&mut self) -> Option<String> {
        self.0.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").ok()?;
        let mut answer = [0; 1024];
        let length = self.0.read(&mut answer).ok().filter(|length| *length > 0)?;
        let answer = String::from_utf8_lossy(&answer[..length]).into_owned();
        answer.rsplit("\r\n").next().map(str::to_owned)
    }
}

#[test]
fn a_long_connection_stays_where_it_was_opened_until_it_ends() {
    let host = serving_r1();
    let mut kept = Kept::open(&host);
    assert_eq!(kept.ask().as_deref(), Some("r1"));
    host.publish(&graceful("r2").set("DEPLOY_DRAIN_TIMEOUT=60s"));
    let deploying = host.command(&["deploy", &url("r2")]).spawn();
    host.wait_for("drain", SOON, || {
        let status = host.status();
        (status["release"] == "r2" && status["state"] == "good").then_some(())
    });
    assert_eq!(host.served().as_deref(), Some("r2"));
    assert_eq!(kept.ask().as_deref(), Some("r1"), "the connection outlives the settle window");
    let leaving = host.wait_for("leaving", SOON, || {
        Some(host.status()["leaving"].clone()).filter(|leaving| leaving["connections"] == 1)
    });
    assert_eq!(leaving["units"][0], "deploy-my-app-web-r1@1.service", "{leaving:#}");
    let shown = host.deploy(&["status"]).ok();
    assert!(shown.contains("deploy-my-app-web-r1@1.service: 1 connections, at most"), "{shown}");
    drop(kept);
    let ended = Instant::now();
    deploying.output().exits(0);
    assert!(ended.elapsed() < Duration::from_secs(30), "it did not wait for the timeout");

    let mut kept = Kept::open(&host);
    assert_eq!(kept.ask().as_deref(), Some("r2"));
    host.publish(&graceful("r3").set("DEPLOY_DRAIN_TIMEOUT=3s"));
    host.deploys("r3");
    assert_eq!(kept.ask(), None, "the connection ends at the drain timeout");
}

#[test]
fn private_ports_cannot_be_reached_from_other_machines() {
    let host = serving_r1();
    host.publish(&graceful("r2"));
    host.deploys("r2");
    let port = u16::try_from(host.web_listens_on()[0]).expect("a port");
    let outside = SocketAddr::from((host.address(), port));
    let direct = || TcpStream::connect_timeout(&outside, Duration::from_millis(500));
    host.network.within(|| direct().expect_err("a private port"));
    let local = SocketAddr::from(([127, 0, 0, 1], port));
    host.instance.within(|| TcpStream::connect(local)).expect("the agent's own probes");
    // No two installed releases have the same private port.
    let manifests =
        host.sh("cat /var/lib/deploy/apps/*/releases/*/release.json | grep -A1 private_ports");
    let ports: Vec<&str> = manifests.lines().filter(|line| line.contains("2")).collect();
    assert_eq!(ports.len(), 2, "{manifests}");
    assert_ne!(ports[0], ports[1]);
    host.deploy(&["remove", "my-app", "--yes"]).exits(0);
    assert_eq!(host.sh("nft list tables"), "");
}

#[test]
fn several_processes_share_the_port_and_their_number_may_change() {
    let host = Host::boot();
    host.publish(&graceful("r1").set("DEPLOY_CONCURRENCY=web=2"));
    host.deploys("r1");
    assert_eq!(host.web_listens_on().len(), 2);
    host.publish(&graceful("r2").set("DEPLOY_CONCURRENCY=web=4"));
    unnoticed(&host, || host.deploys("r2"));
    let ports = host.web_listens_on();
    assert_eq!(ports.len(), 4);
    for _ in 0..8 {
        assert_eq!(host.served().as_deref(), Some("r2"));
    }
    for port in ports {
        let taken = host.sh(&format!(
            "ss --no-header --tcp --numeric state all 'sport = :{port}' | grep -vc LISTEN || true"
        ));
        assert_ne!(taken.trim(), "0", "no connection reached {port}");
    }
}

/// Loading the machine's own firewall flushes every table.
#[test]
fn the_map_is_restored_after_a_reload_of_the_firewall() {
    let host = serving_r1();
    for verb in ["start", "reload", "restart"] {
        host.exec(&["systemctl", verb, "nftables"]).ok();
        host.wait_for("answer", SOON, || host.served());
    }
    host.exec(&["nft", "add", "table", "inet", "somebody"]).ok();
    host.publish(&graceful("r2"));
    host.deploys("r2");
    assert!(host.sh("nft list tables").contains("table inet somebody"));
    host.reboot();
    host.wait_for("answer", SOON, || host.served().filter(|served| served == "r2"));
}

/// Changes of the map by other programs, each of which would leave clients refused.
#[test]
fn the_map_is_restored_whichever_program_flushes_it() {
    let host = serving_r1();
    let damage = [
        "nft flush ruleset",
        "nft -f /etc/nftables.conf",
        "systemctl stop nftables",
        "nft delete table inet deploy",
        "nft flush chain inet deploy public",
        "nft flush chain inet deploy output; nft flush chain inet deploy prerouting",
        "nft insert rule inet deploy public tcp dport 5000 return",
    ];
    for damage in damage {
        host.sh(damage);
        let since = Instant::now();
        host.wait_for("answer", SOON, || host.served());
        let took = since.elapsed();
        println!("{damage}: clients were served again after {took:?}");
        // Requests may have been served all along.
        host.wait_for("whole map", SOON, || {
            let rules = host.sh("nft list table inet deploy || true");
            (rules.contains("dnat") && !rules.contains("dport 5000 return")).then_some(())
        });
    }
    let journal = host.journal(&["-u", "deployd"]);
    assert!(journal.contains("the port map (table inet deploy) was changed"), "{journal}");
    let status = host.status();
    assert!(status["port_map"].as_str().expect("a word").contains("loaded again: "), "{status:#}");
    assert!(host.deploy(&["status"]).ok().contains("port map  flushed by another program"));
    assert_eq!(status["healthy"], true);
    // A map of another program is left alone.
    host.sh("nft add table inet somebody; nft add chain inet somebody theirs");
    assert!(host.sh("nft list ruleset").contains("chain theirs"));
}

/// A process that is healthy on its private port is not enough: no client connects there.
#[test]
fn a_map_that_cannot_be_restored_is_a_fault() {
    let host = serving_r1();
    host.sh(
        "cp /usr/sbin/nft /root/nft; mv /usr/sbin/nft /usr/sbin/nft.gone; /root/nft flush ruleset",
    );
    let status = host.status();
    assert_eq!(status["healthy"], false);
    let fault = status["fault"].as_str().expect("a fault");
    assert!(fault.contains("its public port 127.0.0.1:5000 does not"), "{fault}");
    let said = host.deploy(&[&url("r1")]);
    assert_ne!(said.status, Some(0), "{said:?}");
    assert!(!said.stdout.contains("already running"), "{said:?}");
    host.sh("mv /usr/sbin/nft.gone /usr/sbin/nft");
    host.wait_for("answer", SOON, || host.served());
    host.wait_for("health", SOON, || (host.status()["healthy"] == true).then_some(()));
    assert_eq!(host.deploys("r1").stdout, "my-app r1 is already running\n");
}

#[test]
fn without_nftables_the_strategy_is_restart_with_a_warning() {
    let host = Host::boot();
    host.sh("mv /usr/sbin/nft /root/");
    host.publish(&graceful("r1"));
    let said = host.deploys("r1");
    assert!(said.stderr.contains("/usr/sbin/nft is not there"), "{said:?}");
    assert_eq!(host.web_listens_on(), [5000]);
    assert_eq!(host.deploys("r1").stdout, "my-app r1 is already running\n");
    host.sh("mv /root/nft /usr/sbin/");
    // Then a handover again, from a process that holds the public port itself.
    host.publish(&graceful("r2"));
    unnoticed(&host, || host.deploys("r2"));
    assert_ne!(host.web_listens_on(), [5000]);
    host.publish(&graceful("r3").set("DEPLOY_STRATEGY=restart"));
    host.deploys("r3");
    assert_eq!((host.served().as_deref(), host.web_listens_on()), (Some("r3"), vec![5000]));
    host.deploy(&["rollback"]).exits(0);
    assert_eq!(host.served().as_deref(), Some("r2"));
}

/// Two clocks would run every job twice.
#[test]
fn a_singleton_never_runs_in_two_releases() {
    let host = Host::boot();
    let clock = "clock: trap 'echo clock ends; exit 0' TERM; echo clock begins; while :; do sleep 0.1; done";
    let release = |name| {
        let procfile = format!("web: python3 server.py\n{clock}\n");
        graceful(name).procfile(&procfile).set("DEPLOY_SINGLETON=clock")
    };
    host.publish(&release("r1"));
    host.deploys("r1");
    host.publish(&release("r2"));
    host.deploys("r2");
    let failing = release("r3").set("BEHAVE=crash");
    host.publish(&failing);
    let clock = host.pid("clock.1");
    host.deploy(&[&url("r3")]).exits(12);
    assert_eq!(host.pid("clock.1"), clock, "the clock is replaced last");
    let journal = host.journal(&["--output=cat", "SYSLOG_IDENTIFIER=my-app.clock.1"]);
    let said: Vec<&str> = journal.lines().collect();
    let said: Vec<&str> = said.into_iter().filter(|line| line.starts_with("clock")).collect();
    assert_eq!(said, ["clock begins", "clock ends", "clock begins"]);
}

/// No process listens between a crash and the next start. Clients on other machines retransmit,
/// as TCP does, instead of being refused.
#[test]
fn a_client_waits_for_a_process_that_has_died() {
    let host = serving_r1();
    let outside = SocketAddr::from((host.address(), 5000));
    let load = Load::on(&[outside]).connections(4).longest(Duration::from_secs(60));
    let load = host.network.within(|| load.start());
    load.wait_for(10);
    let web = host.pid("web.1").expect("it runs").to_string();
    host.exec(&["kill", "-KILL", &web]).ok();
    host.wait_for("restart", SOON, || host.pid("web.1").filter(|pid| pid.to_string() != web));
    load.wait_for(40);
    let tally = load.stop();
    assert_eq!(tally.count(Fault::Refused), 0, "{tally}");
    assert_eq!(tally.failed(), tally.count(Fault::Cut), "only open requests may fail: {tally}");
}

/// The running release is deployed again while one process is down: only that one is started.
#[test]
fn a_deploy_of_the_running_release_starts_only_missing_processes() {
    let host = Host::running_r1();
    let [web, worker] = host.pids();
    host.sh("systemctl stop deploy-my-app-worker-r1@1");
    host.deploys("r1");
    let now = host.pids();
    assert_eq!(now[0], web, "web.1 was running");
    assert_ne!(now[1], worker);
}

#[test]
fn udp_is_handed_over_too() {
    const ECHO: &str = "import os, socket\n\
        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n\
        port = int(os.environ['PORT'])\n\
        s.bind(('0.0.0.0', port))\n\
        t = socket.create_server(('0.0.0.0', port))\n\
        while True:\n\
        \x20   _, client = s.recvfrom(100)\n\
        \x20   s.sendto(open('VERSION', 'rb').read(), client)\n";
    let host = Host::boot();
    for release in ["r1", "r2"] {
        let echo = Release::empty(release).file("echo.py", ECHO).file("VERSION", release);
        host.publish(&echo.procfile("web: python3 echo.py\n").set("DEPLOY_UDP=yes"));
        host.deploys(release);
        let answer = host.network.within(|| {
            let socket = UdpSocket::bind("0.0.0.0:0").expect("bind");
            socket.set_read_timeout(Some(SOON)).expect("a timeout");
            socket.send_to(b"?", (host.address(), 5000)).expect("send");
            let mut answer = [0; 100];
            let (length, from) = socket.recv_from(&mut answer).expect("an answer");
            assert_eq!(from.port(), 5000);
            String::from_utf8_lossy(&answer[..length]).into_owned()
        });
        assert_eq!(answer, release);
    }
}
