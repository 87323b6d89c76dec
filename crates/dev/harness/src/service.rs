//! A service that runs as a process.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use devstack::process::{self, Child};
use tempfile::TempDir;

use crate::{Cluster, DEADLINE, Metrics, Response, eventually, free_port, http, seen};

/// How a service is started.
///
/// The settings are a file; settings from this process's own environment do not reach the service.
/// The admin port is chosen here.
#[derive(Debug, Clone)]
pub struct Launch {
    name: String,
    binary: PathBuf,
    config: String,
    environment: Vec<(String, String)>,
    arguments: Vec<String>,
}

impl Launch {
    /// `name` is the section that has the admin port, such as `enrich`. Pass
    /// `env!("CARGO_BIN_EXE_enrich")` as the binary: only a package's own tests know its path.
    pub fn new(name: &str, binary: impl Into<PathBuf>, cluster: &Cluster) -> Self {
        let (name, binary, config) = (name.to_owned(), binary.into(), cluster.toml());
        let variable = |name: &str| {
            format!("MAILPULSE__KAFKA__PROPERTIES__{}", name.replace('.', "_").to_uppercase())
        };
        let properties = cluster.properties().into_iter();
        let environment = properties.map(|(name, value)| (variable(&name), value)).collect();
        Self { name, binary, config, environment, arguments: Vec::new() }
    }

    /// Adds lines to the settings file.
    pub fn config(mut self, lines: &str) -> Self {
        self.config.push_str(lines);
        self.config.push('\n');
        self
    }

    /// Sets `service.instance`, which groups and transactional ids use.
    pub fn instance(self, name: &str) -> Self {
        self.env("MAILPULSE__SERVICE__INSTANCE", name)
    }

    /// Sets an environment variable.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Adds an argument, such as `--check`.
    pub fn argument(mut self, argument: &str) -> Self {
        self.arguments.push(argument.to_owned());
        self
    }

    /// Starts the service in a new home and returns when it is ready.
    pub fn start(self) -> Service {
        let service = self.spawn();
        service.await_ready();
        service
    }

    /// Starts the service in a new home and returns at once.
    pub fn spawn(self) -> Service {
        self.spawn_in(tempfile::tempdir().unwrap())
    }

    /// Starts the service in a home that may have files, and returns at once.
    pub fn spawn_in(self, home: TempDir) -> Service {
        let admin = format!("127.0.0.1:{}", free_port());
        let config = home.path().join("mailpulse.toml");
        std::fs::write(&config, &self.config).unwrap();
        let mut environment = self.environment;
        // Tests use fixed times, and their rows must not expire.
        if self.name == "archive" && !self.config.contains("[archive.retention]") {
            environment.extend(devstack::retention::keep_rows_environment());
        }
        environment
            .push((format!("MAILPULSE__{}__ADMIN", self.name.to_uppercase()), admin.clone()));
        let Self { name, binary, arguments, .. } = self;
        let log = home.path().join(format!("{name}.log"));
        let child = spawn(&binary, home.path(), &arguments, &environment, &log);
        let child = Mutex::new(child);
        Service { name, binary, arguments, environment, admin, log, child, home }
    }

    /// Runs the service to its end, which must come by itself, and returns its status and output.
    pub fn run(self) -> (ExitStatus, String) {
        let service = self.spawn();
        let what = format!("{} to end by itself", service.name);
        let status = eventually(&what, DEADLINE, || service.child().wait(Duration::ZERO).unwrap());
        (status, service.log())
    }
}

/// A started service. It is killed when dropped; if the test panics, its log is printed.
#[derive(Debug)]
pub struct Service {
    name: String,
    binary: PathBuf,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    admin: String,
    log: PathBuf,
    // In a lock because looking whether a process runs may reap it.
    child: Mutex<Child>,
    // Dropped last: the process writes to it.
    home: TempDir,
}

impl Service {
    /// Returns the directory with its settings file and its log; its working directory.
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// Returns the address of its admin port.
    pub fn admin(&self) -> &str {
        &self.admin
    }

    /// Returns its process id.
    pub fn pid(&self) -> u32 {
        self.child().pid()
    }

    /// Kills it with SIGKILL, as a crash would. No destructor runs, and groups are not left.
    pub fn kill(&mut self) {
        self.child().kill().unwrap();
    }

    /// Sends SIGTERM and asserts that it ends with success.
    pub fn stop(&mut self) {
        let status = self.child().terminate(DEADLINE).unwrap();
        assert!(status.success(), "{} ended with {status}:\n{}", self.name, self.log());
    }

    /// Starts it again in its home, as it was started before, and returns when it is ready.
    pub fn restart(&mut self) {
        self.respawn();
        self.await_ready();
    }

    /// Starts it again in its home and returns at once.
    pub fn respawn(&mut self) {
        self.kill();
        let Self { binary, arguments, environment, log, home, .. } = &*self;
        *self.child() = spawn(binary, home.path(), arguments, environment, log);
    }

    /// Returns whether the process has not ended.
    pub fn is_running(&self) -> bool {
        self.child().is_running()
    }

    /// Returns the response of the admin port; `None` while nothing listens.
    pub fn get(&self, path: &str) -> Option<Response> {
        http::get(&self.admin, path)
    }

    /// Returns whether `/readyz` responds with 200.
    pub fn is_ready(&self) -> bool {
        self.get("/readyz").is_some_and(|response| response.status == 200)
    }

    /// Waits until `/readyz` responds with 200.
    ///
    /// # Panics
    /// At the deadline, and as soon as the process has ended.
    pub fn await_ready(&self) {
        self.await_readiness("200", |response| response.status == 200);
    }

    /// Waits until `/readyz` responds with 503, for a reason that contains `reason`.
    ///
    /// # Panics
    /// At the deadline, and as soon as the process has ended.
    pub fn await_unready(&self, reason: &str) {
        let is_awaited =
            |response: &Response| response.status == 503 && response.body().contains(reason);
        self.await_readiness(&format!("503 {reason}"), is_awaited);
    }

    fn child(&self) -> MutexGuard<'_, Child> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn await_readiness(&self, what: &str, is_awaited: impl Fn(&Response) -> bool) {
        let what = format!("/readyz of {} to respond with {what}", self.name);
        eventually(&what, DEADLINE, || {
            assert!(self.is_running(), "{} has ended:\n{}", self.name, self.log());
            let response = self.get("/readyz").ok_or("no response")?;
            if is_awaited(&response) { Ok(()) } else { Err(response.text) }
        });
    }

    /// Returns all metrics.
    ///
    /// # Panics
    /// If the admin port does not respond before the deadline.
    pub fn metrics(&self) -> Metrics {
        let what = format!("/metrics of {}", self.name);
        let response = eventually(&what, DEADLINE, || self.get("/metrics"));
        Metrics::new(response.body().to_owned())
    }

    /// Returns the sum of a metric's samples that have these labels; 0 if there is none.
    pub fn metric(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.metrics().get(name, labels).unwrap_or(0.0)
    }

    /// Waits until the sum of a metric's samples satisfies a condition, and returns it. A metric
    /// changes after what it counts is visible elsewhere.
    pub fn await_metric(
        &self,
        name: &str,
        labels: &[(&str, &str)],
        is_awaited: impl Fn(f64) -> bool,
    ) -> f64 {
        let what = format!("{name}{labels:?} of {}", self.name);
        eventually(&what, DEADLINE, || seen(self.metric(name, labels), |value| is_awaited(*value)))
    }

    /// Returns everything it has logged, in all of its lives.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap()).into_owned()
    }

    /// Waits until its log contains a text.
    pub fn await_log(&self, text: &str) {
        let what = format!("{text:?} in the log of {}", self.name);
        eventually(&what, DEADLINE, || {
            let log = self.log();
            if log.contains(text) { Ok(()) } else { Err(log) }
        });
    }
}

impl Drop for Service {
    #[allow(clippy::print_stderr, reason = "shows why a test failed")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("log of {} ({}):\n{}", self.name, self.admin, process::tail(&self.log, 100));
        }
    }
}

fn spawn(
    binary: &Path,
    home: &Path,
    arguments: &[String],
    environment: &[(String, String)],
    log: &Path,
) -> Child {
    let mut command = Command::new(binary);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("MAILPULSE__") {
            command.env_remove(name);
        }
    }
    command.arg("--config").arg(home.join("mailpulse.toml")).args(arguments).current_dir(home);
    command.env("NO_COLOR", "1").env("RUST_BACKTRACE", "0");
    command.envs(environment.iter().map(|(name, value)| (name, value)));
    process::spawn(command, log).unwrap()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// Writes a program that can be started like a service. It gets `--config FILE`.
    fn program(directory: &Path, script: &str) -> PathBuf {
        let path = directory.join("program");
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    fn launch(binary: PathBuf) -> Launch {
        Launch::new("x", binary, &Cluster::existing("127.0.0.1:1", "t.", crate::layout(2, 1)))
    }

    #[test]
    fn a_service_gets_its_settings_and_its_environment() {
        let directory = tempfile::tempdir().unwrap();
        let binary = program(directory.path(), "cat \"$2\"; echo $MAILPULSE__X__ADMIN $KEY");
        let (status, log) = launch(binary).config("[x]\nkey = 1").env("KEY", "value").run();
        assert!(status.success());
        assert!(log.contains("bootstrap = \"127.0.0.1:1\"\nprefix = \"t.\"\n"), "{log}");
        assert!(
            log.contains("recipient_partitions = 2\n") && log.contains("[x]\nkey = 1"),
            "{log}"
        );
        let last = log.lines().last().unwrap();
        assert!(last.starts_with("127.0.0.1:") && last.ends_with(" value"), "{last}");
    }

    #[test]
    fn a_service_is_killed_started_again_and_stopped() {
        let directory = tempfile::tempdir().unwrap();
        let script = "echo up; trap 'exit 0' TERM; while :; do sleep 0.01; done";
        let mut service = launch(program(directory.path(), script)).spawn();
        service.await_log("up");
        let pid = service.pid();
        service.kill();
        assert!(!service.is_running());
        service.respawn();
        assert_ne!(service.pid(), pid);
        eventually("both lives in the log", DEADLINE, || service.log().matches("up").count() == 2);
        service.stop();
        assert!(!service.is_running() && !service.is_ready());
    }
}
