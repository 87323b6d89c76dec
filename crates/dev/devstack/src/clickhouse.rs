//! A ClickHouse server for the demo and the tests.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use fetch::{notice, workspace};

use crate::dirs::RunDir;
use crate::process::{self, Child, free_port};
use crate::{Dirs, Error, ServerKind, compose};

/// Loading the library takes a second; a machine that also compiles needs longer.
const START_PATIENCE: Duration = Duration::from_secs(120);
/// The server gives requests in flight ten seconds.
const STOP_PATIENCE: Duration = Duration::from_secs(30);
/// For a server that runs already.
const ANSWER_PATIENCE: Duration = Duration::from_secs(15);
/// A first build of the server on a slow machine.
const BUILD_PATIENCE: Duration = Duration::from_secs(20 * 60);
/// The HTTP port of the Compose service.
const COMPOSE_PORT: u16 = 8123;
/// A user who needs [`PASSWORD`]; the user `default` needs none. Only a child process has this user.
pub const USER: &str = "mailpulse";
/// The password of [`USER`].
pub const PASSWORD: &str = "heron=Delta $4 stone";
/// The server over libchdb: the binary of the crate `chdb`.
const SERVER: &str = "chdb-server";

/// A ClickHouse server that answers. Dropping it stops a child process.
#[derive(Debug)]
pub struct ClickHouse {
    url: String,
    server: Server,
}

#[derive(Debug)]
enum Server {
    External,
    Compose,
    Child(Box<ChdbServer>),
}

impl ClickHouse {
    /// Returns the running server that `MAILPULSE_CLICKHOUSE` names (`http://host:port` or
    /// `https://…`), else the one of Docker Compose, else a child process.
    ///
    /// # Errors
    /// [`Error::BadSetting`] if the variable is not such a URL, [`Error::NotReady`] if the server does
    /// not answer, else as [`start_own`](Self::start_own).
    pub fn start(dirs: &Dirs) -> Result<Self, Error> {
        if let Some(url) = setting()? {
            wait_for(&url)?;
            return Ok(Self { url, server: Server::External });
        }
        if let Some(address) = compose::start("clickhouse", COMPOSE_PORT, dirs) {
            let url = format!("http://{address}");
            wait_for(&url)?;
            return Ok(Self { url, server: Server::Compose });
        }
        Self::start_own(dirs)
    }

    /// Starts a child process over libchdb, even if another server runs: for tests that
    /// [`kill`](Self::kill) it.
    ///
    /// # Errors
    /// The errors of fetching the library and building the server, and [`Error::Exited`] or
    /// [`Error::NotReady`] with the last lines of the server's log.
    pub fn start_own(dirs: &Dirs) -> Result<Self, Error> {
        Self::launch(dirs, None, None)
    }

    /// Starts a child process over libchdb with its data in a directory that is kept. If the directory
    /// contains data, the server continues with it.
    ///
    /// # Errors
    /// As [`start_own`](Self::start_own).
    pub fn start_on(dirs: &Dirs, data: &Path) -> Result<Self, Error> {
        Self::launch(dirs, Some(data), None)
    }

    /// Like [`start_on`](Self::start_on), with a configuration file of ClickHouse, for disks and their encryption.
    ///
    /// # Errors
    /// As [`start_own`](Self::start_own).
    pub fn start_configured(dirs: &Dirs, data: &Path, config: &Path) -> Result<Self, Error> {
        Self::launch(dirs, Some(data), Some(config))
    }

    fn launch(dirs: &Dirs, data: Option<&Path>, config: Option<&Path>) -> Result<Self, Error> {
        let library = fetch::libchdb(&dirs.cache)?;
        let dir = dirs.subdirectory("clickhouse")?;
        let data = data.map_or_else(|| dir.join("data"), Path::to_owned);
        let program = program(&dir)?;
        let (run, config) = (dirs.owner.clone(), config.map(Path::to_owned));
        let mut server =
            ChdbServer { process: None, program, library, dir, data, config, port: 0, _run: run };
        let mut attempts = 3;
        loop {
            attempts -= 1;
            server.port = free_port()?;
            match server.launch() {
                // Another process may have taken the port since we found it free.
                Err(Error::Exited { tail, .. })
                    if attempts > 0 && tail.contains("Address already in use") => {}
                Err(error) => return Err(error),
                Ok(()) => {
                    return Ok(Self { url: server.url(), server: Server::Child(Box::new(server)) });
                }
            }
        }
    }

    /// Returns the URL of the HTTP interface, without a slash at the end.
    pub fn url(&self) -> &str {
        &self.url
    }

    pub fn kind(&self) -> ServerKind {
        match self.server {
            Server::External => ServerKind::External,
            Server::Compose => ServerKind::Compose,
            Server::Child(_) => ServerKind::Child,
        }
    }

    /// Kills the server with SIGKILL, like a crash. Its data and port are kept.
    ///
    /// # Errors
    /// [`Error::NotOurs`] if the server is not a child process.
    pub fn kill(&mut self) -> Result<(), Error> {
        self.child()?.process.as_mut().map_or(Ok(()), Child::kill)
    }

    /// Stops the server with SIGTERM and waits for its end. Its data and port are kept.
    ///
    /// # Errors
    /// [`Error::NotOurs`] if the server is not a child process, [`Error::Io`] if it cannot be stopped.
    pub fn stop(&mut self) -> Result<(), Error> {
        let Some(mut process) = self.child()?.process.take() else { return Ok(()) };
        process.terminate(STOP_PATIENCE).map(drop)
    }

    /// Starts the server again on the same port and data, and waits until it answers. Kills it first
    /// if it runs.
    ///
    /// # Errors
    /// [`Error::NotOurs`] if the server is not a child process, and the errors of a start.
    pub fn restart(&mut self) -> Result<(), Error> {
        self.kill()?;
        self.child()?.launch()
    }

    /// Freezes the server with SIGSTOP: its connections stay open, and it does not answer.
    ///
    /// # Errors
    /// [`Error::NotOurs`] if the server is not a child process.
    pub fn freeze(&mut self) -> Result<(), Error> {
        self.child()?.process.as_mut().map_or(Ok(()), Child::freeze)
    }

    /// Continues a frozen server.
    ///
    /// # Errors
    /// [`Error::NotOurs`] if the server is not a child process.
    pub fn thaw(&mut self) -> Result<(), Error> {
        self.child()?.process.as_mut().map_or(Ok(()), Child::thaw)
    }

    /// Returns the process id of a running child process.
    pub fn pid(&self) -> Option<u32> {
        let Server::Child(server) = &self.server else { return None };
        server.process.as_ref().map(Child::pid)
    }

    fn child(&mut self) -> Result<&mut ChdbServer, Error> {
        let kind = self.kind();
        match &mut self.server {
            Server::Child(server) => Ok(server),
            _ => Err(Error::NotOurs { service: "ClickHouse", kind }),
        }
    }
}

/// `chdb-server` as a child process.
#[derive(Debug)]
struct ChdbServer {
    // Dropped first: the data must not be removed while the process runs.
    process: Option<Child>,
    program: PathBuf,
    library: PathBuf,
    /// The directory of the log.
    dir: PathBuf,
    data: PathBuf,
    config: Option<PathBuf>,
    port: u16,
    _run: Arc<RunDir>,
}

impl ChdbServer {
    fn launch(&mut self) -> Result<(), Error> {
        let mut serve = Command::new(&self.program);
        serve.arg("--lib").arg(&self.library).arg("--data").arg(&self.data);
        serve.arg("--listen").arg(format!("127.0.0.1:{}", self.port));
        serve.arg("--user").arg(format!("{USER}:{PASSWORD}"));
        if let Some(config) = &self.config {
            serve.arg("--config").arg(config);
        }
        let process = process::spawn(serve, &self.dir.join("clickhouse.log"))?;
        let (process, url) =
            (self.process.insert(process), format!("http://127.0.0.1:{}", self.port));
        process.wait_until("ClickHouse", START_PATIENCE, |process| {
            // An answer alone is not enough: another process may have taken the port.
            answers(&url) && process.has_logged("listening 127.0.0.1:")
        })
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}

/// Returns the path of `chdb-server`: the one that `MAILPULSE_CHDB_SERVER` names, else the program
/// beside this one unless its source is newer, else the result of a build.
fn program(logs: &Path) -> Result<PathBuf, Error> {
    if let Some(path) = std::env::var_os("MAILPULSE_CHDB_SERVER") {
        return Ok(PathBuf::from(path));
    }
    let own = std::env::current_exe().map_err(Error::io("find the path of this program"))?;
    // Test programs are in a directory below that of the binaries.
    let beside = own.ancestors().skip(1).take(2).map(|dir| dir.join(SERVER));
    match beside.into_iter().find(|path| is_current(path)) {
        Some(path) => Ok(path),
        None => build(own.components().any(|part| part.as_os_str() == "release"), logs),
    }
}

/// Whether a program exists and is newer than the source of the crate `chdb`. Cargo does not rebuild
/// it for a test of another crate.
fn is_current(program: &Path) -> bool {
    let modified = |path: &Path| fs::metadata(path).and_then(|about| about.modified()).ok();
    let Some(built) = modified(program) else { return false };
    newest(&workspace().join("crates/dev/chdb/src")).is_none_or(|changed| changed <= built)
}

/// Returns the time of the latest change under a directory, or `None` if it does not exist.
fn newest(dir: &Path) -> Option<SystemTime> {
    let entries = fs::read_dir(dir).ok()?.flatten();
    let times = entries.filter_map(|entry| match entry.metadata() {
        Ok(about) if about.is_dir() => newest(&entry.path()),
        Ok(about) => about.modified().ok(),
        Err(_) => None,
    });
    times.max()
}

/// Builds the server with cargo, and reads from cargo's messages where the program is. The whole
/// workspace is selected so that cargo uses the dependencies that it has compiled already.
fn build(release: bool, logs: &Path) -> Result<PathBuf, Error> {
    notice("building chdb-server, the server over libchdb");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.current_dir(workspace()).args(["build", "--quiet", "--workspace"]);
    command.args(["--bin", SERVER, "--message-format=json"]);
    command.args(release.then_some("--release"));
    let log = logs.join("build.log");
    process::run(command, &log, BUILD_PATIENCE, || {})?;
    let messages = fs::read_to_string(&log).map_err(Error::io("read the messages of cargo"))?;
    messages.lines().find_map(executable).ok_or_else(|| Error::CommandFailed {
        command: format!("cargo build --bin {SERVER}"),
        outcome: "its messages name no program".into(),
        tail: process::tail(&log, 20),
    })
}

/// Returns the path of the program in one of cargo's messages, if it is about the server.
fn executable(message: &str) -> Option<PathBuf> {
    let message: serde_json::Value = serde_json::from_str(message).ok()?;
    if message["target"]["name"] != SERVER {
        return None;
    }
    message["executable"].as_str().map(PathBuf::from)
}

/// Reads and checks `MAILPULSE_CLICKHOUSE`.
fn setting() -> Result<Option<String>, Error> {
    const VARIABLE: &str = "MAILPULSE_CLICKHOUSE";
    let Some(value) = std::env::var_os(VARIABLE).filter(|value| !value.is_empty()) else {
        return Ok(None);
    };
    let value = value.to_string_lossy().trim().trim_end_matches('/').to_owned();
    if value.starts_with("https://") || authority(&value).is_some() {
        return Ok(Some(value));
    }
    Err(Error::BadSetting { variable: VARIABLE, value, expected: "http://host:port" })
}

/// Returns the `host:port` of a plain HTTP URL; port 80 if it has none.
fn authority(url: &str) -> Option<String> {
    let rest = url.strip_prefix("http://")?;
    let authority = rest.split(['/', '?']).next()?;
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let (name, port) = match host.rsplit_once(':') {
        // An IPv6 address has colons too.
        Some((name, port)) if !port.ends_with(']') => (name, port.parse().ok()?),
        _ => (host, 80_u16),
    };
    (!name.is_empty()).then(|| format!("{name}:{port}"))
}

/// Waits until an external server answers. A server behind TLS is not checked.
fn wait_for(url: &str) -> Result<(), Error> {
    let deadline = Instant::now() + ANSWER_PATIENCE;
    while url.starts_with("http://") && !answers(url) {
        if Instant::now() >= deadline {
            let (service, waited, tail) = ("ClickHouse", ANSWER_PATIENCE, String::new());
            return Err(Error::NotReady { service, waited, log: None, tail });
        }
        thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

/// Whether the answer to `GET /ping` is 200.
fn answers(url: &str) -> bool {
    authority(url).is_some_and(|address| ping(&address).unwrap_or(false))
}

fn ping(address: &str) -> std::io::Result<bool> {
    const PATIENCE: Duration = Duration::from_secs(2);
    let resolved = address.to_socket_addrs()?.next().ok_or(std::io::ErrorKind::NotFound)?;
    let mut stream = TcpStream::connect_timeout(&resolved, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    write!(stream, "GET /ping HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut status = [0; 12];
    stream.read_exact(&mut status)?;
    Ok(&status == b"HTTP/1.1 200")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_to_ping_is_that_of_the_url() {
        let of = |url: &str| authority(url);
        assert_eq!(of("http://127.0.0.1:8123"), Some("127.0.0.1:8123".into()));
        assert_eq!(
            of("http://user:word@ch.example.net:8123/?x=1"),
            Some("ch.example.net:8123".into())
        );
        assert_eq!(of("http://ch.example.net"), Some("ch.example.net:80".into()));
        assert_eq!(of("http://[::1]:8123"), Some("[::1]:8123".into()));
        assert_eq!(of("http://[::1]"), Some("[::1]:80".into()));
        for bad in ["127.0.0.1:8123", "http://", "http://:8123", "http://host:port", "tcp://h:1"] {
            assert_eq!(of(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_path_of_the_program_is_in_a_message_of_cargo() {
        let library =
            r#"{"reason":"compiler-artifact","target":{"name":"chdb"},"executable":null}"#;
        let server = r#"{"reason":"compiler-artifact","target":{"name":"chdb-server"},"executable":"/t/chdb-server"}"#;
        assert_eq!(executable(library), None);
        assert_eq!(executable(server), Some("/t/chdb-server".into()));
        assert_eq!(executable("warning: unused"), None);
    }
}
