//! AWS on a test's network: tests/aws, which has Auto Scaling with lifecycle hooks, and instance
//! metadata at its usual address.

use crate::host::{ACCESS_KEY, SECRET_KEY};
use crate::instance::{Instance, Network, Response, poll};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const PORT: u16 = 8080;
/// The SSM agent on an instance.
const AGENT: &str = "/usr/local/lib/ssm-agent.py";
/// A timeout for its own requests.
const PATIENCE: Duration = Duration::from_secs(30);

/// Settings of an agent that uses it: keys come from the instance's role.
pub const SETTINGS: &str = "\
AWS_ENDPOINT_URL=http://10.77.0.1:8080
AWS_ENDPOINT_URL_S3=http://10.77.0.1:9000
AWS_REGION=eu-central-1
";

/// A running tests/aws/serve.py; dropping it stops it.
pub struct Aws {
    network: Network,
    server: Child,
}

impl Aws {
    /// Starts it on the network, and waits until it answers.
    pub fn start(network: &Network) -> Aws {
        let api = format!("{}:{PORT}", Network::GATEWAY);
        let metadata = format!("{}:80", Network::METADATA);
        prepare();
        let mut command = program("serve.py");
        command.args(["--api", &api, "--metadata", &metadata]);
        command.args(["--access-key", ACCESS_KEY, "--secret-key", SECRET_KEY]);
        command.args(["--probe", "http://{address}:5000/"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut server = network.within(|| command.spawn()).expect("start tests/aws/run.sh");
        let mut line = String::new();
        let stdout = server.stdout.take().expect("its output is a pipe");
        BufReader::new(stdout).read_line(&mut line).expect("read its output");
        assert_eq!(line, "ready\n", "tests/aws/serve.py does not start");
        Aws { network: network.clone(), server }
    }

    /// Makes a group by tests/aws/group.py, and returns the ids of its instances.
    pub fn group(&self, arguments: &[&str]) -> Vec<String> {
        let mut command = program("group.py");
        command.args(["--api", &format!("{}:{PORT}", Network::GATEWAY)]).args(arguments);
        let made = self.network.within(|| command.output()).expect("start tests/aws/run.sh");
        let stderr = String::from_utf8_lossy(&made.stderr);
        assert!(made.status.success(), "tests/aws/group.py: {stderr}");
        String::from_utf8_lossy(&made.stdout).lines().map(str::to_owned).collect()
    }

    /// All calls, lifecycle states and requests for metadata so far.
    pub fn record(&self) -> Vec<Value> {
        self.get("record").as_array().expect("a list").clone()
    }

    /// The actions of Auto Scaling that this address has called, heartbeats in a row once, with
    /// the result of a completion; a call that failed with its error code.
    pub fn calls_of(&self, address: Ipv4Addr) -> Vec<String> {
        let record = self.record();
        let of = |entry: &&Value| {
            entry["kind"] == "call" && entry["address"] == address.to_string().as_str()
        };
        let mut calls: Vec<String> = record
            .iter()
            .filter(of)
            .map(|entry| {
                let action = entry["action"].as_str().unwrap_or_default();
                match (entry["code"].as_str(), entry["params"]["LifecycleActionResult"].as_str()) {
                    (Some(code), _) => format!("{action} {code}"),
                    (None, Some(result)) => format!("{action} {result}"),
                    (None, None) => action.to_owned(),
                }
            })
            .collect();
        calls.dedup();
        calls
    }

    /// The lifecycle states of an instance, in order.
    pub fn states_of(&self, id: &str) -> Vec<Value> {
        let mut record = self.record();
        record.retain(|entry| entry["kind"] == "state" && entry["instance"] == id);
        record
    }

    /// The instances: id, address, group, state, target, hooks.
    pub fn instances(&self) -> Vec<Value> {
        self.get("instances").as_array().expect("a list").clone()
    }

    /// Waits until an instance has this lifecycle state.
    #[track_caller]
    pub fn wait_for_state(&self, id: &str, state: &str, limit: Duration) {
        let is_so = || self.instances().iter().any(|one| one["id"] == id && one["state"] == state);
        let reached = poll(limit, || is_so().then_some(()));
        assert!(reached.is_some(), "{id} is not {state}: {:#?}", self.instances());
    }

    /// Makes a booted machine this instance, and starts its SSM agent.
    pub fn manage(&self, id: &str, machine: &Instance) {
        let address = machine.address().to_string();
        self.post(&format!("instances/{id}/attach"), &json!({"address": address}));
        machine.push(directory().join("agent.py"), AGENT);
        let api = format!("http://{}:{PORT}", Network::GATEWAY);
        machine.sh(&format!("systemd-run --quiet --unit=ssm-agent python3 {AGENT} {api} {id}"));
        self.wait_for_ping(id, "Online");
    }

    /// Waits until the SSM agent of an instance is known to answer, or not to.
    #[track_caller]
    pub fn wait_for_ping(&self, id: &str, ping: &str) {
        let is_so = || self.instances().iter().any(|one| one["id"] == id && one["ping"] == ping);
        let reached = poll(PATIENCE, || is_so().then_some(()));
        assert!(reached.is_some(), "{id} is not {ping}: {:#?}", self.instances());
    }

    /// Makes the next calls of an action fail with this code.
    pub fn fail(&self, action: &str, code: &str, status: u16, times: u32) {
        let fault = json!({"action": action, "code": code, "status": status, "times": times});
        self.post("faults", &fault);
    }

    /// Sends a request of the tests' own; tests/aws/README.md lists them.
    pub fn post(&self, path: &str, body: &Value) -> Value {
        let response = self.send("POST", path, &body.to_string());
        assert_eq!(response.status, 200, "{path}: {}", response.body);
        serde_json::from_str(&response.body).expect("JSON")
    }

    fn get(&self, path: &str) -> Value {
        let response = self.send("GET", path, "");
        serde_json::from_str(&response.body).expect("JSON")
    }

    fn send(&self, method: &str, path: &str, body: &str) -> Response {
        let address = SocketAddrV4::new(Network::GATEWAY, PORT);
        let mut stream = self.network.connect(address).expect("connect to tests/aws");
        stream.set_read_timeout(Some(PATIENCE)).expect("set a timeout");
        write!(
            stream,
            "{method} /_test/{path} HTTP/1.0\r\nHost: {address}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .expect("ask tests/aws");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("read the answer");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
        Response { status: status.expect("a status"), body: body.to_owned() }
    }
}

impl Drop for Aws {
    fn drop(&mut self) {
        // It ends by itself when its standard input is closed, whatever becomes of this process.
        drop(self.server.stdin.take());
        let _ = self.server.wait();
    }
}

/// Installs the packages with this machine's own network.
fn prepare() {
    let ran = Command::new(directory().join("run.sh")).args(["-c", ""]).status();
    assert!(ran.is_ok_and(|ran| ran.success()), "tests/aws/run.sh cannot install its packages");
}

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/aws")
}

fn program(name: &str) -> Command {
    let here = directory();
    let mut command = Command::new(here.join("run.sh"));
    command.arg(here.join(name)).stdin(Stdio::null());
    // Proxies of this machine are not those of the test's network.
    for name in ["http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"] {
        command.env_remove(name);
    }
    command
}

/// The directory of the examples of user-data.
pub fn user_data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../packer/user-data").join(name)
}
