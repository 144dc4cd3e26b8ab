//! Healthy means that clients reach the app: the address on which a process listens, the
//! clients that it serves, and its readiness notification.

use testkit::app::{Release, url};
use testkit::host::{Host, SOON};

const APP: &str = include_str!("reach.py");

fn release(name: &str, env: &str) -> Release {
    let release = Release::empty(name).file("web.py", APP).file("VERSION", name);
    release.procfile("web: python3 web.py\n").set("DEPLOY_HEALTH_TIMEOUT=4s").set(env)
}

/// Returns the response of the process at this address of the instance, asked from the instance
/// itself.
fn served_at(host: &Host, address: &str) -> Option<String> {
    let ask = format!("curl -sf -m 5 http://{address}:5000/ || true");
    Some(host.sh(&ask)).filter(|answer| !answer.is_empty())
}

/// Gives the instance an IPv6 address.
fn with_ipv6(host: &Host) -> &'static str {
    host.sh("ip -6 address add 2001:db8::11/64 dev eth0 nodad");
    "[2001:db8::11]"
}

const UNREACHED: [(&str, &str); 4] = [
    ("127.0.0.1", "no client from another machine reaches it"),
    ("[::1]", "no client from another machine reaches it"),
    ("[::1],127.0.0.1", "no client from another machine reaches it"),
    ("[::]!", "clients that come over IPv4 do not reach it"),
];

#[test]
fn a_first_release_that_no_client_reaches_fails() {
    let host = Host::boot();
    for strategy in ["handover", "restart"] {
        for (number, (bind, why)) in UNREACHED.iter().enumerate() {
            let name = format!("{strategy}-{number}");
            let env = format!("BIND='{bind}' DEPLOY_STRATEGY={strategy}");
            host.publish(&release(&name, &env));
            let said = host.deploy(&[&url(&name)]).exits(12);
            assert!(said.stdout.contains(why), "{bind}: {said:?}");
            let address = bind.split(',').next().unwrap_or(bind).trim_end_matches('!');
            assert!(said.stdout.contains(&format!("{address}:")), "{bind}: {said:?}");
            assert!(said.stderr.contains("bind 0.0.0.0"), "{bind}: {said:?}");
            assert_eq!(host.status()["healthy"], false);
        }
    }
}

#[test]
fn a_release_that_no_client_reaches_does_not_replace_one_that_serves() {
    let host = Host::boot();
    host.publish(&release("r1", "BIND=0.0.0.0"));
    host.deploys("r1");
    for (number, (bind, why)) in UNREACHED.iter().enumerate() {
        let name = format!("r2-{number}");
        host.publish(&release(&name, &format!("BIND='{bind}'")));
        let said = host.deploy(&[&url(&name)]).exits(12);
        assert!(said.stdout.contains(why), "{bind}: {said:?}");
        assert_eq!(host.served().as_deref(), Some("r1"));
    }
    // One bad process of two fails every second client.
    let env = "BIND=0.0.0.0 BIND_2=127.0.0.1 DEPLOY_CONCURRENCY=web=2";
    host.publish(&release("half", env));
    let said = host.deploy(&[&url("half")]).exits(12);
    assert!(said.stdout.contains("web.2"), "{said:?}");
    assert_eq!(host.served().as_deref(), Some("r1"));
}

#[test]
fn the_instances_own_address_counts_as_reachable_by_clients() {
    let host = Host::boot();
    let address = host.address();
    for strategy in ["handover", "restart"] {
        let env = format!("BIND={address} DEPLOY_STRATEGY={strategy} DEPLOY_HEALTH_PATH=/");
        host.publish(&release(strategy, &env));
        host.deploys(strategy);
        assert_eq!(host.served().as_deref(), Some(strategy));
        assert_eq!(host.status()["healthy"], true);
        let again = host.deploys(strategy).stdout;
        assert!(again.contains("is already running"), "{again}");
    }
}

#[test]
fn a_process_behind_a_proxy_on_the_same_instance_needs_loopback_alone() {
    let host = Host::boot();
    for strategy in ["handover", "restart"] {
        for bind in ["127.0.0.1", "[::1]", "0.0.0.0"] {
            let name = format!("{strategy}-{}", bind.replace(['[', ']', ':', '.'], ""));
            let env = format!("BIND='{bind}' DEPLOY_CLIENTS=local DEPLOY_STRATEGY={strategy}");
            host.publish(&release(&name, &env));
            host.deploys(&name);
            let loopback = if bind == "[::1]" { bind } else { "127.0.0.1" };
            assert_eq!(served_at(&host, loopback).as_ref(), Some(&name));
            if (strategy, bind) != ("restart", "0.0.0.0") {
                assert_eq!(host.served(), None, "{name} is reached from outside");
            }
            assert_eq!(host.status()["healthy"], true);
        }
    }
}

#[test]
fn an_address_family_that_clients_use_stays_served() {
    let host = Host::boot();
    let ipv6 = with_ipv6(&host);
    host.publish(&release("r1", "BIND=0.0.0.0"));
    let said = host.deploys("r1");
    assert!(said.stderr.contains("clients do not reach it over IPv6"), "{said:?}");
    host.publish(&release("r2", "BIND='[::]'"));
    host.deploys("r2");
    assert_eq!(served_at(&host, ipv6).as_deref(), Some("r2"));
    host.publish(&release("r3", "BIND=0.0.0.0 MARK=r3"));
    let said = host.deploy(&[&url("r3")]).exits(12);
    assert!(said.stdout.contains("clients that come over IPv6 do not reach it"), "{said:?}");
    assert!(said.stderr.contains("bind [::]"), "{said:?}");
    assert_eq!(served_at(&host, ipv6).as_deref(), Some("r2"));
    // A release that was good once is good enough for a rollback.
    host.deploy(&["rollback"]).exits(0);
    assert_eq!(host.served().as_deref(), Some("r1"));
}

/// A socket on [::] serves IPv6 too, which no client uses if the instance has no IPv6.
#[test]
fn an_address_family_that_the_instance_lacks_is_not_required() {
    let host = Host::boot();
    host.publish(&release("r1", "BIND='[::]'"));
    host.deploys("r1");
    host.publish(&release("r2", "BIND=0.0.0.0"));
    host.deploys("r2");
    assert_eq!(host.served().as_deref(), Some("r2"));
}

/// 0.1.0 accepted any address: a release that it proved runs on, and stays a rollback target.
#[test]
fn a_release_that_0_1_proved_on_loopback_is_left_alone() {
    let host = Host::boot();
    host.publish(&release("r1", "BIND=127.0.0.1 DEPLOY_CLIENTS=local"));
    host.deploys("r1");
    let manifest = "/var/lib/deploy/apps/my-app/releases/r1/release.json";
    host.sh(&format!("sed -i '/\"clients\"/d; /\"serves\"/,/}}/d' {manifest}"));
    host.publish(&release("r1", "BIND=127.0.0.1"));
    let text = host.sh(&format!("cat {manifest}"));
    assert!(!text.contains("serves") && !text.contains("clients"), "{text}");
    let before = host.pid("web.1");
    let status = host.status();
    assert_eq!((&status["healthy"], &status["fault"]), (&true.into(), &().into()));
    host.deploy(&["restart", "my-app"]).exits(0);
    assert_ne!(host.pid("web.1"), before);
    host.publish(&release("r2", "BIND=0.0.0.0"));
    host.deploys("r2");
    host.deploy(&["rollback"]).exits(0);
    assert_eq!(host.status()["release"], "r1");
}

#[test]
fn a_process_that_moves_to_loopback_is_detected() {
    let host = Host::boot();
    host.publish(&release("r1", "BIND=0.0.0.0"));
    host.deploys("r1");
    let moving = "BIND=0.0.0.0 MOVE_TO=127.0.0.1 DEPLOY_SETTLE=";
    host.publish(&release("r2", &format!("{moving}20s MOVE_AFTER=2")));
    let said = host.deploy(&[&url("r2")]).exits(20);
    assert!(said.stdout.contains("no client from another machine reaches it"), "{said:?}");
    assert_eq!(host.served().as_deref(), Some("r1"));

    host.publish(&release("r3", &format!("{moving}0s MOVE_AFTER=3")));
    host.deploys("r3");
    let status = host.wait_for("fault", SOON, || {
        let status = host.status();
        let fault = status["fault"].as_str().unwrap_or_default();
        fault.starts_with("web.1: it listens on 127.0.0.1").then_some(status)
    });
    assert_eq!(status["healthy"], false);
    let shown = host.deploy(&["status"]).exits(12).stdout;
    assert!(shown.contains("fault     web.1: it listens on 127.0.0.1"), "{shown}");
    // The release is not "already running": it is started again, which heals it for a while.
    let said = host.deploys("r3");
    assert!(said.stdout.starts_with("deployed my-app r3"), "{said:?}");
}

#[test]
fn the_probes_host_header_and_accepted_statuses_are_configurable() {
    let host = Host::boot();
    let path = "DEPLOY_HEALTH_PATH=/up";
    host.publish(&release("stranger", &format!("HOST=www.example.com {path}")));
    let said = host.deploy(&[&url("stranger")]).exits(12);
    assert!(said.stdout.contains("answered 400"), "{said:?}");
    assert!(said.stderr.contains("set DEPLOY_HEALTH_HOST"), "{said:?}");
    let host_set = format!("HOST=www.example.com DEPLOY_HEALTH_HOST=www.example.com {path}");
    host.publish(&release("known", &host_set));
    host.deploys("known");

    let redirect = format!("REDIRECT=https://www.example.com/login {path}");
    host.publish(&release("strict", &format!("{redirect} DEPLOY_HEALTH_STATUS=200,204")));
    let said = host.deploy(&[&url("strict")]).exits(12);
    assert!(said.stdout.contains("answered 301 to https://www.example.com/login"), "{said:?}");
    assert!(said.stderr.contains("redirects are not followed"), "{said:?}");
    host.publish(&release("lenient", &redirect));
    host.deploys("lenient");
}

#[test]
fn a_process_that_notifies_is_ready_only_after_its_notification() {
    let host = Host::boot();
    let notify = "DEPLOY_READY=notify";
    host.publish(&release("r1", &format!("NOTIFY=2 {notify}")));
    let said = host.deploys("r1");
    assert!(said.stderr.contains("web.1: warming caches"), "{said:?}");
    let took = host.json(&["history", "my-app", "--json"])[0]["seconds"].as_f64();
    assert!(took.is_some_and(|took| took > 2.0), "{took:?}");
    assert_eq!(host.status()["healthy"], true);

    host.publish(&release("never", &format!("NOTIFY=3600 {notify}")));
    let said = host.deploy(&[&url("never")]).exits(12);
    assert!(said.stdout.contains("it has not sent READY=1; it says: warming caches"), "{said:?}");
    assert!(said.stderr.contains("set DEPLOY_READY=port"), "{said:?}");
    assert_eq!(host.served().as_deref(), Some("r1"));

    // The start waits for the network, and must not be taken for a process that ended.
    host.write(
        "/run/systemd/system/slow.service",
        "[Unit]\nBefore=network-online.target\n[Service]\nType=oneshot\nExecStart=sleep 3\n",
    );
    host.sh("mkdir -p /run/systemd/system/network-online.target.wants
        ln -s ../slow.service /run/systemd/system/network-online.target.wants/
        systemctl daemon-reload; systemctl stop network-online.target");
    host.publish(&release("later", &format!("NOTIFY=0.2 {notify}")));
    host.deploys("later");

    // Any process of the unit may notify, and so may a type without a port.
    let shell =
        "worker: python3 -c 'import time; time.sleep(1)'; systemd-notify --ready; sleep 3600\n";
    let worker = Release::empty("worker").procfile(shell).set(notify);
    host.publish(&worker);
    host.deploys("worker");
    host.reboot();
    host.wait_for("worker", SOON, || (host.status()["healthy"] == true).then_some(()));
}

#[test]
fn a_process_that_stops_its_watchdog_pings_is_restarted() {
    let host = Host::boot();
    host.publish(&release("r1", "PINGS=8 DEPLOY_WATCHDOG=2s"));
    host.deploys("r1");
    host.wait_for("restart", SOON, || {
        (host.status()["processes"][0]["restarts"] != 0).then_some(())
    });
    let journal = host.journal(&["-u", "deploy-my-app-web-r1@1.service"]);
    assert!(journal.contains("Watchdog timeout"), "{journal}");
}
