//! One Kafka broker for the demo and the tests.

mod probe;

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
    Own(Broker),
}

impl Kafka {
    /// The running cluster that `MAILPULSE_KAFKA` names (plaintext `host:port`, several separated by
    /// commas), else Docker Compose's, else [`start_own`](Self::start_own).
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
        Self::start_own(dirs)
    }

    /// A broker of our own, from Apache Kafka's jars, whatever else is running: for tests that
    /// [`kill`](Self::kill) it.
    ///
    /// # Errors
    /// Those of fetching the jars, and [`Error::Exited`] or [`Error::NotReady`] with the last lines
    /// of the broker's log.
    pub fn start_own(dirs: &Dirs) -> Result<Self, Error> {
        let (java, jars) = (fetch::java()?, fetch::kafka_jars(&dirs.cache)?);
        let mut attempts = 3;
        loop {
            attempts -= 1;
            let broker = Broker::new(dirs, &java, &jars).and_then(Broker::format_and_launch);
            match broker {
                // Between finding a free port and using it somebody else may have taken it.
                Err(Error::Exited { tail, .. })
                    if attempts > 0 && tail.contains("Address already in use") => {}
                Err(error) => return Err(error),
                Ok(broker) => {
                    return Ok(Self { bootstrap: broker.address(), source: Source::Own(broker) });
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

    /// Kills the broker with SIGKILL, as a crash would. Data and port are kept.
    ///
    /// # Errors
    /// [`Error::NotOurs`] for a broker that is not a process of ours.
    pub fn kill(&mut self) -> Result<(), Error> {
        self.own()?.process.as_mut().map_or(Ok(()), Child::kill)
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
        let Source::Own(broker) = &self.source else { return None };
        broker.process.as_ref().map(Child::pid)
    }

    fn own(&mut self) -> Result<&mut Broker, Error> {
        let origin = self.origin();
        match &mut self.source {
            Source::Own(broker) => Ok(broker),
            _ => Err(Error::NotOurs { service: "Kafka", origin }),
        }
    }
}

/// A broker that is a process of ours.
#[derive(Debug)]
struct Broker {
    // Dropped first: the data goes away only once the process has.
    process: Option<Child>,
    java: PathBuf,
    jars: PathBuf,
    /// Data, configuration and log.
    dir: PathBuf,
    port: u16,
    _run: Arc<RunDir>,
}

impl Broker {
    fn new(dirs: &Dirs, java: &Path, jars: &Path) -> Result<Self, Error> {
        let (dir, port) = (dirs.part("kafka")?, free_port()?);
        let (java, jars) = (java.to_owned(), jars.to_owned());
        let broker = Self { process: None, java, jars, dir, port, _run: dirs.guard.clone() };
        let configuration = broker.configuration();
        fs::write(&configuration, properties(&broker.dir.join("data"), port, free_port()?))
            .map_err(Error::io(format!("write {}", configuration.display())))?;
        Ok(broker)
    }

    fn format_and_launch(mut self) -> Result<Self, Error> {
        let mut format = self.jvm("kafka.tools.StorageTool");
        format.args(["format", "-t", CLUSTER_ID, "-c"]).arg(self.configuration());
        process::run(format, &self.dir.join("format.log"), START_PATIENCE, || {})?;
        self.launch()?;
        Ok(self)
    }

    fn launch(&mut self) -> Result<(), Error> {
        let mut serve = self.jvm("kafka.Kafka");
        serve.arg(self.configuration());
        let process = process::spawn(serve, &self.dir.join("kafka.log"))?;
        let process = self.process.insert(process);
        let address = format!("127.0.0.1:{}", self.port);
        process.wait_until("Kafka", START_PATIENCE, |process| {
            // The log too: another process could have taken the port, and answer in our stead.
            probe::answers(&address) && process.has_said("Kafka Server started")
        })
    }

    /// A JVM for one of Kafka's main classes.
    fn jvm(&self, class: &str) -> Command {
        let mut command = Command::new(&self.java);
        // The serial collector takes the least from a machine with few cores.
        command.args(["-Xmx512m", "-XX:+UseSerialGC", "-Xshare:auto", "-Djava.awt.headless=true"]);
        command.args(LOGGING).arg("-cp").arg(self.jars.join("*")).arg(class);
        command
    }

    fn configuration(&self) -> PathBuf {
        self.dir.join("server.properties")
    }

    fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}

/// Settings of the SLF4J binding that `pom.xml` adds. The broker's chatter would bury the reason for
/// an end under its own shutdown; what is let through is when it is up, and who joins and leaves.
const LOGGING: [&str; 5] = [
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss.SSS",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    "-Dorg.slf4j.simpleLogger.log.kafka.server.KafkaRaftServer=info",
    "-Dorg.slf4j.simpleLogger.log.org.apache.kafka.coordinator.group=info",
];

/// The configuration of a single node that is broker and controller in one.
fn properties(data: &Path, port: u16, controller_port: u16) -> String {
    format!(
        "\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller_port}
listeners=CLIENT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}
advertised.listeners=CLIENT://127.0.0.1:{port}
listener.security.protocol.map=CLIENT:PLAINTEXT,CONTROLLER:PLAINTEXT
inter.broker.listener.name=CLIENT
controller.listener.names=CONTROLLER
log.dirs={data}

# Topics are made on purpose or not at all.
auto.create.topics.enable=false

# One node holds the only copy of everything.
default.replication.factor=1
min.insync.replicas=1
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1

# Small, for a fast start: fewer internal partitions, less memory for compaction, index files of
# 1 MiB.
offsets.topic.num.partitions=4
transaction.state.log.num.partitions=4
share.coordinator.state.topic.num.partitions=1
log.cleaner.dedupe.buffer.size=33554432
log.index.size.max.bytes=1048576

# A broker that was killed may not register again before its session has ended, and its partitions
# lose their leader, itself, for that moment. By then it must have loaded its groups: Kafka 4.3 takes
# a load that ends after the change for the one it has to begin anew, and serves groups it does not
# know (CoordinatorRuntime.load compares no epochs). So the session is long enough for a busy machine
# to load them, the log of the groups is kept short, and restarts take some seconds.
broker.session.timeout.ms=6000
broker.heartbeat.interval.ms=250
offsets.topic.segment.bytes=4194304

# Groups form at once, and a member that was killed is missed after a second or six.
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
group.consumer.session.timeout.ms=6000
group.consumer.min.session.timeout.ms=1000
group.consumer.heartbeat.interval.ms=500
group.consumer.min.heartbeat.interval.ms=100

# A transaction left behind by a crash is aborted within a second of its timeout.
transaction.abort.timed.out.transaction.cleanup.interval.ms=1000
",
        data = data.display(),
    )
}

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
