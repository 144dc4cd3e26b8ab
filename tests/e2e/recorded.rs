//! What systemd and the journal say of services that run, wait and fail. `tests/recorded/` keeps
//! it for the fast tests, whose fake systemd answers with it; here it is recorded again and
//! compared. `UPDATE_GOLDEN=1` writes it down.

use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};
use std::{env, fs};
use testkit::host::SOON;
use testkit::instance::{Image, Instance, Network};

/// A service, and the state in which it is recorded.
struct Case {
    name: &'static str,
    /// Lines of its section `[Service]`.
    service: &'static str,
    /// ActiveState and SubState.
    reaches: [&'static str; 2],
}

const CASES: [Case; 12] = [
    case("running", "ExecStart=/bin/sleep infinity", ["active", "running"]),
    case("never-started", "ExecStart=/bin/true", ["inactive", "dead"]),
    case("exit-3", "ExecStart=/bin/sh -c 'exit 3'", ["failed", "failed"]),
    case(
        "restarts",
        "Restart=always\nRestartSec=1h\nExecStart=/bin/sh -c 'exit 3'",
        ["activating", "auto-restart"],
    ),
    case("sigusr1", "ExecStart=/bin/sh -c 'kill -USR1 $$$$'", ["failed", "failed"]),
    case("sigkill", "ExecStart=/bin/sh -c 'kill -KILL $$$$'", ["failed", "failed"]),
    case("no-program", "ExecStart=/nowhere/program", ["failed", "failed"]),
    case("no-user", "User=nobody-of-this-name\nExecStart=/bin/true", ["failed", "failed"]),
    case("no-path", "ReadWritePaths=/nowhere\nExecStart=/bin/true", ["failed", "failed"]),
    case(
        "not-ready",
        "Type=notify\nNotifyAccess=all\n\
         ExecStart=/bin/sh -c 'systemd-notify --status=loading; exec sleep infinity'",
        ["activating", "start"],
    ),
    case(
        "start-timeout",
        "Type=notify\nTimeoutStartSec=100ms\nExecStart=/bin/sleep infinity",
        ["failed", "failed"],
    ),
    case(
        "stopping",
        "TimeoutStopSec=infinity\nExecStart=/bin/sh -c 'trap \"\" TERM; while :; do sleep 1; done'",
        ["deactivating", "stop-sigterm"],
    ),
];

const fn case(name: &'static str, service: &'static str, reaches: [&'static str; 2]) -> Case {
    Case { name, service, reaches }
}

/// The properties that the agent reads, without times.
const OF_UNIT: [&str; 3] = ["ActiveState", "SubState", "InvocationID"];
const OF_SERVICE: [&str; 10] = [
    "CPUUsageNSec",
    "ControlGroup",
    "ExecMainCode",
    "ExecMainStatus",
    "MainPID",
    "MemoryCurrent",
    "NRestarts",
    "Result",
    "StatusText",
    "Type",
];

#[test]
fn systemd_says_of_services_what_the_fast_tests_believe() {
    let host = Network::new().instance().image(&Image::base()).boot();
    let mut recorded = Map::new();
    for case in &CASES {
        let unit = format!("recorded-{}.service", case.name);
        let text = format!("[Service]\n{}\n", case.service);
        host.write(&format!("/run/systemd/system/{unit}"), text);
        host.sh("systemctl daemon-reload");
        if case.reaches[0] != "inactive" {
            host.sh(&format!("systemctl start --no-block {unit}"));
        }
        if case.reaches[0] == "deactivating" {
            reaches(&host, &unit, ["active", "running"]);
            host.sh(&format!("systemctl stop --no-block {unit}"));
        }
        reaches(&host, &unit, case.reaches);
        if case.name == "not-ready" {
            host.wait_for("its status", SOON, || {
                let service = properties(&host, &unit, "Service");
                (service["StatusText"]["data"] == "loading").then_some(())
            });
        }
        let both = json!({
            "unit": picked(&properties(&host, &unit, "Unit"), &OF_UNIT),
            "service": picked(&properties(&host, &unit, "Service"), &OF_SERVICE),
        });
        recorded.insert(case.name.to_owned(), both);
    }
    let recorded = serde_json::to_string_pretty(&recorded).unwrap();
    compare("services.json", &format!("{recorded}\n"));
}

#[track_caller]
fn reaches(host: &Instance, unit: &str, state: [&str; 2]) {
    host.wait_for(&format!("{unit} {state:?}"), SOON, || {
        let found = properties(host, unit, "Unit");
        let found = ["ActiveState", "SubState"].map(|name| found[name]["data"].clone());
        (found == state.map(Value::from)).then_some(())
    });
}

fn properties(host: &Instance, unit: &str, interface: &str) -> Value {
    let path = unit.replace('-', "_2d").replace('.', "_2e");
    let path = format!("/org/freedesktop/systemd1/unit/{path}");
    let interface = format!("org.freedesktop.systemd1.{interface}");
    let asked = ["org.freedesktop.DBus.Properties", "GetAll", "s", &interface];
    let call = ["busctl", "--json=short", "call", "org.freedesktop.systemd1", &path];
    let answer = host.exec(&[&call, asked.as_slice()].concat()).ok();
    let answer: Value = serde_json::from_str(&answer).expect("busctl's JSON");
    answer["data"][0].clone()
}

/// Takes these properties alone, with one value for what differs each time.
fn picked(all: &Value, names: &[&str]) -> Value {
    let each = names.iter().map(|name| {
        let mut value = all[name].clone();
        let is_set = |value: &Value| value.as_u64().is_some_and(|n| n != 0 && n != u64::MAX);
        match *name {
            "MainPID" if is_set(&value["data"]) => value["data"] = 4711.into(),
            // Accounting depends on the version of cgroups.
            "CPUUsageNSec" | "MemoryCurrent" => value["data"] = u64::MAX.into(),
            "InvocationID" => value["data"] = json!(vec![7; 16]),
            _ => {}
        }
        ((*name).to_owned(), value)
    });
    Value::Object(each.collect())
}

#[test]
fn the_journal_has_the_lines_that_the_fast_tests_read() {
    let host = Network::new().instance().image(&Image::base()).boot();
    let service = "[Service]\nSyslogIdentifier=my-app.web.1\nExecStart=/bin/sh /run/writes\n";
    host.write("/run/systemd/system/recorded.service", service);
    host.write(
        "/run/writes",
        "echo a line\nprintf 'no UTF-8: \\377\\n'\nprintf 'a\\tb \\033[31mred\\033[0m\\n'\n\
         printf '%5000s\\n' end | tr ' ' x\necho to stderr >&2\nexit 3\n",
    );
    host.sh("systemctl daemon-reload; systemctl start recorded; true");
    let options = "--quiet --no-pager --all --output=json \
        --output-fields=SYSLOG_IDENTIFIER,MESSAGE,UNIT_RESULT";
    let matches = "_SYSTEMD_UNIT=recorded.service + \
        MESSAGE_ID=d9b373ed55a64feb8242e02dbe79a49c UNIT=recorded.service";
    let read = || host.sh(&format!("journalctl --sync; journalctl {options} {matches}"));
    let lines = host.wait_for("the last line and the result", SOON, || {
        Some(read()).filter(|lines| lines.contains("to stderr") && lines.contains("UNIT_RESULT"))
    });
    // The journal may get systemd's line before the last ones of the process.
    let mut lines: Vec<&str> = lines.lines().collect();
    lines.sort_by_key(|line| line.contains("UNIT_RESULT"));
    let lines = lines.into_iter().map(|line| {
        let mut entry: Map<String, Value> = serde_json::from_str(line).expect("an entry");
        entry.retain(|name, _| !name.starts_with('_'));
        serde_json::to_string(&entry).unwrap() + "\n"
    });
    compare("journal.jsonl", &lines.collect::<String>());
}

/// Compares a record with the file that the fast tests read, or writes it.
#[track_caller]
fn compare(name: &str, recorded: &str) {
    let path: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/recorded").join(name);
    if env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, recorded).unwrap();
    }
    let kept = fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(kept, recorded, "{name}: if that is right, UPDATE_GOLDEN=1 writes it down");
}
