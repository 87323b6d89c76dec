//! Clients that keep their connections.
#![allow(clippy::unwrap_used, clippy::expect_used)]
#![allow(dead_code, reason = "each test file is a crate of its own and uses a part")]

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use harness::http;
use testkit::load::Load;
use testkit::{Credentials, SignedRequest};

use crate::common::{generic_source, now_unix};

/// What a client talks through: TCP, or TLS over it.
pub trait Stream: Read + Write + Send {}

impl<T: Read + Write + Send> Stream for T {}

type Connect = Box<dyn Fn() -> io::Result<Box<dyn Stream>> + Send>;

/// A client that keeps its connection until the server closes it.
pub struct Client {
    address: String,
    connect: Connect,
    connection: Option<BufReader<Box<dyn Stream>>>,
}

impl Client {
    /// Returns a client without TLS.
    pub fn new(address: &str) -> Self {
        let to = address.to_owned();
        Self::through(address, Box::new(move || Ok(Box::new(TcpStream::connect(&to)?))))
    }

    /// Returns a client that opens its connections in this way.
    pub fn through(address: &str, connect: Connect) -> Self {
        Self { address: address.to_owned(), connect, connection: None }
    }

    /// Returns the status, or the error of the connection.
    pub fn post(&mut self, request: &SignedRequest) -> io::Result<u16> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => BufReader::new((self.connect)()?),
        };
        let (path, headers, length) = (&request.path, &request.headers, request.body.len());
        let head = http::head(&self.address, "POST", path, headers, length, true);
        let bytes = [head.as_bytes(), &request.body].concat();
        connection.get_mut().write_all(&bytes)?;
        connection.get_mut().flush()?;
        let (mut status, mut length, mut is_last, mut line) = (0, 0, false, String::new());
        while connection.read_line(&mut line)? > 2 {
            let lower = line.to_ascii_lowercase();
            if let Some(rest) = lower.strip_prefix("http/1.1 ") {
                status = rest[..3].parse().unwrap();
            } else if let Some(rest) = lower.strip_prefix("content-length: ") {
                length = rest.trim().parse().unwrap();
            }
            is_last |= lower.trim() == "connection: close";
            line.clear();
        }
        connection.read_exact(&mut vec![0; length])?;
        self.connection = (!is_last).then_some(connection);
        Ok(status)
    }

    /// Closes the connection.
    pub fn disconnect(&mut self) {
        self.connection = None;
    }
}

/// Clients that post one event after the other to the generic source.
pub struct Posting {
    stop: Arc<AtomicBool>,
    posted: Arc<AtomicU64>,
    clients: Vec<JoinHandle<Vec<String>>>,
}

impl Posting {
    /// Starts the clients. Every `connection_requests` requests, a client opens another connection.
    pub fn start(
        credentials: &Credentials,
        clients: Vec<Client>,
        connection_requests: u64,
    ) -> Self {
        let (stop, posted) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let post = |(number, mut client): (u64, Client)| {
            let (stop, posted) = (Arc::clone(&stop), Arc::clone(&posted));
            let run = format!("c{number}");
            let mut load = Load::new(credentials, generic_source(), &run, 1, 0);
            std::thread::spawn(move || {
                let mut failures = Vec::new();
                for request in 1.. {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    match client.post(&load.next_request(now_unix() * 1000)) {
                        Ok(200) => {
                            posted.fetch_add(1, Ordering::Relaxed);
                        }
                        failure => failures.push(format!("{failure:?}")),
                    }
                    if request % connection_requests == 0 {
                        client.disconnect();
                    }
                    // Some clients keep their connection busy, others leave it idle between requests.
                    std::thread::sleep(Duration::from_millis(20 * number));
                }
                failures
            })
        };
        let clients = (0..).zip(clients).map(post).collect();
        Self { stop, posted, clients }
    }

    /// Returns how many requests were accepted.
    pub fn posted(&self) -> u64 {
        self.posted.load(Ordering::Relaxed)
    }

    /// Ends the clients. Returns how many requests were accepted, and what happened to the others.
    pub fn stop(self) -> (u64, Vec<String>) {
        self.stop.store(true, Ordering::Relaxed);
        let failures = self.clients.into_iter().flat_map(|client| client.join().unwrap()).collect();
        (self.posted.load(Ordering::Relaxed), failures)
    }
}
