//! The package: effects of installing, upgrading, removing and purging it; running apps notice
//! none of them.

use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use testkit::app::{Release, url};
use testkit::host::{Host, SOON};
use testkit::instance::{Instance, Network, Output, package, package_of};

const DEB: &str = "/root/agent.deb";
const NEXT: &str = "/root/next.deb";
const LINK: &str = "/home/deploy/bin/deploy";

fn clean_machine() -> Instance {
    let machine = Network::new().instance().boot();
    machine.push(package(), DEB);
    machine
}

/// Rebuilds the package with the next version number, to upgrade to.
fn make_next(machine: &Instance) {
    machine.push(package(), DEB);
    machine.sh(&format!(
        "cd \"$(mktemp -d)\"
        dpkg-deb --raw-extract {DEB} package
        sed -i 's/^Version: .*/Version: 99.0/' package/DEBIAN/control
        dpkg-deb --root-owner-group -Znone --build package {NEXT}"
    ));
}

fn dpkg(machine: &Instance, words: &[&str]) -> Output {
    machine.exec(&[&["dpkg"], words].concat())
}

/// Every process that runs as an app, with its start time in clock ticks since boot, so that a
/// reused pid does not look like the same process.
pub fn processes(machine: &Instance) -> String {
    machine.sh("for pid in $(pgrep -u app-my-app,build-my-app); do
            echo \"$pid $(cut -d' ' -f22 /proc/$pid/stat) $(tr '\\0' ' ' </proc/$pid/cmdline)\"
        done")
}

pub fn main_pid(machine: &Instance, unit: &str) -> u64 {
    let pid = machine.sh(&format!("systemctl show --value --property=MainPID {unit}"));
    pid.trim().parse().expect("a pid")
}

/// Sends requests to the app while `work` runs; every request must get a response.
pub fn served_throughout<T>(host: &Host, work: impl FnOnce() -> T) -> T {
    let (ended, asked) = (AtomicBool::new(false), AtomicBool::new(false));
    thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let mut failed = Vec::new();
            let mut count = 0;
            while !ended.load(Ordering::Relaxed) || count == 0 {
                match host.served() {
                    Some(_) => count += 1,
                    None => failed.push(count),
                }
                asked.store(true, Ordering::Relaxed);
            }
            (count, failed)
        });
        while !asked.load(Ordering::Relaxed) {
            thread::yield_now();
        }
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        ended.store(true, Ordering::Relaxed);
        let (count, failed) = asking.join().expect("the thread that sends requests");
        let done = done.unwrap_or_else(|cause| std::panic::resume_unwind(cause));
        assert!(failed.is_empty(), "{} of {count} requests failed", failed.len());
        assert!(count > 10, "only {count} requests: nothing was tested");
        done
    })
}

#[test]
fn installs_on_a_clean_machine() {
    let machine = clean_machine();
    let said = dpkg(&machine, &["--install", DEB]).exits(0);
    assert!(!said.stderr.to_lowercase().contains("warning"), "{said:#?}");

    let group = machine.sh("getent group deploy");
    assert!(group.trim().ends_with(':'), "the group deploy has members: {group}");
    assert_eq!(machine.sh("id -Gn deploy-app"), "deploy-app\n");
    let account = machine.sh("getent passwd deploy-app; passwd --status deploy-app");
    assert!(account.contains("nologin") && account.contains("deploy-app L "), "{account}");

    let socket = "stat -c '%a %U %G %F' /run/deploy/deployd.sock";
    assert_eq!(machine.sh(socket), "660 root deploy socket\n");
    let active = machine.sh("systemctl is-active deployd.socket deployd.service");
    assert_eq!(active, "active\nactive\n");
    let enabled = machine.sh("systemctl is-enabled deployd.socket deployd.service");
    assert_eq!(enabled, "enabled\nenabled\n");
    machine.sh("systemctl --quiet is-system-running");

    let conffiles = machine.sh("dpkg-query --show --showformat='${Conffiles}' deploy-agent");
    let names: Vec<_> =
        conffiles.lines().filter_map(|line| line.split_whitespace().next()).collect();
    let needrestart = "/etc/needrestart/conf.d/deploy-agent.conf";
    assert_eq!(names, ["/etc/deploy/agent.env", needrestart]);
    assert_eq!(machine.sh("stat -c '%a %U' /etc/deploy/agent.env"), "600 root\n");
    for file in [
        "/usr/share/bash-completion/completions/deploy",
        "/usr/share/zsh/vendor-completions/_deploy",
        "/usr/share/fish/vendor_completions.d/deploy.fish",
        "/usr/share/man/man1/deploy.1.gz",
        "/usr/share/man/man1/deploy-rollback.1.gz",
        "/usr/share/man/man5/deploy-agent.env.5.gz",
        "/usr/share/man/man8/deployd.8.gz",
    ] {
        machine.exec(&["test", "-s", file]).exits(0);
    }
    machine.sh("bash -n /usr/share/bash-completion/completions/deploy");
    machine.sh("systemd-analyze verify --man=no deployd.service deployd.socket");

    let version = machine.sh("deploy --version");
    machine.exec(&["test", "-e", "/home/deploy"]).exits(1);
    machine.exec(&["deploy", "status"]).exits(0);
    machine.reboot();
    machine.exec(&["deploy", "status"]).exits(0);
    assert_eq!(machine.sh("deploy --version"), version);
}

#[test]
fn a_user_deploy_may_be_created_after_the_package_is_installed() {
    let machine = clean_machine();
    dpkg(&machine, &["--install", DEB]).exits(0);
    machine.reboot();
    machine.exec(&["test", "-e", "/home/deploy"]).exits(1);
    machine.sh("adduser --quiet --ingroup deploy --disabled-password --gecos '' deploy");
    assert_eq!(machine.sh("stat -c %U /home/deploy /home/deploy/.bashrc"), "deploy\ndeploy\n");
    machine.exec(&["runuser", "-u", "deploy", "--", "deploy", "status"]).exits(0);
}

#[test]
fn the_old_path_of_the_command_is_created_if_configured() {
    let machine = clean_machine();
    let rule = "L /home/deploy/bin/deploy - - - - /usr/bin/deploy\n";
    machine.write("/etc/tmpfiles.d/deploy-home.conf", rule);
    dpkg(&machine, &["--install", DEB]).exits(0);
    machine.sh("systemd-tmpfiles --create");
    assert_eq!(machine.sh(&format!("{LINK} --version")), machine.sh("deploy --version"));
    dpkg(&machine, &["--remove", "deploy-agent"]).exits(0);
    machine.exec(&["test", "-e", "/home/deploy"]).exits(1);
}

#[test]
fn the_old_path_may_lie_in_a_home_and_existing_files_stay() {
    let machine = clean_machine();
    machine.sh("useradd --user-group --create-home deploy");
    dpkg(&machine, &["--install", DEB]).exits(0);
    assert_eq!(machine.sh(&format!("readlink {LINK}")), "/usr/bin/deploy\n");
    assert_eq!(machine.sh("stat -c %U /home/deploy /home/deploy/bin"), "deploy\ndeploy\n");
    dpkg(&machine, &["--remove", "deploy-agent"]).exits(0);
    machine.exec(&["test", "-L", LINK]).exits(1);
    machine.exec(&["test", "-d", "/home/deploy"]).exits(0);

    machine.write(LINK, "the operator's own");
    dpkg(&machine, &["--install", DEB]).exits(0);
    assert_eq!(machine.read(LINK), b"the operator's own");
    dpkg(&machine, &["--purge", "deploy-agent"]).exits(0);
    assert_eq!(machine.read(LINK), b"the operator's own");
}

#[test]
fn the_app_does_not_notice_an_upgrade() {
    let host = Host::running_r1();
    host.publish(&Release::new("r2"));
    make_next(&host);
    let settings = host.read("/etc/deploy/agent.env");
    let (before, agent) = (processes(&host), main_pid(&host, "deployd"));

    let said = served_throughout(&host, || dpkg(&host, &["--install", NEXT]).exits(0));
    assert!(!said.stderr.contains("conffile"), "{said:#?}");
    assert_eq!(processes(&host), before);
    assert_ne!(main_pid(&host, "deployd"), agent);
    assert_eq!(host.sh("dpkg-query --show --showformat='${Version}' deploy-agent"), "99.0");
    assert!(host.read("/etc/deploy/agent.env") == settings, "agent.env has changed");
    let status = host.status();
    assert_eq!((&status["release"], &status["healthy"]), (&"r1".into(), &true.into()));

    // The same settings reach S3, and the new daemon knows the releases of the old one.
    host.deploys("r2");
    host.deploy(&["rollback"]).exits(0);
    assert_eq!(host.served().as_deref(), Some("r1"));
}

/// A release whose build waits for a file that the test creates.
fn gated(name: &str) -> Release {
    let build =
        "build: touch $DEPLOY_SHARED/building; until [ -e $DEPLOY_SHARED/go ]; do sleep 0.1; done";
    let processes = "web: python3 app.py web\nworker: python3 app.py worker\n";
    Release::new(name).procfile(&format!("{processes}{build}\n"))
}

fn wait_for_file(host: &Host, path: &str) {
    host.wait_for(path, SOON, || {
        (host.exec(&["test", "-e", path]).status == Some(0)).then_some(())
    });
}

const SHARED: &str = "/var/lib/deploy/apps/my-app/shared";

#[test]
fn a_running_deploy_does_not_delay_an_upgrade() {
    let host = Host::running_r1();
    make_next(&host);
    host.publish(&gated("r2"));
    let agent = main_pid(&host, "deployd");
    let deploy = host.command(&["deploy", &url("r2")]).spawn();
    wait_for_file(&host, &format!("{SHARED}/building"));

    // The build waits for a file that is never created; the upgrade does not wait.
    served_throughout(&host, || dpkg(&host, &["--install", NEXT]).exits(0));
    let said = deploy.output().exits(1);
    assert!(said.stderr.contains("ask for it again"), "{said:#?}");
    assert_ne!(main_pid(&host, "deployd"), agent);
    assert_eq!(host.served().as_deref(), Some("r1"));
    host.sh(&format!("touch {SHARED}/go"));
    host.deploys("r2");
}

#[test]
fn a_deploy_killed_by_an_upgrade_is_recovered() {
    let host = Host::running_r1();
    make_next(&host);
    host.publish(&gated("r2"));
    let before = processes(&host);
    let deploy = host.command(&["deploy", &url("r2")]).spawn();
    wait_for_file(&host, &format!("{SHARED}/building"));
    let building = processes(&host);

    served_throughout(&host, || {
        host.sh("systemctl kill --signal=KILL deployd");
        dpkg(&host, &["--install", NEXT]).exits(0);
    });
    let said = deploy.output().exits(1);
    assert!(said.stdout.contains("release r1 is current, as before"), "{said:#?}");
    assert_ne!(processes(&host), building);
    assert_eq!(processes(&host), before);
    assert_eq!(host.sh("ls -A /var/lib/deploy/apps/my-app/releases"), "r1\n");
    let status = host.status();
    assert_eq!((&status["release"], &status["healthy"]), (&"r1".into(), &true.into()));

    host.sh(&format!("touch {SHARED}/go"));
    host.deploys("r2");
    assert_eq!(host.served().as_deref(), Some("r2"));
}

#[test]
fn a_one_off_outlives_an_upgrade() {
    let host = Host::running_r1();
    make_next(&host);
    let script = format!(
        "touch {SHARED}/migrating; until [ -e {SHARED}/go ]; do sleep 0.1; done; echo done; exit 7"
    );
    let migrating = host.command(&["deploy", "exec", "--", "bash", "-c", &script]).spawn();
    wait_for_file(&host, &format!("{SHARED}/migrating"));
    let deployd = main_pid(&host, "deployd");
    dpkg(&host, &["--install", NEXT]).exits(0);
    assert_ne!(main_pid(&host, "deployd"), deployd);
    assert_eq!(host.status()["one_offs"][0]["command"], "bash");
    host.sh(&format!("touch {SHARED}/go"));
    assert_eq!(migrating.output().exits(7).stdout, "done\n");
}

#[test]
fn a_settle_window_cut_by_an_upgrade_is_watched_to_its_end() {
    let host = Host::running_r1();
    make_next(&host);
    host.publish(&Release::new("r2").set("DEPLOY_SETTLE=5s"));
    let deploy = host.command(&["deploy", &url("r2")]).spawn();
    host.wait_for("commit", SOON, || (host.status()["state"] == "proved").then_some(()));
    let before = host.pids();

    served_throughout(&host, || {
        host.sh("systemctl kill --signal=KILL deployd");
        dpkg(&host, &["--install", NEXT]).exits(0);
    });
    let said = deploy.output().exits(0);
    assert!(said.stdout.starts_with("recovered my-app r2 "), "{said:#?}");
    assert_eq!(host.status()["state"], "good");
    assert_eq!(host.pids(), before);
    assert_eq!(host.served().as_deref(), Some("r2"));
    host.deploy(&["rollback"]).exits(0);
    assert_eq!(host.served().as_deref(), Some("r1"));
}

#[test]
fn remove_and_purge_leave_the_apps_running_and_their_data() {
    let host = Host::running_r1();
    host.push(package(), DEB);
    let before = processes(&host);
    served_throughout(&host, || {
        let said = dpkg(&host, &["--remove", "deploy-agent"]).exits(0);
        assert!(said.stdout.contains("these apps run on") && said.stdout.contains("  my-app\n"));
        host.sh("systemctl daemon-reload");
    });
    assert_eq!(processes(&host), before);
    host.exec(&["test", "-e", "/run/deploy/deployd.sock"]).exits(1);
    host.exec(&["pgrep", "deployd"]).exits(1);
    host.exec(&["test", "-e", "/etc/deploy/agent.env"]).exits(0);
    host.exec(&["test", "-e", LINK]).exits(1);

    served_throughout(&host, || dpkg(&host, &["--install", DEB]).exits(0));
    assert_eq!(processes(&host), before);
    let status = host.status();
    assert_eq!((&status["release"], &status["healthy"]), (&"r1".into(), &true.into()));
    host.publish(&Release::new("r2"));
    host.deploys("r2");
    host.deploy(&["rollback"]).exits(0);

    let before = processes(&host);
    let said = served_throughout(&host, || dpkg(&host, &["--purge", "deploy-agent"]).exits(0));
    assert!(
        said.stdout.contains("rm -r /var/lib/deploy; userdel build-APP; userdel app-APP"),
        "{said:#?}"
    );
    assert_eq!(processes(&host), before);
    host.exec(&["test", "-e", "/etc/deploy/agent.env"]).exits(1);
    host.exec(&["test", "-d", "/etc/deploy"]).exits(1);
    assert_eq!(host.sh("ls /var/lib/deploy/apps/my-app/releases"), "r1\nr2\n");
    assert_eq!(
        host.sh("find / -xdev -path /var/lib/deploy -prune -o -name '*deployd*' -print"),
        ""
    );
}

/// Failpoints are for the crash matrix alone: src/failpoint.rs.
#[test]
fn no_program_of_the_package_has_failpoints() {
    let machine = clean_machine();
    dpkg(&machine, &["--install", DEB]).exits(0);
    let mut search = vec!["grep", "--files-with-matches", "failpoint"];
    search.extend(["/usr/bin/deploy", "/usr/bin/deployd"]);
    search.push("/usr/lib/systemd/system-generators/deploy-generator");
    let found = machine.exec(&search);
    // Status 2 would mean that a program is missing.
    assert_eq!(found.status, Some(1), "{found:?}");
}

/// Modes and owners of files, control fields and scripts; sizes and content are left out.
fn shape(deb: &Path) -> String {
    let script = r#"
        dpkg-deb --contents "$1" | awk '{print $1, $NF, $2}' | sed 's# 0/0$# root/root#' |
            grep -v ' \./ ' | sort -k2
        dpkg-deb --field "$1" | grep -v -e ^Installed-Size -e '^$'
        for part in conffiles postinst prerm postrm; do dpkg-deb --info "$1" $part; done"#;
    let mut command = Command::new("sh");
    let ran = command.args(["-euc", script, "shape"]).arg(deb).output().expect("start sh");
    assert!(ran.status.success(), "{}: {ran:?}", deb.display());
    String::from_utf8_lossy(&ran.stdout).into_owned()
}

/// cargo-deb builds the package for users, and xtask those of the demo and of the crash matrix.
#[test]
fn cargo_deb_and_xtask_build_the_same_package() {
    let ours = shape(&package_of("DEPLOY_DEB_FAILPOINTS", "failpoints-deb"));
    let theirs = shape(&package());
    assert!(theirs.contains("-rwxr-xr-x ./usr/bin/deployd root/root"), "{theirs}");
    for (ours, theirs) in ours.lines().zip(theirs.lines()) {
        assert_eq!(ours, theirs);
    }
    assert_eq!(ours.lines().count(), theirs.lines().count());
}

#[test]
fn lintian_finds_no_error() {
    let deb = package();
    let program = "/usr/bin/lintian";
    assert!(Path::new(program).exists(), "lintian is not installed: apt-get install lintian");
    let ran = Command::new(program)
        .args(["--fail-on", "error", "--no-tag-display-limit"])
        .arg(&deb)
        .output()
        .expect("start lintian");
    let said = String::from_utf8_lossy(&ran.stdout);
    assert!(ran.status.success() && !said.contains("E: "), "{}:\n{said}", deb.display());
}
