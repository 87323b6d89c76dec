//! A rolling deployment under load: no request fails.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use common::{generic_source, now_unix};
use devstack::process::{self, Child};
use harness::{Cluster, DEADLINE, eventually, free_port, http, layout, seen};
use testkit::load::Load;
use testkit::{Credentials, SignedRequest};

const RESTARTS: usize = 10;
const CLIENTS: u64 = 4;

/// Processes that share one listening socket, as under systemd's socket activation.
struct Deployment {
    socket: TcpListener,
    directory: tempfile::TempDir,
    cluster: Cluster,
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
            cluster: Cluster::without_topics("rolling", layout(2, 1)),
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
        let admin = format!("127.0.0.1:{}", free_port());
        let toml = format!(
            "{}[ingress]\nadmin = {admin:?}\ndrain_delay = \"300ms\"\nspool_directory = {:?}\n{}",
            self.cluster.toml(),
            home.join("spool"),
            self.credentials.sources_toml()
        );
        std::fs::write(home.join("mailpulse.toml"), toml).unwrap();
        // The shell moves the socket from standard input to the descriptor that LISTEN_FDS announces.
        let mut command = Command::new("sh");
        command
            .args(["-c", "exec \"$0\" \"$@\" 3<&0 0</dev/null", env!("CARGO_BIN_EXE_ingress")])
            .arg("--config")
            .arg(home.join("mailpulse.toml"))
            .env("LISTEN_FDS", "1");
        let (log, socket) = (home.join("log"), self.socket.try_clone().unwrap());
        let child = process::spawn_with(OwnedFd::from(socket).into(), command, &log).unwrap();
        eventually("a new instance to be ready", DEADLINE, || {
            let response = http::get(&admin, "/readyz");
            let is_ready = response.is_some_and(|response| response.status == 200);
            if is_ready { Ok(()) } else { Err(process::tail(&log, 30)) }
        });
        Instance { child, admin }
    }
}

/// A client that keeps its connection until the server closes it.
struct Client {
    address: SocketAddr,
    connection: Option<BufReader<TcpStream>>,
}

impl Client {
    /// Returns the status, or the error of the connection.
    fn post(&mut self, request: &SignedRequest) -> std::io::Result<u16> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => BufReader::new(TcpStream::connect(self.address)?),
        };
        let (path, headers, length) = (&request.path, &request.headers, request.body.len());
        let host = self.address.to_string();
        let head = http::head(&host, "POST", path, headers, length, true);
        let bytes = [head.as_bytes(), &request.body].concat();
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
fn ten_restarts_under_load_fail_no_request() {
    let mut deployment = Deployment::new();
    let mut current = deployment.start();
    let (stop, posted) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|number| {
            let (stop, posted) = (Arc::clone(&stop), Arc::clone(&posted));
            let mut client = Client { address: deployment.address(), connection: None };
            let (credentials, run) = (&deployment.credentials, format!("c{number}"));
            let mut load = Load::new(credentials, generic_source(), &run, 1, 0);
            std::thread::spawn(move || {
                let mut failures = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    match client.post(&load.next_request(now_unix() * 1000)) {
                        Ok(200) => {
                            posted.fetch_add(1, Ordering::Relaxed);
                        }
                        failure => failures.push(format!("{failure:?}")),
                    }
                    // Some clients keep their connection busy, others leave it idle between requests.
                    std::thread::sleep(Duration::from_millis(20 * number));
                }
                failures
            })
        })
        .collect();
    for restart in 0..RESTARTS {
        let before = posted.load(Ordering::Relaxed);
        let next = deployment.start();
        eventually("requests to be accepted", DEADLINE, || {
            seen(posted.load(Ordering::Relaxed), |posted| *posted >= before + 20)
        });
        let mut old = std::mem::replace(&mut current, next);
        let status = old.child.terminate(DEADLINE).unwrap();
        assert!(status.success(), "restart {restart}, {}: {status}", old.admin);
    }
    stop.store(true, Ordering::Relaxed);
    let failures: Vec<String> =
        clients.into_iter().flat_map(|client| client.join().unwrap()).collect();
    assert!(failures.is_empty(), "{} of {posted:?}: {:?}", failures.len(), failures.first());
    assert!(posted.load(Ordering::Relaxed) > 100);
}
