//! The credentials part of EC2's instance metadata service, version 2.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddrV4, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use testkit::host::SECRET_KEY;
use testkit::instance::Network;

const TOKEN: &str = "a-token-of-the-tests";
const CREDENTIALS: &str = "/latest/meta-data/iam/security-credentials/";

/// Serves at 169.254.169.254 as long as the test's network exists. Has no role to give until
/// one is attached.
#[derive(Clone)]
pub struct Metadata(Arc<State>);

struct State {
    access_key: String,
    attached: AtomicBool,
    denied: AtomicUsize,
}

impl Metadata {
    pub fn start(network: &Network, access_key: &str) -> Metadata {
        let listener = network.listen_at(SocketAddrV4::new(Network::METADATA, 80));
        let access_key = access_key.to_owned();
        let (attached, denied) = (AtomicBool::new(false), AtomicUsize::new(0));
        let metadata = Metadata(Arc::new(State { access_key, attached, denied }));
        let served = metadata.clone();
        std::thread::spawn(move || served.serve(&listener));
        metadata
    }

    pub fn attach_role(&self) {
        self.0.attached.store(true, Ordering::Relaxed);
    }

    /// Number of requests for a role that were denied.
    pub fn denied(&self) -> usize {
        self.0.denied.load(Ordering::Relaxed)
    }

    fn serve(&self, listener: &TcpListener) {
        for connection in listener.incoming().map_while(Result::ok) {
            // The client may have given up.
            let _ = self.answer(connection);
        }
    }

    fn answer(&self, mut connection: TcpStream) -> std::io::Result<()> {
        let lines = BufReader::new(connection.try_clone()?).lines().map_while(Result::ok);
        let head: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
        let mut words = head.first().map(String::as_str).unwrap_or_default().split(' ');
        let asked = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let has_token = head.iter().any(|line| line.ends_with(TOKEN));
        let (status, body) = match asked {
            ("PUT", "/latest/api/token") => ("200 OK", TOKEN.to_owned()),
            _ if !has_token => ("401 Unauthorized", String::new()),
            ("GET", path) if path.starts_with(CREDENTIALS) => self.credentials(path),
            _ => ("404 Not Found", String::new()),
        };
        write!(
            connection,
            "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\
             X-Aws-Ec2-Metadata-Token-Ttl-Seconds: 21600\r\n\r\n{body}",
            body.len()
        )
    }

    fn credentials(&self, path: &str) -> (&'static str, String) {
        if !self.0.attached.load(Ordering::Relaxed) {
            self.0.denied.fetch_add(1, Ordering::Relaxed);
            return ("404 Not Found", String::new());
        }
        if path == CREDENTIALS {
            return ("200 OK", "a-role".to_owned());
        }
        let key = &self.0.access_key;
        let body = format!(
            "{{\"Code\":\"Success\",\"Type\":\"AWS-HMAC\",\"AccessKeyId\":\"{key}\",\
             \"SecretAccessKey\":\"{SECRET_KEY}\",\"Token\":\"a-session\",\
             \"LastUpdated\":\"2026-01-01T00:00:00Z\",\"Expiration\":\"2126-01-01T00:00:00Z\"}}"
        );
        ("200 OK", body)
    }
}
