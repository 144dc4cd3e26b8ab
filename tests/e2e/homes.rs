//! Paths that two processes, or two releases, of one app do not share: $HOME, and the
//! directories of the tree that hold pid files. And the paths that they do share.

use testkit::app::{Release, url};
use testkit::host::{Host, SOON};

const DIR: &str = "/var/lib/deploy/apps/my-app";

/// Starts like pm2, whose daemon takes over from a running one by a socket in $HOME, and like
/// streamlit, which needs the lock in $HOME to itself.
const DAEMON: &str = r#"
import fcntl, os, socket, sys, threading
home = os.path.join(os.environ["HOME"], ".pm2")
os.makedirs(home, exist_ok=True)
path = os.path.join(home, "rpc.sock")
try:
    other = socket.socket(socket.AF_UNIX)
    other.connect(path)
    other.send(b"kill")
    other.recv(1)
except OSError:
    pass
if os.path.exists(path):
    os.unlink(path)
server = socket.socket(socket.AF_UNIX)
server.bind(path)
server.listen()
def serve():
    server.accept()[0].recv(4)
    os._exit(7)
threading.Thread(target=serve, daemon=True).start()
lock = open(os.path.join(os.environ["HOME"], "lock"), "w")
fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
sys.argv = ["app.py", "web"]
exec(open("app.py").read())
"#;

fn daemon(name: &str) -> Release {
    Release::new(name).file("daemon.py", DAEMON).procfile("web: python3 daemon.py\n")
}

#[test]
fn no_failed_candidate_or_second_process_disturbs_another_through_its_home() {
    let host = Host::boot();
    host.publish(&daemon("r1").set("DEPLOY_CONCURRENCY=web=2"));
    host.deploys("r1");
    let before = [host.pid("web.1"), host.pid("web.2")];
    host.publish(&daemon("r2").set("BEHAVE=crash"));
    host.deploy(&[&url("r2")]).exits(12);
    assert_eq!([host.pid("web.1"), host.pid("web.2")], before);
    host.publish(&daemon("r3").set("DEPLOY_CONCURRENCY=web=2"));
    host.deploys("r3");
    assert_eq!(host.served().as_deref(), Some("r3"));
    host.deploy(&["rollback"]).exits(0);
    assert_eq!(host.served().as_deref(), Some("r1"));
}

#[test]
fn a_home_belongs_to_the_app_and_is_removed_with_its_release_but_shared_files_stay() {
    let host = Host::boot();
    host.configure("DEPLOY_KEEP_RELEASES=1\n");
    let web = "web: touch ~/own $DEPLOY_SHARED/$DEPLOY_RELEASE && exec python3 app.py web\n";
    for release in ["r1", "r2", "r3"] {
        host.publish(&Release::new(release).procfile(web));
        host.deploys(release);
        let home = format!("{DIR}/releases/{release}/home");
        assert_eq!(
            host.sh(&format!("cd {home}; stat -c '%U %a' . web.1")),
            "root 755\napp-my-app 700\n"
        );
        assert_eq!(host.sh(&format!("stat -c %U {home}/web.1/own")), "app-my-app\n");
    }
    host.wait_for("pruning", SOON, || {
        let left = host.sh(&format!("ls -A {DIR}/releases | paste -sd ' '"));
        (left == "r2 r3\n").then_some(())
    });
    // A release's home shows, by name, the shared files that existed before the release.
    let seen = host.sh(&format!("cd {DIR}/releases/r3/home/web.1; ls; readlink r1"));
    assert_eq!(seen, format!("own\nr1\nr2\n{DIR}/shared/r1\n"));
    assert_eq!(host.sh(&format!("ls {DIR}/shared")), "r1\nr2\nr3\n");
}

/// Turns an installed release into one that 0.1.0 would have left.
fn as_of_0_1(host: &Host, release: &str) {
    host.sh(&format!(
        "cd {DIR}/releases/{release}; rm -r home
        python3 - <<'END'
import json
manifest = json.load(open('release.json'))
del manifest['homes'], manifest['process_dirs']
for name in ['clients', 'ready', 'health_host', 'health_status', 'watchdog', 'stop_signal', 'process_dirs']:
    manifest['plan'].pop(name, None)
json.dump(manifest, open('release.json', 'w'))
END
        systemctl daemon-reload"
    ));
}

fn home(host: &Host) -> String {
    let pid = host.pid("web.1").expect("web.1 runs");
    host.sh(&format!("tr '\\0' '\\n' </proc/{pid}/environ | sed -n 's/^HOME=//p'"))
        .trim()
        .to_owned()
}

#[test]
fn a_release_of_0_1_keeps_its_home_and_the_next_one_finds_its_files_there() {
    let host = Host::running_r1();
    as_of_0_1(&host, "r1");
    let said = host.deploys("r1");
    assert!(said.stdout.contains("already running"), "{said:?}");
    host.deploy(&["restart"]).exits(0);
    assert_eq!(home(&host), format!("{DIR}/shared"));
    host.sh(&format!(
        "cd {DIR}/shared; mkdir uploads .pm2; echo one >uploads/a; chown -R app-my-app: ."
    ));
    let web = "web: cat ~/uploads/a && echo two >~/uploads/b && [ ! -e ~/.pm2 ] && exec python3 app.py web\n";
    host.publish(&Release::new("r2").procfile(web));
    host.deploys("r2");
    assert_eq!(home(&host), format!("{DIR}/releases/r2/home/web.1"));
    assert_eq!(host.sh(&format!("cat {DIR}/shared/uploads/b")), "two\n");
    host.deploy(&["rollback"]).exits(0);
    assert_eq!(home(&host), format!("{DIR}/shared"));
    assert_eq!(host.served().as_deref(), Some("r1"));

    host.publish(&Release::new("r3").set("HOME=/srv"));
    host.deploys("r3");
    assert_eq!(home(&host), "/srv");
}

#[test]
fn processes_find_the_files_of_the_builds_home_and_the_next_build_finds_its_caches() {
    let host = Host::boot();
    let build = "mkdir -p ~/.local/bin ~/.bundle && printf '#!/bin/sh\\n' >~/.local/bin/tool && \
                 chmod +x ~/.local/bin/tool && echo here >~/.bundle/config && \
                 echo $DEPLOY_RELEASE >>~/.cache/builds && echo x >>~/.npm/builds && \
                 mkfifo ~/pipe && ln -s /etc/passwd ~/.link";
    let web = "~/.local/bin/tool && grep here ~/.bundle/config && echo >~/.local/state && \
               [ ! -e ~/pipe ] && grep root ~/.link && exec python3 app.py web";
    for release in ["r1", "r2"] {
        host.publish(&Release::new(release).procfile(&format!("build: {build}\nweb: {web}\n")));
        host.deploys(release);
    }
    assert_eq!(host.sh(&format!("cat {DIR}/shared/.cache/builds")), "r1\nr2\n");
    assert_eq!(host.sh(&format!("wc -l <{DIR}/shared/.npm/builds")), "2\n");
    let own = host.sh(&format!("stat -c %U {DIR}/releases/r2/home/web.1/.local/state"));
    assert_eq!(own, "app-my-app\n");
}

#[test]
fn an_app_with_very_many_files_in_its_old_home_keeps_it() {
    let host = Host::running_r1();
    as_of_0_1(&host, "r1");
    host.sh(&format!("cd {DIR}/shared; touch $(seq 1001)"));
    host.publish(&Release::new("r2").procfile("build: touch ~/built\nweb: python3 app.py web\n"));
    let said = host.deploys("r2");
    assert!(said.stderr.contains("stays the $HOME of every process"), "{said:?}");
    assert_eq!(home(&host), format!("{DIR}/shared"));
    host.sh(&format!("test -e {DIR}/shared/built"));
}

/// Like `rails server` before 7.1.3: refuses to start while the process in its pid file lives.
const PID_FILE: &str = r#"
import os, sys
path = sys.argv[1] + "/server.pid"
if os.path.exists(path):
    sys.exit("A server is already running")
open(path, "w").write(str(os.getpid()))
sys.argv = ["app.py", "web"]
exec(open("app.py").read())
"#;

#[test]
fn each_process_has_its_own_pid_files_in_every_sandbox_and_none_from_a_crash() {
    let host = Host::boot();
    let release = |name: &str, dir: &str, sandbox: &str| {
        Release::new(name)
            .file("server.py", PID_FILE)
            .file("tmp/pids/.keep", "")
            .procfile(&format!("web: python3 server.py {dir}\n"))
            .set(&format!("DEPLOY_CONCURRENCY=web=2 DEPLOY_SANDBOX={sandbox}"))
    };
    host.publish(&release("strict", "tmp/pids", "strict"));
    host.publish(&release("full", "tmp/pids", "full"));
    host.publish(&release("off", "tmp/pids", "off").set("DEPLOY_PROCESS_DIRS=tmp/pids"));
    host.publish(&release("named", "run/a", "strict").set("DEPLOY_PROCESS_DIRS=run/a,tmp/pids"));
    for name in ["strict", "full", "off", "named"] {
        host.deploys(name);
        assert_eq!(host.served().as_deref(), Some(name));
        let before = host.pid("web.1").expect("web.1 runs");
        host.sh(&format!("kill -KILL {before}"));
        host.wait_for("a new web.1", SOON, || host.pid("web.1").filter(|now| *now != before));
        host.wait_for("health", SOON, || (host.status()["healthy"] == true).then_some(()));
    }
}

/// Serves metrics on a port of its own, as many servers do.
const METRICS: &str = r#"
import socket, sys
metrics = socket.socket()
metrics.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
metrics.bind(("0.0.0.0", 9090))
metrics.listen()
sys.argv = ["app.py", "web"]
exec(open("app.py").read())
"#;

#[test]
fn a_fixed_port_of_the_running_release_is_named_with_the_process_that_holds_it() {
    let host = Host::boot();
    let release = |name: &str| {
        Release::new(name).file("metrics.py", METRICS).procfile("web: python3 metrics.py\n")
    };
    host.publish(&release("r1"));
    host.deploys("r1");
    host.publish(&release("r2"));
    let said = host.deploy(&[&url("r2")]).exits(12);
    let held = "help: a port that it binds is taken; held are 9090 by web.1 of r1; two releases run \
                side by side while one is proved: derive each further port from $PORT";
    assert!(said.stderr.contains(held), "{said:?}");
    assert!(said.stderr.contains("DEPLOY_STRATEGY=restart"), "{said:?}");
    assert_eq!(host.served().as_deref(), Some("r1"));

    let telling = METRICS.replace(
        "metrics.bind((\"0.0.0.0\", 9090))",
        "try: metrics.bind((\"0.0.0.0\", 9090))\nexcept OSError as e: sys.exit(f\"0.0.0.0:9090: {e}\")",
    );
    host.publish(&release("r3").file("metrics.py", telling.as_str()));
    let said = host.deploy(&[&url("r3")]).exits(12);
    assert!(said.stderr.contains("help: port 9090 is held by web.1 of r1; "), "{said:?}");

    host.sh("systemd-run --quiet --unit=other python3 -m http.server 9191");
    let answers = ["bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/9191"];
    host.wait_for("the other server", SOON, || {
        (host.exec(&answers).status == Some(0)).then_some(())
    });
    host.publish(&release("r4").file("metrics.py", telling.replace("9090", "9191")));
    let said = host.deploy(&[&url("r4")]).exits(12);
    assert!(said.stderr.contains("help: port 9191 is held by python3 ("), "{said:?}");

    let silent = METRICS.replace(
        "metrics.bind((\"0.0.0.0\", 9090))\nmetrics.listen()",
        "try: metrics.bind((\"0.0.0.0\", 9090)); metrics.listen()\nexcept OSError: pass",
    );
    host.publish(&release("silent").file("metrics.py", silent));
    let said = host.deploys("silent");
    let warned = "web.1 of silent does not listen on 9090, as web.1 of r1 does";
    assert!(said.stderr.contains(warned), "{said:?}");
    host.deploy(&["rollback"]).exits(0);

    let derived = METRICS.replace("9090", "int(__import__('os').environ['PORT']) - 10000");
    host.publish(&release("r5").file("metrics.py", derived));
    let said = host.deploys("r5");
    assert!(!said.stderr.contains("does not listen on"), "{said:?}");
    host.publish(&release("r6").set("DEPLOY_STRATEGY=restart"));
    host.deploys("r6");
}
