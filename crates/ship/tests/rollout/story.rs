//! The README's five minutes: from a commit to three instances, while clients ask all of them.

use super::formation::{Ended, Formation};
use std::fs;
use std::path::Path;

const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/python");
/// The third instance lacks what r3 needs.
const BROKEN: &str = "import os\n\nif os.path.exists('/etc/broken'):\n    \
    raise SystemExit('no database at db.example.com:5432')\n";

#[test]
fn from_a_commit_to_a_group_and_back() {
    play(2);
}

#[test]
fn ten_rollouts_fail_no_request() {
    play(10);
}

/// Plays the story with this number of rollouts under load.
fn play(rollouts: u32) {
    let group = Formation::boot();
    say("Three instances, an S3 beside them, and the Git repository of an app.\n");
    repository(&group);
    shell(&group, "cat ship.toml");
    group.ok(&["config", "set", "DEPLOY_HEALTH_PATH=/health", "DEPLOY_SETTLE=1s"]);
    assert_eq!(group.ok(&["release"]), "r1\n");
    assert_eq!(group.ok(&["deploy"]), "r1 runs on 3 instances\n");

    say("Clients ask all three from now on, and a new version comes.\n");
    let load = group.first.network.within(|| group.load().start());
    load.wait_for(100);
    for n in 2..=rollouts {
        commit(&group, &format!("v{n}"), None);
        assert_eq!(group.ok(&["release"]), format!("r{n}\n"));
        assert_eq!(group.ok(&["deploy"]), format!("r{n} runs on 3 instances\n"));
        assert_eq!(group.served(), [(); 3].map(|()| format!("Hello from v{n}\n")));
    }

    say("The next one fails on the third instance: the first two go back.\n");
    group.others[1].write("/etc/broken", "");
    commit(&group, "a bad one", Some(BROKEN));
    group.ok(&["release"]);
    let Ended { code, stdout, stderr } = group.ship(&["deploy"]);
    assert_eq!(code, 12, "{stderr}");
    say("(exit code 12)\n");
    assert!(stderr.contains("no database at db.example.com:5432"), "{stderr}");
    assert!(stdout.contains(&format!("the group runs r{rollouts}")), "{stdout}");
    group.ok(&["ps"]);

    say("Back to the release before.\n");
    let before = rollouts - 1;
    assert_eq!(group.ok(&["rollback"]), format!("r{before} runs on 3 instances\n"));
    let tally = load.stop();
    group.ok(&["releases"]);
    group.ok(&["history"]);
    say(&format!("The clients: {tally}"));
    assert_eq!(tally.failed(), 0, "{tally}");
}

/// Makes a Git repository of the example.
fn repository(group: &Formation) {
    for file in fs::read_dir(Path::new(EXAMPLE).join("app")).expect("the example") {
        let path = file.expect("a file of the example").path();
        let name = path.file_name().and_then(|name| name.to_str()).expect("its name");
        fs::copy(&path, group.path(name)).expect("a copy");
    }
    let ignored = "bin\nid*\nknown_hosts\nssh_config\n";
    group.write(".gitignore", ignored);
    group.git(&["init", "--quiet", "--initial-branch=main"]);
    commit(group, "v1", None);
}

/// Commits a version, with this at the beginning of its web process.
fn commit(group: &Formation, version: &str, begin: Option<&str>) {
    let web = fs::read_to_string(Path::new(EXAMPLE).join("app/web.py")).expect("web.py");
    group.write("web.py", &format!("{}{web}", begin.unwrap_or_default()));
    group.write("VERSION", &format!("{version}\n"));
    group.git(&["add", "--all"]);
    group.git(&["commit", "--quiet", "-m", &format!("Say {version}")]);
}

fn shell(group: &Formation, line: &str) {
    let shown = group.shell(line);
    println!("$ {line}\n{shown}");
}

fn say(text: &str) {
    println!("{text}");
}
