//! A syslog server that keeps what it receives: RFC 5425 over TLS, RFC 5426 over UDP.

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use std::io::{self, BufRead, BufReader, Read};
use std::net::{Shutdown, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// How long a thread waits before it looks whether the server was stopped.
const LOOK: Duration = Duration::from_millis(50);

/// The messages that a server has received, in their order.
#[derive(Clone, Default)]
pub struct Messages {
    all: Arc<Mutex<Vec<String>>>,
    /// While it is held, connections are not read.
    reading: Arc<Mutex<()>>,
}

/// A running server. Dropping it closes its connections.
pub struct SyslogServer {
    stopped: Arc<AtomicBool>,
    connections: Arc<Mutex<Vec<TcpStream>>>,
    acceptor: Option<thread::JoinHandle<()>>,
}

impl Messages {
    /// Returns those that contain a text.
    pub fn with(&self, text: &str) -> Vec<String> {
        let all = locked(&self.all);
        all.iter().filter(|message| message.contains(text)).cloned().collect()
    }

    /// Counts those that contain a text.
    pub fn count(&self, text: &str) -> usize {
        locked(&self.all).iter().filter(|message| message.contains(text)).count()
    }

    /// Lets no connection be read while `meanwhile` runs: what clients send stays in the buffers
    /// of the kernels.
    pub fn unread<T>(&self, meanwhile: impl FnOnce() -> T) -> T {
        let _unread = locked(&self.reading);
        meanwhile()
    }

    fn add(&self, message: &[u8]) {
        locked(&self.all).push(String::from_utf8_lossy(message).into_owned());
    }

    /// Reads messages with their lengths before them until the connection ends.
    fn read_from(&self, stream: impl Read) -> io::Result<()> {
        let mut stream = BufReader::new(stream);
        loop {
            drop(locked(&self.reading));
            let mut digits = Vec::new();
            if stream.read_until(b' ', &mut digits)? == 0 {
                return Ok(());
            }
            let length = String::from_utf8_lossy(&digits).trim().parse::<usize>();
            let mut message = vec![0; length.map_err(io::Error::other)?];
            stream.read_exact(&mut message)?;
            self.add(&message);
        }
    }
}

impl SyslogServer {
    /// Serves TLS with this certificate and key, both in PEM format.
    pub fn tls(
        listener: TcpListener,
        certificate: &[u8],
        key: &[u8],
        messages: Messages,
    ) -> SyslogServer {
        let certificate = CertificateDer::from_pem_slice(certificate).expect("a certificate");
        let key = PrivateKeyDer::from_pem_slice(key).expect("a key");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions of TLS")
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .expect("a certificate with its key");
        let config = Arc::new(config);
        listener.set_nonblocking(true).expect("a listener that does not block");
        let stopped = Arc::new(AtomicBool::new(false));
        let connections = Arc::<Mutex<Vec<TcpStream>>>::default();
        let (is_stopped, all) = (stopped.clone(), Arc::clone(&connections));
        let acceptor = thread::spawn(move || {
            while !is_stopped.load(Ordering::Relaxed) {
                let Ok((stream, _)) = listener.accept() else {
                    thread::sleep(LOOK);
                    continue;
                };
                stream.set_nonblocking(false).expect("a connection that blocks");
                locked(&all).push(stream.try_clone().expect("a second handle"));
                let (config, messages) = (config.clone(), messages.clone());
                thread::spawn(move || {
                    let connection = ServerConnection::new(config).expect("a connection");
                    // It ends with an error if the client was killed, or refuses the certificate.
                    let _ = messages.read_from(StreamOwned::new(connection, stream));
                });
            }
        });
        SyslogServer { stopped, connections, acceptor: Some(acceptor) }
    }

    /// Receives datagrams.
    pub fn udp(socket: UdpSocket, messages: Messages) -> SyslogServer {
        socket.set_read_timeout(Some(LOOK)).expect("a timeout");
        let stopped = Arc::new(AtomicBool::new(false));
        let is_stopped = stopped.clone();
        let acceptor = thread::spawn(move || {
            let mut buffer = vec![0; 64 << 10];
            while !is_stopped.load(Ordering::Relaxed) {
                if let Ok(length) = socket.recv(&mut buffer) {
                    messages.add(&buffer[..length]);
                }
            }
        });
        SyslogServer { stopped, connections: Arc::default(), acceptor: Some(acceptor) }
    }
}

impl Drop for SyslogServer {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Relaxed);
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
        for connection in locked(&self.connections).drain(..) {
            let _ = connection.shutdown(Shutdown::Both);
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
