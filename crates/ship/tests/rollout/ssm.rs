//! The same over Auto Scaling and Systems Manager: tests/aws sends each command to an agent on
//! the instance, and asks each target for its health.

use super::formation::{Ended, Formation};
use super::group::{SETTINGS, WEB, release};
use serde_json::{Value, json};
use std::process::Command;
use testkit::aws::Aws;

const SHIP_TOML: &str = "app = \"my-app\"\nstore = \"s3://releases\"\n\
    [environments.production]\nalarms = [\"errors\"]\n";
const GROUP: [&str; 8] = [
    "--count",
    "3",
    "--tag",
    "deploy:app=my-app",
    "--tag",
    "deploy:environment=production",
    "--target-port",
    "5000",
];
const BROKEN: &str = "if [ -e /etc/broken ]; then echo the disk is on fire; exit 1; fi; exec ";

struct Managed {
    group: Formation,
    aws: Aws,
    /// In the order in which they are deployed to.
    ids: Vec<String>,
}

impl Managed {
    fn boot() -> Managed {
        let mut group = Formation::boot();
        let aws = Aws::start(&group.first.network);
        let mut ids = aws.group(&GROUP);
        ids.sort();
        for (instance, id) in group.instances().into_iter().zip(&ids) {
            aws.manage(id, instance);
        }
        group.environment = vec![
            ("AWS_ENDPOINT_URL", "http://10.77.0.1:8080".to_owned()),
            ("AWS_ENDPOINT_URL_S3", "http://10.77.0.1:9000".to_owned()),
        ];
        group.write("ship.toml", SHIP_TOML);
        let managed = Managed { group, aws, ids };
        managed.alarm("OK");
        managed.group.ok(&[&["config", "set"], &SETTINGS[..]].concat());
        assert_eq!(release(&managed.group, "one", WEB), "r1");
        assert_eq!(managed.group.ok(&["deploy"]), "r1 runs on 3 instances\n");
        assert_eq!(managed.group.served(), ["one"; 3]);
        managed
    }

    /// How often a command was cancelled; each time for the third instance alone.
    fn cancelled(&self) -> usize {
        let record = self.aws.record();
        let calls = record.iter().filter(|entry| entry["action"] == "CancelCommand");
        let instances: Vec<_> = calls.map(|entry| &entry["params"]["InstanceIds"]).collect();
        let third = json!([self.ids[2]]);
        assert!(instances.iter().all(|ids| **ids == third), "{instances:?}");
        instances.len()
    }

    fn alarm(&self, state: &str) {
        self.aws.post("alarms/errors", &json!({"state": state}));
    }

    #[track_caller]
    fn fails(&self, words: &[&str], code: i32, said: &[&str]) {
        let Ended { code: ended, stderr, stdout } = self.group.ship(words);
        let printed = format!("{stderr}{stdout}");
        assert_eq!(ended, code, "{printed}");
        for said in said {
            assert!(printed.contains(said), "{said}: {printed}");
        }
    }
}

#[test]
fn a_group_is_deployed_taken_back_and_rolled_back_by_ssm_without_a_failed_request() {
    let managed = Managed::boot();
    let Managed { group, aws, ids } = &managed;
    let load = group.first.network.within(|| group.load().start());
    load.wait_for(100);
    assert_eq!(release(group, "two", WEB), "r2");
    // Throttled, and the list of a command is empty at first.
    aws.post("commands", &json!({"visible_after": 3}));
    for action in ["SendCommand", "ListCommandInvocations", "DescribeAutoScalingGroups"] {
        aws.fail(action, "ThrottlingException", 400, 4);
    }
    assert_eq!(group.ok(&["deploy", "--bake", "5"]), "r2 runs on 3 instances\n");
    aws.post("commands", &json!({"visible_after": 0.3}));
    assert_eq!(group.served(), ["two"; 3]);

    assert_eq!(group.ok(&["exec", "--", "cat", "VERSION"]), "two\n");
    let all = group.ok(&["exec", "--all", "--", "cat", "VERSION"]);
    assert!(ids.iter().all(|id| all.contains(&format!("{id} two\n"))), "{all}");
    assert_eq!(group.ship(&["exec", "--", "sh", "-c", "exit 7"]).code, 7);
    let logs = group.ok(&["logs", "web", "-n", "50"]);
    assert!(ids.iter().all(|id| logs.contains(id.as_str())), "{logs}");
    assert!(logs.contains("two web begins"), "{logs}");

    // Bad on the third instance only.
    group.others[1].write("/etc/broken", "");
    assert_eq!(release(group, "three", &format!("{BROKEN}{WEB}")), "r3");
    let failed = format!("r3 failed on {}", ids[2]);
    managed.fails(&["deploy"], 12, &[&failed, "the group runs r2", "the disk is on fire"]);
    assert_eq!(group.served(), ["two"; 3]);
    let ps = group.ok(&["ps"]);
    // By the agent, and by the load balancer.
    assert_eq!(ps.matches("healthy").count(), 6, "{ps}");
    assert_eq!(group.ok(&["rollback"]), "r1 runs on 3 instances\n");
    assert_eq!(group.served(), ["one"; 3]);
    let tally = load.stop();
    assert_eq!(tally.failed(), 0, "{tally}");
    println!("{tally}");
}

#[test]
fn alarms_targets_and_instances_that_are_away_decide() {
    let managed = Managed::boot();
    let Managed { group, aws, ids } = &managed;
    assert_eq!(release(group, "two", WEB), "r2");
    managed.alarm("ALARM");
    managed.fails(&["deploy"], 12, &["begin the rollout: the alarm errors is in ALARM"]);
    managed.alarm("OK");
    let ended = group.ship_while(&["deploy", "--bake", "60"], "bake", || managed.alarm("ALARM"));
    assert_eq!(ended.code, 20, "{}", ended.stderr);
    assert!(ended.stdout.contains("the alarm errors is in ALARM"), "{}", ended.stdout);
    assert_eq!(group.served(), ["one"; 3]);
    managed.alarm("OK");

    // The load balancer does not reach it, and the agent, which is on it, does.
    let wall = "nft add table inet wall; nft add chain inet wall in \
        '{ type filter hook prerouting priority -300; }'; nft add rule inet wall in \
        iifname eth0 tcp dport 5000 drop";
    let ended = group.ship_while(&["deploy", "--bake", "60"], "bake", || {
        group.others[0].sh(wall);
    });
    assert_eq!(ended.code, 20, "{}", ended.stderr);
    let said = format!("r2 failed on {}: its load balancer finds it unhealthy", ids[1]);
    assert!(ended.stdout.contains(&said), "{}", ended.stdout);
    group.others[0].sh("nft delete table inet wall");
    assert_eq!(group.served(), ["one"; 3]);

    // A ship that is killed: another one goes on.
    group.killed_at(&["deploy"], &format!("r2 on {}", ids[1]));
    assert_eq!(group.ok(&["attach"]), "r2 runs on 3 instances\n");
    assert_eq!(group.served(), ["two"; 3]);

    group.others[0].sh("systemctl stop ssm-agent");
    aws.wait_for_ping(&ids[1], "ConnectionLost");
    let away = "its SSM agent does not answer (ConnectionLost)";
    managed.fails(&["deploy", "production", "r1"], 41, &[&ids[1], away]);
    let ended = group.ship(&["deploy", "production", "r1", "--skip-unreachable"]);
    let said = format!("r1 runs on 2 instances, and not on {}\n", ids[1]);
    assert_eq!((ended.code, ended.stdout), (42, said));
}

/// Systems Manager does not deliver r2 to the third instance, while it is cancelled.
#[test]
fn a_command_that_is_not_delivered_yet_is_cancelled() {
    let managed = Managed::boot();
    let Managed { group, aws, ids } = &managed;
    assert_eq!(release(group, "two", WEB), "r2");
    let deploy = ["deploy", "--batch", "100%"];
    let done = format!("done      {}", ids[0]);

    aws.post("commands", &json!({"hold": {&ids[2]: ": r2,"}}));
    let ended = group.ship_while(&deploy, &done, || drop(group.ok(&["cancel"])));
    assert_eq!(ended.code, 43, "{}", ended.stderr);
    assert!(ended.stdout.contains("Ada has cancelled it; the group runs r1"), "{}", ended.stdout);
    assert_eq!(managed.cancelled(), 1);
    assert_eq!(group.served(), ["one"; 3]);

    // By Ctrl-C: no third order is left that would be delivered later.
    let ended = group.ship_until(&deploy, &done, |ship| {
        let kill = Command::new("kill").args(["-INT", &ship.to_string()]).status();
        assert!(kill.expect("kill").success());
    });
    assert_eq!(ended.code, 1, "{}", ended.stderr);
    assert!(ended.stderr.contains("`ship attach production` goes on with it"), "{}", ended.stderr);
    assert_eq!(managed.cancelled(), 2);
    aws.post("commands", &json!({"hold": {&ids[2]: ""}}));
    // Its agent fetches commands in their order: this one, and never r2.
    assert_eq!(group.ok(&["exec", "--host", &ids[2], "--", "cat", "VERSION"]), "one\n");
    let is_r2 = |entry: &Value| {
        let comment = entry["comment"].as_str().unwrap_or_default();
        entry["kind"] == "run" && entry["instance"] == ids[2].as_str() && comment.contains(": r2,")
    };
    assert!(!aws.record().iter().any(is_r2));
    assert_eq!(group.ok(&["attach"]), "r2 runs on 3 instances\n");
    assert_eq!(group.served(), ["two"; 3]);
}
