//! A group is deployed, taken back and rolled back; ship is killed, and an instance is away.

use super::formation::Formation;
use std::fs;
use testkit::app::APP;

pub const SETTINGS: [&str; 3] =
    ["DEPLOY_SETTLE=1s", "DEPLOY_HEALTH_PATH=/", "DEPLOY_HEALTH_TIMEOUT=20s"];
pub const WEB: &str = "python3 app.py web";

#[test]
fn a_group_is_deployed_taken_back_and_rolled_back_without_a_failed_request() {
    let group = Formation::boot();
    group.ok(&[&["config", "-e", "production", "set"], &SETTINGS[..]].concat());
    assert_eq!(release(&group, "one", WEB), "r1");
    assert_eq!(group.ok(&["deploy", "production"]), "r1 runs on 3 instances\n");
    assert_eq!(group.served(), ["one"; 3]);

    let load = group.first.network.within(|| group.load().start());
    load.wait_for(100);
    assert_eq!(release(&group, "two", WEB), "r2");
    assert_eq!(group.ok(&["deploy", "production"]), "r2 runs on 3 instances\n");
    assert_eq!(group.served(), ["two"; 3]);

    // Bad on the third instance only.
    group.others[1].write("/etc/broken", "");
    let broken = "if [ -e /etc/broken ]; then echo the disk is on fire; exit 1; fi; exec ";
    assert_eq!(release(&group, "three", &format!("{broken}{WEB}")), "r3");
    let ended = group.ship(&["deploy", "production"]);
    assert_eq!(ended.code, 12, "{}", ended.stderr);
    assert!(ended.stdout.contains("r3 failed on web3"), "{}", ended.stdout);
    assert_eq!(ended.stdout.lines().count(), 1, "{}", ended.stdout);
    assert!(ended.stdout.contains("the group runs r2"), "{}", ended.stdout);
    assert!(ended.stderr.contains("the disk is on fire"), "{}", ended.stderr);
    assert_eq!(group.served(), ["two"; 3]);
    let ps = group.ok(&["ps", "production"]);
    assert_eq!(ps.matches("healthy").count(), 3, "{ps}");

    assert_eq!(group.ok(&["rollback", "production"]), "r1 runs on 3 instances\n");
    assert_eq!(group.served(), ["one"; 3]);
    let tally = load.stop();
    assert_eq!(tally.failed(), 0, "{tally}");
    println!("{tally}");

    let history = group.ok(&["history", "production"]);
    assert_eq!(history.lines().count(), 5, "{history}");

    // The lease of a ship that was killed runs out; another one does the rest.
    group.killed_at(&["deploy", "production", "r2"], "r2 on web2");
    assert_eq!(group.ship(&["deploy", "production", "r2"]).code, 40);
    assert_eq!(group.ok(&["attach", "production"]), "r2 runs on 3 instances\n");
    assert_eq!(group.served(), ["two"; 3]);

    group.others[0].sh("systemctl stop ssh.socket ssh; pkill sshd; true");
    let ended = group.ship(&["deploy", "production", "r1"]);
    assert_eq!(ended.code, 41, "{}", ended.stderr);
    let ended = group.ship(&["deploy", "production", "r1", "--skip-unreachable"]);
    assert_eq!(
        (ended.code, ended.stdout.as_str()),
        (42, "r1 runs on 2 instances, and not on web2\n")
    );
}

/// Makes a release whose web process answers with this text.
pub fn release(group: &Formation, version: &str, web: &str) -> String {
    let directory = group.path("app");
    fs::create_dir_all(&directory).unwrap();
    group.write("app/app.py", APP);
    group.write("app/VERSION", &format!("{version}\n"));
    group.write("app/Procfile", &format!("web: {web}\n"));
    group.ok(&["release", "production", "--source", &directory]).trim().to_owned()
}
