//! Ports that are taken, reserved or unreachable, and units of other programs: detected before
//! anything stops.

use testkit::app::{Release, url};
use testkit::host::{Host, SOON};

const RESERVED: &str = "/proc/sys/net/ipv4/ip_local_reserved_ports";

fn reserved(host: &Host, list: &str) {
    host.wait_for("reservation", SOON, || {
        (host.sh(&format!("cat {RESERVED}")).trim() == list).then_some(())
    });
}

/// Lets the instance change the sysctls of its own network namespace.
fn with_sysctl(host: &Host) {
    host.sh("mount -o remount,bind,rw /proc/sys");
}

#[test]
fn no_outgoing_connection_gets_a_private_port() {
    let host = Host::boot();
    with_sysctl(&host);
    host.exec(&["systemctl", "restart", "deployd"]).ok();
    reserved(&host, "29000-29999");
    host.sh("echo 1024 65535 >/proc/sys/net/ipv4/ip_local_port_range");
    // The agent's own reservation does not keep it from using these ports.
    host.publish(&Release::new("r1"));
    host.deploys("r1");
    assert_eq!(host.web_listens_on(), [29000]);

    // Another program's list replaces ours. The agent merges the two, and uses no port of the
    // other list.
    host.sh(&format!("echo 8080,29001-29100 >{RESERVED}"));
    host.exec(&["systemctl", "restart", "deployd"]).ok();
    reserved(&host, "8080,29000-29999");
    host.publish(&Release::new("r2"));
    host.deploys("r2");
    assert_eq!(host.web_listens_on(), [29101]);
}

#[test]
fn the_private_ports_are_reserved_at_boot_without_deployd() {
    let host = Host::running_r1();
    host.write(
        "/etc/systemd/system/with-sysctl.service",
        "[Unit]\nDefaultDependencies=no\nBefore=systemd-sysctl.service deployd-ports.service\n\
         [Service]\nType=oneshot\nExecStart=mount -o remount,bind,rw /proc/sys\n\
         ExecStart=/usr/lib/systemd/systemd-sysctl\n\
         [Install]\nWantedBy=sysinit.target\n",
    );
    host.exec(&["systemctl", "enable", "with-sysctl"]).ok();
    host.write("/etc/sysctl.d/99-own.conf", "net.ipv4.ip_local_reserved_ports = 8080\n");
    host.exec(&["systemctl", "disable", "--now", "deployd.service", "deployd.socket"]).ok();
    host.reboot();
    reserved(&host, "8080,29000-29999");
    host.wait_for("answer", SOON, || host.served());
}

#[test]
fn a_public_port_among_the_private_ones_is_refused() {
    let host = Host::running_r1();
    let before = host.state();
    for (name, env) in [("r2", "PORT=29500"), ("r3", "PORT=29500 DEPLOY_STRATEGY=restart")] {
        host.publish(&Release::new(name).set(env));
        let said = host.deploy(&[&url(name)]).exits(10);
        assert!(said.stdout.contains("29000 to 29999"), "{said:?}");
        assert_eq!(host.state(), before);
    }
}

#[test]
fn a_port_that_only_root_may_bind_is_detected_before_anything_stops() {
    let host = Host::running_r1();
    let pids = host.pids();
    host.publish(&Release::new("r2").set("PORT=80 DEPLOY_STRATEGY=restart"));
    let said = host.deploy(&[&url("r2")]).exits(10);
    assert!(said.stdout.contains("needs a PORT from 1024 on"), "{said:?}");
    assert!(said.stderr.contains("DEPLOY_STRATEGY=handover"), "{said:?}");
    assert_eq!(host.pids(), pids);
    with_sysctl(&host);
    host.sh("echo 80 >/proc/sys/net/ipv4/ip_unprivileged_port_start");
    host.deploys("r2");
}

#[test]
fn another_program_on_the_udp_port_is_detected_before_the_map_hides_it() {
    let host = Host::boot();
    let bind = "import socket,time; s=socket.socket(socket.AF_INET,socket.SOCK_DGRAM); \
                s.bind(('127.0.0.1',5000)); time.sleep(9999)";
    host.write("/root/stranger.py", bind);
    host.exec(&["systemd-run", "--unit=stranger", "python3", "/root/stranger.py"]).ok();
    host.wait_for("stranger", SOON, || {
        host.sh("ss --no-header --udp --listening --numeric").contains(":5000").then_some(())
    });
    host.publish(&Release::new("r1").set("DEPLOY_UDP=yes"));
    let said = host.deploy(&[&url("r1")]).exits(10);
    assert!(said.stdout.contains("has it for UDP"), "{said:?}");
    host.publish(&Release::new("r2"));
    host.deploys("r2");
}

#[test]
fn a_drop_in_for_all_apps_leaves_the_units_of_the_agent_alone() {
    let host = Host::boot();
    host.write("/etc/systemd/system/deploy-.service.d/all.conf", "[Service]\nNice=5\n");
    host.exec(&["systemctl", "daemon-reload"]).ok();
    host.publish(&Release::new("r1"));
    host.deploys("r1");
    let nice = |unit: &str| host.sh(&format!("systemctl show --value -p Nice '{unit}'"));
    assert_eq!(nice("deploy-my-app-web-r1@1.service"), "5\n");
    assert_eq!(nice("deployd-ports.service"), "0\n");
    for app in ["ports", "nft", "reserve", "journal"] {
        Release::new("r1").set("PORT=5001").publish_as(host.s3(), app);
        host.deploy(&[&format!("s3://releases/{app}/production/r1")]).exits(0);
        host.deploy(&["remove", app, "--yes"]).exits(0);
    }
}

#[test]
fn builds_of_apps_with_similar_names_run_concurrently() {
    let host = Host::boot();
    let build = "web: python3 app.py web\nbuild: sleep 2\n";
    Release::new("build-x").procfile(build).publish_as(host.s3(), "a");
    Release::new("x").procfile(build).set("PORT=5001").publish_as(host.s3(), "a-build");
    let one = host.command(&["deploy", "s3://releases/a/production/build-x"]).spawn();
    host.deploy(&["s3://releases/a-build/production/x"]).exits(0);
    one.output().exits(0);
}

#[test]
fn names_too_long_for_systemd_are_refused_and_leave_nothing() {
    let host = Host::boot();
    let app = format!("a{}", "-".repeat(62));
    Release::new("r1").publish_as(host.s3(), &app);
    let said = host.deploy(&[&format!("s3://releases/{app}/production/r1")]).exits(10);
    assert!(said.stdout.contains("systemd takes 253"), "{said:?}");
    assert_eq!(host.sh("ls -A /var/lib/deploy/apps"), "");
    // With its type and release, one byte longer than the PrivateTmp directory's name allows.
    let app = "a".repeat(63);
    for (length, exit) in [(55, 10), (54, 0)] {
        let (kind, name) = ("k".repeat(length), "r".repeat(63));
        let procfile = format!("web: python3 app.py web\n{kind}: sleep 99\n");
        Release::new(&name).procfile(&procfile).publish_as(host.s3(), &app);
        let said = host.deploy(&[&format!("s3://releases/{app}/production/{name}")]).exits(exit);
        assert_eq!(said.stdout.contains("systemd takes 199"), exit == 10, "{said:?}");
    }
}

#[test]
fn a_mistyped_url_leaves_nothing() {
    let host = Host::running_r1();
    host.publish(&Release::new("r2"));
    for arguments in
        [&["s3://releases/my-ap/production/r2"][..], &["stage", "s3://releases/my-ap/x/r2"]]
    {
        host.deploy(arguments).exits(11);
        assert_eq!(host.sh("ls -A /var/lib/deploy/apps"), "my-app\n");
    }
    assert_eq!(host.deploy(&["status", "--json"]).ok().matches("\"app\"").count(), 1);
    assert_eq!(host.sh("stat -c %a /var/lib/deploy/apps/my-app/history.jsonl"), "600\n");
}

#[test]
fn the_status_of_an_unhealthy_app_has_its_own_exit_code() {
    let host = Host::running_r1();
    Release::new("r1").set("PORT=5001").publish_as(host.s3(), "other");
    host.deploy(&["s3://releases/other/production/r1"]).exits(0);
    host.deploy(&["status"]).exits(0);
    host.sh("systemctl stop deploy-my-app-web-r1@1.service");
    for arguments in [&["status"][..], &["status", "--json"], &["status", "my-app"]] {
        let said = host.deploy(arguments).exits(12);
        assert!(said.stdout.contains("my-app"), "{said:?}");
    }
    host.deploy(&["status", "other"]).exits(0);
    // An app stopped on purpose is not unhealthy.
    host.deploy(&["stop", "my-app"]).exits(0);
    host.deploy(&["status"]).exits(0);
}

#[test]
fn needrestart_leaves_the_apps_alone() {
    let image = Host::image().with_packages("needrestart", &["needrestart"]);
    let host = Host::of(&image);
    host.publish(&Release::new("r1"));
    host.deploys("r1");
    let pids = host.pids();
    // Replaces a library that the apps have mapped, as an upgrade does.
    host.sh("lib=$(ls -d /lib/*-linux-gnu/libc.so.6)
        cp $(readlink -f $lib) /root/new; mv /root/new $(readlink -f $lib)");
    // The first call only lists, and so does `-r a` in batch mode.
    let said = host.sh("needrestart -b 2>&1; needrestart -r a >/dev/null 2>&1");
    assert!(said.contains("NEEDRESTART-SVC: deploy-my-app-web-r1@1.service"), "{said}");
    assert_eq!(host.pids(), pids);
    // Without the package's file, needrestart does restart them.
    host.sh("rm /etc/needrestart/conf.d/deploy-agent.conf; needrestart -r a >/dev/null 2>&1");
    host.wait_for("a restart", SOON, || (host.pid("web.1")? != pids[0]).then_some(()));
}

#[test]
fn an_app_whose_user_became_an_operator_is_refused() {
    let host = Host::running_r1();
    for user in ["app-my-app", "build-my-app"] {
        host.exec(&["usermod", "--append", "--groups", "deploy", user]).ok();
        for arguments in [&["status"][..], &["stop", "my-app"], &["remove", "my-app", "--yes"]] {
            let said = host.deploy_as(user, arguments).exits(2);
            assert!(
                said.stderr.contains("no app may control the agent")
                    || said.stdout.contains("no app may control the agent"),
                "{said:?}"
            );
        }
    }
    host.deploy_as("deployer", &["status"]).exits(0);
    assert_eq!(host.served().as_deref(), Some("r1"));
}
