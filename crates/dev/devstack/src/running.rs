use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

use crate::process::{self, Child};
use crate::{Dirs, Error};

const READY_WITHIN: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(20);

/// One of Mailpulse's services as a child process with its own configuration, admin port and log.
/// Dropping it kills it.
pub struct Running {
    binary: PathBuf,
    service: &'static str,
    config: PathBuf,
    admin: String,
    log: PathBuf,
    environment: Vec<(String, String)>,
    child: Child,
}

impl Running {
    /// Starts `binary` with the settings in `toml` and returns when it is ready. The admin port is set
    /// through the environment, in the section called `service`.
    ///
    /// # Errors
    /// If the process ends or is not ready within a minute; with the end of its log.
    pub fn start(
        dirs: &Dirs,
        binary: &Path,
        service: &'static str,
        toml: &str,
    ) -> Result<Self, Error> {
        Self::start_as(dirs, binary, service, toml, &[])
    }

    /// As [`Running::start`], with more environment variables, such as an instance name.
    ///
    /// # Errors
    /// As [`Running::start`].
    pub fn start_as(
        dirs: &Dirs,
        binary: &Path,
        service: &'static str,
        toml: &str,
        environment: &[(&str, &str)],
    ) -> Result<Self, Error> {
        let port = process::free_port()?;
        let config = dirs.run.join(format!("{service}-{port}.toml"));
        let log = dirs.run.join(format!("{service}-{port}.log"));
        std::fs::write(&config, toml).map_err(Error::io(format!("write {}", config.display())))?;
        let admin = format!("127.0.0.1:{port}");
        let environment: Vec<(String, String)> = environment
            .iter()
            .map(|&(name, value)| (name.to_owned(), value.to_owned()))
            .chain([(format!("MAILPULSE__{}__ADMIN", service.to_uppercase()), admin.clone())])
            .collect();
        let child = spawn(binary, &config, &log, &environment)?;
        let binary = binary.to_owned();
        let mut running = Self { binary, service, config, admin, log, environment, child };
        running.await_ready()?;
        Ok(running)
    }

    /// Kills the process with SIGKILL.
    ///
    /// # Errors
    /// If the system call fails.
    pub fn kill(&mut self) -> Result<(), Error> {
        self.child.kill()
    }

    /// Starts the process again with the same settings and returns when it is ready.
    ///
    /// # Errors
    /// As [`Running::start`].
    pub fn restart(&mut self) -> Result<(), Error> {
        self.child = spawn(&self.binary, &self.config, &self.log, &self.environment)?;
        self.await_ready()
    }

    /// Sends SIGTERM and waits for the end, or sends SIGKILL after `patience`.
    ///
    /// # Errors
    /// If a system call fails.
    pub fn terminate(&mut self, patience: Duration) -> Result<ExitStatus, Error> {
        self.child.terminate(patience)
    }

    pub fn is_running(&mut self) -> bool {
        self.child.is_running()
    }

    pub fn pid(&self) -> u32 {
        self.child.pid()
    }

    /// Returns the address of the admin port.
    pub fn admin(&self) -> &str {
        &self.admin
    }

    pub fn log_tail(&self, lines: usize) -> String {
        process::tail(&self.log, lines)
    }

    /// Returns the sum of a metric over all of its label sets, or 0 if it does not exist.
    pub fn metric(&self, name: &str) -> f64 {
        let text = http_get(&self.admin, "/metrics").unwrap_or_default();
        text.lines()
            .filter(|line| line.split(['{', ' ']).next() == Some(name))
            .filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok())
            .sum()
    }

    fn await_ready(&mut self) -> Result<(), Error> {
        let deadline = Instant::now() + READY_WITHIN;
        loop {
            let answer = http_get(&self.admin, "/readyz").unwrap_or_default();
            if answer.starts_with("HTTP/1.1 200") {
                return Ok(());
            }
            if !self.child.is_running() || Instant::now() > deadline {
                return Err(Error::NotReady {
                    service: self.service,
                    waited: READY_WITHIN,
                    log: Some(self.log.clone()),
                    tail: self.log_tail(20),
                });
            }
            std::thread::sleep(POLL);
        }
    }
}

fn spawn(
    binary: &Path,
    config: &Path,
    log: &Path,
    environment: &[(String, String)],
) -> Result<Child, Error> {
    let mut command = Command::new(binary);
    command.arg("--config").arg(config).env("NO_COLOR", "1").env("RUST_BACKTRACE", "0");
    for (name, value) in environment {
        command.env(name, value);
    }
    process::spawn(command, log)
}

/// Returns the answer to a GET, head and body.
fn http_get(address: &str, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}
