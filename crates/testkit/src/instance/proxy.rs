//! A forward proxy on a test's network, for instances that need what this machine can reach,
//! such as Debian's packages. There is no route, and no other name server.

use super::{Must, Network};
use std::io::{self, BufRead, BufReader, Write};
use std::net::{Shutdown, TcpStream};
use std::process::Command;
use std::thread;
use std::time::Duration;

/// The timeout of a connection, and of a read from a server that is silent.
const PATIENCE: Duration = Duration::from_secs(60);

/// The longest head of a request.
const LONGEST: usize = 64 << 10;

impl Network {
    /// Serves as a forward proxy for HTTP, at a port of [`Network::GATEWAY`], as long as the test
    /// process lives. Returns its URL. Passes requests to the proxy of this machine's apt, if it
    /// has one.
    pub fn proxy(&self, port: u16) -> String {
        let listener = self.listen(port);
        let next = proxy_of_apt();
        // This thread and its children are in the network of this machine.
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let next = next.clone();
                // A client or a server may close a connection at any time.
                thread::spawn(move || serve(client, next.as_deref()));
            }
        });
        format!("http://{}:{port}", Network::GATEWAY)
    }
}

/// Host and port of the proxy that this machine's apt uses.
fn proxy_of_apt() -> Option<String> {
    let asked =
        Command::new("apt-config").args(["shell", "proxy", "Acquire::http::Proxy"]).output();
    let said = String::from_utf8_lossy(&asked.must("start apt-config").stdout).into_owned();
    let url = said.trim().strip_prefix("proxy='")?.strip_suffix('\'')?;
    let (_, rest) = url.split_once("://")?;
    let address = rest.trim_end_matches('/').rsplit('@').next()?;
    (!address.is_empty()).then(|| address.to_owned())
}

/// Serves one request, or a tunnel. The connection ends with it: apt opens another one.
fn serve(client: TcpStream, next: Option<&str>) -> io::Result<()> {
    let mut reader = BufReader::new(client.try_clone()?);
    let Some((server, head)) = read_head(&mut reader, next)? else {
        return { client }.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
    };
    let mut upstream = match TcpStream::connect(&server) {
        Ok(upstream) => upstream,
        Err(error) => {
            let why = format!("{server}: {error}\n");
            let length = why.len();
            return write!(
                { client },
                "HTTP/1.1 502 Bad Gateway\r\nContent-Length: {length}\r\n\r\n{why}"
            );
        }
    };
    upstream.set_read_timeout(Some(PATIENCE))?;
    match head {
        Some(head) => upstream.write_all(&head)?,
        None => { &client }.write_all(b"HTTP/1.1 200 Connected\r\n\r\n")?,
    }
    let mut to_server = upstream.try_clone()?;
    thread::spawn(move || {
        let _ = io::copy(&mut reader, &mut to_server);
        let _ = to_server.shutdown(Shutdown::Write);
    });
    io::copy(&mut upstream, &mut { &client })?;
    client.shutdown(Shutdown::Both)
}

/// Returns the server to connect to, and the request's head for it; no head for a tunnel that
/// this proxy opens itself. `None` if it is no request to a proxy.
fn read_head(
    reader: &mut impl BufRead,
    next: Option<&str>,
) -> io::Result<Option<(String, Option<Vec<u8>>)>> {
    let mut lines = Vec::new();
    let mut length = 0;
    loop {
        let mut line = String::new();
        length += reader.read_line(&mut line)?;
        if length > LONGEST || line.is_empty() {
            return Ok(None);
        }
        if line.trim_end().is_empty() {
            break;
        }
        lines.push(line.trim_end().to_owned());
    }
    let whole = |lines: &[String]| (lines.join("\r\n") + "\r\n\r\n").into_bytes();
    if let Some(next) = next {
        return Ok(Some((next.to_owned(), Some(whole(&lines)))));
    }
    let first = lines.first().cloned().unwrap_or_default();
    let mut words = first.split(' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    if method == "CONNECT" {
        return Ok(Some((target.to_owned(), None)));
    }
    let Some(rest) = target.strip_prefix("http://") else {
        return Ok(None);
    };
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let server = if host.contains(':') { host.to_owned() } else { format!("{host}:80") };
    let about_the_hop = ["connection:", "keep-alive:", "proxy-"];
    lines.retain(|line| !about_the_hop.iter().any(|name| is_header(line, name)));
    lines[0] = format!("{method} /{path} HTTP/1.1");
    lines.push("Connection: close".to_owned());
    Ok(Some((server, Some(whole(&lines)))))
}

fn is_header(line: &str, name: &str) -> bool {
    line.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::read_head;

    fn read(request: &str) -> Option<(String, Option<String>)> {
        let read = read_head(&mut request.as_bytes(), None).expect("read");
        let text = |bytes| String::from_utf8(bytes).expect("text");
        read.map(|(server, head)| (server, head.map(text)))
    }

    #[test]
    fn a_request_is_rewritten_for_its_server() {
        let request = "GET http://deb.example/debian/x HTTP/1.1\r\nHost: deb.example\r\n\
                       Proxy-Connection: keep-alive\r\n\r\n";
        let head = "GET /debian/x HTTP/1.1\r\nHost: deb.example\r\nConnection: close\r\n\r\n";
        assert_eq!(read(request), Some(("deb.example:80".to_owned(), Some(head.to_owned()))));
        let tunnel = "CONNECT deb.example:443 HTTP/1.1\r\nHost: deb.example:443\r\n\r\n";
        assert_eq!(read(tunnel), Some(("deb.example:443".to_owned(), None)));
        assert_eq!(read("GET / HTTP/1.1\r\nHost: deb.example\r\n\r\n"), None);
        assert_eq!(read("GET http://deb.example/ HTT"), None);
    }
}
