//! `make upgrade FROM=COMMIT`: the package of an earlier commit (0.1.0 by default) runs two
//! apps under load while this one is installed over it. No request fails, no process is
//! replaced, and every later operator command works.

#![allow(clippy::disallowed_methods, reason = "the tests are not the agent")]

use std::net::SocketAddr;
use std::time::Duration;
use testkit::app::{BUCKET, Release};
use testkit::graceful::SERVER;
use testkit::host::{Host, SOON};
use testkit::instance::{Image, package, package_of};
use testkit::load::Load;

const APPS: [(&str, u16); 2] = [("my-app", 5000), ("other", 5001)];
const NEW: &str = "/root/new.deb";

fn publish(host: &Host, release: &str) {
    for (app, port) in APPS {
        Release::empty(release)
            .file("server.py", SERVER)
            .file("VERSION", format!("{release}\n"))
            .procfile("web: exec python3 server.py\nworker: exec sleep 99999\n")
            .set(&format!("PORT={port}"))
            .publish_as(host.s3(), app);
    }
}

fn deploy(host: &Host, release: &str) {
    for (app, _) in APPS {
        host.deploy(&[&format!("s3://{BUCKET}/{app}/production/{release}")]).exits(0);
    }
}

/// The processes of the apps, each with its start time and user.
fn processes(host: &Host) -> String {
    host.sh("for unit in $(systemctl list-units --plain --no-legend --state=active 'deploy-*@*' |
                       cut -d ' ' -f 1); do
             ps -o user:20=,pid=,lstart=,args= -p $(systemctl show -P MainPID $unit)
         done")
}

#[test]
fn no_app_notices_an_upgrade_and_everything_works_afterwards() {
    let old = package_of("DEPLOY_DEB_OLD", "upgrade");
    let host = Host::of(&Host::image_with(Image::base(), "agent-to-upgrade", &old));
    for release in ["r1", "r2", "r3", "r4"] {
        publish(&host, release);
    }
    deploy(&host, "r1");
    deploy(&host, "r2");
    host.push(package(), NEW);
    let before = processes(&host);
    assert_eq!(before.lines().count(), 4, "{before}");
    let loads = APPS.map(|(_, port)| {
        let target = SocketAddr::from((host.address(), port));
        let load = Load::on(&[target]).connections(4).longest(Duration::from_secs(600));
        host.network.within(|| load.pause(Duration::from_millis(5)).start())
    });
    loads.iter().for_each(|load| load.wait_for(100));

    host.exec(&["dpkg", "--install", "--force-confold", NEW]).exits(0);
    loads.iter().for_each(|load| load.wait_for(200));
    assert_eq!(processes(&host), before, "after the upgrade");
    host.deploy(&["status"]).exits(0);
    host.deploy(&["history"]).exits(0);

    // Rolls back to a release of the old agent, then deploys a new one.
    for (app, _) in APPS {
        host.deploy(&["rollback", app]).exits(0);
    }
    deploy(&host, "r3");
    host.exec(&["systemctl", "daemon-reload"]).exits(0);
    for load in loads {
        load.wait_for(100);
        let tally = load.stop();
        println!("{tally}");
        assert_eq!(tally.failed(), 0, "{tally}");
    }

    host.deploy(&["restart", "my-app", "--own-user"]).exits(0);
    assert!(processes(&host).contains("app-my-app"), "{}", processes(&host));
    host.reboot();
    host.wait_for("its apps", SOON, || (host.deploy(&["status"]).status == Some(0)).then_some(()));
    deploy(&host, "r4");
    assert_eq!(host.served().as_deref(), Some("r4"));
    for (app, _) in APPS {
        host.deploy(&["remove", app, "--yes"]).exits(0);
    }
    assert_eq!(host.sh("ls -A /var/lib/deploy/apps"), "");
}
