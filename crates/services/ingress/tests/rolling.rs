//! A rolling deploy under load: no request is turned away.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use common::{DEADLINE, get, now_unix};
use devstack::process::{self, Child};
use event::Provider;
use testkit::load::Load;
use testkit::{Credentials, SignedRequest};

const RESTARTS: usize = 10;
const CLIENTS: u64 = 4;

/// Processes that share one listening socket, as under systemd's socket activation.
struct Deployment {
    socket: TcpListener,
    directory: tempfile::TempDir,
    prefix: String,
    credentials: Credentials,
    started: usize,
}

struct Instance {
    child: Child,
    admin: String,
}

impl Deployment {
    fn new() -> Self {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        Self {
            socket,
            directory: tempfile::tempdir().unwrap(),
            prefix: format!("t{}.", uuid::Uuid::new_v4().simple()),
            credentials: Credentials::new(&format!("http://{address}")),
            started: 0,
        }
    }

    fn address(&self) -> SocketAddr {
        self.socket.local_addr().unwrap()
    }

    /// Starts a process on the socket and returns when it is ready.
    fn start(&mut self) -> Instance {
        self.started += 1;
        let home = self.directory.path().join(self.started.to_string());
        std::fs::create_dir(&home).unwrap();
        let admin = format!("127.0.0.1:{}", process::free_port().unwrap());
        let toml = format!(
            "[kafka]\nbootstrap = {:?}\nprefix = {:?}\n\
             [topics]\nrecipient_partitions = 2\nscope_partitions = 1\nreplication = 1\n\
             [ingress]\nadmin = {admin:?}\ndrain_delay = \"300ms\"\nspool_directory = {:?}\n{}",
            devstack::shared_kafka(),
            self.prefix,
            home.join("spool"),
            self.credentials.sources_toml()
        );
        std::fs::write(home.join("mailpulse.toml"), toml).unwrap();
        // The shell moves the socket from standard input to where LISTEN_FDS says it is.
        let mut command = Command::new("sh");
        command
            .args(["-c", "exec \"$0\" \"$@\" 3<&0 0</dev/null", env!("CARGO_BIN_EXE_ingress")])
            .arg("--config")
            .arg(home.join("mailpulse.toml"))
            .env("LISTEN_FDS", "1");
        let (log, socket) = (home.join("log"), self.socket.try_clone().unwrap());
        let child = process::spawn_with(OwnedFd::from(socket).into(), command, &log).unwrap();
        let deadline = Instant::now() + DEADLINE;
        while !get(&admin, "/readyz").is_some_and(|answer| answer.starts_with("HTTP/1.1 200")) {
            assert!(Instant::now() < deadline, "{}", process::tail(&log, 30));
            std::thread::sleep(Duration::from_millis(20));
        }
        Instance { child, admin }
    }
}

/// A client that keeps its connection as long as it is let.
struct Client {
    address: SocketAddr,
    connection: Option<BufReader<TcpStream>>,
}

impl Client {
    /// The status, or what went wrong with the connection.
    fn post(&mut self, request: &SignedRequest) -> std::io::Result<u16> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => BufReader::new(TcpStream::connect(self.address)?),
        };
        let mut head = format!(
            "POST {} HTTP/1.1\r\nhost: {}\r\ncontent-length: {}\r\n",
            request.path,
            self.address,
            request.body.len()
        );
        for (name, value) in &request.headers {
            head += &format!("{name}: {value}\r\n");
        }
        let bytes = [(head + "\r\n").as_bytes(), &request.body].concat();
        connection.get_mut().write_all(&bytes)?;
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
}

#[test]
fn ten_restarts_under_load_turn_nobody_away() {
    let mut deployment = Deployment::new();
    let mut current = deployment.start();
    let (stop, posted) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|number| {
            let (stop, posted) = (Arc::clone(&stop), Arc::clone(&posted));
            let mut client = Client { address: deployment.address(), connection: None };
            let named = |(provider, name)| (provider == Provider::Generic).then_some(name);
            let source = testkit::SOURCES.into_iter().find_map(named).unwrap();
            let run = format!("c{number}");
            let mut load = Load::new(&deployment.credentials, source, &run, 1, 0);
            std::thread::spawn(move || {
                let mut troubles = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    match client.post(&load.next_request(now_unix() * 1000)) {
                        Ok(200) => {
                            posted.fetch_add(1, Ordering::Relaxed);
                        }
                        trouble => troubles.push(format!("{trouble:?}")),
                    }
                    // Some keep their connection busy, some leave it idle in between.
                    std::thread::sleep(Duration::from_millis(20 * number));
                }
                troubles
            })
        })
        .collect();
    for restart in 0..RESTARTS {
        let before = posted.load(Ordering::Relaxed);
        let next = deployment.start();
        let deadline = Instant::now() + DEADLINE;
        while posted.load(Ordering::Relaxed) < before + 20 {
            assert!(Instant::now() < deadline, "restart {restart}: nothing gets through");
            std::thread::sleep(Duration::from_millis(5));
        }
        let mut old = std::mem::replace(&mut current, next);
        let status = old.child.terminate(DEADLINE).unwrap();
        assert!(status.success(), "restart {restart}, {}: {status}", old.admin);
    }
    stop.store(true, Ordering::Relaxed);
    let troubles: Vec<String> =
        clients.into_iter().flat_map(|client| client.join().unwrap()).collect();
    assert!(troubles.is_empty(), "{} of {posted:?}: {:?}", troubles.len(), &troubles[..1]);
    assert!(posted.load(Ordering::Relaxed) > 100);
}
