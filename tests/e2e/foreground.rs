//! `deploy run`: runs a release on a laptop, as a user who is not root.

use std::path::Path;
use std::time::{Duration, Instant};
use testkit::app::{Release, url};
use testkit::host::{ACCESS_KEY, Host, SECRET_KEY, SOON};
use testkit::instance::{Image, Job, Network, Output};

const JOB: &str = include_str!("foreground/job.py");

/// Fifteen ways to start one program, and three that leave it running in the background.
const KINDS: &str = r#"a_direct: python3 job.py
b_script: ./worker
c_bash: bash -c 'cd . && python3 job.py'
d_sh: sh -c 'echo x; python3 job.py'
e_env_script: env A=1 ./worker
f_and: cd . && python3 job.py
g_assignment: A=1 python3 job.py
h_timeout: timeout 3600 python3 job.py
i_npm: npm run worker
k_pipe: python3 job.py | cat
l_nice: nice -n 5 python3 job.py
m_and_script: true && ./worker
n_login: bash -lc "python3 job.py; echo ended"
o_default: python3 ${JOB:-job.py}
p_subshell: (python3 job.py)
q_background: python3 job.py & wait
r_session: (setsid python3 job.py &); exec sleep 4711
s_stranger: (env -i setsid /usr/bin/python3 job.py s_stranger.1 &); exec sleep 4711
"#;

const WORKER: &str = "#!/bin/sh\necho preparing\npython3 job.py \"$@\"\n";
const PACKAGE: &str = r#"{"name":"job","version":"1.0.0","scripts":{"worker":"python3 job.py"}}"#;

/// An image with Debian's npm.
fn image() -> Image {
    let make = "apt-get update -q
        apt-get install -q --yes --no-install-recommends nodejs npm
        rm -rf /var/cache/apt /var/lib/apt/lists; mkdir -p /var/cache/apt/archives/partial";
    let inputs: [&Path; 0] = [];
    Host::image_on(Image::base().layer("npm", &inputs, make), "npm-agent")
}

/// Helpers of these tests, as methods of the host.
trait Foreground {
    /// Creates a directory with a Procfile, as a developer has it.
    fn lay(&self, procfile: &str, env: &str);
    /// Starts `deploy run` in its own session, as a terminal would.
    fn runs(&self, arguments: &[&str]) -> Job;
    /// Returns what every job has recorded, ordered by job name.
    fn jobs(&self) -> Vec<(String, String)>;
    fn wait_for_jobs(&self, count: usize);
    /// Signals the terminal's whole foreground group, as Ctrl-C does.
    fn interrupt(&self);
    fn runs_nothing(&self);
    /// Waits for jobs, some of which leave an empty file.
    fn wait_for_jobs_or_files(&self, count: usize);
}

impl Foreground for Host {
    fn lay(&self, procfile: &str, env: &str) {
        self.write("/srv/shop/Procfile", procfile);
        self.write("/srv/shop/env", env);
        self.write("/srv/shop/job.py", JOB);
        self.write("/srv/shop/worker", WORKER);
        self.write("/srv/shop/package.json", PACKAGE);
        self.sh("chmod 755 /srv/shop/worker; rm -rf /var/tmp/jobs
            install -d -o deployer /var/tmp/jobs");
    }

    fn runs(&self, arguments: &[&str]) -> Job {
        let words = ["setsid", "--wait", "runuser", "-u", "deployer", "--", "deploy", "run"];
        self.command(&[&words, &["/srv/shop"][..], arguments].concat()).spawn()
    }

    fn jobs(&self) -> Vec<(String, String)> {
        let text = self.sh("cd /var/tmp/jobs; for job in *; do echo $job $(cat $job); done");
        let split = |line: &str| line.split_once(' ').map(|(a, b)| (a.to_owned(), b.to_owned()));
        text.lines().filter_map(split).collect()
    }

    fn wait_for_jobs(&self, count: usize) {
        self.wait_for("jobs", SOON, || (self.jobs().len() == count).then_some(()));
    }

    fn interrupt(&self) {
        self.sh("kill -INT -- -$(ps -o pgid= -C deploy | tr -d ' ')");
    }

    fn runs_nothing(&self) {
        self.exec(&["pgrep", "-f", "job.py|sleep 4711"]).exits(1);
        let left = self.sh("find /tmp -maxdepth 1 -name 'deploy-run-*'");
        assert_eq!(left, "");
    }

    fn wait_for_jobs_or_files(&self, count: usize) {
        let files = || self.sh("ls /var/tmp/jobs").lines().count();
        self.wait_for("jobs", SOON, || (files() == count).then_some(()));
        self.wait_for("begin", SOON, || (!self.jobs().is_empty()).then_some(()));
    }
}

fn has_line(said: &Output, line: &str) -> bool {
    said.stdout.lines().any(|one| one == line)
}

#[test]
fn every_job_gets_one_signal_however_it_was_started() {
    let host = Host::of(&image());
    host.lay(KINDS, "");
    let count = KINDS.lines().count();
    let running = host.runs(&[]);
    host.wait_for_jobs(count);
    host.interrupt();
    running.output().exits(0);
    let jobs = host.jobs();
    assert_eq!(jobs.len(), count, "{jobs:?}");
    for (name, wrote) in jobs {
        // timeout(1) forwards the signal to its child, and then to its own group.
        let twice = name == "h_timeout.1" && wrote == "begun SIGTERM SIGTERM done";
        assert!(twice || wrote == "begun SIGTERM done", "{name}: {wrote}");
    }
    host.runs_nothing();
}

#[test]
fn a_process_that_ends_by_itself_ends_the_others_with_their_stop_signal() {
    let host = Host::boot();
    let ends = "one: until [ -e /var/tmp/jobs/go ]; do sleep 0.1; done; exit 3\n";
    let others = "two: ./worker\nthree: python3 job.py\n";
    let leaves = "four: python3 job.py & python3 job.py four.2 & wait\n";
    host.lay(&format!("{ends}{others}{leaves}"), "export DEPLOY_STOP_SIGNAL=USR1\n");
    let running = host.runs(&[]);
    host.wait_for_jobs(4);
    host.sh("touch /var/tmp/jobs/go");
    let said = running.output().exits(12);
    assert!(said.stdout.contains("one.1 did not stay up: exit status: 3"), "{said:?}");
    let mut jobs = host.jobs();
    jobs.retain(|(name, _)| name != "go");
    assert_eq!(jobs.len(), 4, "{jobs:?}");
    assert!(jobs.iter().all(|(_, wrote)| wrote == "begun SIGUSR1 done"), "{jobs:?}");
    host.runs_nothing();
}

#[test]
fn stubborn_processes_are_killed_after_the_timeout_or_at_the_second_interrupt() {
    let host = Host::boot();
    let stays = "one: trap '' TERM; touch /var/tmp/jobs/one; while :; do sleep 4711; done\n\
                 two: (trap '' TERM; setsid sleep 4711 &); python3 job.py\n";
    host.lay(stays, "export DEPLOY_STOP_TIMEOUT=2s\n");
    let running = host.runs(&[]);
    host.wait_for_jobs_or_files(2);
    host.interrupt();
    running.output().exits(0);
    assert!(host.jobs().contains(&("two.1".into(), "begun SIGTERM done".into())));
    host.runs_nothing();

    host.lay(stays, "export DEPLOY_STOP_TIMEOUT=5m\n");
    let running = host.runs(&[]);
    host.wait_for_jobs_or_files(2);
    let begin = Instant::now();
    host.interrupt();
    host.wait_for("end of the job", SOON, || {
        host.jobs().contains(&("two.1".into(), "begun SIGTERM done".into())).then_some(())
    });
    host.interrupt();
    running.output().exits(0);
    assert!(begin.elapsed() < Duration::from_secs(60), "{:?}", begin.elapsed());
    host.runs_nothing();
}

#[test]
fn a_process_gets_the_environment_and_output_of_a_service() {
    let host = Host::boot();
    let web = "web: env; echo to stdout >/dev/stdout; echo to stderr >/dev/stderr; \
               touch $DEPLOY_SHARED/file && echo can write; printf 'last words'; exit 3\n";
    let once = "release: echo migrates as $PS for $GREETING; (sleep 4711 &)\nbuild: exit 4\n";
    host.lay(&format!("{web}{once}"), "export GREETING=hello PORT=7000 HELD=\n");
    let said = host.runs(&["web"]).output().exits(12);
    for line in [
        "PORT=7000",
        "PUBLIC_PORT=7000",
        "PS=web.1",
        "HOME=/home/deployer",
        "DEPLOY_APP=shop",
        "DEPLOY_ENVIRONMENT=development",
        "DEPLOY_RELEASE=local",
        "GREETING=hello",
        "to stdout",
        "to stderr",
        "can write",
        "last words",
    ] {
        assert!(has_line(&said, &format!("web.1     | {line}")), "{line}: {said:?}");
    }
    let said = host.runs(&["release"]).output().exits(0);
    assert!(has_line(&said, "release.1 | migrates as release.1 for hello"), "{said:?}");
    let said = host.runs(&["build"]).output().exits(10);
    assert!(said.stdout.contains("run build: exit status: 4"), "{said:?}");
    let said = host.runs(&["web", "release"]).output().exits(2);
    assert!(said.stderr.contains("run it alone: `deploy run … release`"), "{said:?}");
    let said = host.runs(&["wep"]).output().exits(2);
    assert!(said.stdout.contains("run wep: the Procfile has web"), "{said:?}");
    host.runs_nothing();
}

#[test]
fn nothing_of_a_release_runs_as_root_by_mistake() {
    let host = Host::boot();
    host.lay("web: id -un; exit 3\nrelease: id -un\n", "");
    for arguments in [&["run", "/srv/shop"][..], &["run", "/srv/shop", "release"]] {
        let said = host.deploy(arguments).exits(2);
        assert!(!said.stdout.contains("| root"), "{said:?}");
        assert!(said.stderr.contains("run it as another user, such as `runuser -u"), "{said:?}");
        let sudo = host.command(&[&["deploy"], arguments].concat());
        let said = sudo.env("SUDO_USER", "deployer").output().exits(2);
        assert!(said.stderr.contains("run it without sudo"), "{said:?}");
    }
    let said = host.deploy(&["run", "/srv/shop", "release", "--as-root"]).exits(0);
    assert!(has_line(&said, "release.1 | root"), "{said:?}");
}

/// As on a laptop: with keys in the environment, and without the daemon.
#[test]
fn a_release_that_a_url_names_is_fetched_built_and_removed() {
    let host = Host::boot();
    let procfile = "build: echo made >made; echo build in $PWD\n\
                    web: cat made VERSION; echo $GREETING from $DEPLOY_RELEASE; exit 3\n";
    let release = Release::empty("r1").file("VERSION", "one\n").procfile(procfile);
    host.publish(&release.set("GREETING=hello"));
    host.publish(&Release::empty("r2").file("README", "no Procfile\n"));
    host.sh("systemctl stop deployd.socket deployd.service");
    let endpoint = format!("http://{}:{}", Network::GATEWAY, host.s3().address().port());
    let run = |url: &str, key: &str| {
        let command = host.command(&["runuser", "-u", "deployer", "--", "deploy", "run", url]);
        let command = command.env("AWS_ENDPOINT_URL", &endpoint).env("AWS_REGION", "eu-central-1");
        command.env("AWS_ACCESS_KEY_ID", key).env("AWS_SECRET_ACCESS_KEY", SECRET_KEY).output()
    };
    let said = run(&url("r1"), ACCESS_KEY).exits(12);
    for line in ["web.1     | made", "web.1     | one", "web.1     | hello from r1"] {
        assert!(has_line(&said, line), "{line}: {said:?}");
    }
    assert!(said.stdout.contains("build.1   | build in /tmp/deploy-run-"), "{said:?}");
    let said = run(&url("r2"), ACCESS_KEY).exits(10);
    assert!(said.stdout.contains("Procfile"), "{said:?}");
    let said = run(&url("r3"), ACCESS_KEY).exits(11);
    assert!(said.stdout.contains("r3"), "{said:?}");
    run(&url("r1"), "AKIDUNKNOWN").exits(11);
    host.runs_nothing();
    // A store that accepts connections and never answers.
    let silent = "import socket, time; s = socket.create_server((\"\", 9009)); time.sleep(600)";
    host.exec(&["systemd-run", "--quiet", "python3", "-c", silent]).exits(0);
    let words = ["setsid", "--wait", "runuser", "-u", "deployer", "--", "deploy", "run"];
    let command = host.command(&[&words[..], &[&url("r1")]].concat());
    let command = command.env("AWS_ENDPOINT_URL", "http://127.0.0.1:9009");
    let command = command.env("AWS_REGION", "eu-central-1").env("AWS_ACCESS_KEY_ID", ACCESS_KEY);
    let job = command.env("AWS_SECRET_ACCESS_KEY", SECRET_KEY).spawn();
    let fetches = || (host.exec(&["pgrep", "-x", "deployd"]).status == Some(0)).then_some(());
    host.wait_for("the fetch", SOON, fetches);
    // Not the whole group, as Ctrl-C does: the program that fetches has to be ended.
    host.sh("kill -INT $(pgrep -x deploy)");
    host.wait_for("the end", SOON, || {
        (host.exec(&["pgrep", "-x", "deploy"]).status == Some(1)).then_some(())
    });
    host.exec(&["pgrep", "-x", "deployd"]).exits(1);
    job.output().exits(0);
    host.runs_nothing();
    // Of half a package.
    host.sh("mv /usr/bin/deployd /usr/bin/deployd.away");
    let said = run(&url("r1"), ACCESS_KEY).exits(1);
    assert!(said.stderr.contains("install the package again"), "{said:?}");
    host.runs_nothing();
    let said = host.deploy(&["doctor"]).exits(1);
    assert!(said.stdout.contains("install the package again"), "{said:?}");
    host.sh("mv /usr/bin/deployd.away /usr/bin/deployd");
    let said = host.exec(&["deployd", "fetched"]).exits(2);
    assert!(said.stderr.contains("systemctl start deployd.socket"), "{said:?}");
}
