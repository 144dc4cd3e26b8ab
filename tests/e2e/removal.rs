//! Files that an app or a build leaves behind, however odd, block no operation.

use testkit::app::{Release, url};
use testkit::host::{Host, SOON};

const APP: &str = "/var/lib/deploy/apps/my-app";

/// Creates that many nested directories in the current directory.
const NEST: &str = "python3 -c '
import os
for _ in range(20000):
    os.mkdir(\"d\"); os.chdir(\"d\")
'";

fn with_build(release: &str, build: &str) -> Release {
    let file = format!("set -e\n{build}\n");
    let procfile = "web: python3 app.py web\nworker: python3 app.py worker\nbuild: bash make.sh\n";
    Release::new(release).file("make.sh", file).procfile(procfile)
}

/// Helpers of these tests, as methods of the host.
trait Removal {
    fn releases_left(&self) -> String;
    fn restarts_deployd(&self);
}

impl Removal for Host {
    fn releases_left(&self) -> String {
        self.sh(&format!("ls -A {APP}/releases | paste -sd ' '")).trim().to_owned()
    }

    #[track_caller]
    fn restarts_deployd(&self) {
        self.exec(&["systemctl", "restart", "deployd"]).ok();
        assert_eq!(self.status()["healthy"], true);
        let restarts = self.sh("systemctl show -P NRestarts deployd");
        assert_eq!(restarts.trim(), "0");
    }
}

/// In a build that fails, in a release that is pruned, and in `shared/`.
#[test]
fn thousands_of_nested_directories_block_nothing() {
    let host = Host::running_r1();
    host.publish(&with_build("r2", &format!("{NEST}; exit 1")));
    host.deploy(&[&url("r2")]).exits(10);
    assert_eq!(host.releases_left(), "r1");
    host.sh(&format!("cd {APP}/shared && {NEST}"));
    host.sh(&format!("mkdir {APP}/releases/.removing-0-r0 {APP}/releases/.staging-r7"));
    for leftover in [".removing-0-r0", ".staging-r7"] {
        host.sh(&format!("cd {APP}/releases/{leftover} && {NEST}"));
    }
    host.restarts_deployd();
    let gone = || (host.releases_left() == "r1").then_some(());
    host.wait_for("end of the leftovers", 4 * SOON, gone);
    assert_eq!(host.served().as_deref(), Some("r1"));
    host.deploy(&["remove", "my-app", "--yes"]).exits(0);
    assert_eq!(host.sh("ls -A /var/lib/deploy/apps"), "");
}

/// A mount stands for everything that even root cannot remove.
#[test]
fn an_unremovable_directory_is_reported_and_blocks_no_deploy_and_no_start() {
    let host = Host::running_r1();
    let left = format!("{APP}/releases/.staging-r2/app/mounted");
    host.sh(&format!("mkdir -p {left}/.. {left} {APP}/releases/.staging-r2/app/other"));
    host.sh(&format!("mount -t tmpfs tmpfs {left}"));
    host.restarts_deployd();
    host.publish(&Release::new("r2"));
    host.deploys("r2");
    assert_eq!(host.served().as_deref(), Some("r2"));
    host.restarts_deployd();
    let said = || {
        let journal = host.sh("journalctl --unit deployd --output cat");
        journal.contains("mounted: Device or resource busy").then_some(())
    };
    host.wait_for("word of it", SOON, said);
    let doomed = host.releases_left();
    assert_eq!(doomed, ".removing-0-r2 r1 r2");
    let removed = host.deploy(&["remove", "my-app", "--yes"]).exits(1);
    assert!(removed.stdout.contains("remove all of my-app"), "{removed:?}");
    assert!(removed.stderr.contains("help: "), "{removed:?}");
    assert_eq!(host.served(), None);
    host.publish(&Release::new("r3"));
    host.deploys("r3");
    assert_eq!(host.served().as_deref(), Some("r3"));
    host.sh("umount /var/lib/deploy/apps/.removing-*/releases/.removing-*/app/mounted");
    host.restarts_deployd();
    host.wait_for("end of the leftovers", SOON, || {
        (host.sh("ls -A /var/lib/deploy/apps") == "my-app\n").then_some(())
    });
}
