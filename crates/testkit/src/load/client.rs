//! One client: HTTP/1.1 over a kept connection, or one per request.

use super::tally::{Fault, Tally};
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// The longest body that is read, in bytes.
const LONGEST_BODY: u64 = 1 << 20;

pub struct Client {
    target: SocketAddr,
    request: String,
    patience: Duration,
    keep_alive: bool,
    /// The connection of an earlier response, which may carry another one.
    idle: Option<BufReader<TcpStream>>,
}

struct Answer {
    body: String,
    lasts: bool,
}

/// Why there is no response.
struct Failure {
    fault: Fault,
    /// Whether no byte of the response has arrived.
    silent: bool,
    said: String,
}

impl Client {
    pub fn new(target: SocketAddr, path: &str, keep_alive: bool, patience: Duration) -> Client {
        let connection = if keep_alive { "keep-alive" } else { "close" };
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: {target}\r\nConnection: {connection}\r\n\r\n");
        Client { target, request, patience, keep_alive, idle: None }
    }

    /// Sends a request. Retries it once, only if the server closed an idle connection at that
    /// moment.
    pub fn ask(&mut self, tally: &mut Tally) {
        let began = Instant::now();
        let was_idle = self.idle.is_some();
        let mut result = self.exchange(tally);
        if let Err(failure) = &result
            && was_idle
            && failure.silent
            && failure.fault == Fault::Cut
        {
            tally.again += 1;
            result = self.exchange(tally);
        }
        match result {
            Ok(body) => tally.answer(body, began.elapsed()),
            Err(failure) => tally.fault(failure.fault, failure.said, began.elapsed()),
        }
    }

    fn exchange(&mut self, tally: &mut Tally) -> Result<String, Failure> {
        let mut connection = match self.idle.take() {
            Some(connection) => connection,
            None => {
                tally.connections += 1;
                self.connect()?
            }
        };
        let asked = connection.get_mut().write_all(self.request.as_bytes());
        asked.map_err(|error| Failure::new(&error, true, "ask"))?;
        let answer = answer(&mut connection)?;
        if self.keep_alive && answer.lasts {
            self.idle = Some(connection);
        }
        Ok(answer.body)
    }

    fn connect(&self) -> Result<BufReader<TcpStream>, Failure> {
        let open = || {
            let stream = TcpStream::connect_timeout(&self.target, self.patience)?;
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(self.patience))?;
            stream.set_write_timeout(Some(self.patience))?;
            Ok(BufReader::new(stream))
        };
        open().map_err(|error: io::Error| Failure::new(&error, true, "connect"))
    }
}

impl Failure {
    fn new(error: &io::Error, silent: bool, doing: &str) -> Failure {
        let fault = match error.kind() {
            ErrorKind::ConnectionRefused => Fault::Refused,
            ErrorKind::ConnectionReset
            | ErrorKind::ConnectionAborted
            | ErrorKind::BrokenPipe
            | ErrorKind::UnexpectedEof => Fault::Cut,
            ErrorKind::TimedOut | ErrorKind::WouldBlock => Fault::TimedOut,
            ErrorKind::InvalidData => Fault::Wrong,
            _ => Fault::NotAsked,
        };
        Failure { fault, silent, said: format!("{doing}: {error}") }
    }
}

fn answer(stream: &mut BufReader<TcpStream>) -> Result<Answer, Failure> {
    match stream.fill_buf() {
        Ok([]) => Err(ErrorKind::UnexpectedEof.into()),
        Ok(_) => Ok(()),
        Err(error) => Err(error),
    }
    .map_err(|error| Failure::new(&error, true, "wait for the answer"))?;
    read_answer(stream).map_err(|error| Failure::new(&error, false, "read the answer"))
}

fn read_answer(stream: &mut impl BufRead) -> io::Result<Answer> {
    let status = line(stream)?;
    let wrong = |what: String| io::Error::new(ErrorKind::InvalidData, what);
    let mut lasts = status.starts_with("HTTP/1.1");
    let mut length = None;
    loop {
        let header = line(stream)?.to_ascii_lowercase();
        if header.is_empty() {
            break;
        }
        match header.split_once(':').map(|(name, value)| (name, value.trim())) {
            Some(("content-length", value)) => length = value.parse::<u64>().ok(),
            Some(("connection", "close")) => lasts = false,
            Some(("transfer-encoding", value)) => return Err(wrong(format!("encoding {value}"))),
            _ => {}
        }
    }
    let mut body = Vec::new();
    let read = stream.take(length.unwrap_or(LONGEST_BODY)).read_to_end(&mut body)?;
    if length.is_some_and(|length| read as u64 != length) {
        return Err(ErrorKind::UnexpectedEof.into());
    }
    if status.split(' ').nth(1) != Some("200") {
        return Err(wrong(status));
    }
    // Without a length, the body ends with the connection.
    let body = String::from_utf8_lossy(&body).trim().chars().take(64).collect();
    Ok(Answer { body, lasts: lasts && length.is_some() })
}

/// Reads a line without its end; an error if the connection ends within it.
fn line(stream: &mut impl BufRead) -> io::Result<String> {
    let mut line = String::new();
    stream.take(8 << 10).read_line(&mut line)?;
    match line.strip_suffix('\n') {
        Some(line) => Ok(line.trim_end_matches('\r').to_owned()),
        None => Err(ErrorKind::UnexpectedEof.into()),
    }
}
