//! Three brokers and a controller, as a production cluster: TLS on every connection, SCRAM for clients, access
//! control lists, three copies of everything.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use record::rights::{Operation, Resource, Right};

use super::properties::Member;
use super::secured::SCRAM_PASSWORD;
use super::{
    CLUSTER_ID, Jit, Jvm, Kafka, START_PATIENCE, STARTED, STOP_PATIENCE, Server, class_archive,
    configuration,
};
use crate::dirs::RunDir;
use crate::network::{Namespace, Network};
use crate::process::{self, Child, free_port};
use crate::{Authority, Dirs, Error};

/// The user who may do everything.
pub const ADMIN: &str = "admin";
/// The common name of every node's certificate.
pub(super) const NODE: &str = "mailpulse-node";
const LOCAL: &str = "127.0.0.1";
/// The number of brokers.
pub const BROKERS: usize = 3;
/// A Java program that asks a cluster for what librdkafka cannot.
const PROGRAM: &str = include_str!("ClusterAdmin.java");

/// Three brokers and a controller as child processes.
#[derive(Debug)]
pub(super) struct ThreeBrokers {
    // Dropped first: the data must not be removed while the processes run.
    brokers: Vec<Node>,
    controller: Node,
    jvm: Jvm,
    /// The directory of the program for administrators, its properties and its log.
    dir: PathBuf,
    /// Dropped after the processes in it.
    network: Option<Network>,
    _run: Arc<RunDir>,
}

/// A process of the cluster.
#[derive(Debug)]
struct Node {
    id: i32,
    /// Where a broker runs, if it can be cut off.
    namespace: Option<Namespace>,
    /// `ADDRESS:PORT`, for clients. The controller has none.
    address: String,
    dir: PathBuf,
    child: Option<Child>,
    /// How many sessions of this broker must have expired in the controller's log before it may start again: one for
    /// each of its processes that was killed.
    expired_sessions: usize,
}

impl Kafka {
    /// Starts three brokers and a controller as child processes. Clients connect to
    /// [`bootstrap`](Self::bootstrap) with `SASL_SSL` and SCRAM-SHA-512, trusting `authority`, as one of `users` or
    /// [`ADMIN`], all of whom have the password [`SCRAM_PASSWORD`]. Users may do what they are
    /// [granted](Self::grant). Topics have three replicas, of which two must have a record.
    ///
    /// # Errors
    /// As [`start_own`](Self::start_own), and [`Error::Certificate`].
    pub fn start_three(dirs: &Dirs, authority: &Authority, users: &[&str]) -> Result<Self, Error> {
        let (java, jars) = (fetch::java()?, fetch::kafka_jars(&dirs.cache)?);
        let classes = class_archive::obtain(dirs, &java, &jars)?;
        let jvm = Jvm { java, jars, classes, jit: Jit::Quick };
        let mut attempts = 3;
        loop {
            attempts -= 1;
            let started = ThreeBrokers::new(dirs, jvm.clone(), authority)
                .and_then(|cluster| cluster.format_and_launch(users));
            match started {
                // Another process may have taken a port since we found it free.
                Err(Error::Exited { tail, .. })
                    if attempts > 0 && tail.contains("Address already in use") => {}
                Err(error) => return Err(error),
                Ok(cluster) => {
                    let addresses: Vec<&str> =
                        cluster.brokers.iter().map(|broker| &*broker.address).collect();
                    let bootstrap = addresses.join(",");
                    return Ok(Self { bootstrap, server: Server::Three(Box::new(cluster)) });
                }
            }
        }
    }

    /// Allows users what `rights` say.
    ///
    /// # Errors
    /// [`Error::NotOurs`] if these are not [three brokers](Self::start_three), and [`Error::CommandFailed`].
    pub fn grant(&self, rights: &[Right]) -> Result<(), Error> {
        let lines: String = rights.iter().map(line).collect();
        self.three()?.administrate(&["grant"], Some(&lines))
    }

    /// Moves the leader of every partition of the topics whose names begin with `prefix`, and of Kafka's own topics, to
    /// another broker.
    ///
    /// # Errors
    /// As [`grant`](Self::grant).
    pub fn move_leaders(&self, prefix: &str) -> Result<(), Error> {
        self.three()?.administrate(&["move-leaders", prefix], None)
    }

    /// Waits until every replica of every partition is in sync, as an operator does before stopping a broker.
    ///
    /// # Errors
    /// As [`grant`](Self::grant).
    pub fn await_in_sync(&self) -> Result<(), Error> {
        self.three()?.administrate(&["await-in-sync"], None)
    }

    /// Kills one of [`BROKERS`] brokers, counted from 0, with SIGKILL.
    ///
    /// # Errors
    /// [`Error::NotOurs`] if these are not [three brokers](Self::start_three).
    pub fn kill_broker(&mut self, number: usize) -> Result<(), Error> {
        self.three_mut()?.kill(number)
    }

    /// Stops a broker with SIGTERM, and waits until its leaders have moved and it has ended.
    ///
    /// # Errors
    /// As [`kill_broker`](Self::kill_broker).
    pub fn stop_broker(&mut self, number: usize) -> Result<(), Error> {
        self.three_mut()?.stop(number)
    }

    /// Starts a broker again, with its ports and its data, and waits until it takes part.
    ///
    /// # Errors
    /// As [`kill_broker`](Self::kill_broker), and the errors of a start.
    pub fn restart_broker(&mut self, number: usize) -> Result<(), Error> {
        let three = self.three_mut()?;
        three.kill(number)?;
        three.launch(&[number])
    }

    /// Pauses a broker with SIGSTOP: its connections stay open, and it does not answer.
    ///
    /// # Errors
    /// As [`kill_broker`](Self::kill_broker).
    pub fn freeze_broker(&mut self, number: usize) -> Result<(), Error> {
        self.three_mut()?.child(number).map_or(Ok(()), Child::freeze)
    }

    /// Continues a frozen broker.
    ///
    /// # Errors
    /// As [`kill_broker`](Self::kill_broker).
    pub fn thaw_broker(&mut self, number: usize) -> Result<(), Error> {
        self.three_mut()?.child(number).map_or(Ok(()), Child::thaw)
    }

    /// Whether [`set_connected`](Self::set_connected) can cut brokers off on this machine.
    pub fn can_be_cut_off(&self) -> bool {
        self.three().is_ok_and(|three| three.network.is_some())
    }

    /// Cuts a broker off from the others, the controller and all clients, or connects it again. Its connections stay open,
    /// and no packet arrives.
    ///
    /// # Errors
    /// As [`kill_broker`](Self::kill_broker), and [`Error::CommandFailed`].
    pub fn set_connected(&mut self, number: usize, is_connected: bool) -> Result<(), Error> {
        let broker = self.three_mut()?.brokers.get(number);
        let namespace = broker.and_then(|broker| broker.namespace.as_ref());
        namespace.map_or(Ok(()), |namespace| namespace.set_connected(is_connected))
    }

    fn three(&self) -> Result<&ThreeBrokers, Error> {
        match &self.server {
            Server::Three(cluster) => Ok(cluster),
            _ => Err(Error::NotOurs { service: "Kafka", kind: self.kind() }),
        }
    }

    fn three_mut(&mut self) -> Result<&mut ThreeBrokers, Error> {
        let kind = self.kind();
        match &mut self.server {
            Server::Three(cluster) => Ok(cluster),
            _ => Err(Error::NotOurs { service: "Kafka", kind }),
        }
    }
}

impl ThreeBrokers {
    fn new(dirs: &Dirs, jvm: Jvm, authority: &Authority) -> Result<Self, Error> {
        let mut network = Network::create();
        let host = network.as_ref().map_or_else(|| LOCAL.to_owned(), Network::host);
        let places = (1..Member::CONTROLLER)
            .map(|_| network.as_mut().map(Network::add).transpose())
            .collect::<Result<Vec<_>, _>>()?;
        let addresses = places.iter().flatten().map(|place| place.address.clone());
        let names: Vec<String> = addresses.chain([host.clone(), "localhost".to_owned()]).collect();
        let identity = authority.node(NODE, &names)?;
        let at = |address: &str| Ok::<_, Error>(format!("{address}:{}", free_port()?));
        let controller_address = at(&host)?;
        let node = |id: i32, namespace: Option<Namespace>| {
            let dir = dirs.subdirectory(&format!("kafka-{id}"))?;
            let own = namespace.as_ref().map_or(&host, |place| &place.address);
            let (address, replication) = (at(own)?, at(own)?);
            let member = Member {
                id,
                data: &dir.join("data"),
                clients: &address,
                replication: &replication,
                controller: &controller_address,
                identity: &identity,
                ca_file: authority.ca_file(),
            };
            write(&configuration(&dir), &member.properties())?;
            Ok::<_, Error>(Node { id, namespace, address, dir, child: None, expired_sessions: 0 })
        };
        let dir = dirs.subdirectory("kafka-admin")?;
        write(&dir.join("ClusterAdmin.java"), PROGRAM)?;
        let brokers =
            (1..).zip(places).map(|(id, place)| node(id, place)).collect::<Result<Vec<_>, _>>()?;
        let addresses: Vec<&str> = brokers.iter().map(|broker| &*broker.address).collect();
        let properties = format!(
            "bootstrap.servers={}
security.protocol=SASL_SSL
sasl.mechanism=SCRAM-SHA-512
sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required \
  username=\"{ADMIN}\" password=\"{SCRAM_PASSWORD}\";
ssl.truststore.type=PEM
ssl.truststore.location={}
",
            addresses.join(","),
            authority.ca_file().display()
        );
        write(&dir.join("client.properties"), &properties)?;
        let controller = node(Member::CONTROLLER, None)?;
        Ok(Self { brokers, controller, jvm, dir, network, _run: dirs.owner.clone() })
    }

    fn format_and_launch(mut self, users: &[&str]) -> Result<Self, Error> {
        let credentials = users.iter().chain([&ADMIN]).flat_map(|user| {
            let user = format!("SCRAM-SHA-512=[name={user},password={SCRAM_PASSWORD}]");
            ["--add-scram".to_owned(), user]
        });
        self.format(&self.controller, credentials)?;
        for broker in &self.brokers {
            self.format(broker, std::iter::empty())?;
        }
        self.launch(&[0, 1, 2])?;
        Ok(self)
    }

    /// Writes the metadata that a node expects in its data directory. Those of the controller contain the users.
    fn format(&self, node: &Node, credentials: impl Iterator<Item = String>) -> Result<(), Error> {
        let mut format = self.jvm.command("kafka.tools.StorageTool");
        format.args(["format", "-t", CLUSTER_ID, "-c"]).arg(configuration(&node.dir));
        format.args(credentials);
        process::run(format, &node.dir.join("format.log"), START_PATIENCE, || {})
    }

    /// Starts the brokers of these numbers, and the controller if it does not run, and waits until they take part.
    fn launch(&mut self, numbers: &[usize]) -> Result<(), Error> {
        if self.controller.child.is_none() {
            self.controller.child = Some(spawn(&self.jvm, &self.controller)?);
        }
        let expected: Vec<(String, usize)> = numbers
            .iter()
            .filter_map(|&number| self.brokers.get(number))
            .map(|broker| (broker.session_expired(), broker.expired_sessions))
            .collect();
        if let Some(controller) = &mut self.controller.child {
            controller.wait_until("Kafka's controller", START_PATIENCE, |process| {
                process.has_logged(STARTED)
                    && expired(&expected, |words| process.times_logged(words))
            })?;
        }
        for &number in numbers {
            let Some(broker) = self.brokers.get_mut(number) else { continue };
            broker.child = Some(spawn(&self.jvm, broker)?);
        }
        for &number in numbers {
            let Some(child) = self.child(number) else { continue };
            // A broker logs this when the controller has unfenced it.
            child.wait_until("Kafka", START_PATIENCE, |process| process.has_logged(STARTED))?;
        }
        Ok(())
    }

    fn child(&mut self, number: usize) -> Option<&mut Child> {
        self.brokers.get_mut(number)?.child.as_mut()
    }

    pub(super) fn pid(&self) -> Option<u32> {
        self.brokers.first()?.child.as_ref().map(Child::pid)
    }

    fn kill(&mut self, number: usize) -> Result<(), Error> {
        let controller = &self.controller.child;
        let Some(broker) = self.brokers.get_mut(number) else { return Ok(()) };
        let Some(mut child) = broker.child.take() else { return Ok(()) };
        child.kill()?;
        let words = broker.session_expired();
        let logged = controller.as_ref().map_or(0, |it| it.times_logged(&words));
        broker.expired_sessions = logged + 1;
        Ok(())
    }

    fn stop(&mut self, number: usize) -> Result<(), Error> {
        let Some(broker) = self.brokers.get_mut(number) else { return Ok(()) };
        let Some(mut child) = broker.child.take() else { return Ok(()) };
        child.terminate(STOP_PATIENCE)?;
        broker.expired_sessions = 0;
        Ok(())
    }

    /// Kills all brokers. The controller keeps running.
    pub(super) fn kill_brokers(&mut self) -> Result<(), Error> {
        (0..self.brokers.len()).try_for_each(|number| self.kill(number))
    }

    /// Kills all brokers and the controller.
    pub(super) fn kill_all(&mut self) -> Result<(), Error> {
        self.kill_brokers()?;
        let Some(mut controller) = self.controller.child.take() else { return Ok(()) };
        for broker in &mut self.brokers {
            let has_expired =
                controller.times_logged(&broker.session_expired()) >= broker.expired_sessions;
            // A new controller waits again for a session that had not expired.
            broker.expired_sessions = usize::from(!has_expired);
        }
        controller.kill()
    }

    /// Kills all brokers that run, and starts all of them.
    pub(super) fn restart(&mut self) -> Result<(), Error> {
        self.kill_brokers()?;
        self.launch(&[0, 1, 2])
    }

    /// Runs [`PROGRAM`].
    fn administrate(&self, arguments: &[&str], input: Option<&str>) -> Result<(), Error> {
        let mut command = self.jvm.command_of_source(&self.dir.join("ClusterAdmin.java"));
        command.arg(self.dir.join("client.properties")).args(arguments);
        let stdin = match input {
            None => Stdio::null(),
            Some(text) => {
                let path = self.dir.join("input");
                write(&path, text)?;
                File::open(&path).map_err(Error::io(format!("open {}", path.display())))?.into()
            }
        };
        let line = fetch::command_line(&command);
        let log = self.dir.join("admin.log");
        let mut child = process::spawn_with(stdin, command, &log)?;
        let outcome = match child.wait(START_PATIENCE)? {
            Some(status) if status.success() => return Ok(()),
            Some(status) => status.to_string(),
            None => format!("still running after {START_PATIENCE:?}"),
        };
        Err(Error::CommandFailed { command: line, outcome, tail: process::tail(&log, 20) })
    }
}

impl Node {
    /// What the controller logs when it takes the partitions of this broker away.
    fn session_expired(&self) -> String {
        format!("Fencing broker {} ", self.id)
    }
}

/// Whether each text has been logged as often as expected.
fn expired(expected: &[(String, usize)], times_logged: impl Fn(&str) -> usize) -> bool {
    expected.iter().all(|(words, times)| times_logged(words) >= *times)
}

fn spawn(jvm: &Jvm, node: &Node) -> Result<Child, Error> {
    let mut serve = match &node.namespace {
        Some(namespace) => within(namespace, &jvm.command("kafka.Kafka")),
        None => jvm.command("kafka.Kafka"),
    };
    serve.arg(configuration(&node.dir));
    process::spawn(serve, &node.dir.join("kafka.log"))
}

/// Returns the command as it is run in a namespace.
fn within(namespace: &Namespace, command: &Command) -> Command {
    let mut wrapped = namespace.command(Path::new(command.get_program()));
    wrapped.args(command.get_args());
    wrapped
}

fn write(path: &Path, text: &str) -> Result<(), Error> {
    let mut file = File::create(path).map_err(Error::io(format!("write {}", path.display())))?;
    file.write_all(text.as_bytes()).map_err(Error::io(format!("write {}", path.display())))
}

/// A line of the input of [`PROGRAM`]: names as in Kafka's Java enumerations.
fn line(right: &Right) -> String {
    let Right { principal, resource, name, is_prefix, operation } = right;
    let resource_type = match resource {
        Resource::Topic => "TOPIC",
        Resource::Group => "GROUP",
        Resource::TransactionalId => "TRANSACTIONAL_ID",
        Resource::Cluster => "CLUSTER",
    };
    // The name that Kafka gives the only resource of this type.
    let name = if *resource == Resource::Cluster { "kafka-cluster" } else { name };
    let pattern = if *is_prefix { "PREFIXED" } else { "LITERAL" };
    let operation = match operation {
        Operation::Read => "READ",
        Operation::Write => "WRITE",
        Operation::Create => "CREATE",
        Operation::Describe => "DESCRIBE",
        Operation::DescribeConfigs => "DESCRIBE_CONFIGS",
        Operation::AlterConfigs => "ALTER_CONFIGS",
    };
    format!("{principal}\t{resource_type}\t{pattern}\t{name}\t{operation}\n")
}
