//! One Kafka broker for the demo and the tests.

mod probe;
mod properties;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crate::dirs::RunDir;
use crate::process::{self, Child, free_port};
use crate::{Dirs, Error, Origin, compose, fetch};

/// Starting takes two seconds; the rest is for machines that build at the same time.
const START_PATIENCE: Duration = Duration::from_secs(120);
/// For brokers that run already.
const ANSWER_PATIENCE: Duration = Duration::from_secs(15);
/// The port of the Compose service that is published to this machine.
const COMPOSE_PORT: u16 = 9092;
/// Any 16 bytes in Kafka's base64 will do; one of our own tells the broker apart from others.
const CLUSTER_ID: &str = "bWFpbHB1bHNlZGV2c3RhYw";

/// A Kafka that answers. Dropping it stops it, if it is a process of ours.
#[derive(Debug)]
pub struct Kafka {
    bootstrap: String,
    source: Source,
}

#[derive(Debug)]
enum Source {
    Running,
    Compose,
    Own(Box<Cluster>),
}

impl Kafka {
    /// The running cluster that `MAILPULSE_KAFKA` names (plaintext `host:port`, several separated by
    /// commas), else Docker Compose's, else one process of our own, broker and controller in one.
    ///
    /// # Errors
    /// [`Error::BadSetting`] for a variable that names no address, [`Error::NotReady`] for a cluster
    /// that does not answer, else as `start_own`.
    pub fn start(dirs: &Dirs) -> Result<Self, Error> {
        if let Some(bootstrap) = setting()? {
            wait_for(&bootstrap)?;
            return Ok(Self { bootstrap, source: Source::Running });
        }
        if let Some(bootstrap) = compose::start("kafka", COMPOSE_PORT, dirs) {
            wait_for(&bootstrap)?;
            return Ok(Self { bootstrap, source: Source::Compose });
        }
        Self::launch(dirs, Roles::Combined)
    }

    /// A broker of our own, from Apache Kafka's jars, whatever else is running, with a controller
    /// that is a process of its own: for tests that [`kill`](Self::kill) it.
    ///
    /// A broker that is its own controller comes back as leader of its partitions, loses them when
    /// the session of its former life ends, and gets them once more. Kafka 4.3 takes a load of group
    /// metadata that was begun before for the one it has to begin after, and serves groups it does
    /// not know; transactions that end in that moment were seen to hang. A controller that lives on
    /// has taken the partitions away long before.
    ///
    /// # Errors
    /// Those of fetching the jars, and [`Error::Exited`] or [`Error::NotReady`] with the last lines
    /// of the broker's log.
    pub fn start_own(dirs: &Dirs) -> Result<Self, Error> {
        Self::launch(dirs, Roles::Apart)
    }

    fn launch(dirs: &Dirs, roles: Roles) -> Result<Self, Error> {
        let (java, jars) = (fetch::java()?, fetch::kafka_jars(&dirs.cache)?);
        let mut attempts = 3;
        loop {
            attempts -= 1;
            let cluster =
                Cluster::new(dirs, &java, &jars, roles).and_then(Cluster::format_and_launch);
            match cluster {
                // Between finding a free port and using it somebody else may have taken it.
                Err(Error::Exited { tail, .. })
                    if attempts > 0 && tail.contains("Address already in use") => {}
                Err(error) => return Err(error),
                Ok(cluster) => {
                    let bootstrap = cluster.address();
                    return Ok(Self { bootstrap, source: Source::Own(Box::new(cluster)) });
                }
            }
        }
    }

    /// The bootstrap servers, as `127.0.0.1:PORT` for a broker of ours.
    pub fn bootstrap(&self) -> &str {
        &self.bootstrap
    }

    /// Where it came from.
    pub fn origin(&self) -> Origin {
        match self.source {
            Source::Running => Origin::Running,
            Source::Compose => Origin::Compose,
            Source::Own(_) => Origin::Fetched,
        }
    }

    /// Kills the broker with SIGKILL, as a crash would. Data and port are kept, and so is a
    /// controller that is a process of its own.
    ///
    /// # Errors
    /// [`Error::NotOurs`] for a broker that is not a process of ours.
    pub fn kill(&mut self) -> Result<(), Error> {
        self.own()?.kill()
    }

    /// Kills the broker and its controller, as a power cut would.
    ///
    /// # Errors
    /// As [`kill`](Self::kill).
    pub fn kill_all(&mut self) -> Result<(), Error> {
        self.own()?.kill_all()
    }

    /// Starts the broker again on the same port and data (killing it first if it runs), and waits
    /// until it answers.
    ///
    /// # Errors
    /// [`Error::NotOurs`] for a broker that is not a process of ours, else as a start.
    pub fn restart(&mut self) -> Result<(), Error> {
        self.kill()?;
        self.own()?.launch()
    }

    /// The process id of a broker of ours, while it runs.
    pub fn pid(&self) -> Option<u32> {
        let Source::Own(cluster) = &self.source else { return None };
        cluster.broker.as_ref().map(Child::pid)
    }

    fn own(&mut self) -> Result<&mut Cluster, Error> {
        let origin = self.origin();
        match &mut self.source {
            Source::Own(cluster) => Ok(cluster),
            _ => Err(Error::NotOurs { service: "Kafka", origin }),
        }
    }
}

/// Whether broker and controller are one process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Roles {
    Combined,
    Apart,
}

/// A broker that is a process of ours, and its controller.
#[derive(Debug)]
struct Cluster {
    // Dropped first: the data goes away only once the processes have.
    broker: Option<Child>,
    controller: Option<Child>,
    /// How often the controller will have said that the broker's session is over once that of its
    /// last life is.
    sessions_over: usize,
    roles: Roles,
    java: PathBuf,
    jars: PathBuf,
    /// Data, configuration and log of the broker.
    dir: PathBuf,
    /// Those of the controller.
    controller_dir: PathBuf,
    port: u16,
    _run: Arc<RunDir>,
}

/// What a controller says when it takes a dead broker's partitions away.
const SESSION_OVER: &str = "Fencing broker 1 ";

impl Cluster {
    fn new(dirs: &Dirs, java: &Path, jars: &Path, roles: Roles) -> Result<Self, Error> {
        let (dir, port, controller_port) = (dirs.part("kafka")?, free_port()?, free_port()?);
        let controller_dir = match roles {
            Roles::Combined => dir.clone(),
            Roles::Apart => dirs.part("kafka-controller")?,
        };
        let configurations = match roles {
            Roles::Combined => {
                vec![(&dir, properties::combined(&dir.join("data"), port, controller_port))]
            }
            Roles::Apart => vec![
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
            sessions_over: 0,
            roles,
            java: java.to_owned(),
            jars: jars.to_owned(),
            dir,
            controller_dir,
            port,
            _run: dirs.guard.clone(),
        })
    }

    fn format_and_launch(mut self) -> Result<Self, Error> {
        let mut all = vec![&self.controller_dir];
        if self.roles == Roles::Apart {
            all.push(&self.dir);
        }
        for dir in all {
            let mut format = self.jvm("kafka.tools.StorageTool");
            format.args(["format", "-t", CLUSTER_ID, "-c"]).arg(configuration(dir));
            process::run(format, &dir.join("format.log"), START_PATIENCE, || {})?;
        }
        self.launch()?;
        Ok(self)
    }

    fn kill(&mut self) -> Result<(), Error> {
        let Some(mut broker) = self.broker.take() else { return Ok(()) };
        broker.kill()?;
        let said = self.controller.as_ref().map_or(0, |process| process.times_said(SESSION_OVER));
        self.sessions_over = said + 1;
        Ok(())
    }

    fn kill_all(&mut self) -> Result<(), Error> {
        self.kill()?;
        if let Some(mut controller) = self.controller.take() {
            let knew = controller.times_said(SESSION_OVER) >= self.sessions_over;
            controller.kill()?;
            // A successor of one that did not know waits for the session anew.
            self.sessions_over = usize::from(!knew);
        }
        Ok(())
    }

    fn launch(&mut self) -> Result<(), Error> {
        if self.roles == Roles::Apart {
            self.await_controller()?;
        }
        let address = self.address();
        let mut process = self.spawn(&self.dir)?;
        process.wait_until("Kafka", START_PATIENCE, |process| {
            // The log too: another process could have taken the port, and answer in our stead.
            probe::answers(&address) && process.has_said(STARTED)
        })?;
        self.broker = Some(process);
        Ok(())
    }

    /// A controller that runs, and knows that the broker's former life is over.
    fn await_controller(&mut self) -> Result<(), Error> {
        if self.controller.is_none() {
            self.controller = Some(self.spawn(&self.controller_dir)?);
        }
        let Some(controller) = &mut self.controller else { return Ok(()) };
        let sessions_over = self.sessions_over;
        controller.wait_until("Kafka's controller", START_PATIENCE, |process| {
            process.has_said(STARTED) && process.times_said(SESSION_OVER) >= sessions_over
        })
    }

    fn spawn(&self, dir: &Path) -> Result<Child, Error> {
        let mut serve = self.jvm("kafka.Kafka");
        serve.arg(configuration(dir));
        process::spawn(serve, &dir.join("kafka.log"))
    }

    /// A JVM for one of Kafka's main classes.
    fn jvm(&self, class: &str) -> Command {
        let mut command = Command::new(&self.java);
        // The serial collector takes the least from a machine with few cores.
        command.args(["-Xmx512m", "-XX:+UseSerialGC", "-Xshare:auto", "-Djava.awt.headless=true"]);
        command.args(LOGGING).arg("-cp").arg(self.jars.join("*")).arg(class);
        command
    }

    fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}

fn configuration(dir: &Path) -> PathBuf {
    dir.join("server.properties")
}

/// What a process of Kafka's says when it is up.
const STARTED: &str = "Kafka Server started";

/// Settings of the SLF4J binding that `pom.xml` adds. The broker's chatter would bury the reason for
/// an end under its own shutdown; what is let through is when it is up, who joins and leaves, and whose session has ended.
const LOGGING: [&str; 6] = [
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss.SSS",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    "-Dorg.slf4j.simpleLogger.log.kafka.server.KafkaRaftServer=info",
    "-Dorg.slf4j.simpleLogger.log.org.apache.kafka.coordinator.group=info",
    // SESSION_OVER is one of its words.
    "-Dorg.slf4j.simpleLogger.log.org.apache.kafka.controller.ReplicationControlManager=info",
];

/// `MAILPULSE_KAFKA`, checked.
fn setting() -> Result<Option<String>, Error> {
    const VARIABLE: &str = "MAILPULSE_KAFKA";
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
        expected: "host:port, or several by commas",
    })
}

fn is_address(text: &str) -> bool {
    text.trim().rsplit_once(':').is_some_and(|(host, port)| {
        !host.is_empty() && port.parse().is_ok_and(|port: u16| port > 0)
    })
}

/// Waits until one of the servers of a cluster that is not ours answers.
fn wait_for(bootstrap: &str) -> Result<(), Error> {
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
    fn only_addresses_are_taken_from_the_environment() {
        for good in ["localhost:9092", "10.0.0.1:1", "[::1]:9092", " broker.example.net:9092 "] {
            assert!(is_address(good), "{good}");
        }
        for bad in ["", "localhost", ":9092", "localhost:", "localhost:0", "localhost:70000"] {
            assert!(!is_address(bad), "{bad}");
        }
    }
}
