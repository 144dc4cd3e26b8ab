//! No app reads, signals or weakens another one, and no build affects running processes: each
//! app runs as its own user, and its builds as another.

use crate::metadata::Metadata;
use crate::units::exposure;
use testkit::app::{BUCKET, Release, url};
use testkit::host::{ACCESS_KEY, Host, SOON};

const APPS: &str = "/var/lib/deploy/apps";
const WEB: &str = "web: python3 app.py web\nworker: python3 app.py worker\n";

/// Attacks on another app: each prints what it finds.
const SPY: &str = include_str!("spy.py");

fn url_of(app: &str, release: &str) -> String {
    format!("s3://{BUCKET}/{app}/production/{release}")
}

/// Deploys an app of another name, on its own port.
fn neighbour(host: &Host, app: &str, release: Release, port: u16) {
    release.set(&format!("PORT={port}")).publish_as(host.s3(), app);
    host.deploy(&[&url_of(app, "r1")]).exits(0);
}

#[test]
fn no_app_finds_data_of_another_app_in_any_way() {
    let host = Host::boot();
    let marked = Release::new("r1")
        .set("SECRET=marker-in-env")
        .file("marked", "marker-in-tree")
        .file_of_mode(0o666, "open/marked", "marker-in-open-tree")
        .procfile(
            "web: echo marker-in-shared >$DEPLOY_SHARED/file && chmod 777 $DEPLOY_SHARED/file && \
             echo marker-in-home >$HOME/file && echo marker-in-tmp >/tmp/file && \
             echo marker-in-log && exec python3 app.py web marker-in-cmdline\n",
        );
    neighbour(&host, "victim", marked, 6000);
    let pid = host.sh("systemctl show --value --property=MainPID deploy-victim-web-r1@1.service");
    for sandbox in ["strict", "full", "off"] {
        let spy = Release::new(sandbox)
            .file("spy.py", SPY)
            .procfile("build: python3 spy.py build\nweb: python3 app.py web\nspy: python3 spy.py spy && exec sleep 3600\n")
            .set(&format!("DEPLOY_SANDBOX={sandbox}"))
            .set(&format!("VICTIM={}", pid.trim()));
        host.publish(&spy);
        host.deploys(sandbox);
        for by in ["build", "spy"] {
            let found = host.wait_for("what was found", SOON, || {
                let read = host.exec(&["cat", &format!("{APPS}/my-app/shared/{by}")]);
                (read.status == Some(0)).then_some(read.stdout)
            });
            assert_eq!(found, "own-marker\n", "{by} under {sandbox}");
        }
        host.sh(&format!("rm {APPS}/my-app/shared/build {APPS}/my-app/shared/spy"));
    }
    assert_eq!(
        host.sh("systemctl show --value --property=NRestarts deploy-victim-web-r1@1.service"),
        "0\n"
    );
}

#[test]
fn only_the_app_reads_its_code_and_none_of_its_files_is_world_writable() {
    let host = Host::boot();
    host.publish(&Release::new("r1").file_of_mode(0o777, "open/file", "x"));
    host.deploys("r1");
    let tree = format!("{APPS}/my-app/releases/r1/app");
    for user in ["stranger", "nobody"] {
        for path in [format!("{tree}/VERSION"), format!("{APPS}/my-app/shared/.cache")] {
            let said = host.exec(&["runuser", "-u", user, "--", "ls", &path]);
            assert!(said.stderr.contains("Permission denied"), "{said:?}");
        }
    }
    let modes = host.sh(&format!("stat -c '%U:%G %a' {tree} {tree}/open/file"));
    assert_eq!(modes, "app-my-app:app-my-app 750\napp-my-app:app-my-app 775\n");
    assert_eq!(host.sh(&format!("find {tree} -perm -2 ! -type l")), "");
    assert_eq!(host.sh("id -Gn app-my-app; id -Gn build-my-app"), "app-my-app\napp-my-app\n");

    host.deploy(&["remove", "my-app", "--yes"]).exits(0);
    assert_eq!(
        host.sh("getent passwd app-my-app build-my-app || true; getent group app-my-app || true"),
        ""
    );
}

#[test]
fn a_build_that_kills_everything_it_can_kills_no_running_process() {
    let host = Host::running_r1();
    neighbour(&host, "other", Release::new("r1"), 6000);
    let pids = || {
        host.sh("systemctl show --value --property=MainPID,NRestarts deploy-my-app-web-r1@1 \
                 deploy-my-app-worker-r1@1 deploy-other-web-r1@1 deployd")
    };
    let before = pids();
    let build = "build: pkill -9 python3; pkill -9 -f app.py; kill -9 -1; \
                 for pid in $(seq 1 2000); do kill -9 $pid; done; exit 1\n";
    host.publish(&Release::new("r2").procfile(&format!("{build}{WEB}")));
    host.deploy(&[&url("r2")]).exits(10);
    assert_eq!(pids(), before);
    // A process of another app, or of the app's next release, has no more power.
    let killer = "killer: (kill -9 -1; kill -9 $VICTIM); exec sleep 3600\n";
    let victim = host.sh("systemctl show --value --property=MainPID deploy-other-web-r1@1");
    let release = Release::new("r1").procfile(&format!("{WEB}{killer}"));
    let release = release.set(&format!("VICTIM={}", victim.trim()));
    release.set("PORT=7000").publish_as(host.s3(), "killer");
    let _ = host.deploy(&[&url_of("killer", "r1")]);
    assert_eq!(pids(), before);
    assert_eq!(host.served().as_deref(), Some("r1"));
}

#[test]
fn a_build_has_limited_tasks_and_files_and_no_privileges() {
    let host = Host::running_r1();
    host.configure("DEPLOY_MAX_TASKS=64\nDEPLOY_MAX_FILES=2000\nDEPLOY_MAX_UNPACKED=64M\n");
    let builds = [
        (
            "forks",
            "for i in $(seq 200); do sleep 60 & done; wait",
            "Resource temporarily unavailable",
        ),
        ("many", "mkdir many && cd many && seq 3000 | xargs touch", "DEPLOY_MAX_FILES allows 2000"),
        (
            "large",
            "for i in 1 2 3; do head -c 40M /dev/zero >$i; done",
            "DEPLOY_MAX_UNPACKED allows",
        ),
        ("huge", "head -c 100M /dev/zero >file", "exit-code"),
        ("users", "unshare --user true", "Operation not permitted"),
        ("mounts", "unshare --mount true", "Operation not permitted"),
        (
            "capable",
            "grep -E '^Cap(Prm|Eff|Bnd|Amb):[[:space:]]*0+$' /proc/self/status | wc -l | grep 9",
            "exit status 1",
        ),
    ];
    for (name, build, said) in builds {
        host.publish(&Release::new(name).procfile(&format!("build: {build}\n{WEB}")));
        let refused = host.deploy(&[&url(name)]).exits(10);
        let all = format!("{}{}", refused.stdout, refused.stderr);
        assert!(all.contains(said), "{name}: {all}");
    }
    let right = "grep -cE '^Cap(Prm|Eff|Bnd|Amb):[[:space:]]*0+$' /proc/self/status | grep -x 4";
    host.publish(&Release::new("r2").procfile(&format!("build: {right}\n{WEB}")));
    host.deploys("r2");
}

#[test]
fn a_build_that_fills_the_disk_is_stopped_before_running_apps_lack_room() {
    let host = Host::on_disk(400);
    host.publish(&Release::new("r1"));
    host.deploys("r1");
    let build = "build: i=0; while :; do head -c 1M /dev/zero >$i || exit 1; i=$((i+1)); sleep 0.03; done\n";
    host.publish(&Release::new("r2").procfile(&format!("{build}{WEB}")));
    let refused = host.deploy(&[&url("r2")]);
    assert_ne!(refused.status, Some(0), "{refused:?}");
    let all = format!("{}{}", refused.stdout, refused.stderr);
    assert!(all.contains("left next to no room on the disk"), "{all}");
    assert_eq!(host.served().as_deref(), Some("r1"));
    host.publish(&Release::new("r3"));
    host.deploys("r3");
}

#[test]
fn files_of_a_build_belong_to_the_app_and_its_cache_stays_usable_to_both() {
    let host = Host::boot();
    let build = "build: id -un >who && mkdir -p $DEPLOY_SHARED/kept && date +%N >$DEPLOY_SHARED/kept/file && \
                 mkdir -p ~/.cache/tool && date >~/.cache/tool/file && echo x >~/.config\n";
    let web = "web: cat who >&2 && echo more >>$DEPLOY_SHARED/kept/file && echo >>~/.cache/tool/file && \
               echo made >$DEPLOY_SHARED/kept/web && touch made && cat ~/.config && exec python3 app.py web\n";
    for release in ["r1", "r2"] {
        let app = Release::new(release).procfile(&format!("{build}{web}"));
        host.publish(&app.set("DEPLOY_SANDBOX=full"));
        host.deploys(release);
    }
    let tree = format!("{APPS}/my-app/releases/r2");
    assert_eq!(host.sh(&format!("cat {tree}/app/who")), "build-my-app\n");
    assert_eq!(host.sh(&format!("find {tree}/app {tree}/home/* ! -type l ! -user app-my-app")), "");
}

#[test]
fn an_app_without_metadata_is_refused_the_role_but_deploys_can_use_it() {
    let host = Host::boot();
    let metadata = Metadata::start(&host.network, ACCESS_KEY);
    metadata.attach_role();
    host.sh(
        "sed -i /^AWS_ACCESS/d /etc/deploy/agent.env; sed -i /^AWS_SECRET/d /etc/deploy/agent.env",
    );
    let ask = "import sys, urllib.request as u\n\
        r = u.Request('http://169.254.169.254/latest/api/token', method='PUT')\n\
        try:\n  sys.exit('got ' + u.urlopen(r, timeout=5).read().decode())\n\
        except OSError as e:\n  sys.exit('refused' if 'refused' in str(e) else str(e))\n";
    let asks = |name: &str, metadata: &str| {
        Release::new(name)
            .file("ask.py", ask)
            .procfile(
                "web: python3 app.py web\nask: until [ -e $DEPLOY_SHARED/ask ]; do sleep 0.1; done; \
                 python3 ask.py 2>$DEPLOY_SHARED/new; mv $DEPLOY_SHARED/new $DEPLOY_SHARED/said; exec sleep 3600\n",
            )
            .set(&format!("DEPLOY_METADATA={metadata}"))
    };
    let said = |app: &str| {
        host.sh(&format!("touch {APPS}/{app}/shared/ask"));
        host.wait_for("an answer", SOON, || {
            let read = host.exec(&["cat", &format!("{APPS}/{app}/shared/said")]);
            (read.status == Some(0)).then_some(read.stdout)
        })
    };
    let build = "build: python3 ask.py 2>built; cat built >&2; grep -x refused built\n";
    let asking = asks("r0", "no").procfile(&format!("{build}web: python3 app.py web\n"));
    host.publish(&asking);
    host.deploys("r0");
    host.publish(&asks("r1", "no"));
    host.deploys("r1");
    neighbour(&host, "other", asks("r1", "yes"), 6000);
    assert_eq!(said("my-app"), "refused\n");
    assert_eq!(said("other"), "got a-token-of-the-tests\n");
    host.publish(&Release::new("r2").set("DEPLOY_METADATA=no"));
    host.deploys("r2");
    assert!(host.sh("nft list table inet deploy").contains("169.254.169.254"));
    host.reboot();
    host.wait_for("the rule", SOON, || {
        host.sh("nft list table inet deploy || true").contains("169.254.169.254").then_some(())
    });
}

#[test]
fn units_are_exposed_no_more_than_necessary() {
    let host = Host::running_r1();
    assert!(exposure(&host, "deploy-my-app-web-r1@1.service") <= 1.4);
    assert!(exposure(&host, "deployd.service") <= 3.0);
    host.publish(&Release::new("r2").waiting());
    let r2 = url("r2");
    let deploying = host.command(&["deploy", &r2]).spawn();
    let build = host.wait_for("the build", SOON, || {
        let units = host.sh("systemctl list-units --plain --no-legend 'deploy*build*'");
        units.split_whitespace().next().map(str::to_owned)
    });
    let exposed = exposure(&host, &build);
    host.go();
    deploying.output().exits(0);
    assert!(exposed <= 2.0, "{exposed}");
}

/// While the app's process is down, another user takes its private port.
#[test]
fn no_other_user_can_serve_in_place_of_a_process_that_is_down() {
    let host = Host::running_r1();
    let port = host.web_listens_on();
    host.sh("systemctl stop deploy-my-app-web-r1@1.service; mkdir /srv/other; echo impostor >/srv/other/index.html");
    let serve = format!("cd /srv/other && exec python3 -m http.server {}", port[0]);
    let impostor = host.command(&["runuser", "-u", "nobody", "--", "sh", "-c", &serve]).spawn();
    host.wait_for("the impostor", SOON, || {
        host.sh("ss --no-header --listening --tcp --numeric")
            .contains(&format!(":{}", port[0]))
            .then_some(())
    });
    for address in ["127.0.0.1", &host.address().to_string()] {
        for port in [5000, port[0]] {
            let ask = format!("curl --silent --max-time 2 http://{address}:{port}/ || true");
            assert_eq!(host.sh(&ask), "", "{address}:{port}");
        }
    }
    assert_eq!(host.served(), None);
    host.sh("pkill -u nobody -f http.server");
    drop(impostor.output());
    host.deploy(&["restart", "my-app"]).exits(0);
    assert_eq!(host.served().as_deref(), Some("r1"));
}

/// Releases as 0.1.0 left them: their user is shared with other apps.
#[test]
fn an_app_with_a_shared_user_keeps_it_until_its_restart_and_loses_nothing() {
    let host = Host::boot();
    host.sh("useradd --system legacy");
    host.configure("DEPLOY_USER=legacy\n");
    let keeps = "web: echo kept >>$DEPLOY_SHARED/file && exec python3 app.py web\nworker: python3 app.py worker\n";
    host.publish(&Release::new("r1").procfile(keeps));
    host.deploys("r1");
    host.sh("sed -i /^DEPLOY_USER/d /etc/deploy/agent.env");
    let before = host.pids();
    host.exec(&["systemctl", "daemon-reload"]).ok();
    host.deploys("r1");
    assert_eq!(host.pids(), before);
    host.publish(&Release::new("r2").procfile(keeps));
    let said = host.deploys("r2");
    assert!(said.stderr.contains("`deploy restart my-app --own-user`"), "{said:?}");
    let owner =
        |process: &str| host.sh(&format!("stat -c %U /proc/{}", host.pid(process).expect(process)));
    assert_eq!(owner("web.1"), "legacy\n");
    host.deploy(&["restart", "my-app"]).exits(0);
    assert_eq!(owner("web.1"), "legacy\n");
    host.sh(&format!("install -o legacy -m 600 /dev/null {APPS}/my-app/shared/.pgpass"));
    host.deploy(&["restart", "my-app", "--own-user"]).exits(0);
    assert_eq!(host.sh(&format!("stat -c %a {APPS}/my-app/shared/.pgpass")), "600\n");
    assert_eq!((owner("web.1"), owner("worker.1")), ("app-my-app\n".into(), "app-my-app\n".into()));
    assert_eq!(host.sh(&format!("find {APPS}/my-app -user legacy")), "");
    host.deploy(&["rollback"]).exits(0);
    assert_eq!((host.served().as_deref(), owner("web.1").as_str()), (Some("r1"), "app-my-app\n"));
    host.publish(
        &Release::new("r3").procfile(&format!("build: date >>$DEPLOY_SHARED/built\n{keeps}")),
    );
    host.deploys("r3");
    // Once by each start of `web`, that of the process that stood in at the restart included.
    assert_eq!(host.sh(&format!("grep -c kept {APPS}/my-app/shared/file")), "7\n");
}

#[test]
fn an_existing_user_with_the_name_of_an_app_user_is_not_used() {
    let host = Host::boot();
    host.sh("useradd --create-home --comment 'A person' app-my-app");
    host.publish(&Release::new("r1"));
    let said = host.deploy(&[&url("r1")]).exits(2);
    assert!(said.stderr.contains("rename that user, or the app"), "{said:?}");
    host.sh("userdel app-my-app");
    host.deploys("r1");
    host.exec(&["gpasswd", "-a", "app-my-app", "deploy"]).ok();
    host.publish(&Release::new("r2"));
    let said = host.deploy(&[&url("r2")]).exits(2);
    assert!(said.stderr.contains("gpasswd -d app-my-app deploy"), "{said:?}");
}
