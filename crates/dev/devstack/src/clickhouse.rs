//! One ClickHouse server for the demo and the tests.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use crate::dirs::{RunDir, workspace};
use crate::process::{self, Child, free_port};
use crate::{Dirs, Error, Origin, compose, fetch, notice};

/// Loading the library takes a second; the rest is for machines that build at the same time.
const START_PATIENCE: Duration = Duration::from_secs(120);
/// For servers that run already.
const ANSWER_PATIENCE: Duration = Duration::from_secs(15);
/// A first build of the server from nothing, on a slow machine.
const BUILD_PATIENCE: Duration = Duration::from_secs(20 * 60);
/// The HTTP port of the Compose service.
const COMPOSE_PORT: u16 = 8123;
/// The server over libchdb: a binary of this crate.
const SERVER: &str = "devstack-clickhouse";

/// A ClickHouse that answers. Dropping it stops it, if it is a process of ours.
#[derive(Debug)]
pub struct ClickHouse {
    url: String,
    source: Source,
}

#[derive(Debug)]
enum Source {
    Running,
    Compose,
    Own(Server),
}

impl ClickHouse {
    /// The running server that `MAILPULSE_CLICKHOUSE` names (`http://host:port` or `https://…`),
    /// else Docker Compose's, else [`start_own`](Self::start_own).
    ///
    /// # Errors
    /// [`Error::BadSetting`] for a variable that holds no such URL, [`Error::NotReady`] for a server
    /// that does not answer, else as `start_own`.
    pub fn start(dirs: &Dirs) -> Result<Self, Error> {
        if let Some(url) = setting()? {
            wait_for(&url)?;
            return Ok(Self { url, source: Source::Running });
        }
        if let Some(address) = compose::start("clickhouse", COMPOSE_PORT, dirs) {
            let url = format!("http://{address}");
            wait_for(&url)?;
            return Ok(Self { url, source: Source::Compose });
        }
        Self::start_own(dirs)
    }

    /// A server of our own, over libchdb, whatever else is running: for tests that
    /// [`kill`](Self::kill) it.
    ///
    /// # Errors
    /// Those of fetching the library and building the server, and [`Error::Exited`] or
    /// [`Error::NotReady`] with the last lines of the server's log.
    pub fn start_own(dirs: &Dirs) -> Result<Self, Error> {
        let library = fetch::libchdb(&dirs.cache)?;
        let dir = dirs.part("clickhouse")?;
        let program = program(&dir)?;
        let run = dirs.guard.clone();
        let mut server = Server { process: None, program, library, dir, port: 0, _run: run };
        let mut attempts = 3;
        loop {
            attempts -= 1;
            server.port = free_port()?;
            match server.launch() {
                // Between finding a free port and using it somebody else may have taken it.
                Err(Error::Exited { tail, .. })
                    if attempts > 0 && tail.contains("Address already in use") => {}
                Err(error) => return Err(error),
                Ok(()) => return Ok(Self { url: server.url(), source: Source::Own(server) }),
            }
        }
    }

    /// The URL of its HTTP interface, without a slash at the end.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Where it came from.
    pub fn origin(&self) -> Origin {
        match self.source {
            Source::Running => Origin::Running,
            Source::Compose => Origin::Compose,
            Source::Own(_) => Origin::Fetched,
        }
    }

    /// Kills the server with SIGKILL, as a crash would. Data and port are kept.
    ///
    /// # Errors
    /// [`Error::NotOurs`] for a server that is not a process of ours.
    pub fn kill(&mut self) -> Result<(), Error> {
        self.own()?.process.as_mut().map_or(Ok(()), Child::kill)
    }

    /// Starts the server again on the same port and data (killing it first if it runs), and waits
    /// until it answers.
    ///
    /// # Errors
    /// [`Error::NotOurs`] for a server that is not a process of ours, else as a start.
    pub fn restart(&mut self) -> Result<(), Error> {
        self.kill()?;
        self.own()?.launch()
    }

    /// Freezes the server with SIGSTOP: connections stay, nothing is answered.
    ///
    /// # Errors
    /// [`Error::NotOurs`] for a server that is not a process of ours.
    pub fn freeze(&mut self) -> Result<(), Error> {
        self.own()?.process.as_mut().map_or(Ok(()), Child::freeze)
    }

    /// Lets a frozen server go on.
    ///
    /// # Errors
    /// [`Error::NotOurs`] for a server that is not a process of ours.
    pub fn thaw(&mut self) -> Result<(), Error> {
        self.own()?.process.as_mut().map_or(Ok(()), Child::thaw)
    }

    /// The process id of a server of ours, while it runs.
    pub fn pid(&self) -> Option<u32> {
        let Source::Own(server) = &self.source else { return None };
        server.process.as_ref().map(Child::pid)
    }

    fn own(&mut self) -> Result<&mut Server, Error> {
        let origin = self.origin();
        match &mut self.source {
            Source::Own(server) => Ok(server),
            _ => Err(Error::NotOurs { service: "ClickHouse", origin }),
        }
    }
}

/// A server that is a process of ours.
#[derive(Debug)]
struct Server {
    // Dropped first: the data goes away only once the process has.
    process: Option<Child>,
    program: PathBuf,
    library: PathBuf,
    /// Data and log.
    dir: PathBuf,
    port: u16,
    _run: Arc<RunDir>,
}

impl Server {
    fn launch(&mut self) -> Result<(), Error> {
        let mut serve = Command::new(&self.program);
        serve.arg("--lib").arg(&self.library).arg("--data").arg(self.dir.join("data"));
        serve.arg("--listen").arg(format!("127.0.0.1:{}", self.port));
        let process = process::spawn(serve, &self.dir.join("clickhouse.log"))?;
        let (process, url) =
            (self.process.insert(process), format!("http://127.0.0.1:{}", self.port));
        process.wait_until("ClickHouse", START_PATIENCE, |process| {
            // The log too: another process could have taken the port, and answer in our stead.
            answers(&url) && process.has_said("listening 127.0.0.1:")
        })
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}

/// The server's program: the one that `MAILPULSE_DEVSTACK_CLICKHOUSE` names, else the one beside
/// our own program unless its source is newer, else as cargo builds it now.
fn program(logs: &Path) -> Result<PathBuf, Error> {
    if let Some(path) = std::env::var_os("MAILPULSE_DEVSTACK_CLICKHOUSE") {
        return Ok(PathBuf::from(path));
    }
    let own = std::env::current_exe().map_err(Error::io("find our own program"))?;
    // Tests run from a directory below that of the binaries.
    let beside = own.ancestors().skip(1).take(2).map(|dir| dir.join(SERVER));
    match beside.into_iter().find(|path| is_current(path)) {
        Some(path) => Ok(path),
        None => build(own.components().any(|part| part.as_os_str() == "release"), logs),
    }
}

/// Whether a program exists and is newer than the source of this crate. A test of another crate
/// does not have cargo rebuild it.
fn is_current(program: &Path) -> bool {
    let modified = |path: &Path| fs::metadata(path).and_then(|about| about.modified()).ok();
    let Some(built) = modified(program) else { return false };
    newest(&workspace().join("crates/dev/devstack/src")).is_none_or(|changed| changed <= built)
}

/// When the latest change under a directory was made; `None` when there is no such directory.
fn newest(dir: &Path) -> Option<SystemTime> {
    let entries = fs::read_dir(dir).ok()?.flatten();
    let times = entries.filter_map(|entry| match entry.metadata() {
        Ok(about) if about.is_dir() => newest(&entry.path()),
        Ok(about) => about.modified().ok(),
        Err(_) => None,
    });
    times.max()
}

/// Has cargo build the server, and takes the program from where cargo says it is.
fn build(release: bool, logs: &Path) -> Result<PathBuf, Error> {
    notice("building the server over libchdb");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.current_dir(workspace()).args(["build", "--quiet", "--package", "devstack"]);
    command.args(["--bin", SERVER, "--message-format=json"]);
    command.args(release.then_some("--release"));
    let log = logs.join("build.log");
    process::run(command, &log, BUILD_PATIENCE, || {})?;
    let messages = fs::read_to_string(&log).map_err(Error::io("read what cargo says"))?;
    messages.lines().find_map(executable).ok_or_else(|| Error::CommandFailed {
        command: format!("cargo build --bin {SERVER}"),
        outcome: "no program named".into(),
        tail: process::tail(&log, 20),
    })
}

/// The program in one of cargo's messages, if it is about our server.
fn executable(message: &str) -> Option<PathBuf> {
    let message: serde_json::Value = serde_json::from_str(message).ok()?;
    if message["target"]["name"] != SERVER {
        return None;
    }
    message["executable"].as_str().map(PathBuf::from)
}

/// `MAILPULSE_CLICKHOUSE`, checked.
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

/// The `host:port` of a plain HTTP URL; port 80 when it names none.
fn authority(url: &str) -> Option<String> {
    let rest = url.strip_prefix("http://")?;
    let authority = rest.split(['/', '?']).next()?;
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let (name, port) = match host.rsplit_once(':') {
        // The colon of an IPv6 address is not that of a port.
        Some((name, port)) if !port.ends_with(']') => (name, port.parse().ok()?),
        _ => (host, 80_u16),
    };
    (!name.is_empty()).then(|| format!("{name}:{port}"))
}

/// Waits until a server that is not ours answers. One behind TLS is taken at its word.
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

/// Whether `GET /ping` is answered with 200.
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
    fn the_address_to_ping_is_taken_from_the_url() {
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
    fn cargo_names_the_program_it_built() {
        let library =
            r#"{"reason":"compiler-artifact","target":{"name":"devstack"},"executable":null}"#;
        let server = r#"{"reason":"compiler-artifact","target":{"name":"devstack-clickhouse"},"executable":"/t/devstack-clickhouse"}"#;
        assert_eq!(executable(library), None);
        assert_eq!(executable(server), Some("/t/devstack-clickhouse".into()));
        assert_eq!(executable("warning: unused"), None);
    }
}
