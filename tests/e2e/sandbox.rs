//! The accesses that DEPLOY_SANDBOX denies to a process and to a build, as the man page
//! describes; and the messages for a release that runs into a denial.

use testkit::app::{Release, url};
use testkit::host::{Host, SOON};

const SHARED: &str = "/var/lib/deploy/apps/my-app/shared";

/// Commands, and whether each works under `strict`, `full` and `off`.
const TRIES: [(&str, [&str; 3]); 8] = [
    ("cat /home/stranger/file", ["no", "yes", "yes"]),
    ("touch /home/stranger/open/x", ["no", "no", "yes"]),
    ("touch /etc/open/x || touch /usr/open/x", ["no", "no", "yes"]),
    ("touch /srv/open/x", ["no", "yes", "yes"]),
    ("test -e /dev/device", ["no", "yes", "yes"]),
    ("test -e /tmp/of-the-machine", ["no", "no", "yes"]),
    ("/usr/local/bin/id-of-root -u | grep -x 0", ["no", "no", "yes"]),
    ("touch \"$HOME/x\" \"$DEPLOY_SHARED/x\" tmp/x /tmp/x", ["yes", "yes", "yes"]),
];

/// The same, for commands that only a process runs.
const PROCESS_TRIES: [(&str, [&str; 3]); 4] = [
    ("touch x", ["no", "yes", "yes"]),
    ("test -d /proc/1", ["no", "yes", "yes"]),
    ("touch \"$HOME/../build/x\" ", ["yes", "yes", "yes"]),
    ("grep -E '^CapBnd:[[:space:]]*0+$' /proc/self/status", ["yes", "yes", "no"]),
];

fn furnish(host: &Host) {
    host.sh("mkdir /home/stranger/open /srv/open /etc/open /usr/open
        chmod 777 /home/stranger/open /srv/open /etc/open /usr/open
        chmod 755 /home/stranger; echo x >/home/stranger/file; touch /tmp/of-the-machine
        echo x >/dev/device; install -m 4755 /usr/bin/id /usr/local/bin/id-of-root");
}

/// Runs every command, and records the results in a file of this name.
fn script<'a>(tries: impl Iterator<Item = &'a str>, name: &str) -> String {
    let tries = tries.map(|one| format!("({one}) >&2 && echo yes || echo no\n"));
    let tries = tries.collect::<String>();
    format!(
        "(\n{tries}) >\"$DEPLOY_SHARED/new\"\nmv \"$DEPLOY_SHARED/new\" \"$DEPLOY_SHARED/{name}\"\n"
    )
}

#[test]
fn each_sandbox_confines_processes_and_builds_as_the_manual_describes() {
    let host = Host::boot();
    furnish(&host);
    for (column, sandbox) in ["strict", "full", "off"].into_iter().enumerate() {
        let build = script(TRIES.iter().map(|(one, _)| *one), "build");
        let all = TRIES.iter().chain(&PROCESS_TRIES);
        let probe = script(all.clone().map(|(one, _)| *one), "probe") + "exec sleep 3600\n";
        let release = Release::new(sandbox)
            .file("build.sh", build)
            .file("probe.sh", probe)
            .file("tmp/file", "")
            .procfile("build: bash build.sh\nprobe: bash probe.sh\n")
            .set(&format!("DEPLOY_SANDBOX={sandbox}"));
        host.publish(&release);
        host.deploys(sandbox);
        let probed = host.wait_for("the probe", SOON, || {
            let said = host.exec(&["cat", &format!("{SHARED}/probe")]);
            (said.status == Some(0)).then_some(said.stdout)
        });
        let built = host.sh(&format!("cat {SHARED}/build; rm {SHARED}/build {SHARED}/probe"));
        let expected = |tries: &[&(&str, [&str; 3])]| -> Vec<(String, String)> {
            tries.iter().map(|(one, works)| ((*one).to_owned(), works[column].to_owned())).collect()
        };
        let found = |said: &str| -> Vec<(String, String)> {
            let tries = TRIES.iter().chain(&PROCESS_TRIES).map(|(one, _)| (*one).to_owned());
            tries.zip(said.lines().map(str::to_owned)).collect()
        };
        let (both, all): (Vec<_>, Vec<_>) = (TRIES.iter().collect(), all.collect());
        assert_eq!(found(&built), expected(&both), "build under {sandbox}");
        assert_eq!(found(&probed), expected(&all), "process under {sandbox}");
    }
}

#[test]
fn hidden_and_missing_programs_are_named_with_a_remedy() {
    let host = Host::boot();
    host.sh("mkdir -p /home/stranger/.nvm; chmod 755 /home/stranger
        printf '#!/bin/bash\\nexec python3 \"$@\"\\n' >/home/stranger/.nvm/node
        chmod 755 /home/stranger/.nvm/node");
    let web = "web: /home/stranger/.nvm/node app.py web\n";
    host.publish(&Release::new("hidden").procfile(web));
    let said = host.deploy(&[&url("hidden")]).exits(12);
    assert!(
        said.stderr.contains("below /opt or /usr/local, or set DEPLOY_SANDBOX=full"),
        "{said:?}"
    );
    let build = "build: /home/stranger/.nvm/node -V\nweb: python3 app.py web\n";
    host.publish(&Release::new("built").procfile(build));
    let said = host.deploy(&[&url("built")]).exits(10);
    assert!(
        said.stderr.contains("below /opt or /usr/local, or set DEPLOY_SANDBOX=full"),
        "{said:?}"
    );
    host.publish(&Release::new("missing").procfile("web: no-such-command app.py web\n"));
    let said = host.deploy(&[&url("missing")]).exits(12);
    assert!(said.stderr.contains("install the command in /usr/local/bin"), "{said:?}");
    host.publish(&Release::new("shown").procfile(web).set("DEPLOY_SANDBOX=full"));
    host.deploys("shown");
}

#[test]
fn a_build_opens_dev_stdout_and_a_service_that_cannot_gets_advice() {
    let host = Host::boot();
    let build = "build: echo building >/dev/stderr && echo two >/dev/stdout && echo three | tee /dev/stderr\n";
    let web = "web: echo begins >/dev/stderr && exec python3 app.py web\n";
    host.publish(&Release::new("r1").procfile(&format!("{build}{web}")));
    let said = host.deploy(&[&url("r1")]).exits(12);
    for line in ["building", "two", "three"] {
        assert!(said.stderr.contains(line), "{said:?}");
    }
    assert!(said.stderr.contains("help: stdout and stderr lead to the journal"), "{said:?}");
    assert!(said.stderr.contains("`exec > >(trap '' TERM; exec cat) 2>&1;`"), "{said:?}");

    let way = "exec > >(trap '' TERM; exec cat) 2>&1; echo begins >/dev/stderr && exec python3 app.py web";
    host.publish(&Release::new("r2").procfile(&format!("web: {way}\n")));
    host.deploys("r2");
    host.deploy(&["stop"]).exits(0);
    let log = host.journal(&["--identifier=my-app.web.1", "--output=cat"]);
    for line in ["begins", "r2 web begins", "r2 web ends"] {
        assert!(log.lines().any(|one| one == line), "{line}: {log}");
    }
    host.deploy(&["start"]).exits(0);
    assert_eq!(host.served().as_deref(), Some("r2"));
}
