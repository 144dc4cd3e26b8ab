//! The release phase of a rollout runs once for the group, also when ship is killed meanwhile; the
//! instances' own history names the person.

use super::formation::Formation;
use std::fs;
use testkit::app::APP;

/// A file that each instance keeps across releases.
const RAN: &str = "/var/lib/deploy/apps/my-app/shared/ran";

#[test]
fn the_release_phase_runs_once_for_the_group_and_the_history_names_the_person() {
    let group = Formation::boot();
    group.ok(&["config", "-e", "production", "set", "DEPLOY_SETTLE=1s"]);
    release(&group, "one", &format!("echo r1 >>{RAN}"));
    assert_eq!(group.ok(&["deploy", "--run-release"]), "r1 runs on 3 instances\n");
    assert_eq!(ran(&group), ["r1 ", "", ""]);
    let history = group.others[1].sh("deploy history --json");
    assert!(history.contains("\"who\":\"Ada (root)\""), "{history}");

    // Its ship is killed while the first instance runs it.
    release(&group, "two", &format!("sleep 3; echo r2 >>{RAN}"));
    group.killed_at(&["deploy", "--run-release"], "web1: release");
    assert_eq!(group.ok(&["attach"]), "r2 runs on 3 instances\n");
    assert_eq!(ran(&group), ["r1 r2 ", "", ""]);

    release(&group, "three", &format!("echo r3 >>{RAN}; echo no such column; exit 1"));
    let ended = group.ship(&["deploy", "--run-release"]);
    assert_eq!(ended.code, 10, "{}", ended.stderr);
    assert!(ended.stderr.contains("no such column"), "{}", ended.stderr);
    assert_eq!(ran(&group), ["r1 r2 r3 ", "", ""]);
    assert_eq!(group.served(), ["two"; 3]);
}

/// An agent that knows neither `--by` nor `--run-release=ID`, as its help says.
const OLD: &str = "#!/bin/sh
for w do case $w in
    --by|--run-release=*) echo \"error: unexpected argument '$w' found\" >&2; exit 2;;
    --help) /usr/bin/deploy \"$@\" | grep -v -e --by -e --run-release; exit;;
esac; done
exec /usr/bin/deploy \"$@\"
";

#[test]
fn an_older_agent_is_deployed_to_and_refuses_a_release_phase_before_anything_is_changed() {
    let group = Formation::boot();
    group.ok(&["config", "-e", "production", "set", "DEPLOY_SETTLE=1s"]);
    for instance in group.instances() {
        instance.write("/usr/local/sbin/deploy", OLD);
        instance.sh("chmod 755 /usr/local/sbin/deploy");
    }
    release(&group, "one", &format!("echo r1 >>{RAN}"));
    assert_eq!(group.ok(&["deploy"]), "r1 runs on 3 instances\n");
    let history = group.first.instance.sh("deploy history --json");
    assert!(history.contains("\"who\":\"root\""), "{history}");

    release(&group, "two", &format!("echo r2 >>{RAN}"));
    let ended = group.ship(&["deploy", "--run-release"]);
    assert_eq!(ended.code, 1, "{}", ended.stderr);
    let said =
        "r2 failed on web1: its agent does not know --run-release=ID, and nothing was changed";
    assert!(ended.stdout.contains(said), "{}", ended.stdout);
    assert!(ended.stdout.ends_with("; the group runs r1\n"), "{}", ended.stdout);
    assert_eq!((group.served(), ran(&group)), (vec!["one".to_owned(); 3], vec![String::new(); 3]));
    assert!(!group.first.instance.sh("deploy releases").contains("r2"));
}

/// Returns what the release phase has left on each instance.
fn ran(group: &Formation) -> Vec<String> {
    let ran = |instance: &testkit::instance::Instance| {
        instance.sh(&format!("cat {RAN} 2>/dev/null || true")).replace('\n', " ")
    };
    group.instances().map(ran).to_vec()
}

fn release(group: &Formation, version: &str, phase: &str) {
    let directory = group.path("app");
    fs::create_dir_all(&directory).unwrap();
    group.write("app/app.py", APP);
    group.write("app/VERSION", &format!("{version}\n"));
    group.write("app/Procfile", &format!("web: python3 app.py web\nrelease: {phase}\n"));
    group.ok(&["release", "production", "--source", &directory]);
}
