//! A Kafka broker for the demo and the tests.

mod class_archive;
mod probe;
mod properties;
mod secured;
mod three;
mod tokens;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crate::dirs::RunDir;
use crate::process::{self, Child, free_port};
use crate::{Dirs, Error, ServerKind, compose};

use class_archive::Classes;
pub use secured::{SCRAM_PASSWORD, SCRAM_USER};
use secured::{SecuredListeners, Security};
use three::ThreeBrokers;
pub use three::{ADMIN, BROKERS};
pub use tokens::{CLIENT_ID, CLIENT_SECRET, TokenIssuer};

/// A start takes two seconds; a machine that also compiles needs longer.
const START_PATIENCE: Duration = Duration::from_secs(120);
/// For a broker that runs already.
const ANSWER_PATIENCE: Duration = Duration::from_secs(15);
/// A controlled shutdown of one broker takes two seconds.
const STOP_PATIENCE: Duration = Duration::from_secs(60);
/// The port that the Compose service publishes to this machine.
const COMPOSE_PORT: u16 = 9092;
/// Any 16 bytes in Kafka's base64: `mailpulsedevstac`.
const CLUSTER_ID: &str = "bWFpbHB1bHNlZGV2c3RhYw";

/// A Kafka cluster that answers. Dropping it stops child processes.
#[derive(Debug)]
pub struct Kafka {
    bootstrap: String,
    server: Server,
}

#[derive(Debug)]
enum Server {
    External,
    Compose,
    Child(Box<Cluster>),
    Three(Box<ThreeBrokers>),
}

impl Kafka {
    /// Returns the running cluster that `MAILPULSE_KAFKA` names (plaintext `host:port`, several
    /// separated by commas), else the broker of Docker Compose, else one child process that is both
    /// broker and controller.
    ///
    /// # Errors
    /// [`Error::BadSetting`] if the variable is not a list of addresses, [`Error::NotReady`] if the
    /// cluster does not answer, else as [`start_own`](Self::start_own).
    pub fn start(dirs: &Dirs) -> Result<Self, Error> {
        Self::find_or_launch(dirs, Jit::Quick)
    }

    /// Like [`start`](Self::start), but a child process optimises its code as a production broker
    /// does, which costs CPU for the first minutes.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn start_optimised(dirs: &Dirs) -> Result<Self, Error> {
        Self::find_or_launch(dirs, Jit::Full)
    }

    fn find_or_launch(dirs: &Dirs, jit: Jit) -> Result<Self, Error> {
        if let Some(bootstrap) = setting()? {
            wait_for(&bootstrap)?;
            return Ok(Self { bootstrap, server: Server::External });
        }
        if let Some(bootstrap) = compose::start("kafka", COMPOSE_PORT, dirs) {
            wait_for(&bootstrap)?;
            return Ok(Self { bootstrap, server: Server::Compose });
        }
        Self::launch(dirs, Roles::Combined, jit, None)
    }

    /// Starts a broker and a separate controller as child processes, even if another cluster runs: for
    /// tests that [`kill`](Self::kill) the broker.
    ///
    /// A broker that is its own controller restarts as the leader of its partitions, loses them when
    /// the session of its previous process expires, and becomes leader again. Kafka 4.3 then confuses
    /// the two loads of group metadata and serves groups without their metadata, and transactions that
    /// end at this moment can hang. A controller that was not killed has taken the partitions away
    /// before the broker restarts.
    ///
    /// # Errors
    /// The errors of fetching the jars, and [`Error::Exited`] or [`Error::NotReady`] with the last
    /// lines of the broker's log.
    pub fn start_own(dirs: &Dirs) -> Result<Self, Error> {
        Self::launch(dirs, Roles::Separate, Jit::Quick, None)
    }

    /// Starts a broker that is its own controller as a child process, with its data in a directory
    /// that is kept. If the directory contains the data of such a broker, the broker continues with
    /// it, on new ports. Nothing in it expires, however old it is.
    ///
    /// # Errors
    /// As [`start_own`](Self::start_own).
    pub fn start_on(dirs: &Dirs, data: &Path) -> Result<Self, Error> {
        Self::launch(dirs, Roles::Combined, Jit::Quick, Some(data))
    }

    fn launch(dirs: &Dirs, roles: Roles, jit: Jit, data: Option<&Path>) -> Result<Self, Error> {
        Self::launch_with(dirs, roles, jit, data, None)
    }

    fn launch_with(
        dirs: &Dirs,
        roles: Roles,
        jit: Jit,
        data: Option<&Path>,
        security: Option<Security<'_>>,
    ) -> Result<Self, Error> {
        let (java, jars) = (fetch::java()?, fetch::kafka_jars(&dirs.cache)?);
        let classes = class_archive::obtain(dirs, &java, &jars)?;
        let jvm = Jvm { java, jars, classes, jit };
        let mut attempts = 3;
        loop {
            attempts -= 1;
            let secured = security.map(SecuredListeners::new).transpose()?;
            let cluster = Cluster::new(dirs, jvm.clone(), roles, data, secured)
                .and_then(Cluster::format_and_launch);
            match cluster {
                // Another process may have taken the port since we found it free.
                Err(Error::Exited { tail, .. })
                    if attempts > 0 && tail.contains("Address already in use") => {}
                Err(error) => return Err(error),
                Ok(cluster) => {
                    let bootstrap = cluster.address();
                    return Ok(Self { bootstrap, server: Server::Child(Box::new(cluster)) });
                }
            }
        }
    }

    /// Returns the bootstrap servers; for child processes `127.0.0.1:PORT`, separated by commas.
    pub fn bootstrap(&self) -> &str {
        &self.bootstrap
    }

    pub fn kind(&self) -> ServerKind {
        match self.server {
            Server::External => ServerKind::External,
            Server::Compose => ServerKind::Compose,
            Server::Child(_) | Server::Three(_) => ServerKind::Child,
        }
    }

    /// Kills the broker, or all of them, with SIGKILL, like a crash. Data and ports are kept, and a separate
    /// controller keeps running.
    ///
    /// # Errors
    /// [`Error::NotOurs`] if the broker is not a child process.
    pub fn kill(&mut self) -> Result<(), Error> {
        match &mut self.server {
            Server::Three(cluster) => cluster.kill_brokers(),
            _ => self.child()?.kill(),
        }
    }

    /// Kills the brokers and their controller, like a power cut.
    ///
    /// # Errors
    /// As [`kill`](Self::kill).
    pub fn kill_all(&mut self) -> Result<(), Error> {
        match &mut self.server {
            Server::Three(cluster) => cluster.kill_all(),
            _ => self.child()?.kill_all(),
        }
    }

    /// Stops the broker with SIGTERM and waits for its end, so that its data is complete.
    ///
    /// # Errors
    /// [`Error::NotOurs`] if the broker is not a child process, [`Error::Io`] if it cannot be stopped.
    pub fn stop(&mut self) -> Result<(), Error> {
        let Some(mut broker) = self.child()?.broker.take() else { return Ok(()) };
        broker.terminate(STOP_PATIENCE).map(drop)
    }

    /// Starts the broker, or all of them, again on the same port and data, and waits until it answers. Kills it
    /// first if it runs.
    ///
    /// # Errors
    /// [`Error::NotOurs`] if the broker is not a child process, and the errors of a start.
    pub fn restart(&mut self) -> Result<(), Error> {
        if let Server::Three(cluster) = &mut self.server {
            return cluster.restart();
        }
        self.kill()?;
        self.child()?.launch()
    }

    /// Returns the process id of a running child process; the first one's if there are several.
    pub fn pid(&self) -> Option<u32> {
        match &self.server {
            Server::Child(cluster) => cluster.broker.as_ref().map(Child::pid),
            Server::Three(cluster) => cluster.pid(),
            Server::External | Server::Compose => None,
        }
    }

    fn child(&mut self) -> Result<&mut Cluster, Error> {
        let kind = self.kind();
        match &mut self.server {
            Server::Child(cluster) => Ok(cluster),
            _ => Err(Error::NotOurs { service: "Kafka", kind }),
        }
    }
}

/// Whether broker and controller are one process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Roles {
    Combined,
    Separate,
}

/// How much the JVM optimises its code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Jit {
    /// Only the fast compiler (C1). The optimising one takes a sixth of two cores for minutes, which is
    /// longer than most tests and the demo run.
    Quick,
    /// All compilers, as in production.
    Full,
}

/// How Kafka's programs are run.
#[derive(Debug, Clone)]
struct Jvm {
    java: PathBuf,
    /// The directory of Kafka's jars.
    jars: PathBuf,
    classes: Classes,
    jit: Jit,
}

impl Jvm {
    /// Returns the command that runs one of Kafka's main classes.
    fn command(&self, class: &str) -> Command {
        self.command_with(None, class)
    }

    /// Like [`command`](Self::command), with one more argument of Java.
    fn command_with(&self, argument: Option<String>, class: &str) -> Command {
        let mut command = Command::new(&self.java);
        // The serial collector uses the least CPU on a machine with few cores.
        // The tests create more than ten thousand partitions. With 512 MiB, the broker spent its time collecting garbage,
        // and with 1.5 GiB it stood still for seven seconds at a time: requests timed out.
        command.args(["-Xmx3g", "-XX:+UseSerialGC", "-Xshare:auto", "-Djava.awt.headless=true"]);
        command.args(self.classes.option());
        if self.jit == Jit::Quick {
            command.arg("-XX:TieredStopAtLevel=1");
        }
        command.args(LOGGING).args(argument).arg("-cp").arg(self.jars.join("*")).arg(class);
        command
    }

    /// Returns the command that compiles and runs one file of Java.
    fn command_of_source(&self, source: &Path) -> Command {
        let mut command = Command::new(&self.java);
        command.args(["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]).args(LOGGING);
        command.arg("-cp").arg(self.jars.join("*")).arg(source);
        command
    }
}

/// A broker and its controller as child processes.
#[derive(Debug)]
struct Cluster {
    // Dropped first: the data must not be removed while the processes run.
    broker: Option<Child>,
    controller: Option<Child>,
    /// How many expired broker sessions the controller must have logged before the broker may start:
    /// one for each broker process that was killed.
    expired_sessions: usize,
    roles: Roles,
    jvm: Jvm,
    /// The directory of the broker's data, configuration and log.
    dir: PathBuf,
    /// The directory of the controller's data, configuration and log.
    controller_dir: PathBuf,
    /// Whether the data directory has the data of an earlier broker.
    is_formatted: bool,
    port: u16,
    secured: Option<SecuredListeners>,
    _run: Arc<RunDir>,
}

/// A controller logs this when it takes the partitions of a dead broker away.
const SESSION_EXPIRED: &str = "Fencing broker 1 ";

impl Cluster {
    fn new(
        dirs: &Dirs,
        jvm: Jvm,
        roles: Roles,
        data: Option<&Path>,
        secured: Option<SecuredListeners>,
    ) -> Result<Self, Error> {
        let (dir, port, controller_port) =
            (dirs.subdirectory("kafka")?, free_port()?, free_port()?);
        let controller_dir = match roles {
            Roles::Combined => dir.clone(),
            Roles::Separate => dirs.subdirectory("kafka-controller")?,
        };
        let configurations = match roles {
            Roles::Combined => {
                let own_data = dir.join("data");
                let data_dir = data.unwrap_or(&own_data);
                let text = match &secured {
                    Some(more) => properties::secured(data_dir, port, controller_port, more),
                    None => properties::combined(data_dir, port, controller_port),
                };
                let more = match data {
                    Some(_) => properties::KEEP_EVERYTHING,
                    None => properties::NEVER_KILLED,
                };
                vec![(&dir, text + more)]
            }
            Roles::Separate => vec![
                (
                    &controller_dir,
                    properties::controller(&controller_dir.join("data"), controller_port),
                ),
                (&dir, properties::broker(&dir.join("data"), port, controller_port)),
            ],
        };
        for (dir, text) in configurations {
            let path = configuration(dir);
            fs::write(&path, text).map_err(Error::io(format!("write {}", path.display())))?;
        }
        Ok(Self {
            broker: None,
            controller: None,
            expired_sessions: 0,
            roles,
            jvm,
            dir,
            controller_dir,
            is_formatted: data.is_some_and(|data| data.join("meta.properties").is_file()),
            port,
            secured,
            _run: dirs.owner.clone(),
        })
    }

    fn format_and_launch(mut self) -> Result<Self, Error> {
        if !self.is_formatted {
            self.format()?;
        }
        self.launch()?;
        Ok(self)
    }

    /// Writes the metadata that a node expects in its data directory.
    fn format(&self) -> Result<(), Error> {
        let mut all = vec![&self.controller_dir];
        if self.roles == Roles::Separate {
            all.push(&self.dir);
        }
        for dir in all {
            let mut format = self.jvm.command("kafka.tools.StorageTool");
            format.args(["format", "-t", CLUSTER_ID, "-c"]).arg(configuration(dir));
            format.args(self.secured.iter().flat_map(SecuredListeners::format_arguments));
            process::run(format, &dir.join("format.log"), START_PATIENCE, || {})?;
        }
        Ok(())
    }

    fn kill(&mut self) -> Result<(), Error> {
        let Some(mut broker) = self.broker.take() else { return Ok(()) };
        broker.kill()?;
        let logged = self.controller.as_ref().map_or(0, |it| it.times_logged(SESSION_EXPIRED));
        self.expired_sessions = logged + 1;
        Ok(())
    }

    fn kill_all(&mut self) -> Result<(), Error> {
        self.kill()?;
        if let Some(mut controller) = self.controller.take() {
            let has_expired = controller.times_logged(SESSION_EXPIRED) >= self.expired_sessions;
            controller.kill()?;
            // A new controller waits again for a session that had not expired.
            self.expired_sessions = usize::from(!has_expired);
        }
        Ok(())
    }

    fn launch(&mut self) -> Result<(), Error> {
        if self.roles == Roles::Separate {
            self.await_controller()?;
        }
        let address = self.address();
        let mut process = self.spawn(&self.dir)?;
        process.wait_until("Kafka", START_PATIENCE, |process| {
            // An answer alone is not enough: another process may have taken the port.
            probe::answers(&address) && process.has_logged(STARTED)
        })?;
        self.broker = Some(process);
        Ok(())
    }

    /// Waits until the controller runs and the session of the broker's previous process has expired.
    fn await_controller(&mut self) -> Result<(), Error> {
        if self.controller.is_none() {
            self.controller = Some(self.spawn(&self.controller_dir)?);
        }
        let Some(controller) = &mut self.controller else { return Ok(()) };
        let expired_sessions = self.expired_sessions;
        controller.wait_until("Kafka's controller", START_PATIENCE, |process| {
            process.has_logged(STARTED) && process.times_logged(SESSION_EXPIRED) >= expired_sessions
        })
    }

    fn spawn(&self, dir: &Path) -> Result<Child, Error> {
        let mut serve = self.jvm.command_with(
            self.secured.as_ref().and_then(SecuredListeners::java_argument),
            "kafka.Kafka",
        );
        serve.arg(configuration(dir));
        process::spawn(serve, &dir.join("kafka.log"))
    }

    fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}

fn configuration(dir: &Path) -> PathBuf {
    dir.join("server.properties")
}

/// Kafka logs this when it is ready.
const STARTED: &str = "Kafka Server started";

/// Settings of the SLF4J binding that `pom.xml` adds. At level `info`, hundreds of lines about a
/// shutdown would follow the reason for it. Starts, group members and expired sessions are logged.
const LOGGING: [&str; 6] = [
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss.SSS",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    "-Dorg.slf4j.simpleLogger.log.kafka.server.KafkaRaftServer=info",
    "-Dorg.slf4j.simpleLogger.log.org.apache.kafka.coordinator.group=info",
    // It logs SESSION_EXPIRED.
    "-Dorg.slf4j.simpleLogger.log.org.apache.kafka.controller.ReplicationControlManager=info",
];

/// Names a running cluster.
pub(crate) const VARIABLE: &str = "MAILPULSE_KAFKA";

/// Reads and checks [`VARIABLE`].
fn setting() -> Result<Option<String>, Error> {
    let Some(value) = std::env::var_os(VARIABLE).filter(|value| !value.is_empty()) else {
        return Ok(None);
    };
    let value = value.to_string_lossy().trim().to_owned();
    if value.split(',').all(is_address) {
        return Ok(Some(value));
    }
    Err(Error::BadSetting {
        variable: VARIABLE,
        value,
        expected: "host:port, or several of them separated by commas",
    })
}

fn is_address(text: &str) -> bool {
    text.trim().rsplit_once(':').is_some_and(|(host, port)| {
        !host.is_empty() && port.parse().is_ok_and(|port: u16| port > 0)
    })
}

/// Waits until one of the servers of an external cluster answers. The question is in plain text, so one that requires TLS
/// is not asked.
fn wait_for(bootstrap: &str) -> Result<(), Error> {
    if !crate::kafka_properties(bootstrap).is_empty() {
        return Ok(());
    }
    let deadline = Instant::now() + ANSWER_PATIENCE;
    loop {
        if bootstrap.split(',').any(|server| probe::answers(server.trim())) {
            return Ok(());
        }
        if Instant::now() >= deadline {
            let (service, waited, tail) = ("Kafka", ANSWER_PATIENCE, String::new());
            return Err(Error::NotReady { service, waited, log: None, tail });
        }
        thread::sleep(Duration::from_millis(100));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_variable_must_be_a_list_of_addresses() {
        for good in ["localhost:9092", "10.0.0.1:1", "[::1]:9092", " broker.example.net:9092 "] {
            assert!(is_address(good), "{good}");
        }
        for bad in ["", "localhost", ":9092", "localhost:", "localhost:0", "localhost:70000"] {
            assert!(!is_address(bad), "{bad}");
        }
    }
}
