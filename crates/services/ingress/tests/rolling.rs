//! A rolling deployment under load: no request fails.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod client;
mod common;

use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::process::Command;

use client::{Client, Posting};
use devstack::process::{self, Child};
use harness::{Cluster, DEADLINE, eventually, free_port, http, layout, seen};
use testkit::Credentials;

const RESTARTS: usize = 10;
const CLIENTS: usize = 4;

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

#[test]
fn ten_restarts_under_load_fail_no_request() {
    let mut deployment = Deployment::new();
    let mut current = deployment.start();
    let clients = (0..CLIENTS).map(|_| Client::new(&deployment.address().to_string())).collect();
    let posting = Posting::start(&deployment.credentials, clients, u64::MAX);
    for restart in 0..RESTARTS {
        let before = posting.posted();
        let next = deployment.start();
        eventually("requests to be accepted", DEADLINE, || {
            seen(posting.posted(), |posted| *posted >= before + 20)
        });
        let mut old = std::mem::replace(&mut current, next);
        let status = old.child.terminate(DEADLINE).unwrap();
        assert!(status.success(), "restart {restart}, {}: {status}", old.admin);
    }
    let (posted, failures) = posting.stop();
    assert!(failures.is_empty(), "{} of {posted}: {:?}", failures.len(), failures.first());
    assert!(posted > 100);
}
