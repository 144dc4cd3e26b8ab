//! `deploy exec`: consoles and one-off commands; `deploy env`.

use testkit::app::Release;
use testkit::host::{Host, SOON};
use testkit::instance::{Job, Output};

const PROCFILE: &str = "web: python3 app.py web\nworker: python3 app.py worker\n\
    console: echo console as $PS\nrelease: echo migrates $GREETING >/dev/stderr\n";

/// A host that runs r1, with lines in its Procfile that do not run.
fn host() -> Host {
    let host = Host::boot();
    host.publish(&release("r1"));
    host.deploys("r1");
    host
}

fn release(name: &str) -> Release {
    let release = Release::new(name).procfile(PROCFILE).set("GREETING=hello");
    release.set("DEPLOY_CONCURRENCY=console=0")
}

/// A session at a terminal, whose keyboard is a pipe.
struct Session<'a> {
    host: &'a Host,
    job: Option<Job>,
}

impl Session<'_> {
    fn open<'a>(host: &'a Host, command: &str) -> Session<'a> {
        host.sh("rm -f /run/keys /run/seen; mkfifo /run/keys
            systemd-run --quiet sh -c 'exec 3<>/run/keys; sleep 600'");
        let inside = format!(
            "stty cols 90 rows 33\ndeploy exec {command}\necho ended $?\nstty -a | tr '\\n' ' '\n"
        );
        host.write("/run/inside", inside);
        let script = "script -qefc 'sh /run/inside' /run/seen </run/keys";
        let job = host.command(&["sh", "-c", script]).env("TERM", "xterm-256color").spawn();
        Session { host, job: Some(job) }
    }

    fn keys(&self, keys: &str) {
        self.host.sh(&format!("printf '{keys}' >/run/keys"));
    }

    /// Waits until the screen shows the text.
    #[track_caller]
    fn shows(&self, text: &str) {
        let seen = || self.host.sh("cat /run/seen 2>/dev/null || true");
        let shown = || seen().contains(text).then_some(());
        let what = format!("{text:?} on the screen");
        self.host.wait_for(&what, SOON, || {
            let shown = shown();
            if shown.is_none() {
                println!("{:?}", seen());
            }
            shown
        });
    }

    fn end(mut self) -> Output {
        self.job.take().expect("a session").output()
    }
}

/// The units of one-offs that run.
fn one_offs(host: &Host) -> String {
    host.sh("systemctl list-units --no-legend --plain --state=activating,active,deactivating \
        'deploy-*-exec:*' | cut -d ' ' -f 1")
}

#[test]
fn a_console_has_a_terminal_with_job_control() {
    let host = host();
    let session = Session::open(&host, "my-app -- bash --norc -i");
    session.keys("tty; echo $TERM; id -un\\n");
    session.shows("/dev/pts/");
    session.shows("xterm-256color");
    session.shows("app-my-app");
    session.keys("stty size\\n");
    session.shows("33 90");
    // A terminal sends SIGWINCH when its window changes.
    host.sh("stty -F /dev/$(ps -o tty= -C deploy | tail -1) cols 120 rows 40");
    session.keys(
        "until [ \"$(stty size)\" = \"40 120\" ]; do sleep 0.1; done; echo re-sized | tr -d -\\n",
    );
    session.shows("resized");
    // ^C ends the command, and not the session.
    session.keys("sleep 4711\\n");
    let sleeps = || host.exec(&["pgrep", "-f", "^sleep 4711"]).stdout.trim().to_owned();
    host.wait_for("sleep", SOON, || (!sleeps().is_empty()).then_some(()));
    session.keys("\\003");
    session.keys("echo status-$?\\n");
    session.shows("status-130");
    session.keys("sleep 4711\\n");
    host.wait_for("sleep", SOON, || (!sleeps().is_empty()).then_some(()));
    session.keys("\\032");
    session.shows("Stopped");
    session.keys("kill -9 %%1; wait; echo killed-$?\\n");
    session.shows("killed-");
    session.keys("exit 7\\n");
    let output = session.end();
    assert!(output.stdout.contains("ended 7"), "{output:?}");
    // The terminal is as it was.
    for mode in [" icanon", " echo ", " isig", " opost"] {
        assert!(output.stdout.contains(mode), "{mode}: {output:?}");
    }
    assert_eq!(one_offs(&host), "");
}

#[test]
fn a_one_off_has_pipes_an_exit_code_and_the_conditions_of_a_process() {
    let host = host();
    let exec = |arguments: &[&str]| host.command(&[&["deploy", "exec"], arguments].concat());
    let sum = exec(&["my-app", "--", "python3", "-c", "print(eval(input()))"]);
    assert_eq!(sum.input("1+1\n").output().ok(), "2\n");
    let long = exec(&["--", "cat"]).input("0123456789abcdef".repeat(64 << 10)).output().ok();
    assert_eq!(long.len(), 1 << 20);
    exec(&["--", "bash", "-c", "exit 7"]).output().exits(7);
    exec(&["--", "bash", "-c", "kill -9 $$"]).output().exits(137);
    exec(&["--", "no-such-program"]).output().exits(127);
    let output =
        exec(&["--", "bash", "-c", "echo to stdout >/dev/stdout; echo to stderr >/dev/stderr"]);
    let output = output.output().exits(0);
    assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("to stdout\n", "to stderr\n"));
    let words = exec(&["--", "printf", "%s|", "a b", "$HOME", "%n", "100%"]).output();
    assert_eq!(words.ok(), "a b|$HOME|%n|100%|");

    // Both streams lead to one file, whose lines and order are the command's.
    let script = "for i in $(seq 500); do echo out$i; echo err$i >&2; done";
    host.sh(&format!(
        "{{ echo HEAD; deploy exec -- bash -c '{script}'; echo TAIL; }} >/run/whole 2>&1
        {{ echo HEAD; bash -c '{script}'; echo TAIL; }} >/run/expected 2>&1
        cmp /run/whole /run/expected"
    ));

    // As a process of web.
    let of = |script: &str| exec(&["--", "bash", "-c", script]).output();
    assert_eq!(
        of("id -un; echo $GREETING $PS $HOME; cat VERSION; pwd").ok(),
        "app-my-app\nhello \
        run.1 /var/lib/deploy/apps/my-app/releases/r1/home/web.1\nr1\n\
        /var/lib/deploy/apps/my-app/releases/r1/app\n"
    );
    assert!(of("touch /etc/mine").exits(1).stderr.contains("Read-only file system"));
    of("touch $HOME/mine $DEPLOY_SHARED/mine").exits(0);
    let worker = exec(&["--type", "worker", "--", "bash", "-c", "echo $HOME"]).output().ok();
    assert!(worker.ends_with("/home/worker.1\n"), "{worker}");
    assert_eq!(exec(&["my-app", "release"]).output().exits(0).stderr, "migrates hello\n");
    assert_eq!(exec(&["console"]).output().ok(), "console as run.1\n");

    let said = exec(&["my-app", "nothing"]).output().exits(2);
    assert!(said.stdout.contains("has worker, console, release"), "{said:?}");
    let said = exec(&["my-app", "web"]).output().exits(2);
    assert!(said.stderr.contains("deploy scale my-app web=N"), "{said:?}");
    let said = exec(&["my-app"]).output().exits(2);
    assert!(said.stderr.contains("`deploy exec APP -- bash`"), "{said:?}");
    exec(&["other", "--", "true"]).output().exits(2);
    exec(&["--type", "wep", "--", "true"]).output().exits(2);
    host.deploy_as("nobody", &["exec", "--", "true"]).exits(41);
    assert_eq!(one_offs(&host), "");
    assert_eq!(host.sh("systemctl list-units --no-legend --failed 'deploy-*'"), "");
}

#[test]
fn a_one_off_goes_on_during_a_deploy_and_ends_with_its_caller() {
    let host = host();
    let shared = "/var/lib/deploy/apps/my-app/shared";
    let waits = "echo begun >$DEPLOY_SHARED/begun
        until [ -e $DEPLOY_SHARED/go ]; do sleep 0.1; done; cat VERSION";
    let running = host.command(&["deploy", "exec", "--", "bash", "-c", waits]).spawn();
    host.wait_for("one-off", SOON, || {
        host.sh(&format!("cat {shared}/begun 2>/dev/null || true")).contains("begun").then_some(())
    });
    host.publish(&release("r2"));
    host.deploys("r2");
    assert!(host.status()["healthy"].as_bool().expect("healthy"));
    host.go();
    assert_eq!(running.output().ok(), "r1\n");

    // Its caller is killed, at pipes and at a terminal; bash ignores SIGTERM.
    let sleeps = || host.exec(&["pgrep", "-f", "^sleep 4711"]).stdout.trim().to_owned();
    let running = host.command(&["deploy", "exec", "--", "sleep", "4711"]).spawn();
    host.wait_for("sleep", SOON, || (!sleeps().is_empty()).then_some(()));
    host.sh("pkill -KILL -x deploy");
    running.output();
    host.wait_for("end", SOON, || sleeps().is_empty().then_some(()));
    let session = Session::open(&host, "-- bash --norc -i");
    session.keys("sleep 4711 & disown; echo read-y | tr -d -\\n");
    session.shows("ready");
    host.sh("pkill -KILL -x script");
    session.end();
    host.wait_for("end", SOON, || {
        (sleeps().is_empty() && one_offs(&host).is_empty()).then_some(())
    });

    // Its caller is killed while there is no deployd: the next one finds out.
    let running = host.command(&["deploy", "exec", "--", "sleep", "4711"]).spawn();
    host.wait_for("sleep", SOON, || (!sleeps().is_empty()).then_some(()));
    host.sh("systemctl stop deployd.socket deployd; pkill -KILL -x deploy; sync");
    running.output();
    assert!(!sleeps().is_empty());
    host.sh("systemctl start deployd.socket deployd");
    host.wait_for("end", SOON, || {
        (sleeps().is_empty() && one_offs(&host).is_empty()).then_some(())
    });

    // An app is removed with its one-offs.
    let running = host.command(&["deploy", "exec", "--", "sleep", "4711"]).spawn();
    host.wait_for("sleep", SOON, || (!sleeps().is_empty()).then_some(()));
    host.deploy(&["remove", "my-app", "--yes"]).exits(0);
    running.output().exits(143);
}

/// Waits until another deployd serves than the one with this pid.
fn next_deployd(host: &Host, before: &str) {
    host.wait_for("the next deployd", SOON, || {
        let now = host.sh("systemctl show -P MainPID deployd");
        (now != before && host.deploy(&["status"]).status == Some(0)).then_some(())
    });
}

#[test]
fn a_one_off_outlives_a_restart_of_deployd() {
    let host = host();
    let shared = "/var/lib/deploy/apps/my-app/shared";
    let goes = |name: &str| host.sh(&format!("touch {shared}/{name}"));
    let begun = |name: &str| {
        let begun = || host.exec(&["test", "-e", &format!("{shared}/{name}-begun")]).status;
        host.wait_for("one-off", SOON, || (begun() == Some(0)).then_some(()));
    };
    let waits = |name: &str, end: &str| {
        let dir = "$DEPLOY_SHARED";
        format!(
            "touch {dir}/{name}-begun; until [ -e {dir}/{name} ]; do sleep 0.1; done
            echo \"$(cat) after $VAR\"; echo to stderr >&2; {end}"
        )
    };
    let deployd = || host.sh("systemctl show -P MainPID deployd");
    let exec = |name: &str, end: &str| {
        let script = format!("VAR={name}; {}", waits(name, end));
        host.command(&["deploy", "exec", "--", "bash", "-c", &script]).input("typed").spawn()
    };

    // It takes five seconds, and deployd is restarted in the middle.
    let slow = exec("slow", "sleep 5; exit 7");
    begun("slow");
    goes("slow");
    let before = deployd();
    host.sh("systemctl restart deployd");
    next_deployd(&host, &before);
    let said = host.deploy(&["status"]).ok();
    println!("{said}");
    assert!(said.contains("  one-off   bash of r1 for root, began "), "{said}");
    let one_offs = host.status()["one_offs"].clone();
    assert_eq!(one_offs[0]["command"], "bash");
    assert_eq!(one_offs[0]["has_caller"], true);
    assert!(one_offs[0]["since"].is_string() && one_offs[0]["pid"].is_u64(), "{one_offs}");
    let output = slow.output().exits(7);
    assert_eq!(output.stdout, "typed after slow\n");
    assert_eq!(output.stderr, "to stderr\n");

    // deployd is killed, and the command ends while there is none.
    let [killed, failed] = [exec("killed", "exit 0"), exec("failed", "exit 9")];
    ["killed", "failed"].iter().for_each(|name| begun(name));
    host.sh("systemctl kill --signal=KILL deployd; systemctl stop deployd.socket deployd");
    ["killed", "failed"].iter().for_each(|name| drop(goes(name)));
    let ended = || host.sh("pgrep -fc '^bash -c VAR=' || true").trim() == "0";
    host.wait_for("the end of both", SOON, || ended().then_some(()));
    host.sh("systemctl start deployd.socket deployd");
    assert_eq!(killed.output().exits(0).stdout, "typed after killed\n");
    assert_eq!(failed.output().exits(9).stdout, "typed after failed\n");
    assert_eq!(host.status()["one_offs"].as_array().map(Vec::len), Some(0));

    // A console goes on at its terminal, and ends with its caller as before.
    let session = Session::open(&host, "my-app -- bash --norc -i");
    session.keys("echo be-gun | tr -d -\\n");
    session.shows("begun");
    let before = deployd();
    host.sh("systemctl restart deployd");
    next_deployd(&host, &before);
    session.keys("echo still-at-$(tty) | tr a-z A-Z\\n");
    session.shows("STILL-AT-/DEV/PTS/");
    session.keys("exit 5\\n");
    let output = session.end();
    assert!(output.stdout.contains("ended 5"), "{output:?}");
    host.wait_for("no unit", SOON, || one_offs_gone(&host).then_some(()));
    let session = Session::open(&host, "my-app -- bash --norc -i");
    session.keys("sleep 4712 & disown; echo read-y | tr -d -\\n");
    session.shows("ready");
    let before = deployd();
    host.sh("systemctl restart deployd");
    next_deployd(&host, &before);
    host.sh("pkill -KILL -x script");
    session.end();
    host.wait_for("no unit", SOON, || one_offs_gone(&host).then_some(()));
    assert_eq!(host.sh("pgrep -f '^sleep 4712' || true"), "");
}

fn one_offs_gone(host: &Host) -> bool {
    host.sh("systemctl list-units --all --no-legend --plain 'deploy-*-exec:*'").is_empty()
}

#[test]
fn env_has_names_and_their_source_and_values_only_by_name() {
    let host = Host::boot();
    host.configure("DEPLOY_SETTLE=1s\n");
    host.publish(&release("r1").set("GONE=1").set("TOKEN=secret-1"));
    host.deploys("r1");
    host.publish(&release("r2").set("FRESH=1").set("TOKEN=secret-2"));
    host.deploys("r2");
    let shown = host.deploy(&["env"]).ok();
    println!("{shown}");
    assert!(!shown.contains("secret") && !shown.contains("hello"), "{shown}");
    assert!(shown.starts_with("my-app release r2, compared with r1\n"), "{shown}");
    for line in [
        &["TOKEN", "release", "changed"][..],
        &["GONE", "release", "gone"],
        &["FRESH", "release", "new"],
        &["GREETING", "release"],
        &["PORT", "agent"],
        &["HOME", "agent"],
        &["DEPLOY_SETTLE", "agent.env", "a", "setting,"],
    ] {
        let is = |one: &str| one.split_whitespace().collect::<Vec<_>>().starts_with(line);
        assert!(shown.lines().any(is), "{line:?}: {shown}");
    }
    assert_eq!(host.deploy(&["env", "my-app", "TOKEN", "PS"]).ok(), "PS=web.1\nTOKEN=secret-2\n");
    let json = host.json(&["env", "TOKEN", "--json"]);
    assert_eq!(json["variables"][0]["value"], "secret-2");
    assert!(!host.json(&["env", "--json"]).to_string().contains("secret"));
    let said = host.deploy(&["env", "my-app", "TOKEM"]).exits(2);
    assert!(said.stdout.contains("none of this name"), "{said:?}");
}
