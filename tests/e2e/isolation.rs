//! One app's trouble stays its own: neither damaged state of an app nor a mistake in the
//! settings affects other apps or running processes.

use serde_json::Value;
use testkit::app::{Release, url};
use testkit::host::{Host, SOON};

const BROKEN: &str = "/var/lib/deploy/apps/broken";

fn of(app: &str, release: &str) -> String {
    format!("s3://releases/{app}/production/{release}")
}

/// `my-app` on port 5000 and `broken` on 5001, each with r1.
fn two_apps() -> Host {
    let host = Host::running_r1();
    host.publish(&Release::new("r2"));
    Release::new("r1").set("PORT=5001").publish_as(host.s3(), "broken");
    host.deploy(&[&of("broken", "r1")]).exits(0);
    host
}

fn broken_serves(host: &Host) -> bool {
    let url = format!("http://{}:5001/", host.address());
    host.network.http_get(&url).is_ok_and(|answer| answer.status == 200 && answer.body == "r1")
}

fn main_pid(host: &Host) -> String {
    host.sh("systemctl show -P MainPID deploy-broken-web-r1@1.service")
}

fn of_app<'a>(status: &'a Value, app: &str) -> &'a Value {
    let apps = status.as_array().expect("a list");
    apps.iter().find(|one| one["app"] == app).unwrap_or_else(|| panic!("{app}: {status:#}"))
}

#[test]
fn a_damaged_app_runs_on_and_the_others_can_be_deployed_rolled_back_and_listed() {
    let host = two_apps();
    let pid = main_pid(&host);
    let damages = [
        ("release.json", format!("echo '{{' >{BROKEN}/releases/r1/release.json")),
        ("release.json", format!(": >{BROKEN}/releases/r1/release.json")),
        (
            "release.json",
            format!(
                "rm {BROKEN}/releases/r1/release.json; mkdir {BROKEN}/releases/r1/release.json"
            ),
        ),
        ("current", format!("rm {BROKEN}/current; ln -s /etc {BROKEN}/current")),
        ("current", format!("rm {BROKEN}/current; mkdir {BROKEN}/current")),
        ("stopped", format!("mkdir {BROKEN}/stopped")),
        ("machine", format!(": >{BROKEN}/machine")),
    ];
    host.sh(&format!("cp -a {BROKEN} /root/sound"));
    for (file, damage) in damages {
        host.sh(&damage);
        host.deploys("r2");
        assert_eq!(host.served().as_deref(), Some("r2"), "{damage}");
        host.deploy(&["rollback", "my-app"]).exits(0);
        let status = host.json(&["status", "--json"]);
        assert_eq!(of_app(&status, "my-app")["healthy"], true, "{status:#}");
        let broken = of_app(&status, "broken");
        let why = broken["damaged"].as_str().unwrap_or_else(|| panic!("{damage}: {broken:#}"));
        assert!(why.contains(&format!("/{file}: ")), "{why}");
        assert!(why.contains("`deploy remove --force broken`"), "{why}");
        assert_eq!(broken["healthy"], false);
        assert_eq!(broken["processes"][0]["state"], "running", "{broken:#}");
        let said = host.deploy(&["status"]).exits(12).stdout;
        assert!(said.contains("damaged") && said.contains(file), "{said}");
        // The generator writes units and map again, and the daemon restarts.
        host.sh("systemctl daemon-reload; systemctl restart deployd");
        host.deploy(&["releases"]).ok();
        host.deploy(&["history"]).ok();
        assert!(broken_serves(&host), "{damage}");
        assert_eq!(main_pid(&host), pid, "{damage}");
        host.sh(&format!("rm -rf {BROKEN}/* && cp -a /root/sound/. {BROKEN}/"));
    }
}

#[test]
fn a_damaged_app_comes_up_at_boot_and_keeps_its_ports() {
    let host = two_apps();
    host.sh(&format!("echo '{{' >{BROKEN}/releases/r1/release.json"));
    host.instance.reboot();
    host.wait_for("both apps", SOON, || {
        (broken_serves(&host) && host.served().as_deref() == Some("r1")).then_some(())
    });
    // The damaged app's port is not given to another app.
    host.publish(&Release::new("r3").set("PORT=5001"));
    let said = host.deploy(&[&url("r3")]).exits(10);
    assert!(said.stdout.contains("the app broken has it"), "{said:?}");
    // A command for the damaged app names the damage.
    let said = host.deploy(&["rollback", "broken"]).exits(1);
    assert!(said.stdout.contains("releases/r1/release.json"), "{said:?}");
    assert!(said.stderr.contains("`deploy remove --force broken`"), "{said:?}");
    assert!(broken_serves(&host));
}

#[test]
fn a_mistake_in_the_settings_removes_no_unit() {
    let host = Host::boot();
    host.sh("mkdir /srv/deploy
        mkdir -p /etc/systemd/system/deployd.service.d
        printf '[Service]\\nReadWritePaths=/srv/deploy\\n' \\
            >/etc/systemd/system/deployd.service.d/state.conf
        systemctl daemon-reload");
    host.configure("DEPLOY_STATE_DIR=/srv/deploy\n");
    host.sh("systemctl restart deployd");
    host.publish(&Release::new("r1"));
    host.deploys("r1");
    let pids = host.pids();
    let units = "ls /run/systemd/generator | grep ^deploy";
    let before = host.sh(units);
    host.sh("cp -a /etc/deploy/agent.env /root/agent.env");
    for mistake in [
        "echo 'X=\"no end' >>/etc/deploy/agent.env",
        "echo 'DEPLOY_STATE_DIR=srv' >>/etc/deploy/agent.env",
        "rm /etc/deploy/agent.env; mkdir /etc/deploy/agent.env",
    ] {
        host.sh(mistake);
        host.sh("systemctl daemon-reload");
        assert_eq!(host.sh(units), before, "{mistake}");
        assert_eq!(host.served().as_deref(), Some("r1"), "{mistake}");
        host.sh("rm -rf /etc/deploy/agent.env; cp -a /root/agent.env /etc/deploy/agent.env");
    }
    assert_eq!(host.pids(), pids);
    host.sh("echo 'X=\"no end' >>/etc/deploy/agent.env");
    host.instance.reboot();
    host.wait_for("r1", SOON, || host.served().filter(|served| served == "r1"));
}

/// A build that changes its Procfile does not make the release a different one.
#[test]
fn a_release_whose_build_changes_its_procfile_is_still_already_running() {
    let host = Host::boot();
    for (name, change) in [("r1", "echo 'web: other' >Procfile"), ("r2", "rm Procfile")] {
        let text = format!("web: python3 app.py web\nbuild: {change}\n");
        host.publish(&Release::new(name).procfile(&text));
        host.deploys(name);
        let before = host.state();
        let said = host.deploys(name);
        assert_eq!(said.stdout, format!("my-app {name} is already running\n"));
        assert_eq!(host.state(), before);
    }
}

#[test]
fn remove_by_force_removes_a_damaged_app_and_no_other() {
    let host = two_apps();
    let pids = host.pids();
    let damages = [
        format!("echo '{{' >{BROKEN}/releases/r1/release.json"),
        format!("rm {BROKEN}/current; mkdir {BROKEN}/current"),
        format!("rm -r {BROKEN}/lock; mkdir {BROKEN}/lock"),
        format!("rm -r {BROKEN}/releases; touch {BROKEN}/releases"),
        format!("rm -r {BROKEN}/machine {BROKEN}/known.json; mkdir {BROKEN}/machine"),
    ];
    for damage in damages {
        host.sh(&damage);
        let said = host.deploy(&["remove", "broken", "--force", "--yes"]).exits(0);
        assert_eq!(said.stdout, "removed broken\n", "{damage}");
        assert_eq!(host.sh("ls -A /var/lib/deploy/apps"), "my-app\n", "{damage}");
        assert_eq!(host.sh("ls /run/systemd/generator | grep broken || true"), "");
        let units = "systemctl list-units --all --plain --no-legend 'deploy-broken*'";
        assert_eq!(host.sh(units), "", "{damage}");
        assert!(!broken_serves(&host));
        assert_eq!(host.pids(), pids);
        host.deploy(&[&of("broken", "r1")]).exits(0);
        assert!(broken_serves(&host));
    }
}

#[test]
fn a_dry_run_of_the_generator_prints_each_unit_and_why_one_is_missing() {
    let host = Host::running_r1();
    Release::new("r1").set("PORT=5001").publish_as(host.s3(), "broken");
    host.deploy(&["s3://releases/broken/production/r1"]).exits(0);
    let broken = "/var/lib/deploy/apps/broken";
    host.sh(&format!("echo '{{' >{broken}/releases/r1/release.json; rm {broken}/known.json"));
    let before = host.sh("find /run/systemd/generator | sort");
    let said = host.sh("/usr/lib/systemd/system-generators/deploy-generator --dry-run");
    assert!(said.contains("# deploy-my-app-web-r1@.service\n[Unit]\n"), "{said}");
    assert!(said.contains("# problem: broken: "), "{said}");
    assert_eq!(host.sh("find /run/systemd/generator | sort"), before);
}
