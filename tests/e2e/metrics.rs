//! `deploy metrics`: the text that a Prometheus would read, on a machine whose app has trouble.

use std::collections::{BTreeMap, BTreeSet};
use testkit::app::Release;
use testkit::host::{Host, SOON};

const DIRECTORY: &str = "/var/lib/prometheus/node-exporter";
const FILE: &str = "/var/lib/prometheus/node-exporter/deploy.prom";

/// Labels that a sample has, beside others.
type Labels<'a> = &'a [(&'a str, &'a str)];

/// The samples of a text.
#[derive(Debug)]
struct Samples(Vec<Sample>);

#[derive(Debug)]
struct Sample {
    name: String,
    labels: BTreeMap<String, String>,
    value: f64,
}

impl Samples {
    /// Parses the text format, and checks what a scrape would refuse.
    #[track_caller]
    fn parse(text: &str) -> Samples {
        assert!(text.ends_with('\n'), "{text}");
        let (mut samples, mut begun, mut names) = (Vec::new(), None, BTreeSet::new());
        let mut series = BTreeSet::new();
        for line in text.lines() {
            if let Some(help) = line.strip_prefix("# HELP ") {
                let (name, help) = help.split_once(' ').expect(line);
                assert!(names.insert(name.to_owned()), "{name} is two groups");
                assert!(!help.is_empty(), "{line}");
                begun = Some(name.to_owned());
            } else if let Some(kind) = line.strip_prefix("# TYPE ") {
                let (name, kind) = kind.split_once(' ').expect(line);
                assert_eq!(begun.as_deref(), Some(name), "{line}");
                assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
                assert!(["counter", "gauge"].contains(&kind), "{line}");
            } else {
                let sample = sample(line);
                assert_eq!(begun.as_ref(), Some(&sample.name), "{line}");
                assert!(series.insert(format!("{} {:?}", sample.name, sample.labels)), "{line}");
                samples.push(sample);
            }
        }
        Samples(samples)
    }

    fn get(&self, name: &str, labels: Labels<'_>) -> Option<f64> {
        let has = |sample: &Sample, (name, value): &(&str, &str)| {
            sample.labels.get(*name).is_some_and(|found| found == value)
        };
        let fits =
            |sample: &&Sample| sample.name == name && labels.iter().all(|label| has(sample, label));
        self.0.iter().find(fits).map(|sample| sample.value)
    }
}

/// Parses `name{label="value",…} 1`.
fn sample(line: &str) -> Sample {
    let (name, rest) = line.split_once('{').expect(line);
    let is_of_name = |c: char| c.is_ascii_lowercase() || c == '_';
    assert!(name.chars().all(is_of_name), "{line}");
    let (mut labels, mut rest) = (BTreeMap::new(), rest);
    loop {
        let (label, after) = rest.split_once("=\"").expect(line);
        assert!(label.chars().all(is_of_name), "{line}");
        let (value, after) = label_value(after).expect(line);
        labels.insert(label.to_owned(), value);
        match after.strip_prefix(',') {
            Some(more) => rest = more,
            None => {
                let value = after.strip_prefix("} ").expect(line).parse().expect(line);
                return Sample { name: name.to_owned(), labels, value };
            }
        }
    }
}

/// Reads to the closing quote.
fn label_value(text: &str) -> Option<(String, &str)> {
    let (mut value, mut characters) = (String::new(), text.char_indices());
    loop {
        match characters.next()?.1 {
            '"' => return Some((value, characters.as_str())),
            '\\' => value.push(match characters.next()?.1 {
                'n' => '\n',
                other @ ('\\' | '"') => other,
                _ => return None,
            }),
            other => value.push(other),
        }
    }
}

#[track_caller]
fn metrics(host: &Host) -> Samples {
    Samples::parse(&host.deploy(&["metrics"]).ok())
}

/// Waits until a series of `my-app` has a value for which `is_so` holds.
#[track_caller]
fn wait_for(host: &Host, name: &str, labels: Labels<'_>, is_so: impl Fn(f64) -> bool) -> f64 {
    host.wait_for(name, 3 * SOON, || metrics(host).get(name, labels).filter(|value| is_so(*value)))
}

#[test]
fn a_scrape_sees_what_happens_to_an_app() {
    let host = Host::boot();
    let secret = "a-value-that-no-metric-may-have";
    let set = format!("DEPLOY_HEALTH_PATH=/health SECRET={secret}");
    host.publish(&Release::new("r1").set(&set));
    host.deploys("r1");
    let (app, web) = (("app", "my-app"), ("process", "web.1"));

    let text = host.deploy(&["metrics"]).ok();
    assert!(!text.contains(secret), "{text}");
    let first = Samples::parse(&text);
    let name = host.sh("hostname");
    for sample in &first.0 {
        assert_eq!(sample.labels.get("host").map(String::as_str), Some(name.trim()), "{sample:?}");
    }
    let info = [app, ("environment", "production"), ("release", "r1")];
    let rows: [(&str, Labels<'_>, f64); 9] = [
        ("deploy_release_info", &info, 1.0),
        ("deploy_release_state", &[app, ("state", "good")], 1.0),
        ("deploy_release_state", &[app, ("state", "failed")], 0.0),
        ("deploy_processes_wanted", &[app, ("type", "web")], 1.0),
        ("deploy_processes_up", &[app, ("type", "worker")], 1.0),
        ("deploy_process_restarts_total", &[app, web], 0.0),
        ("deploy_last_deploy_exit_code", &[app], 0.0),
        ("deploy_installed_releases", &[app, ("state", "good")], 1.0),
        ("deploy_leaving_connections", &[app], 0.0),
    ];
    for (name, labels, expected) in rows {
        assert_eq!(first.get(name, labels), Some(expected), "{name} in\n{text}");
    }
    let more_than_nothing: [(&str, Labels<'_>); 7] = [
        ("deployd_memory_bytes", &[]),
        ("deployd_cpu_seconds_total", &[]),
        ("deploy_state_free_bytes", &[]),
        ("deploy_process_memory_bytes", &[app, web]),
        ("deploy_last_deploy_seconds", &[app]),
        ("deploy_last_deploy_archive_bytes", &[app]),
        ("deploy_last_deploy_part_seconds", &[app, ("part", "prove")]),
    ];
    for (name, labels) in more_than_nothing {
        assert!(first.get(name, labels).is_some_and(|value| value > 0.0), "{name} in\n{text}");
    }

    wait_for(&host, "deploy_healthy", &[app], |healthy| healthy == 1.0);
    let client = host.network.connect(std::net::SocketAddrV4::new(host.address(), 5000));
    wait_for(&host, "deploy_process_connections", &[app, web], |count| count >= 1.0);
    drop(client);
    let kill = |signal: &str| {
        let pid = host.pid("web.1").expect("web.1").to_string();
        host.exec(&["kill", signal, &pid]).ok();
    };
    kill("-KILL");
    wait_for(&host, "deploy_process_restarts_total", &[app, web], |restarts| restarts == 1.0);
    wait_for(&host, "deploy_process_up", &[app, web], |up| up == 1.0);
    // A process that hangs: to systemd it is still up.
    kill("-STOP");
    wait_for(&host, "deploy_healthy", &[app], |healthy| healthy == 0.0);
    assert_eq!(metrics(&host).get("deploy_process_up", &[app, web]), Some(1.0));
    kill("-CONT");
    wait_for(&host, "deploy_healthy", &[app], |healthy| healthy == 1.0);
    host.deploy(&["stop", "worker"]).exits(0);
    let last = metrics(&host);
    assert_eq!(last.get("deploy_processes_wanted", &[app, ("type", "worker")]), Some(0.0));
    let cpu = |samples: &Samples| samples.get("deployd_cpu_seconds_total", &[]);
    assert!(cpu(&last) > cpu(&first), "{last:?}");
    assert_eq!(last.get("deploy_last_deploy_info", &[app, ("action", "deploy")]), Some(1.0));
}

#[test]
fn a_timer_writes_the_file_that_node_exporter_reads() {
    let host = Host::running_r1();
    let enabled = host.exec(&["systemctl", "is-enabled", "deployd-metrics.timer"]);
    assert_eq!(enabled.stdout.trim(), "disabled");
    host.sh("systemd-analyze verify --man=no deployd-metrics.service deployd-metrics.timer");
    // Without the directory there is nothing to do.
    host.exec(&["systemctl", "start", "deployd-metrics.service"]).ok();
    host.exec(&["test", "-e", DIRECTORY]).exits(1);

    host.sh(&format!("install -d -o nobody {DIRECTORY}"));
    host.exec(&["systemctl", "enable", "--now", "deployd-metrics.timer"]).ok();
    let read = || {
        let found = host.exec(&["cat", FILE]);
        (found.status == Some(0)).then_some(found.stdout)
    };
    let info = [("app", "my-app"), ("release", "r1")];
    let samples = Samples::parse(&host.wait_for("file", 2 * SOON, read));
    assert_eq!(samples.get("deploy_release_info", &info), Some(1.0));
    assert_eq!(host.sh(&format!("stat -c '%a %U' {FILE}")), "644 root\n");
    host.publish(&Release::new("r2"));
    host.deploys("r2");
    host.wait_for("r2 in the file", 2 * SOON, || {
        let info = [("app", "my-app"), ("release", "r2")];
        Samples::parse(&read()?).get("deploy_release_info", &info)
    });
    let log = || {
        let unit = "_SYSTEMD_UNIT=deployd-metrics.service";
        host.journal(&["--output=cat", "--quiet", unit])
    };
    assert_eq!(log(), "");

    let said = host.deploy_as("stranger", &["metrics"]).exits(41);
    assert!(said.stderr.contains("join the group deploy"), "{said:?}");
    let said = host.deploy(&["metrics", "--output", "/nowhere/deploy.prom"]).exits(1);
    assert!(said.stderr.contains("name a file in a directory that exists"), "{said:?}");
    host.exec(&["systemctl", "stop", "deployd.socket", "deployd.service"]).ok();
    host.wait_for("failed run", 2 * SOON, || log().contains("deploy metrics failed").then_some(()));
}
