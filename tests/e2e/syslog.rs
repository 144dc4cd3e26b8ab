//! DEPLOY_SYSLOG: every line reaches the server, whatever fails, and no mistake in the setting
//! stops anything.

use std::net::UdpSocket;
use std::time::Duration;
use testkit::app::Release;
use testkit::host::{Host, SOON};
use testkit::instance::Network;
use testkit::syslog::{Messages, SyslogServer};

const PORT: u16 = 6514;
const LINES: usize = 20_000;

/// Twice the usual time of a burst on a busy machine.
const PATIENCE: Duration = Duration::from_secs(90);

/// rsyslogd writes down its place in the journal every ten lines.
const STEP: usize = 10;

const DOCS: &str = include_str!("../../docs/logs.md");

const SETTINGS: &str = "\
DEPLOY_SYSLOG=syslog+tls://logs.example.com:6514
DEPLOY_SYSLOG_CA=/root/tls/ca.pem
";

/// The server's certificate, for logs.example.com.
const CERTIFICATE: &str = "
echo '10.77.0.1 logs.example.com other.example.com' >>/etc/hosts
mkdir -p -m 700 /root/tls && cd /root/tls
openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=authority -keyout ca.key -out ca.pem
openssl req -newkey rsa:2048 -nodes -subj /CN=logs.example.com -keyout key.pem -out request.pem
echo subjectAltName=DNS:logs.example.com >names
openssl x509 -req -in request.pem -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 \\
    -extfile names -out cert.pem
chmod 600 ca.pem";

/// A host, and a server beside it that may be stopped.
struct World {
    host: Host,
    messages: Messages,
    server: Option<SyslogServer>,
}

impl World {
    fn new() -> World {
        let host = Host::running_r1();
        host.sh(CERTIFICATE);
        let mut world = World { host, messages: Messages::default(), server: None };
        world.serve();
        world
    }

    fn serve(&mut self) {
        let read = |name: &str| self.host.read(&format!("/root/tls/{name}"));
        let listener = self.host.network.listen(PORT);
        let messages = self.messages.clone();
        let server = SyslogServer::tls(listener, &read("cert.pem"), &read("key.pem"), messages);
        self.server = Some(server);
    }

    /// Appends settings, takes them over, and waits until the log of deployd has this text.
    #[track_caller]
    fn configure(&self, lines: &str, said: &str) {
        let count = || {
            let log = self.host.journal(&["-u", "deployd", "-o", "cat"]);
            log.lines().filter(|line| line.contains(said)).count()
        };
        let before = count();
        self.host.configure(lines);
        self.host.sh("systemctl reload deployd");
        self.host.wait_for(said, SOON, || (count() > before).then_some(()));
    }

    #[track_caller]
    fn arrives(&self, text: &str) {
        self.host.wait_for(text, SOON, || (self.messages.count(text) > 0).then_some(()));
    }

    fn logs(&self, text: &str) {
        self.host.exec(&["logger", "-t", "test", text]).ok();
    }

    /// Starts to write a burst of lines, as fast as the journal takes them.
    fn burst(&self, name: &str) {
        self.burst_of("", name);
    }

    /// The same with a text at the beginning of each line.
    fn burst_of(&self, begin: &str, name: &str) {
        let script = format!("seq -f '{begin}line %.0f of {name}' 0 {}", LINES - 1);
        let no_limit = "--property=LogRateLimitIntervalSec=0";
        self.host.exec(&["systemd-run", "--quiet", no_limit, "bash", "-c", &script]).ok();
    }

    /// Waits until rsyslogd has bytes under way that the server does not read.
    #[track_caller]
    fn waits_with_a_line(&self) {
        self.host.wait_for("bytes under way", SOON, || {
            let sockets = self.host.sh("ss --no-header --tcp --numeric dport = :6514");
            let queue = |line: &str| line.split_whitespace().nth(2)?.parse::<u64>().ok();
            sockets.lines().filter_map(queue).any(|bytes| bytes > 0).then_some(())
        });
    }

    /// Waits until the journal has all lines of a burst.
    #[track_caller]
    fn is_written(&self, name: &str) {
        let last = format!("line {} of {name}", LINES - 1);
        self.host.wait_for("last line in the journal", PATIENCE, || {
            let lines = self.host.journal(&["-o", "cat", "-n", "100"]);
            lines.lines().any(|line| line.ends_with(&last)).then_some(())
        });
    }

    /// Waits for the last line of a burst, and checks all of them, and the table in the docs.
    #[track_caller]
    fn is_complete(&self, fault: &str, name: &str, most_twice: usize) {
        let end = format!(" of {name}");
        let last = format!("line {} of {name}", LINES - 1);
        self.host.wait_for(&last, PATIENCE, || (self.messages.count(&last) > 0).then_some(()));
        let mut seen = vec![false; LINES];
        let (mut twice, mut next) = (0, 0);
        for message in self.messages.with(&end) {
            let line = message.rsplit_once("line ").and_then(|(_, line)| line.strip_suffix(&end));
            let Some(number) = line.and_then(|number| number.parse::<usize>().ok()) else {
                continue;
            };
            if std::mem::replace(&mut seen[number], true) {
                twice += 1;
            } else {
                assert!(number >= next, "{fault}: {number} came after {next}");
                next = number;
            }
        }
        let received = seen.iter().filter(|seen| **seen).count();
        println!("{fault}: sent {LINES}, received {received}, twice {twice}");
        assert_eq!(received, LINES, "{fault}");
        assert!(twice <= most_twice, "{fault}: {twice} lines came twice");
        let twice =
            if most_twice == 0 { "none".to_owned() } else { format!("at most {most_twice}") };
        let row = format!("| {fault} | {LINES} | {received} | {twice} | kept |");
        assert!(DOCS.lines().any(|line| line == row), "docs/logs.md has no line {row}");
    }

    #[track_caller]
    fn doctor_says(&self, text: &str) {
        self.host.wait_for(text, SOON, || {
            let rows = self.host.exec(&["deploy", "doctor"]).stdout;
            let rows = rows.split_whitespace().collect::<Vec<_>>().join(" ");
            rows.contains(text).then_some(())
        });
    }
}

#[test]
fn no_fault_loses_a_line() {
    let mut world = World::new();
    world.configure(SETTINGS, "logs are forwarded to syslog+tls://logs.example.com:6514");
    // Those from before the setting.
    world.arrives("r1 web begins");
    world.doctor_says("log forwarding to syslog+tls://logs.example.com:6514");

    world.host.publish(&Release::new("r2").set(&format!("BEHAVE_WORKER=lines={LINES}")));
    world.host.deploys("r2");
    world.is_complete("a burst of an app", "r2", 0);
    let line = world.messages.with("line 7 of r2").pop().expect("a line");
    let name = world.host.sh("hostname");
    let begin = format!(" {} my-app.worker.1 ", name.trim());
    let data = "[deploy@32473 app=\"my-app\" environment=\"production\" release=\"r2\"]";
    assert!(line.starts_with("<30>1 ") && line.contains(&begin), "{line}");
    assert!(line.ends_with(&format!(" - {data} line 7 of r2")), "{line}");

    drop(world.server.take());
    world.burst("away");
    world.is_written("away");
    world.doctor_says("cannot connect to logs.example.com:6514");
    world.host.sh("systemctl restart deployd-syslog");
    world.serve();
    world.is_complete("the server is away, rsyslogd restarted meanwhile", "away", STEP);

    // Together they are larger than the buffers of the kernels.
    world.burst_of(&"x".repeat(1000), "killed");
    for part in [LINES / 10, LINES / 2] {
        let text = format!("line {part} of killed");
        world.host.wait_for(&text, PATIENCE, || (world.messages.count(&text) > 0).then_some(()));
        // The server is slow: lines are under way when rsyslogd is killed.
        world.messages.unread(|| {
            world.is_written("killed");
            world.waits_with_a_line();
            world.host.sh("systemctl kill --signal=KILL deployd-syslog");
        });
    }
    world.is_complete("rsyslogd killed twice", "killed", 2 * STEP);

    world.burst("rotated");
    world.arrives("line 1000 of rotated");
    world.host.sh("journalctl --rotate");
    world.is_complete("the journal is rotated", "rotated", STEP);

    world.burst("rebooted");
    world.is_written("rebooted");
    world.host.reboot();
    world.is_complete("the instance reboots", "rebooted", STEP);
}

#[test]
fn no_mistake_in_the_setting_stops_anything() {
    let world = World::new();
    let pids = world.host.pids();
    world.configure(
        "DEPLOY_SYSLOG=syslog+tls://other.example.com:6514\nDEPLOY_SYSLOG_CA=/root/tls/ca.pem\n",
        "logs are forwarded to syslog+tls://other.example.com:6514",
    );
    world.logs("to another name");
    world.doctor_says("peer name not authorized");
    world.doctor_says("set DEPLOY_SYSLOG_PEER to a name in the server's certificate");
    assert_eq!(world.messages.count(""), 0);
    world.configure("DEPLOY_SYSLOG_PEER=logs.example.com\n", "logs are forwarded to");
    world.arrives("to another name");

    // As before.
    world.configure("DEPLOY_SYSLOG=syslog+tls://logs.example.com\n", "it has no port");
    world.doctor_says("it has no port: logs are forwarded as before");
    world.logs("without a port");
    world.arrives("without a port");
    world.configure(SETTINGS, "logs are forwarded to syslog+tls://logs.example.com:6514");
    world.configure("DEPLOY_SYSLOG_CA=/missing.pem\n", "No such file");
    world.logs("without certificates");
    world.arrives("without certificates");
    let [web, worker] = world.host.pids();
    assert_eq!([web, worker], pids, "a setting touched an app");

    let address = (Network::GATEWAY, 514);
    let socket = world.host.network.within(|| UdpSocket::bind(address)).expect("a port");
    let datagrams = Messages::default();
    let _server = SyslogServer::udp(socket, datagrams.clone());
    world.configure("DEPLOY_SYSLOG=syslog+udp://10.77.0.1:514\n", "logs are forwarded to");
    world.logs("by datagram");
    world.host.wait_for("a datagram", SOON, || (datagrams.count("by datagram") > 0).then_some(()));

    world.configure("DEPLOY_SYSLOG=\n", "logs are no longer forwarded");
    let files = "systemctl is-active deployd-syslog; ls /var/lib/deploy/syslog 2>&1";
    let files = world.host.exec(&["bash", "-c", files]).stdout;
    assert!(files.starts_with("inactive\n") && files.contains("No such file"), "{files}");
    world.doctor_says("DEPLOY_SYSLOG is not set");
    assert_eq!(world.host.pids(), pids);
}

#[test]
fn a_removed_package_leaves_nothing_of_the_forwarding() {
    let world = World::new();
    world.configure(SETTINGS, "logs are forwarded to");
    world.arrives("r1 web begins");
    // It knows where to begin.
    let log = world.host.journal(&["-u", "deployd-syslog"]);
    assert!(!log.contains("state file"), "{log}");
    world.host.sh("dpkg --remove deploy-agent");
    let left = "pgrep -x rsyslogd | wc -l; ls -d /var/lib/deploy/syslog /var/lib/*deployd-syslog* \\
        /var/lib/private/deployd-syslog 2>/dev/null";
    // The distribution's own goes on.
    assert_eq!(world.host.exec(&["bash", "-c", left]).stdout, "1\n");
}
