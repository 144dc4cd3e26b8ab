//! Instances that are born of the image, and deploy by their user-data alone.

use crate::fleet::{Fleet, Launched};
use crate::image::image;
use crate::logs::Logs;
use crate::user_data;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::thread;
use testkit::app::{Release, url};
use testkit::host::SOON;
use testkit::instance::{Instance, poll};

/// A web process, and a worker that counts its jobs by statsd.
const COUNTS: &str = r#"
import socket, time
statsd = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
print("counts jobs", flush=True)
while True:
    statsd.sendto(b"my-app.jobs:1|c", ("127.0.0.1", 8125))
    time.sleep(0.1)
"#;

#[test]
fn instances_come_into_service_by_their_user_data() {
    let image = image();
    let fleet = Fleet::of(3);
    counting("r1").publish(&fleet.s3);
    fleet.point("my-app", "r1");
    let logs = Logs::start(&fleet.network);
    let user_data = user_data::cloud_config();
    fleet.group("my-app", 3, &logs.forwarded(&user_data, "      DEPLOY_HEALTH_PATH=/health\n"));
    let launched: Vec<Launched> = thread::scope(|scope| {
        let (fleet, image) = (&fleet, &image);
        let launches = [21, 22, 23].map(|host| scope.spawn(move || fleet.launch(image, host)));
        launches.into_iter().map(|launch| launch.join().expect("a launch")).collect()
    });
    for one in &launched {
        assert_eq!(one.status(), "status: done\n", "{}", one.output());
        // The release answered at the moment at which the group was told that it is good.
        let states = fleet.aws.states_of(&one.id);
        let states: Vec<_> =
            states.iter().map(|entry| (&entry["state"], &entry["serves"])).collect();
        let (pending, in_service) = (&json!("Pending:Wait"), &json!("InService"));
        assert_eq!(states, [(pending, &Value::Null), (in_service, &json!("r1"))]);
        is_itself(one);
        doctor_is_content(&one.instance);
        is_measured(&one.instance);
        logs.has(&one.id, "my-app.worker.1", "counts jobs");
    }
    for file in ["/etc/machine-id", "/etc/ssh/ssh_host_ed25519_key.pub", "/etc/hostname"] {
        let different: BTreeSet<_> = launched.iter().map(|one| one.instance.read(file)).collect();
        assert_eq!(different.len(), launched.len(), "{file} is each instance's own");
    }
    assert!(fleet.refused().is_empty(), "{:#?}", fleet.refused());
}

#[test]
fn a_bad_release_is_abandoned_and_fails_user_data_with_its_exit_code() {
    let image = image();
    for user_data in [user_data::cloud_config(), user_data::script()] {
        let fleet = Fleet::of(1);
        Release::new("r1").procfile("web: exec false\n").publish(&fleet.s3);
        fleet.point("my-app", "r1");
        fleet.group("my-app", 1, &user_data);
        let one = fleet.launch(&image, 21);
        assert_eq!((one.healthy, one.in_service), (None, None));
        assert_eq!(one.status(), "status: error\n");
        let log = one.instance.sh("grep '^Exit code' /var/log/cloud-init.log");
        assert_eq!(log, "Exit code: 12\n", "{}", one.output());
        assert!(one.output().contains("web.1 did not stay up"), "{}", one.output());
        let calls = fleet.aws.calls_of(one.instance.address());
        let abandoned = Some("CompleteLifecycleAction ABANDON");
        assert_eq!(calls.last().map(String::as_str), abandoned, "{calls:#?}");
    }
}

fn counting(name: &str) -> Release {
    let procfile = "web: python3 app.py web\nworker: exec python3 jobs.py\n";
    Release::new(name).file("jobs.py", COUNTS).procfile(procfile)
}

/// It has the id and the name that EC2 gave it, and no trace of the machine that was frozen.
fn is_itself(Launched { instance, id, .. }: &Launched) {
    let said = instance
        .sh("cloud-init query instance_id; cloud-init query local_hostname; hostname; \
        cat /run/cloud-init/result.json");
    let name = format!("ip-{}", instance.address().to_string().replace('.', "-"));
    assert!(said.starts_with(&format!("{id}\n{name}\n{name}\n")), "{said}");
    assert!(said.contains("DataSourceEc2"), "{said}");
    assert_eq!(instance.sh("cat /etc/machine-id").trim(), instance.machine_id());
    let log = instance.sh("journalctl --no-pager; cat /var/log/syslog");
    assert!(!log.contains("ip-10-77-0-11"), "{log}");
}

fn doctor_is_content(instance: &Instance) {
    let page = instance.exec(&["deploy", "doctor", &url("current")]).exits(0).stdout;
    assert!(page.contains("failed: 0"), "{page}");
    for row in ["nftables", "port map", "journal", "rsyslog", "metadata", "credentials", "release"]
    {
        let line = page.lines().find(|line| line.contains(&format!(" {row} ")));
        assert!(line.is_some_and(|line| line.starts_with("ok")), "{row}: {page}");
    }
}

/// collectd has the instance's numbers and the app's, by its name; and the agent writes its own.
fn is_measured(instance: &Instance) {
    let name = instance.sh("hostname").trim().to_owned();
    let scrape = || instance.exec(&["curl", "-s", "http://127.0.0.1:9103/metrics"]).stdout;
    let series = ["collectd_statsd_", "collectd_cpu_", "collectd_memory", "collectd_load"];
    for start in series {
        let has = |line: &str| line.starts_with(start) && line.contains(&name);
        let scraped = || scrape().lines().any(has).then_some(());
        assert!(poll(SOON, scraped).is_some(), "no {start} of {name}:\n{}", scrape());
    }
    assert!(scrape().contains("my-app.jobs"), "{}", scrape());
    let directory = "/var/lib/prometheus/node-exporter";
    instance.sh(&format!("mkdir -p {directory}; systemctl start deployd-metrics.service"));
    let read = || instance.exec(&["cat", &format!("{directory}/deploy.prom")]).stdout;
    let written = poll(SOON, || Some(read()).filter(|text| text.contains("my-app")));
    assert!(written.is_some_and(|text| text.contains(&name)), "{}", read());
}
