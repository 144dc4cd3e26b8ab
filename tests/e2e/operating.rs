//! Operator commands for an installed app.

use serde_json::json;
use testkit::app::{Release, url};
use testkit::host::{Host, SOON};

#[test]
fn restarts_a_process_a_type_and_the_app() {
    let host = Host::boot();
    host.publish(&Release::new("r1").set("DEPLOY_CONCURRENCY=worker=2"));
    host.deploys("r1");
    let pids =
        || ["web.1", "worker.1", "worker.2"].map(|process| host.pid(process).expect(process));
    let changed = |arguments: &[&str]| {
        let before = pids();
        host.deploy(&[&["restart"], arguments].concat()).exits(0);
        assert_eq!(host.status()["healthy"], true);
        let after = pids();
        [0, 1, 2].map(|process| before[process] != after[process])
    };
    assert_eq!(changed(&["worker.2"]), [false, false, true]);
    assert_eq!(changed(&["worker"]), [false, true, true]);
    assert_eq!(changed(&["my-app", "web"]), [true, false, false]);
    assert_eq!(changed(&[]), [true, true, true]);
    assert_eq!(host.served().as_deref(), Some("r1"));
}

#[test]
fn removes_an_app_only_when_confirmed() {
    let host = Host::running_r1();
    Release::new("r1").set("PORT=5005").publish_as(host.s3(), "other-app");
    host.deploy(&["s3://releases/other-app/production/r1"]).exits(0);
    let said = host.deploy(&["rollback"]).exits(2);
    assert!(said.stdout.contains("my-app, other-app"), "{said:?}");

    let said = host.deploy(&["remove", "my-app"]).exits(2);
    assert!(said.stderr.contains("--yes"), "{said:?}");
    assert_eq!(host.served().as_deref(), Some("r1"));
    host.deploy(&["remove", "my-app", "--yes"]).exits(0);
    assert_eq!(host.served(), None);
    host.exec(&["test", "-e", "/var/lib/deploy/apps/my-app"]).exits(1);
    assert_eq!(host.sh("find /run/systemd/generator* -name 'deploy-my-app*'"), "");
    assert_eq!(host.sh("systemctl list-units --all --no-legend 'deploy-my-app*'"), "");
    let status = host.json(&["status", "--json"]);
    assert_eq!((&status[0]["app"], &status[0]["healthy"]), (&"other-app".into(), &true.into()));
    assert_eq!(status.as_array().map(Vec::len), Some(1));
    // The app can be deployed again, as if it had never been there.
    host.deploys("r1");
    assert_eq!(host.status()["rollback"], json!(null));
}

#[test]
fn refuses_a_port_that_is_taken() {
    let host = Host::running_r1();
    let before = host.state();
    Release::new("r1").publish_as(host.s3(), "other-app");
    let said = host.deploy(&["s3://releases/other-app/production/r1"]).exits(10);
    assert!(said.stdout.contains("the app my-app has it"), "{said:?}");
    host.exec(&["test", "-e", "/run/systemd/generator/deploy-other-app.target"]).exits(1);

    let serve = ["systemd-run", "--unit=stranger", "python3", "-m", "http.server", "5005"];
    host.exec(&serve).ok();
    let address = std::net::SocketAddrV4::new(host.address(), 5005);
    host.wait_for("stranger", SOON, || host.network.connect(address).ok());
    host.publish(&Release::new("r2").set("PORT=5005"));
    let said = host.deploy(&[&url("r2")]).exits(10);
    assert!(said.stdout.contains("python3 (pid "), "{said:?}");
    assert_eq!(host.served().as_deref(), Some("r1"));
    let pids = |state: &str| state.matches("MainPID").count();
    assert_eq!(pids(&host.state()), pids(&before));
}

#[test]
fn keeps_the_configured_number_of_releases() {
    let host = Host::boot();
    host.configure("DEPLOY_KEEP_RELEASES=2\n");
    let installed = || host.sh("ls /var/lib/deploy/apps/my-app/releases");
    for (release, expected) in
        [("r1", "r1\n"), ("r2", "r1\nr2\n"), ("r3", "r2\nr3\n"), ("r4", "r3\nr4\n")]
    {
        host.publish(&Release::new(release));
        host.deploys(release);
        assert_eq!(installed(), expected);
    }
    host.publish(&Release::new("broken").set("BEHAVE=crash"));
    host.deploy(&[&url("broken")]).exits(12);
    host.deploy(&["rollback"]).exits(0);
    assert_eq!(host.served().as_deref(), Some("r3"));
    // The current release and the rollback target are kept, however low the setting is.
    host.configure("DEPLOY_KEEP_RELEASES=1\n");
    host.publish(&Release::new("r5"));
    host.deploys("r5");
    let releases = host.json(&["releases", "--json"]);
    let roles: Vec<_> = releases
        .as_array()
        .expect("releases")
        .iter()
        .map(|release| {
            let text = |name: &str| release[name].to_string();
            format!("{} {} {}", text("release"), text("current"), text("rollback"))
        })
        .collect();
    assert_eq!(roles, ["\"r5\" true false", "\"r3\" false true"]);
    let units = host.sh("cd /run/systemd/generator; ls -d deploy-*.service");
    assert!(!units.contains("r4") && !units.contains("broken"), "{units}");
    host.deploy(&["rollback"]).exits(0);
    assert_eq!(host.served().as_deref(), Some("r3"));
}

#[test]
fn stages_and_plans_without_touching_running_processes() {
    let host = Host::boot();
    host.publish(&Release::new("r1").set("KEPT=1 GONE=1 OTHER=1"));
    host.deploys("r1");
    let value = "a-value-that-a-plan-must-not-show";
    let build = "web: python3 app.py web\nclock: python3 app.py worker\nbuild: echo built >built\n";
    let r2 = Release::new("r2").set("KEPT=1 OTHER=2").set(&format!("NEW={value}")).procfile(build);
    host.publish(&r2);

    let before = host.state();
    let fetched = || {
        let requests = host.s3().requests();
        requests.iter().filter(|one| one.method == "GET" && one.path.contains("r2/source")).count()
    };
    let plan = host.json(&["plan", &url("r2"), "--json"]);
    assert_eq!(host.state(), before);
    assert!(!plan.to_string().contains(value), "{plan:#}");
    assert_eq!(plan["fetch"], true);
    assert_eq!(plan["env_added"], json!(["NEW"]));
    assert_eq!(plan["env_removed"], json!(["GONE"]));
    assert_eq!(plan["env_changed"], json!(["OTHER"]));
    assert_eq!(plan["start"][1]["unit"], "deploy-my-app-clock-r2@1.service");
    assert_eq!(plan["start"][0]["how"], "beside the old one, then gets port 5000");
    assert_eq!(plan["start"][1]["how"], "beside the old one, until that stops at the commit");
    assert_eq!(plan["stop"][1]["unit"], "deploy-my-app-worker-r1@1.service");
    let shown = host.deploy(&["plan", &url("r2")]).ok();
    assert!(shown.contains("build     echo built >built") && !shown.contains(value), "{shown}");

    let pids = host.pids();
    let said = host.deploy(&["stage", &url("r2")]).exits(0);
    assert_eq!(said.stdout, "staged my-app r2\n");
    host.wait_for("units of r2, which its deploy need not wait for", SOON, || {
        let unit = "/run/systemd/generator/deploy-my-app-web-r2@.service";
        (host.exec(&["test", "-e", unit]).status == Some(0)).then_some(())
    });
    assert_eq!(host.pids(), pids);
    let staged = fetched();
    assert_eq!(host.json(&["plan", &url("r2"), "--json"])["fetch"], false);
    let said = host.deploys("r2");
    assert!(!said.stderr.contains("\nstage "), "{said:?}");
    assert_eq!(fetched(), staged, "the archive was fetched again");
    assert_eq!(host.sh("cat /var/lib/deploy/apps/my-app/releases/r2/app/built"), "built\n");
    assert_eq!(host.json(&["plan", &url("r2"), "--json"])["nothing"], true);
    assert_eq!(host.served().as_deref(), Some("r2"));
}

#[test]
fn shows_processes_history_and_logs() {
    let host = Host::running_r1();
    host.publish(&Release::new("r2"));
    host.deploys("r2");
    host.deploy(&["rollback"]).exits(0);

    let status = host.status();
    let pids = host.pids();
    assert_eq!(status["url"], url("r1"));
    assert_eq!((&status["state"], &status["environment"]), (&"good".into(), &"production".into()));
    assert_eq!((&status["working"], &status["last"]["action"]), (&json!(null), &"rollback".into()));
    let web = &status["processes"][0];
    assert_eq!((&web["process"], &status["port"]), (&"web.1".into(), &5000.into()));
    assert_eq!(host.web_listens_on(), [web["port"].as_u64().expect("a private port")]);
    assert_eq!((&web["state"], &web["restarts"]), (&"running".into(), &0.into()));
    assert!(web["memory"].as_u64().is_some_and(|bytes| bytes > 1 << 20), "{web}");
    let unit = host.sh("systemctl show -P MainPID deploy-my-app-web-r1@1.service");
    assert_eq!(unit.trim(), pids[0].to_string());

    let history = host.json(&["history", "--json"]);
    let entry = |at: usize| {
        let entry = &history[at];
        let text = |name: &str| entry[name].as_str().unwrap_or("-").to_owned();
        [text("action"), text("before"), text("after"), text("exit")].join(" ")
    };
    let entries = [entry(0), entry(1), entry(2)];
    assert_eq!(entries, ["rollback r2 r1 done", "deploy r1 r2 done", "deploy - r1 done"]);

    let logs = |arguments: &[&str]| host.deploy(&[&["logs"], arguments].concat()).ok();
    let all = logs(&[]);
    assert!(all.contains("r1 web begins") && all.contains("r2 worker ends"), "{all}");
    let web = logs(&["web"]);
    assert!(web.contains("r1 web begins") && !web.contains("worker"), "{web}");
    assert_eq!(logs(&["my-app", "worker.1", "-n", "1"]).matches(" worker ").count(), 1);
    let mut following = host.command(&["deploy", "logs", "web", "-f", "-n", "0"]).spawn();
    host.wait_for("reader", SOON, || {
        (host.exec(&["pgrep", "-x", "journalctl"]).status == Some(0)).then_some(())
    });
    assert!(!following.has_ended());
    following.kill();
}

/// A laptop: no root, no systemd, no deployd.
#[test]
fn runs_a_directory_in_the_foreground() {
    let host = Host::boot();
    host.exec(&["systemctl", "stop", "deployd.socket", "deployd.service"]).ok();
    let files = [("app.py", testkit::app::APP), ("VERSION", "here\n"), ("env", "GREETING=hello\n")];
    for (name, text) in files {
        host.write(&format!("/home/stranger/my-app/{name}"), text);
    }
    let procfile = "web: python3 app.py web\nworker: echo \"$GREETING from $PS\"; sleep 3600\n";
    host.write("/home/stranger/my-app/Procfile", procfile);
    let run = ["runuser", "-u", "stranger", "--", "deploy", "run", "/home/stranger/my-app"];
    let running = host.command(&[&run[..], &["--port", "5000"]].concat()).spawn();
    host.wait_for("answer", SOON, || host.served().filter(|served| served == "here"));
    assert_eq!(host.sh("ps -o user= -C python3"), "stranger\n");
    host.exec(&["pkill", "--signal", "INT", "-x", "deploy"]).ok();
    let said = running.output().exits(0);
    assert!(said.stdout.contains("hello from worker.1"), "{said:?}");
    assert!(said.stdout.contains("here web begins"), "{said:?}");
    assert_eq!(host.sh("pgrep -u stranger || true"), "");

    let said = host.deploy_as("stranger", &["run", "/home/stranger"]).exits(10);
    assert!(said.stderr.contains("name a directory with a Procfile"), "{said:?}");
}
