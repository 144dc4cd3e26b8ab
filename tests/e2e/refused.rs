//! Releases and commands that are refused: each with its exit code and its message, and with
//! nothing changed.

use testkit::app::{BUCKET, Release, url};
use testkit::host::Host;
use testkit::s3::Fault;

#[test]
fn an_unusable_release_touches_nothing() {
    let host = Host::running_r1();
    let before = host.state();
    let refused = |name: &str, why: &str| {
        let said = host.deploy(&[&url(name)]).exits(10);
        assert!(said.stdout.contains(name), "{name}: {said:?}");
        assert!(said.stdout.contains(why), "{name}: {said:?}");
        assert_eq!(said.stdout.lines().count(), 1, "{name}: {said:?}");
        assert_eq!(host.state(), before, "{name}");
        said
    };
    let publish = |release: Release| host.publish(&release);
    let archive = |name: &str, bytes: &[u8]| {
        publish(Release::new(name));
        host.s3().put(BUCKET, &format!("my-app/production/{name}/source.tar.gz"), bytes);
    };

    archive("no-archive", b"neither gzip nor tar");
    refused("no-archive", "source.tar.gz");
    archive("cut-archive", &Release::new("r2").compressed()[..200]);
    refused("cut-archive", "source.tar.gz");
    publish(Release::empty("empty"));
    refused("empty", "empty");

    publish(Release::new("bad-env").env("export A=1\nexport TOKEN=$(cat token)\n"));
    refused("bad-env", "env of s3://releases/my-app/production/bad-env: line 2, column 14");
    publish(Release::new("misspelt").set("DEPLOY_SETLE=3s"));
    let said = refused("misspelt", "DEPLOY_SETLE");
    assert!(said.stderr.contains("DEPLOY_SETTLE"), "{said:?}");
    publish(Release::new("bad-procfile").procfile("web: python3 app.py web\nworker\n"));
    refused("bad-procfile", "line 2");
    publish(Release::new("no-such-type").set("DEPLOY_CONCURRENCY=clock=2"));
    refused("no-such-type", "the Procfile has web, worker");

    let build = |command: &str| format!("web: python3 app.py web\nbuild: {command}\n");
    let failing = build("echo compiling; echo no compiler >&2; exit 3");
    publish(Release::new("failing-build").procfile(&failing));
    let said = refused("failing-build", "build of release failing-build");
    assert!(said.stderr.contains("  | compiling\n  | no compiler\n"), "{said:?}");
    let hanging = Release::new("hanging-build").procfile(&build("sleep 3600"));
    publish(hanging.set("DEPLOY_BUILD_TIMEOUT=1s"));
    refused("hanging-build", "build of release hanging-build");
    host.exec(&["pgrep", "-f", "sleep 3600"]).exits(1);
    publish(Release::new("nothing-to-run").procfile("# nothing yet\n"));
    refused("nothing-to-run", "Procfile");
    assert_eq!(host.served().as_deref(), Some("r1"));
}

#[test]
fn an_unusable_first_release_leaves_no_app() {
    let host = Host::boot();
    host.publish(&Release::new("r1").env("A=$(id)\n"));
    host.deploy(&[&url("r1")]).exits(10);
    host.publish(&Release::new("r1").procfile("build: exit 1\nweb: true\n"));
    host.deploy(&[&url("r1")]).exits(10);
    host.deploy(&[&url("r404")]).exits(11);
    assert_eq!(host.sh("find /run/systemd/generator -name 'deploy-*'"), "");
    let kept = host
        .sh("cd /var/lib/deploy/apps/my-app; find . -name reserve -prune -o -type f -print | sort");
    assert_eq!(kept, "./history.jsonl\n./lock\n");
    let status = host.status();
    assert_eq!((&status["release"], &status["last"]["exit"]), (&().into(), &"source".into()));
    host.deploy(&["rollback"]).exits(2);
}

#[test]
fn a_release_in_a_directory_hidden_from_deployd_is_refused_with_advice() {
    let host = Host::boot();
    for hidden in ["/tmp", "/var/tmp", "/home/stranger"] {
        let said = host.deploy(&[&format!("file://{hidden}/my-app/production/r1")]).exits(2);
        assert!(said.stdout.contains("deployd does not see /"), "{said:?}");
        assert!(said.stderr.contains("help: put the release below /srv"), "{said:?}");
    }
}

#[test]
fn a_source_that_refuses_touches_nothing() {
    let mut host = Host::running_r1();
    let before = host.state();
    let refused = |host: &Host, release: &str, why: &str| {
        let said = host.deploy(&[&url(release)]).exits(11);
        assert!(said.stdout.contains(why), "{release}: {said:?}");
        assert!(said.stderr.contains("help: "), "{release}: {said:?}");
        assert_eq!(host.state(), before, "{release}");
    };
    refused(&host, "r2", "s3://releases/my-app/production/r2");
    host.publish(&Release::new("forbidden"));
    host.s3().fault("*", "forbidden", 100, Fault::ACCESS_DENIED);
    refused(&host, "forbidden", "AccessDenied");
    host.publish(&Release::new("elsewhere"));
    host.s3().fault("*", "elsewhere", 100, Fault::WrongRegion("us-west-2"));
    refused(&host, "elsewhere", "us-west-2");

    host.publish(&Release::new("r2"));
    host.configure("AWS_SECRET_ACCESS_KEY=another-one\n");
    host.exec(&["systemctl", "reload", "deployd"]).ok();
    refused(&host, "r2", "SignatureDoesNotMatch");
    host.stop_s3();
    refused(&host, "r2", "refuses the connection");
    assert_eq!(host.served().as_deref(), Some("r1"));
}

#[test]
fn an_invalid_command_touches_nothing() {
    let host = Host::running_r1();
    let before = host.state();
    let refused = |arguments: &[&str], why: &str| {
        let said = host.deploy(arguments).exits(2);
        let both = said.stdout.clone() + &said.stderr;
        assert!(both.contains(why), "{arguments:?}: {said:?}");
        assert_eq!(host.state(), before, "{arguments:?}");
    };
    refused(&[], "Usage: deploy");
    refused(&["--no-such-option"], "--no-such-option");
    refused(&["s3://releases/r1"], "s3://BUCKET/[PREFIX/]APP/ENVIRONMENT/RELEASE");
    refused(&["s3://releases/../production/r1"], "s3://BUCKET/");
    refused(&["ftp://releases/my-app/production/r1"], "s3://BUCKET/");
    refused(&["s3://releases/my-app/staging/r1"], "`deploy remove my-app` first");
    refused(&["restart", "clock"], "web.1, worker.1");
    refused(&["stop", "my-app", "web.2"], "web.1, worker.1");
    refused(&["status", "other-app"], "my-app");
    refused(&["remove", "my-app"], "--yes");
    host.configure("DEPLOY_KEEP_RELEASES=some\n");
    refused(&[&url("r2")], "DEPLOY_KEEP_RELEASES");
}

#[test]
fn reports_that_the_previous_release_cannot_be_restored() {
    let host = Host::boot();
    host.configure("DEPLOY_STRATEGY=restart\n");
    host.publish(&Release::new("r1"));
    host.deploys("r1");
    host.sh("mv /var/lib/deploy/apps/my-app/releases/r1/app/app.py /root/");
    host.publish(&Release::new("r2").set("BEHAVE=crash"));
    let said = host.deploy(&[&url("r2")]).exits(30);
    assert!(said.stdout.contains("r2 failed"), "{said:?}");
    assert!(said.stdout.contains("could not be brought back"), "{said:?}");
    assert!(said.stderr.contains("deploy status my-app"), "{said:?}");
    let status = host.status();
    assert_eq!((&status["release"], &status["healthy"]), (&"r1".into(), &false.into()));
    host.publish(&Release::new("r3"));
    host.deploys("r3");
    assert_eq!(host.served().as_deref(), Some("r3"));
}
