//! Output of real tools and habits of people: it is deployed, or the error gives the remedy.

use testkit::app::{APP, BUCKET, Release, url};
use testkit::host::{Host, SOON};

/// Deploys a release of `my-app` that fails with this exit code, and returns all output of the
/// command.
#[track_caller]
fn fails(host: &Host, exit: i32, name: &str, release: &Release) -> String {
    host.publish(release);
    let said = host.deploy(&[&url(name)]).exits(exit);
    assert!(said.stderr.contains("help: "), "{said:?}");
    said.stdout + &said.stderr
}

#[track_caller]
fn says(said: &str, all: &[&str]) {
    for one in all {
        assert!(said.contains(one), "no {one:?} in {said}");
    }
}

#[test]
fn archives_created_by_other_tools_are_deployed() {
    let host = Host::boot();
    let publish = |name: &str, archive: &[u8]| {
        let key = |file: &str| format!("my-app/production/{name}/{file}");
        host.s3().put(BUCKET, &key("source.tar.gz"), archive);
        host.s3().put(BUCKET, &key("env"), "");
    };
    publish("bsdtar", include_bytes!("../archives/made_by/bsdtar.tar.gz"));
    publish("java", include_bytes!("../archives/made_by/commons-compress.tar.gz"));
    publish("python", include_bytes!("../archives/made_by/python.tar.gz"));
    for name in ["bsdtar", "java", "python"] {
        host.deploys(name);
        host.sh("test -f /var/lib/deploy/apps/my-app/current/app/Procfile");
    }
}

#[test]
fn log_and_tmp_may_be_a_file_or_a_link_inside_the_release() {
    let host = Host::boot();
    let web = "echo log >>log && echo tmp >tmp/f && exec python3 app.py web";
    let release = |name: &str, build: &str, web: &str| {
        Release::new(name).procfile(&format!("build: {build}\nweb: {web}\n"))
    };
    host.publish(&release("r1", "mkdir var && ln -s var tmp && echo kept >log", web));
    host.deploys("r1");
    let app = "/var/lib/deploy/apps/my-app/current/app";
    assert_eq!(host.sh(&format!("cd {app}; cat log var/f; readlink tmp")), "kept\nlog\ntmp\nvar\n");
    // No process writes to this link.
    host.publish(&release("r2", "ln -s nowhere tmp", "python3 app.py web"));
    host.deploys("r2");

    let web = "echo row >>data.db && exec python3 app.py web";
    host.publish(&release("r3", "touch data.db", web).set("DEPLOY_WRITABLE=data.db"));
    host.deploys("r3");
    assert_eq!(host.sh(&format!("cat {app}/data.db")), "row\n");

    let asked = release("r4", "ln -s nowhere cache", web).set("DEPLOY_WRITABLE=cache");
    let said = fails(&host, 10, "r4", &asked);
    says(&said, &["cache writable (DEPLOY_WRITABLE): it is a link to something that is not"]);
    let said = fails(&host, 10, "r5", &release("r5", "ln -s /etc tmp", web));
    says(&said, &["make tmp writable", "it is a link that leads out of the release"]);
}

#[test]
fn a_write_to_a_read_only_file_system_is_explained() {
    let host = Host::boot();
    let web = "web: python3 -c \"open('cache/x', 'w')\"\n";
    let release = Release::new("r1").file("cache/kept", "").procfile(web);
    let said = fails(&host, 12, "r1", &release);
    let build = Release::new("r0").procfile("web: python3 app.py web\nbuild: touch /usr/x\n");
    let failed = fails(&host, 10, "r0", &build);
    assert_eq!(failed.matches("Read-only file system").count(), 1, "quoted twice");
    says(&failed, &["Read-only file system", "help: write below $HOME, $DEPLOY_SHARED, /tmp"]);
    says(&said, &["Read-only file system", "DEPLOY_WRITABLE", "$DEPLOY_SHARED, /tmp"]);
    host.publish(
        &Release::new("r2")
            .procfile("web: echo x >cache/x && exec python3 app.py web\nbuild: mkdir -p cache\n")
            .set("DEPLOY_WRITABLE=cache,tmp,log"),
    );
    host.deploys("r2");
}

#[test]
fn a_python_environment_works_as_the_help_describes() {
    let host = Host::boot();
    let procfile = "build: python3 -m venv --without-pip venv\nweb: venv/bin/python3 app.py web\n";
    host.publish(&Release::new("r1").procfile(procfile));
    host.deploys("r1");

    // Packed on another machine, with a program of the environment as pip installs it.
    host.sh("mkdir -p /srv/ci && cd /srv/ci && python3 -m venv --copies --without-pip venv
        site=$(echo venv/lib/python3*/site-packages)
        printf 'import sys; sys.argv.append(\"web\"); exec(open(\"app.py\").read())' >$site/serve.py
        printf '#!/srv/ci/venv/bin/python3\nimport serve\n' >venv/bin/serve
        chmod +x venv/bin/serve");
    host.write("/srv/ci/app.py", APP);
    host.write("/srv/ci/VERSION", "r2");
    host.write("/srv/ci/Procfile", "web: venv/bin/python3 -m serve\n");
    let publish = |name: &str| {
        host.sh("cd /srv/ci && tar czf /root/source.tar.gz .");
        let key = |file: &str| format!("my-app/production/{name}/{file}");
        host.s3().put(BUCKET, &key("source.tar.gz"), host.read("/root/source.tar.gz"));
        host.s3().put(BUCKET, &key("env"), "");
    };
    publish("r2");
    host.deploys("r2");
    assert_eq!(host.served().as_deref(), Some("r2"));

    // The script names the directory in which the environment was created.
    host.write("/srv/ci/Procfile", "web: venv/bin/serve\n");
    publish("r3");
    host.sh("mv /srv/ci /srv/elsewhere");
    let said = host.deploy(&[&url("r3")]).exits(12);
    says(&said.stderr, &["`#!` line"]);
    host.sh("mv /srv/elsewhere /srv/ci && cd /srv/ci && ln -sf /usr/bin/python3 venv/bin/python3");
    publish("r4");
    let said = host.deploy(&[&url("r4")]).exits(10);
    says(&said.stderr, &["help: make the Python environment in `build`", "-m NAME"]);
}

#[test]
fn a_one_off_among_the_services_is_named_with_its_remedy() {
    let host = Host::boot();
    let procfile = "web: python3 app.py web\nmigrate: echo migrated\n";
    let said = fails(&host, 12, "r1", &Release::new("r1").procfile(procfile));
    says(&said, &["exit status 0", "stay", "foreground", "DEPLOY_CONCURRENCY=migrate=0"]);
    let release = Release::new("r2").procfile(procfile).set("DEPLOY_CONCURRENCY=migrate=0");
    host.publish(&release);
    host.deploys("r2");

    let web = |name: &str, command: &str| {
        Release::new(name).procfile(&format!("web: {command}\n")).file("data", "x")
    };
    let daemon = "python3 app.py web & exit 0";
    says(&fails(&host, 12, "r3", &web("r3", daemon)), &["exit status 0", "foreground"]);
    says(
        &fails(&host, 12, "r4", &web("r4", "no-such-server")),
        &["exit status 127", "./bin/server"],
    );
    says(&fails(&host, 12, "r5", &web("r5", "./data")), &["exit status 126", "x bit"]);
}

#[test]
fn a_misplaced_procfile_and_one_without_web_are_reported() {
    let host = Host::boot();
    let below = Release::empty("r1").file("my-app-1.0/Procfile", "web: true\n");
    says(&fails(&host, 10, "r1", &below), &["found my-app-1.0/Procfile", "-C my-app-1.0 ."]);
    let other = Release::empty("r2").file("procfile", "web: true\n");
    says(&fails(&host, 10, "r2", &other), &["found procfile: name it Procfile"]);
    let blank = Release::empty("r3").file("Procfile", "web : true\n");
    says(&fails(&host, 10, "r3", &blank), &["write `web:` without blanks"]);

    host.publish(&Release::new("r4").procfile("worker: python3 app.py worker\n"));
    says(&host.deploys("r4").stderr, &["warning", "the Procfile has no web"]);
    host.publish(&Release::new("r5").procfile("Web: python3 app.py worker\n"));
    says(&host.deploys("r5").stderr, &["warning", "the Procfile has Web and no web"]);
}

#[test]
fn env_files_of_other_tools_are_read_and_surprises_are_reported() {
    let host = Host::boot();
    host.sh("env -i A='two words' B=$'line1\nline2' C='dollar $x `y`' PATH=/usr/bin:/bin \
        bash -c 'export -p' >/root/env");
    let exported = String::from_utf8(host.read("/root/env")).expect("text");
    says(&exported, &["declare -x A=", "declare -x PWD=", "declare -x SHLVL="]);
    let env = format!("{exported}\nPUBLIC_PORT=443\nPS=mine\n");
    host.publish(&Release::new("r1").env(env));
    let said = host.deploys("r1").stderr;
    says(&said, &["warning", "PUBLIC_PORT", "PS", "PWD, SHLVL"]);
    assert!(!said.contains("443") && !said.contains("mine"), "{said}");
    let environ = host.read(&format!("/proc/{}/environ", host.pids()[0]));
    let environ = String::from_utf8(environ).expect("text");
    for variable in ["A=two words", "B=line1\nline2", "C=dollar $x `y`", "PUBLIC_PORT=5000"] {
        assert!(environ.split('\0').any(|one| one == variable), "{variable}: {environ:?}");
    }

    for (name, line, help) in [
        ("dotted", "spring.datasource.url=jdbc:x", "SPRING_DATASOURCE_URL"),
        ("dashed", "MY-KEY=x", "MY_KEY in place of MY-KEY"),
        ("agent", "DEPLOY_ENV=production", "another name"),
        ("home", "PATH=\"$HOME/bin:$PATH\"", "web: PATH="),
    ] {
        says(&fails(&host, 10, name, &Release::new(name).env(line)), &[help]);
    }
}

#[test]
fn path_in_env_may_be_relative_and_may_extend_the_default() {
    let host = Host::boot();
    let serve = "#!/bin/sh\nexec python3 app.py web\n";
    for (name, path) in
        [("r1", "PATH=./bin:$PATH"), ("r2", "export PATH=\"bin:/usr/local/bin:/usr/bin:/bin\"")]
    {
        let release = Release::new(name).procfile("web: serve\n").env(format!("{path}\n"));
        host.publish(&release.file_of_mode(0o755, "bin/serve", serve));
        host.deploys(name);
        assert_eq!(host.served().as_deref(), Some(name));
    }
    // `$PATH` stands for the PATH that systemd gives a service which sets none.
    host.publish(&Release::new("usual").env("A=$PATH\n"));
    host.deploys("usual");
    let environ = host.read(&format!("/proc/{}/environ", host.pids()[0]));
    let environ = String::from_utf8(environ).expect("text");
    let value = |name: &str| environ.split('\0').find_map(|one| one.strip_prefix(name));
    assert_eq!(value("A="), value("PATH="));
    // The Procfile's own command extends PATH, with $HOME.
    let procfile = "web: PATH=\"$PWD/bin:$HOME/bin:$PATH\" serve\n";
    host.publish(&Release::new("r3").procfile(procfile).file_of_mode(0o755, "bin/serve", serve));
    host.deploys("r3");
}

#[test]
fn python_output_is_unbuffered_unless_env_says_otherwise() {
    let host = Host::boot();
    let worker = "worker: python3 -c \"import signal; print('at once'); signal.pause()\"\n";
    let release = |name: &str| Release::new(name).procfile(worker);
    let lines = || host.sh("journalctl -o cat -t my-app.worker.1 | grep -c 'at once' || true");
    host.publish(&release("r1").set("PYTHONUNBUFFERED="));
    host.deploys("r1");
    assert_eq!(lines(), "0\n");
    let logs = host.deploy(&["logs", "my-app", "worker"]);
    says(&logs.stderr, &["no lines", "$stdout.sync"]);
    // A stopped process could flush its buffered lines; there are none, since SIGTERM kills it.
    host.publish(&release("r2"));
    host.deploys("r2");
    host.wait_for("the line", SOON, || (lines() == "1\n").then_some(()));
}

#[test]
fn logs_show_lines_with_colours() {
    let host = Host::boot();
    let web = "web: printf '\\033[32mgreen\\033[0m \\001line\\n'; exec python3 app.py web\n";
    host.publish(&Release::new("r1").procfile(web));
    host.deploys("r1");
    let line = host.wait_for("the line", SOON, || {
        let said = host.deploy(&["logs", "my-app"]).ok();
        said.lines().find(|line| line.contains("my-app.web.1")).map(str::to_owned)
    });
    says(&line, &["green", "line"]);
    assert!(!line.contains("blob data"), "{line}");
}
