//! `deploy boot` on an instance of an Auto Scaling group: its metadata, its hook and its role.

use crate::terminal::AtTerminal;
use serde_json::json;
use std::net::Ipv4Addr;
use testkit::app::{BUCKET, Release};
use testkit::aws::{Aws, SETTINGS, user_data};
use testkit::host::{Host, SOON};
use testkit::instance::Output;

const URL: &str = "s3://releases/my-app/production/current";
const TAGS: [&str; 4] = [
    "--tag",
    "deploy:url=s3://releases/my-app/production/current",
    "--tag",
    "deploy:hook=launched",
];

const HEARTBEAT: &str = "RecordLifecycleActionHeartbeat";
const CONTINUE: &str = "CompleteLifecycleAction CONTINUE";
const ABANDON: &str = "CompleteLifecycleAction ABANDON";

/// An instance of a group, which has booted and has run no user-data yet.
struct Launched {
    host: Host,
    aws: Aws,
    id: String,
}

/// Launches an instance of a group made with these arguments; `current` names r1.
fn launch(arguments: &[&str]) -> Launched {
    let host = Host::boot();
    let aws = Aws::start(&host.network);
    // As user-data writes it: deployd runs already, with other settings.
    host.sh("sed -i '/^AWS_/d' /etc/deploy/agent.env");
    host.configure(SETTINGS);
    host.publish(&Release::new("r1"));
    point_to(&host, "r1");
    let id = aws.group(arguments).first().cloned().unwrap_or_default();
    Launched { host, aws, id }
}

/// The same with a hook, and tags that say all.
fn launch_with_hook(more: &[&str]) -> Launched {
    launch(&[&["--hook", "launched"], TAGS.as_slice(), more].concat())
}

fn point_to(host: &Host, release: &str) {
    host.s3().put(BUCKET, "my-app/production/current", release.as_bytes().to_vec());
}

/// A release whose web process ends at once.
fn bad(name: &str) -> Release {
    Release::new(name).procfile("web: exit 3\n").set("DEPLOY_HEALTH_TIMEOUT=5s")
}

impl Launched {
    #[track_caller]
    fn boot(&self, arguments: &[&str]) -> Output {
        self.host.deploy(&[&["boot"], arguments].concat())
    }

    fn address(&self) -> Ipv4Addr {
        self.host.address()
    }

    fn calls(&self) -> Vec<String> {
        self.aws.calls_of(self.address())
    }

    fn states(&self) -> Vec<String> {
        let states = self.aws.states_of(&self.id);
        states.iter().filter_map(|entry| entry["state"].as_str().map(str::to_owned)).collect()
    }
}

#[test]
fn an_instance_comes_into_service_when_its_release_is_healthy_and_not_again() {
    let launched = launch_with_hook(&[]);
    let said = launched.boot(&[]).exits(0);
    println!("{}", said.stderr);
    assert!(said.stdout.starts_with("deployed my-app r1"), "{said:?}");
    assert!(said.stderr.contains("completed: CONTINUE"), "{said:?}");
    assert_eq!(launched.calls().last().map(String::as_str), Some(CONTINUE));
    assert_eq!(launched.states(), ["Pending:Wait", "InService"]);
    let served = &launched.aws.states_of(&launched.id)[1]["serves"];
    assert_eq!(served, "r1", "what clients got at the moment of InService");

    // At a second boot there is no hook, and the pointer may have moved.
    launched.host.publish(&Release::new("r2"));
    point_to(&launched.host, "r2");
    launched.host.reboot();
    let said = launched.boot(&[]).exits(0);
    assert!(said.stdout.starts_with("deployed my-app r2"), "{said:?}");
    assert!(said.stderr.contains("no hook waits"), "{said:?}");
    let said = launched.boot(&[]).exits(0);
    assert_eq!(said.stdout, "my-app r2 is already running\n");
    assert_eq!(launched.states(), ["Pending:Wait", "InService"]);
}

#[test]
fn a_bad_release_is_abandoned() {
    let launched = launch_with_hook(&[]);
    launched.host.publish(&bad("r2"));
    point_to(&launched.host, "r2");
    let said = launched.boot(&[]).exits(12);
    assert!(said.stdout.contains("deploy boot failed (exit 12)"), "{said:?}");
    let calls = launched.calls();
    assert_eq!(calls.last().map(String::as_str), Some(ABANDON), "{said:?}");
    assert!(!calls.iter().any(|call| call == CONTINUE), "{calls:?}");
    assert_eq!(launched.states(), ["Pending:Wait", "Terminating"]);
    // The group launches another one in its place.
    let others = launched.aws.instances();
    assert!(others.iter().any(|one| one["state"] == "Pending:Wait"), "{others:#?}");
}

#[test]
fn a_kept_instance_waits_until_a_later_boot_succeeds() {
    let launched = launch_with_hook(&[]);
    launched.host.publish(&bad("r2"));
    point_to(&launched.host, "r2");
    let said = launched.boot(&["--keep"]).exits(12);
    assert!(said.stderr.contains("--keep"), "{said:?}");
    let calls = launched.calls();
    assert!(!calls.is_empty() && calls.iter().all(|call| call == HEARTBEAT), "{calls:?}");
    point_to(&launched.host, "r1");
    launched.boot(&[]).exits(0);
    assert_eq!(launched.states(), ["Pending:Wait", "InService"]);
}

#[test]
fn without_a_hook_or_a_group_it_deploys() {
    let parts = [
        "--tag",
        "deploy:store=s3://releases",
        "--tag",
        "deploy:app=my-app",
        "--tag",
        "deploy:environment=production",
    ];
    let launched = launch(&parts);
    let said = launched.boot(&[]).exits(0);
    assert!(said.stderr.contains("no hook to complete"), "{said:?}");
    assert_eq!(launched.host.served().as_deref(), Some("r1"));
    assert!(launched.calls().is_empty());
}

#[test]
fn a_machine_that_is_no_instance_deploys_the_url() {
    let host = Host::boot();
    host.publish(&Release::new("r1"));
    let url = "s3://releases/my-app/production/r1";
    let boot = || host.command(&["deploy", "boot", url]);
    let told_by_caller = boot().env("AWS_EC2_METADATA_DISABLED", "true").output();
    host.configure("AWS_EC2_METADATA_DISABLED=true\n");
    for said in [told_by_caller, boot().output()] {
        assert!(said.stderr.contains("no metadata service"), "{said:?}");
        assert!(!said.stderr.contains("waiting for the instance's metadata"), "{said:?}");
        said.exits(0);
    }
}

#[test]
fn an_instance_of_a_warm_pool_stages_and_serves_when_it_is_started() {
    let launched = launch_with_hook(&["--warm-pool", "Stopped"]);
    let host = &launched.host;
    let said = launched.boot(&[]).exits(0);
    assert!(said.stderr.contains("warm pool"), "{said:?}");
    assert_eq!(host.served(), None);
    assert_eq!(launched.states(), ["Warmed:Pending:Wait", "Warmed:Stopped"]);
    let fetches = || {
        let requests = host.s3().requests();
        requests.iter().filter(|r| r.method == "GET" && r.path.contains("source.tar")).count()
    };
    assert_eq!(fetches(), 1);

    host.power_off();
    launched.aws.post(&format!("instances/{}/go", launched.id), &json!({"state": "InService"}));
    host.instance.boot();
    launched.boot(&[]).exits(0);
    assert_eq!(launched.states()[2..], ["Pending:Wait", "InService"]);
    assert_eq!(
        (launched.aws.states_of(&launched.id)[3]["serves"].as_str(), fetches()),
        (Some("r1"), 1)
    );
}

#[test]
fn calls_that_are_throttled_are_sent_again() {
    let launched = launch_with_hook(&[]);
    launched.aws.fail(HEARTBEAT, "Throttling", 400, 2);
    launched.aws.fail("CompleteLifecycleAction", "ServiceUnavailable", 503, 4);
    launched.boot(&[]).exits(0);
    assert_eq!(launched.states(), ["Pending:Wait", "InService"]);
}

#[test]
fn a_hook_that_is_not_active_right_after_the_launch_is_completed_later() {
    let late = launch(&["--count", "0", "--name", "nobody"]);
    late.aws.post("late", &json!({"seconds": 12}));
    let tags = ["--name", "late", "--hook", "launched"];
    let id = late.aws.group(&[&tags, TAGS.as_slice()].concat()).remove(0);
    late.boot(&[]).exits(0);
    late.aws.wait_for_state(&id, "InService", SOON);
}

#[test]
fn a_role_without_the_right_is_named_with_its_remedy() {
    let launched = launch_with_hook(&[]);
    launched.aws.fail(HEARTBEAT, "AccessDenied", 403, 9);
    launched.aws.fail("CompleteLifecycleAction", "AccessDenied", 403, 9);
    let said = launched.boot(&[]).exits(1);
    assert!(said.stdout.contains("the release is good, but"), "{said:?}");
    assert!(said.stderr.contains("autoscaling:CompleteLifecycleAction on the group"), "{said:?}");
    assert_eq!(launched.host.served().as_deref(), Some("r1"));
    assert_eq!(launched.states(), ["Pending:Wait"]);
}

#[test]
fn tags_that_the_metadata_does_not_have_are_explained() {
    let launched = launch_with_hook(&["--without-tags-in-metadata"]);
    let said = launched.boot(&[]).exits(2);
    assert!(said.stderr.contains("InstanceMetadataTags=enabled"), "{said:?}");
    let said = launched.boot(&["--hook", "launched", URL]).exits(2);
    assert!(said.stderr.contains("--group"), "{said:?}");
    let names = ["--hook", "launched", "--group", "my-app-production", URL];
    launched.boot(&names).exits(0);
    assert_eq!(launched.states(), ["Pending:Wait", "InService"]);
}

#[test]
fn user_data_may_run_before_deployd_does() {
    let launched = launch_with_hook(&[]);
    let host = &launched.host;
    host.sh("systemctl stop deployd.socket deployd.service");
    host.push(user_data("deploy.sh"), "/root/user-data");
    let booting = host.command(&["/root/user-data"]).spawn();
    host.wait_for("metadata", SOON, || {
        let asked = |path: &str| launched.aws.record().iter().any(|entry| entry["path"] == path);
        asked("/latest/meta-data/tags/instance/deploy:url").then_some(())
    });
    host.sh("systemctl start deployd.socket");
    let said = booting.output().exits(0);
    assert!(said.stderr.contains("waiting for deployd"), "{said:?}");
    assert_eq!(launched.states(), ["Pending:Wait", "InService"]);
}

#[test]
fn json_has_one_outcome_and_a_terminal_shows_each_line() {
    let launched = launch_with_hook(&[]);
    let said = launched.boot(&["--json"]).exits(0);
    let lines: Vec<serde_json::Value> =
        said.stdout.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(lines.last().expect("an outcome")["event"], "ended");
    for (columns, release) in [(80, "r2"), (40, "r3")] {
        launched.host.publish(&Release::new(release));
        point_to(&launched.host, release);
        let screens = launched.host.at_terminal(columns, "LANG=C.UTF-8", "deploy boot");
        println!("{}", screens.last());
        screens.must_have_shown(&["for the hook launched"]);
        screens.must_have_shown(&["✓", "settle"]);
        screens.must_have_shown(&["no hook waits for this"]);
    }
    let said = launched.boot(&["--quiet"]).exits(0);
    assert_eq!((said.stderr.as_str(), said.stdout.lines().count()), ("", 1), "{said:?}");
}
