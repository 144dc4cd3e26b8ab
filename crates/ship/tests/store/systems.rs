//! A group by Auto Scaling and Systems Manager, whose instances are programs that act as the SSM
//! agent does. Every call is checked against botocore's models.

use super::bench::Bench;
use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use testkit::instance::poll;

/// An instance: the agent of tests/aws, with a `deploy` that takes no time.
struct Instance {
    id: String,
    state: PathBuf,
    agent: Child,
}

impl Drop for Instance {
    fn drop(&mut self) {
        let _ = self.agent.kill();
        let _ = self.agent.wait();
    }
}

/// Instances in the order of their ids.
struct Group {
    name: String,
    instances: Vec<Instance>,
}

impl Group {
    fn of(bench: &Bench, count: &str) -> Group {
        // moto is one for all tests, and each has a group of its own.
        let name = bench.path().file_name().expect("a name").to_string_lossy().replace('.', "");
        let made = bench.aws("group.py").args(["--count", count, "--name", &name]).output();
        let made = made.expect("tests/aws/group.py");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let ids = String::from_utf8(made.stdout).expect("ids");
        let mut ids: Vec<&str> = ids.lines().collect();
        ids.sort_unstable();
        let environment = "[environments.production]";
        let keys = format!("group = \"{name}\"\nalarms = [\"{name} & more\"]");
        let toml = format!("app = \"shop\"\n{environment}\n{keys}\n");
        bench.write("ship.toml", &toml);
        bench.git(&["commit", "--quiet", "--all", "--message", "Name the group"]);
        let instances = ids.into_iter().map(|id| Instance::start(bench, id)).collect();
        let group = Group { name, instances };
        group.wait(bench);
        group.alarm(bench, "OK");
        group
    }

    /// Waits until each agent has asked for work.
    fn wait(&self, bench: &Bench) {
        let is_so =
            || self.instances.iter().all(|one| bench.test("instances").contains(&one.online()));
        let reached = poll(Duration::from_secs(30), || is_so().then_some(()));
        assert!(reached.is_some(), "{}", bench.test("instances"));
    }

    fn alarm(&self, bench: &Bench, state: &str) {
        let name = format!("{}%20%26%20more", self.name);
        bench.set(&format!("alarms/{name}"), &format!("{{\"state\":\"{state}\"}}"));
    }

    fn runs(&self) -> Vec<String> {
        let runs = |one: &Instance| fs::read_to_string(one.state.join("runs")).unwrap_or_default();
        self.instances.iter().map(|one| runs(one).trim().to_owned()).collect()
    }
}

impl Instance {
    fn start(bench: &Bench, id: &str) -> Instance {
        let state = bench.path().join(".git").join(id);
        fs::create_dir_all(&state).expect("a directory");
        let deploy = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/store/deploy.sh");
        std::os::unix::fs::symlink(deploy, state.join("deploy")).expect("a link");
        let path = std::env::var("PATH").unwrap_or_default();
        let mut agent = Command::new("python3");
        agent.arg(bench.aws_file("agent.py")).args([bench.endpoint(), id]);
        agent.env("PATH", format!("{}:{path}", state.display())).env("STATE", &state);
        agent.stdin(Stdio::null());
        Instance { id: id.to_owned(), agent: agent.spawn().expect("python3"), state }
    }

    /// The part of the list of instances that says that it is managed.
    fn online(&self) -> String {
        let id = &self.id;
        format!("{{\"id\": \"{id}\", \"ping\": \"Online\"")
    }
}

#[test]
fn a_group_is_deployed_taken_back_and_rolled_back() {
    let bench = Bench::new();
    let group = Group::of(&bench, "3");
    assert_eq!(bench.ok(&["release"]), "r1\n");
    assert_eq!(bench.ok(&["deploy", "--batch", "100%"]), "r1 runs on 3 instances\n");
    assert_eq!(group.runs(), ["r1"; 3]);
    let ps = bench.ok(&["ps"]);
    assert_eq!(ps.matches("healthy").count(), 3, "{ps}");

    assert_eq!(bench.ok(&["release"]), "r2\n");
    fs::write(group.instances[2].state.join("bad"), "r2").expect("a file");
    let (code, said) = bench.said(&["deploy"]);
    assert_eq!(code, 12, "{said}");
    assert!(said.contains(&format!("r2 failed on {}", group.instances[2].id)), "{said}");
    assert!(said.contains("the disk is on fire"), "{said}");
    assert!(said.contains("the group runs r1"), "{said}");
    assert_eq!(group.runs(), ["r1"; 3]);

    fs::remove_file(group.instances[2].state.join("bad")).expect("a file");
    for action in ["SendCommand", "ListCommandInvocations"] {
        bench.fail(action, "ThrottlingException", 3);
    }
    assert_eq!(
        bench.ok(&["deploy", "--bake", "1", "--batch", "1,100%"]),
        "r2 runs on 3 instances\n"
    );
    assert_eq!(bench.ok(&["rollback", "--batch", "100%"]), "r1 runs on 3 instances\n");
    assert_eq!(group.runs(), ["r1"; 3]);

    group.alarm(&bench, "ALARM");
    let (code, said) = bench.said(&["deploy"]);
    assert_eq!(code, 12, "{said}");
    assert!(said.contains("& more is in ALARM (set to ALARM)"), "{said}");
    group.alarm(&bench, "OK");
    for (action, code, iam) in [
        ("DescribeAlarms", "AccessDenied", "cloudwatch:DescribeAlarms"),
        ("DescribeInstanceInformation", "AccessDeniedException", "ssm:DescribeInstanceInformation"),
    ] {
        bench.fail(action, code, 1);
        let (code, said) = bench.said(&["deploy"]);
        assert_eq!(code, 11, "{said}");
        assert!(said.contains(&format!("help: allow {iam};")), "{said}");
    }
}

#[test]
fn a_group_that_is_not_there_is_said_how_to_name() {
    let bench = Bench::new();
    let (code, said) = bench.said(&["ps", "production"]);
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("no group has the tags deploy:app=shop"), "{said}");
    let (_, said) = bench.said(&["ps", "production", "--group", "nobody"]);
    assert!(said.contains("there is none with the name \"nobody\""), "{said}");
}
