//! All services from the ingress to ClickHouse, and the tool as a process. Needs their binaries, as `cargo xtask
//! test` compiles them; alone: `cargo build --workspace --bins`.
#![allow(clippy::unwrap_used, clippy::expect_used)]
#![allow(dead_code, reason = "each test file is a crate of its own and uses a part")]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use harness::{Cluster, DEADLINE, Database, Launch, Service, eventually, free_port, layout};
use serde_json::Value;
use tempfile::TempDir;
use testkit::Credentials;

/// One installation. Its services end when it is dropped.
pub struct Installation {
    pub cluster: Cluster,
    pub database: Database,
    pub credentials: Credentials,
    /// `host:port` of the ingress.
    pub listen: String,
    pub ingress: Service,
    pub enrich: Service,
    pub dedupe: Service,
    pub archive: Service,
    home: TempDir,
}

/// What the tool wrote.
#[derive(Debug)]
pub struct Output {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Output {
    /// Returns the lines in JSON.
    pub fn lines(&self) -> Vec<Value> {
        self.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

impl Installation {
    /// Starts the services. All sources of `testkit` are configured.
    pub fn start(name: &str) -> Self {
        let cluster = Cluster::new(name, layout(2, 1));
        let database = Database::new(&name.replace('-', "_"));
        let listen = format!("127.0.0.1:{}", free_port());
        let credentials = Credentials::new(&format!("http://{listen}"));
        let settings = format!(
            "[clickhouse]\nurl = {:?}\ndatabase = {:?}\n[ingress]\nlisten = {listen:?}\ndrain_delay = \"100ms\"\n\
             ack_timeout = \"20s\"\nread_timeout = \"20s\"\n[archive]\nbatch_wait = \"100ms\"\n{}",
            database.url,
            database.name,
            credentials.sources_toml()
        );
        let home = tempfile::tempdir().unwrap();
        std::fs::write(home.path().join("mailpulse.toml"), cluster.toml() + &settings).unwrap();
        let start = |name: &str| {
            Launch::new(name, binary(name), &cluster).config(&settings).instance("a").spawn()
        };
        let (ingress, enrich) = (start("ingress"), start("enrich"));
        let (dedupe, archive) = (start("dedupe"), start("archive"));
        for service in [&ingress, &enrich, &dedupe, &archive] {
            service.await_ready();
        }
        Self { cluster, database, credentials, listen, ingress, enrich, dedupe, archive, home }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// Runs `mailpulse …` to its end.
    pub fn run(&self, arguments: &[&str]) -> Output {
        let output = self.command(arguments).output().unwrap();
        Output {
            code: output.status.code().unwrap(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Starts `mailpulse …` and returns at once.
    pub fn start_tool(&self, arguments: &[&str]) -> Running {
        let out = self.path(&format!("out-{}", uuid::Uuid::new_v4().simple()));
        let mut command = self.command(arguments);
        command.stdin(Stdio::null()).stdout(std::fs::File::create(&out).unwrap());
        Running { child: command.stderr(Stdio::null()).spawn().unwrap(), out }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mailpulse"));
        command.args(arguments).arg("--config").arg(self.path("mailpulse.toml"));
        command.current_dir(self.home.path());
        command
    }
}

/// A started tool. It is killed when dropped.
pub struct Running {
    child: Child,
    out: PathBuf,
}

impl Running {
    /// Returns what it has printed.
    pub fn out(&self) -> String {
        std::fs::read_to_string(&self.out).unwrap()
    }

    /// Sends SIGINT, as Ctrl-C does.
    pub fn interrupt(&self) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    }

    /// Waits until it ends, and returns its exit code.
    pub fn end(&mut self) -> Option<i32> {
        let status = eventually("the tool to end", DEADLINE, || self.child.try_wait().unwrap());
        status.code()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Returns a binary of the same build.
pub fn binary(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_BIN_EXE_mailpulse")).with_file_name(name);
    assert!(path.is_file(), "{name} is missing; run `cargo build --workspace --bins`");
    path
}

/// Returns a private key that signs for a source of `testkit`.
pub fn private_key(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../dev/testkit/keys").join(name);
    path.display().to_string()
}
