//! A web server that responds with its own name, and ends in good and bad ways.

use std::collections::HashMap;
use std::io::ErrorKind::{ConnectionRefused, ConnectionReset};
use std::io::{self, BufRead, BufReader, Write};
use std::net::{Ipv6Addr, Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// The behaviour of a server; by default it is fast and healthy.
#[derive(Clone, Debug)]
pub struct Habits {
    /// The time from a request to its response; none means never.
    pub takes: Option<Duration>,
    /// The status code of each response.
    pub status: u16,
    /// How many responses a connection carries before the server closes it without notice.
    pub patience: u64,
}

impl Default for Habits {
    fn default() -> Habits {
        Habits { takes: Some(Duration::ZERO), status: 200, patience: u64::MAX }
    }
}

/// An HTTP/1.1 server with [`Habits`]; dropping it stops it.
pub struct Server {
    name: String,
    port: u16,
    house: Arc<House>,
    door: Option<JoinHandle<()>>,
}

struct House {
    habits: Habits,
    name: String,
    closing: AtomicBool,
    guests: Mutex<HashMap<u64, TcpStream>>,
}

impl Server {
    /// Listens on every address, IPv4 and IPv6, in the caller's network namespace; port 0 picks
    /// a free one.
    pub fn start(name: &str, port: u16, habits: Habits) -> Server {
        let listener = TcpListener::bind((Ipv6Addr::UNSPECIFIED, port));
        let listener = listener.unwrap_or_else(|e| panic!("{name} listens on {port}: {e}"));
        let port = listener.local_addr().expect("an address").port();
        let house = Arc::new(House {
            habits,
            name: name.to_owned(),
            closing: AtomicBool::new(false),
            guests: Mutex::default(),
        });
        let inside = Arc::clone(&house);
        let door = thread::spawn(move || inside.let_in(&listener));
        Server { name: name.to_owned(), port, house, door: Some(door) }
    }

    /// The port that it listens on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The number of open connections.
    pub fn connections(&self) -> usize {
        self.house.guests.lock().expect("guests").len()
    }

    /// Stops accepting and completes every request under way, as an app should on SIGTERM.
    pub fn close(mut self) {
        self.close_door();
        self.part(Shutdown::Read);
        while self.connections() > 0 {
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Ends at once, as by SIGKILL.
    pub fn kill(mut self) {
        self.close_door();
        self.part(Shutdown::Both);
    }

    fn part(&self, how: Shutdown) {
        for guest in self.house.guests.lock().expect("guests").values() {
            let _ = guest.shutdown(how);
        }
    }

    fn close_door(&mut self) {
        self.house.closing.store(true, Ordering::SeqCst);
        // This connection wakes accept(2), unless another one does so first.
        match TcpStream::connect((Ipv6Addr::LOCALHOST, self.port)) {
            Err(e) if matches!(e.kind(), ConnectionReset | ConnectionRefused) => {}
            last => drop(last.expect("a server is ended in its own network namespace")),
        }
        if let Some(door) = self.door.take() {
            door.join().unwrap_or_else(|_| panic!("{} ends", self.name));
        }
    }
}

impl House {
    fn let_in(self: Arc<Self>, listener: &TcpListener) {
        for number in 0.. {
            // Connections that wait in the backlog are accepted before it closes.
            if self.closing.load(Ordering::SeqCst) {
                listener.set_nonblocking(true).expect("a last look outside");
            }
            let Ok((guest, _)) = listener.accept() else { break };
            let Ok(copy) = guest.try_clone() else { continue };
            self.guests.lock().expect("guests").insert(number, copy);
            let house = Arc::clone(&self);
            thread::spawn(move || {
                let _ = house.serve(&guest);
                let _ = guest.shutdown(Shutdown::Both);
                house.guests.lock().expect("guests").remove(&number);
            });
        }
    }

    fn serve(&self, guest: &TcpStream) -> io::Result<()> {
        guest.set_nodelay(true)?;
        let mut lines = BufReader::new(guest).lines();
        for _ in 0..self.habits.patience {
            let mut last = false;
            loop {
                let Some(line) = lines.next().transpose()? else { return Ok(()) };
                if line.is_empty() {
                    break;
                }
                last |= line.eq_ignore_ascii_case("connection: close");
            }
            match self.habits.takes {
                Some(time) => thread::sleep(time),
                None => thread::park(),
            }
            last |= self.closing.load(Ordering::SeqCst);
            let (status, name) = (self.habits.status, &self.name);
            let connection = if last { "close" } else { "keep-alive" };
            let answer = format!(
                "HTTP/1.1 {status} -\r\nContent-Length: {}\r\nConnection: {connection}\r\n\r\n{name}",
                name.len()
            );
            (&mut &*guest).write_all(answer.as_bytes())?;
            if last {
                break;
            }
        }
        Ok(())
    }
}
