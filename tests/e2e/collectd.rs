//! collectd as the image has it, and the examples that send its metrics elsewhere.

use serde_json::Value;
use std::fmt::Debug;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpStream, UdpSocket};
use std::path::Path;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Instant;
use testkit::app::Release;
use testkit::host::{Host, SOON};
use testkit::instance::{Image, poll};

/// Sets up the metrics as for an image. `promtool` is in the package prometheus, of which nothing
/// else is taken, and since Debian 13 in one of its own.
const PROVISION: &str = "
    apt-get update -q
    bash provision/60-metrics.sh
    cp -r provision /root/
    apt-get install -q --yes --no-install-recommends prometheus-node-exporter
    apt-get download promtool || apt-get download prometheus
    dpkg-deb --fsys-tarfile prom*.deb | tar -x -C / ./usr/bin/promtool
    rm -rf /var/cache/apt /var/lib/apt/lists
    mkdir -p /var/cache/apt/archives/partial
";

const EXAMPLES: &str = "/usr/share/doc/deploy-agent/examples/collectd";
const CONFIG: &str = "/etc/collectd/collectd.conf.d";

/// Sends what a shop would count, by statsd. collectd forgets a gauge and a timer after an
/// interval without them.
const COUNT: &str = r#"
import socket, time
statsd = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
send = lambda *lines: [statsd.sendto(line.encode(), ("127.0.0.1", 8125)) for line in lines]
send("orders:2|c", "orders:1|c")
while True:
    send("basket:7|g", "checkout:320|ms")
    time.sleep(0.2)
"#;

/// An instance whose collectd measures every second; its root is an overlay.
fn host() -> Host {
    let provision = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/packer/provision"));
    let image = Image::base().layer("collectd", &[provision], PROVISION);
    let host = Host::of(&Host::image_on(image, "collectd-agent"));
    let again = host.exec(&["bash", "/root/provision/60-metrics.sh"]);
    assert!(again.status == Some(0) && !again.stdout.contains("wrote"), "{again:?}");
    host.write(&format!("{CONFIG}/test.conf"), "<Plugin df>\n    FSType overlay\n</Plugin>\n");
    host.sh("sed -i 's/^Interval 10$/Interval 1/' /etc/collectd/collectd.conf
        systemctl restart collectd.service");
    host
}

fn deploy_the_shop(host: &Host) {
    let procfile = "web: python3 app.py web\nworker: python3 count.py\n";
    host.publish(&Release::new("r1").file("count.py", COUNT).procfile(procfile));
    host.deploys("r1");
}

/// A series with these labels, such as `name{label="value"}`, that is above zero.
fn has(text: &str, name: &str, labels: &[&str]) -> bool {
    text.lines().any(|line| {
        let Some(rest) = line.strip_prefix(name).and_then(|rest| rest.strip_prefix('{')) else {
            return false;
        };
        // collectd adds a timestamp to the value.
        let value = rest.rsplit_once("} ").and_then(|(_, value)| value.split(' ').next());
        let value = value.and_then(|value| value.parse::<f64>().ok());
        labels.iter().all(|label| rest.contains(label)) && value.is_some_and(|value| value > 0.0)
    })
}

/// The lines of all series.
fn series(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter(|line| !line.starts_with('#') && !line.is_empty())
}

#[test]
fn prometheus_finds_the_instance_the_app_and_the_deploys() {
    let host = host();
    let name = host.sh("hostname").trim().to_owned();
    let scrape =
        |port: u16| host.exec(&["curl", "-sS", &format!("http://127.0.0.1:{port}/metrics")]);
    host.exec(&["systemctl", "enable", "--now", "deployd-metrics.timer"]).ok();
    deploy_the_shop(&host);

    let instance = format!("instance=\"{name}\"");
    let expected = [
        ("collectd_statsd_derive_total", "statsd=\"orders\""),
        ("collectd_statsd_gauge", "statsd=\"basket\""),
        ("collectd_statsd_latency", "statsd=\"checkout-average\""),
        ("collectd_cpu_percent", "cpu=\"idle\""),
        ("collectd_memory", "memory=\"free\""),
        ("collectd_df_df_complex", "type=\"free\""),
        ("collectd_load_shortterm", ""),
        ("collectd_interface_if_octets_rx_total", "interface="),
        ("collectd_tcpconns_tcp_connections", "tcpconns=\"22-local\""),
    ];
    let (mut text, mut missing) = (String::new(), Vec::new());
    let found = poll(2 * SOON, || {
        text = scrape(9103).stdout;
        let lacks = |(name, label): &&(&str, &str)| !has(&text, name, &[label, &instance]);
        missing = expected.iter().filter(lacks).copied().collect();
        missing.is_empty().then_some(())
    });
    assert!(found.is_some(), "no {missing:?} in\n{text}");
    for line in series(&text) {
        assert!(line.contains(&instance), "{line}");
    }
    assert!(
        text.lines().any(|line| line.contains("statsd=\"orders\"") && line.contains("} 3 ")),
        "{text}"
    );

    let info = [format!("host=\"{name}\""), "app=\"my-app\"".into(), "release=\"r1\"".into()];
    let info: Vec<&str> = info.iter().map(String::as_str).collect();
    let exported = host.wait_for("series of deploy", 2 * SOON, || {
        let text = scrape(9100).stdout;
        has(&text, "deploy_release_info", &info).then_some(text)
    });
    for line in series(&exported).filter(|line| line.starts_with("deploy")) {
        assert!(line.contains(info[0]), "{line}");
    }
    // What it says of metrics that can be read is advice about their names.
    for text in [text, exported, host.deploy(&["metrics"]).ok()] {
        let checked = host.command(&["promtool", "check", "metrics"]).input(text).output();
        assert!(matches!(checked.status, Some(0 | 3)), "{checked:?}");
        assert!(!checked.stderr.contains("deploy"), "{checked:?}");
    }
}

/// Accepts connections and gives each to `serve` on a thread of its own.
fn listen(host: &Host, port: u16, serve: impl Fn(TcpStream) + Clone + Send + 'static) {
    let listener = host.network.listen(port);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let serve = serve.clone();
            thread::spawn(move || serve(stream));
        }
    });
}

/// Graphite: the lines that come.
fn graphite(host: &Host) -> Receiver<String> {
    let (lines, received) = channel();
    listen(host, 2003, move |stream| {
        let _ =
            BufReader::new(stream).lines().map_while(Result::ok).try_for_each(|l| lines.send(l));
    });
    received
}

/// An HTTP server: the head and body of each request.
fn http(host: &Host) -> Receiver<(String, Value)> {
    let (requests, received) = channel();
    listen(host, 8080, move |mut stream| {
        let mut reader = BufReader::new(stream.try_clone().expect("a second handle"));
        while let Some((head, body)) = request(&mut reader) {
            let body = serde_json::from_slice(&body).expect("JSON");
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
            let _ = requests.send((head, body));
        }
    });
    received
}

fn request(reader: &mut impl BufRead) -> Option<(String, Vec<u8>)> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "))?;
    let mut body = vec![0; length.parse().ok()?];
    reader.read_exact(&mut body).ok()?;
    Some((head, body))
}

/// Waits until a value arrives for which `is_it` holds.
#[track_caller]
fn wait_for<T: Debug>(what: &str, received: &Receiver<T>, is_it: impl Fn(&T) -> bool) -> T {
    let (end, mut last) = (Instant::now() + 2 * SOON, None);
    while let Ok(next) = received.recv_timeout(end.saturating_duration_since(Instant::now())) {
        if is_it(&next) {
            return next;
        }
        last = Some(next);
    }
    panic!("no {what}; the last that came is {last:#?}")
}

/// Installs the examples, with the names of the servers replaced.
fn install_examples(host: &Host) {
    host.sh(&format!(
        "cd {EXAMPLES}
        install -m 600 -t {CONFIG} graphite.conf http.conf cloudwatch.conf
        collectd -t
        cd {CONFIG}
        sed -i 's/graphite.example.com/10.77.0.1/' graphite.conf
        sed -i 's,https://metrics.example.com,http://10.77.0.1:8080,' http.conf
        collectd -t
        systemctl restart collectd.service"
    ));
}

#[test]
fn the_examples_send_the_metrics_elsewhere() {
    let host = host();
    let name = host.sh("hostname").trim().to_owned();
    let (lines, requests) = (graphite(&host), http(&host));
    let socket = host.within(|| UdpSocket::bind("127.0.0.1:25826")).expect("the agent's port");
    socket.set_read_timeout(Some(2 * SOON)).expect("a timeout");
    install_examples(&host);
    deploy_the_shop(&host);

    for series in ["memory.memory.free", "statsd.gauge.basket", "statsd.derive.orders"] {
        let line = wait_for(series, &lines, |line| {
            line.starts_with(&format!("collectd.{name}.{series} "))
        });
        assert_eq!(line.split_whitespace().count(), 3, "{line}");
    }
    let basket = |value: &Value| value["plugin"] == "statsd" && value["type_instance"] == "basket";
    let (head, body) = wait_for("basket", &requests, |(_, body)| {
        body.as_array().is_some_and(|values| values.iter().any(basket))
    });
    assert!(head.starts_with("POST /collectd HTTP/1.1\r\n"), "{head}");
    assert!(head.contains("\r\nAuthorization: Bearer TOKEN\r\n"), "{head}");
    for value in body.as_array().expect("a list") {
        assert_eq!(value["host"], name, "{value}");
    }
    // The network plugin's packets begin with the host name: type 0, its length, its text.
    let mut packet = [0; 2048];
    let length = socket.recv(&mut packet).expect("a packet");
    let expected = [&[0, 0, 0, name.len() as u8 + 5][..], name.as_bytes()].concat();
    assert!(packet[..length].starts_with(&expected), "{:?}", &packet[..length]);
    let agent = host.read(&format!("{EXAMPLES}/cloudwatch-agent.json"));
    let agent: Value = serde_json::from_slice(&agent).expect("JSON");
    let listens = &agent["metrics"]["metrics_collected"]["collectd"]["service_address"];
    assert_eq!(listens, "udp://127.0.0.1:25826");
    // `collectd -t` finds errors of syntax alone; a running collectd names the others.
    let log = host.journal(&["--output=cat", "--quiet", "_SYSTEMD_UNIT=collectd.service"]);
    let faults = ["error", "fail", "invalid", "unknown", "ignor", "not found"];
    for line in log.lines() {
        assert!(!faults.iter().any(|fault| line.to_lowercase().contains(fault)), "{line}");
    }
}
