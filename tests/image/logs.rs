//! The syslog server of a fleet, with TLS, and the user-data that sends logs there.

use std::time::Duration;
use testkit::instance::{Image, Network, poll};
use testkit::syslog::{Messages, SyslogServer};

const PORT: u16 = 6514;

/// A timeout for a line on its way.
const PATIENCE: Duration = Duration::from_secs(60);

/// Ten years: the layer with it is kept.
const CERTIFICATE: &str = "
mkdir -p /srv/tls && cd /srv/tls
openssl req -x509 -newkey rsa:2048 -nodes -days 3650 -subj /CN=authority -keyout ca.key -out ca.pem
openssl req -newkey rsa:2048 -nodes -subj /CN=logs.example.com -keyout key.pem -out request.pem
echo subjectAltName=DNS:logs.example.com >names
openssl x509 -req -in request.pem -CA ca.pem -CAkey ca.key -CAcreateserial -days 3650 \\
    -extfile names -out cert.pem";

pub struct Logs {
    authority: String,
    messages: Messages,
    _server: SyslogServer,
}

impl Logs {
    pub fn start(network: &Network) -> Logs {
        let files = Image::base().layer("image-logs", &[], CERTIFICATE);
        let read = |name: &str| files.read(&format!("/srv/tls/{name}"));
        let messages = Messages::default();
        let (certificate, key) = (read("cert.pem"), read("key.pem"));
        let listener = network.listen(PORT);
        let server = SyslogServer::tls(listener, &certificate, &key, messages.clone());
        let authority = String::from_utf8(read("ca.pem")).expect("a PEM file");
        Logs { authority, messages, _server: server }
    }

    /// Adds the settings to a cloud-config whose last setting of agent.env is this line.
    pub fn forwarded(&self, cloud_config: &str, after: &str) -> String {
        let settings = format!(
            "{after}      DEPLOY_SYSLOG=syslog+tls://logs.example.com:{PORT}\n      \
             DEPLOY_SYSLOG_CA=/etc/deploy/logs-ca.pem\n"
        );
        let indented: String =
            self.authority.lines().map(|line| format!("      {line}\n")).collect();
        let files = format!(
            "write_files:\n  - path: /etc/deploy/logs-ca.pem\n    content: |\n{indented}  \
             - path: /etc/hosts\n    append: true\n    content: |\n      \
             {} logs.example.com\n",
            Network::GATEWAY
        );
        assert!(cloud_config.contains(after), "{cloud_config}");
        cloud_config.replacen(after, &settings, 1).replacen("write_files:\n", &files, 1)
    }

    /// Waits for a line with this text of a host and a process, such as `my-app.web.1`.
    #[track_caller]
    pub fn has(&self, host: &str, process: &str, text: &str) {
        let sender = format!(" {host} {process} ");
        let arrived = || {
            let lines = self.messages.with(text);
            lines.iter().any(|line| line.contains(&sender)).then_some(())
        };
        let all = || self.messages.with(host).join("\n");
        assert!(poll(PATIENCE, arrived).is_some(), "no {text:?} of {sender}:\n{}", all());
    }
}
