//! Kafka, ClickHouse and all services on this machine.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use devstack::kafka::{ADMIN, SCRAM_PASSWORD};
use devstack::{Authority, ClickHouse, Dirs, Kafka, ServerKind};
use event::Provider;
use kafka::TopicSettings;
use record::Topics;
use record::rights::PRINCIPALS;
use testkit::{Credentials, SOURCES};

use crate::acting::Acting;
use crate::binaries::{self, ACTING, CONSOLE, SERVICES};
use crate::clickhouse::Database;
use crate::run_name::RunName;
use crate::supervisor::{Member, Plan, Supervisor};

const READY_TIMEOUT: Duration = Duration::from_secs(120);
const PROPERTIES: &str = "kafka.properties";
/// The default of `dedupe.remember`, on which the retention of its changelog depends.
const REMEMBERED_HOURS: u32 = 9 * 24;

/// Keys of `[ingress]` for mail whose event time is compressed or in the past: no time records, because the time
/// of receipt would make all of it late.
pub(crate) const TIME_OF_EVENTS: &str = "time_every = \"0s\"\n";

/// What differs from one member of each service with default settings.
pub(crate) struct Layout {
    /// The first part of the names of topics and database.
    pub(crate) task: &'static str,
    /// Additional keys of sections.
    pub(crate) keys: BTreeMap<&'static str, String>,
    /// The number of members of a service, if it is not one.
    pub(crate) members: BTreeMap<&'static str, u8>,
    /// Members that are added to the supervisor and not started.
    pub(crate) extra_members: Vec<Member>,
    /// Sources besides those of the testkit, with the same keys.
    pub(crate) extra_sources: Vec<(Provider, &'static str)>,
    /// Additional keys of sources, by name.
    pub(crate) source_keys: BTreeMap<&'static str, String>,
    /// The partitions of topics keyed by recipient, and of those keyed by scope.
    pub(crate) partitions: (i32, i32),
    /// Where Kafka and ClickHouse come from.
    pub(crate) servers: Servers,
    /// Start the console, open to everybody on this machine.
    pub(crate) console: bool,
    /// Start the services that act on events.
    pub(crate) acting: bool,
}

/// Where Kafka and ClickHouse come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Servers {
    /// Those that run, or child processes.
    Shared,
    /// Child processes, which can be killed.
    Own,
    /// The same, with three brokers that require TLS, SCRAM and access control entries, as in
    /// docs/operations.md. Every service logs in as itself.
    Cluster,
}

impl Layout {
    pub(crate) fn new(task: &'static str) -> Self {
        let (keys, members, extra_members) = (BTreeMap::new(), BTreeMap::new(), Vec::new());
        Self {
            task,
            keys,
            members,
            extra_members,
            extra_sources: Vec::new(),
            source_keys: BTreeMap::new(),
            partitions: (6, 3),
            servers: Servers::Shared,
            console: false,
            acting: false,
        }
    }
}

/// A running pipeline. Dropping it stops the services, then the servers, and removes the data.
pub(crate) struct Pipeline {
    pub(crate) supervisor: Supervisor,
    /// The address of the ingress.
    pub(crate) ingress: String,
    /// The address of the console, if there is one.
    pub(crate) console: Option<String>,
    /// What the services that act on events are connected to, if there are any.
    pub(crate) acting: Option<Acting>,
    /// The admin address of the first member of each service.
    pub(crate) admins: BTreeMap<&'static str, String>,
    /// The admin address of every member that is kept running.
    pub(crate) members: BTreeMap<Member, String>,
    pub(crate) config: PathBuf,
    pub(crate) credentials: Credentials,
    pub(crate) database: Database,
    name: RunName,
    pub(crate) clickhouse: ClickHouse,
    pub(crate) kafka: Kafka,
    /// What clients of three brokers must trust.
    authority: Option<Authority>,
    /// Dropped last, because it removes the data.
    pub(crate) dirs: Dirs,
}

impl Pipeline {
    /// Starts everything and returns when every service is ready.
    pub(crate) fn start(layout: &Layout) -> anyhow::Result<Self> {
        let dirs = Dirs::new()?;
        let authority = match layout.servers {
            Servers::Cluster => Some(Authority::new(&dirs)?),
            Servers::Shared | Servers::Own => None,
        };
        let (kafka, clickhouse) = start_servers(&dirs, layout.servers, authority.as_ref())?;
        let binaries = dirs.run.join("bin");
        binaries::link_into(&binaries)?;
        let ingress = free_address()?;
        let console = layout.console.then(free_address).transpose()?;
        let acting = layout.acting.then(Acting::start).transpose()?;
        let credentials = Credentials::new(&format!("http://{ingress}"));
        let config = dirs.run.join("mailpulse.toml");
        let certificates = dirs.run.join("sns-certificates");
        std::fs::create_dir_all(&certificates)?;
        credentials.write_certificates(&certificates)?;
        let name = RunName::new(layout.task);
        let addresses = Addresses {
            dirs: &dirs,
            kafka: &kafka,
            clickhouse: &clickhouse,
            ingress: &ingress,
            console: console.as_deref(),
            acting: acting.as_ref(),
            name: &name,
            authority: authority.as_ref(),
        };
        if authority.is_some() {
            let topics = Topics::new(&name.kafka_prefix);
            kafka.grant(&topics.rights(false))?;
            create_topics(&addresses.connection(), &topics, layout.partitions)?;
        }
        std::fs::write(&config, addresses.config(&credentials, layout)?)?;

        let (supervisor, mut members) = (Supervisor::new(), BTreeMap::new());
        for (member, wanted) in layout.all_members() {
            let admin = free_address()?;
            let mut plan = plan(member, &admin, &binaries, &config, &dirs)?;
            if authority.is_some() {
                plan.environment.extend(log_in_as(member));
            }
            supervisor.add(plan, wanted);
            if wanted {
                members.insert(member, admin);
            }
        }
        let firsts = members.iter().filter(|(member, _)| member.number == 1);
        let admins = firsts.map(|(member, admin)| (member.service, admin.clone())).collect();
        let database = Database::new(clickhouse.url(), &name.database);
        let pipeline = Self {
            supervisor,
            ingress,
            console,
            acting,
            admins,
            members,
            config,
            credentials,
            database,
            name,
            clickhouse,
            kafka,
            authority,
            dirs,
        };
        eprintln!("    waiting until {} services are ready", pipeline.members.len());
        pipeline.await_ready()?;
        Ok(pipeline)
    }

    /// Waits until `/readyz` of every running member succeeds.
    pub(crate) fn await_ready(&self) -> anyhow::Result<()> {
        await_ready(&self.members, &self.dirs.run)
    }

    /// Returns the connection of this process, which has the name `instance`.
    pub(crate) fn connection(&self, instance: &str) -> kafka::Connection {
        connection(&self.kafka, self.authority.as_ref(), instance)
    }

    /// The number of replicas of every topic.
    pub(crate) const fn replication(&self) -> i32 {
        replication(self.authority.as_ref())
    }

    /// Allows all services to use these topics too, if Kafka requires it.
    pub(crate) fn grant(&self, topics: &Topics) -> anyhow::Result<()> {
        if self.authority.is_some() {
            self.kafka.grant(&topics.rights(false))?;
        }
        Ok(())
    }

    /// Returns the prefix of all topics and groups.
    pub(crate) fn kafka_prefix(&self) -> &str {
        &self.name.kafka_prefix
    }

    /// Starts a further member with environment variables of its own, and waits until it is ready. It has the
    /// binary and the settings of the others.
    pub(crate) fn start_also(
        &self,
        member: Member,
        environment: &[(&str, String)],
    ) -> anyhow::Result<()> {
        let admin = free_address()?;
        let binaries = self.dirs.run.join("bin");
        let mut plan = plan(member, &admin, &binaries, &self.config, &self.dirs)?;
        if self.authority.is_some() {
            plan.environment.extend(log_in_as(member));
        }
        plan.environment
            .extend(environment.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
        self.supervisor.add(plan, true);
        await_ready(&BTreeMap::from([(member, admin)]), &self.dirs.run)
    }

    /// Returns the log of the first member of a service.
    pub(crate) fn log(&self, service: &'static str) -> anyhow::Result<String> {
        let log = self.dirs.run.join(format!("{}.log", Member { service, number: 1 }));
        std::fs::read_to_string(&log).with_context(|| log.display().to_string())
    }

    /// Returns a list of all addresses and paths.
    pub(crate) fn directory(&self) -> String {
        let mut lines = String::new();
        let mut line = |what: &str, place: &str| {
            let _ = writeln!(lines, "  {what:<14} {place}");
        };
        if let Some(console) = &self.console {
            line("console", &format!("http://{console}/"));
        }
        if let Some(acting) = &self.acting {
            line("suppressions", &acting.lookup());
        }
        line("webhooks", &format!("http://{}/webhooks/{{provider}}/{{source}}", self.ingress));
        let url = self.clickhouse.url();
        line("clickhouse", &format!("{url}/?database={}", self.name.database));
        line("kafka", &format!("{}, prefix {}", self.kafka.bootstrap(), self.name.kafka_prefix));
        for (member, address) in &self.members {
            line(&member.to_string(), &format!("http://{address}/metrics"));
        }
        line("configuration", &self.config.display().to_string());
        line("logs", &format!("{}/*.log", self.dirs.run.display()));
        lines
    }
}

/// Waits until `/readyz` of every member succeeds. `logs` is the directory of their logs.
pub(crate) fn await_ready(members: &BTreeMap<Member, String>, logs: &Path) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let client = reqwest::Client::builder().timeout(Duration::from_secs(5)).build()?;
    let deadline = Instant::now() + READY_TIMEOUT;
    for (member, address) in members {
        let url = format!("http://{address}/readyz");
        loop {
            let answer = runtime.block_on(async { client.get(&url).send().await });
            if answer.is_ok_and(|answer| answer.status().is_success()) {
                break;
            }
            if Instant::now() > deadline {
                let log = logs.join(format!("{member}.log"));
                bail!(
                    "{member} is not ready after {READY_TIMEOUT:?}; its log ends:\n{}",
                    devstack::process::tail(&log, 20)
                );
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
    Ok(())
}

fn start_servers(
    dirs: &Dirs,
    servers: Servers,
    authority: Option<&Authority>,
) -> anyhow::Result<(Kafka, ClickHouse)> {
    let kafka = match (servers, authority) {
        (_, Some(authority)) => Kafka::start_three(dirs, authority, &PRINCIPALS)?,
        (Servers::Shared, None) => Kafka::start(dirs)?,
        (Servers::Own | Servers::Cluster, None) => Kafka::start_own(dirs)?,
    };
    report("Kafka", kafka.bootstrap(), kafka.kind());
    let clickhouse = match servers {
        Servers::Shared => ClickHouse::start(dirs)?,
        Servers::Own | Servers::Cluster => ClickHouse::start_own(dirs)?,
    };
    report("ClickHouse", clickhouse.url(), clickhouse.kind());
    Ok((kafka, clickhouse))
}

/// Returns a connection of this process. With three brokers, it may do everything.
fn connection(kafka: &Kafka, authority: Option<&Authority>, instance: &str) -> kafka::Connection {
    let properties = authority.map(|authority| properties(authority, ADMIN));
    kafka::Connection {
        bootstrap: kafka.bootstrap().to_owned(),
        instance: instance.to_owned(),
        group_protocol: "consumer".to_owned(),
        compression: "lz4".to_owned(),
        max_message_bytes: max_message_bytes(authority),
        properties: properties.into_iter().flatten().collect(),
        ..kafka::Connection::default()
    }
}

/// librdkafka's properties for a user of three brokers.
pub(crate) fn properties(authority: &Authority, user: &str) -> [(String, String); 5] {
    [
        ("security.protocol", "sasl_ssl".to_owned()),
        ("ssl.ca.location", authority.ca_file().display().to_string()),
        ("sasl.mechanisms", "SCRAM-SHA-512".to_owned()),
        ("sasl.username", user.to_owned()),
        ("sasl.password", SCRAM_PASSWORD.to_owned()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
}

/// The environment of a member on three brokers: it logs in as its service, and has a name that outlives a kill, as the
/// Helm chart gives it.
fn log_in_as(member: Member) -> [(String, String); 2] {
    [
        ("MAILPULSE__KAFKA__PROPERTIES__SASL_USERNAME".to_owned(), member.service.to_owned()),
        ("MAILPULSE__SERVICE__INSTANCE".to_owned(), member.to_string()),
    ]
}

/// The number of replicas of every topic.
const fn replication(authority: Option<&Authority>) -> i32 {
    if authority.is_some() { 3 } else { 1 }
}

/// The largest record. With three brokers, it is the limit of some managed services.
fn max_message_bytes(authority: Option<&Authority>) -> usize {
    if authority.is_some() { 8 << 20 } else { kafka::Connection::default().max_message_bytes }
}

/// Creates the topics as an administrator, because the services may not.
fn create_topics(
    connection: &kafka::Connection,
    topics: &Topics,
    (recipient_partitions, scope_partitions): (i32, i32),
) -> anyhow::Result<()> {
    let settings =
        TopicSettings { recipient_partitions, scope_partitions, replication: 3, create: true };
    Ok(settings.prepare(connection, topics, REMEMBERED_HOURS)?)
}

/// Prints which server is used.
pub(crate) fn report(server: &str, address: &str, kind: ServerKind) {
    let kind = match kind {
        ServerKind::External => "external",
        ServerKind::Compose => "Docker Compose",
        ServerKind::Child => "child process",
    };
    eprintln!("    {server} answers at {address} ({kind})");
}

impl Layout {
    /// Returns every member in the order in which an event passes the services, and whether it is kept
    /// running.
    fn all_members(&self) -> impl Iterator<Item = (Member, bool)> {
        let acting = self.acting.then_some(ACTING).into_iter().flatten();
        let regular = SERVICES.into_iter().chain(acting).flat_map(|service| {
            let count = self.members.get(service).copied().unwrap_or(1);
            (1..=count).map(move |number| (Member { service, number }, true))
        });
        let console = self.console.then_some((Member { service: CONSOLE, number: 1 }, true));
        let extra = self.extra_members.iter().map(|&member| (member, false));
        regular.chain(console).chain(extra)
    }
}

/// Returns how to start a member, with its own working directory.
fn plan(
    member: Member,
    admin: &str,
    binaries: &Path,
    config: &Path,
    dirs: &Dirs,
) -> anyhow::Result<Plan> {
    let directory = dirs.run.join(member.to_string());
    std::fs::create_dir_all(&directory)?;
    // `[[forward]]` is a list; what all of them share is in `[forwarding]`.
    let section = if member.service == "forward" { "forwarding" } else { member.service };
    let admin_key = format!("MAILPULSE__{}__ADMIN", section.to_uppercase());
    Ok(Plan {
        member,
        binary: binaries.join(member.service),
        config: config.to_owned(),
        environment: std::iter::once((admin_key, admin.to_owned()))
            .chain(devstack::retention::keep_rows_environment())
            .collect(),
        directory,
        log: dirs.run.join(format!("{member}.log")),
    })
}

/// Returns a free address of this machine.
pub(crate) fn free_address() -> Result<String, devstack::Error> {
    Ok(format!("127.0.0.1:{}", devstack::process::free_port()?))
}

struct Addresses<'a> {
    dirs: &'a Dirs,
    kafka: &'a Kafka,
    clickhouse: &'a ClickHouse,
    ingress: &'a str,
    console: Option<&'a str>,
    acting: Option<&'a Acting>,
    name: &'a RunName,
    authority: Option<&'a Authority>,
}

impl Addresses<'_> {
    fn connection(&self) -> kafka::Connection {
        connection(self.kafka, self.authority, "tasks")
    }

    /// Keys of `[kafka]` and `[kafka.properties]` for three brokers. The user is that of the tool; services have
    /// their own.
    fn secured(&self) -> Option<(String, String)> {
        let authority = self.authority?;
        let max_message_bytes = max_message_bytes(Some(authority));
        let keys = format!(
            "max_message_bytes = {max_message_bytes}\ngroup_protocol = \"classic\"\n\
             session_timeout = \"45s\"\n"
        );
        let properties = properties(authority, "operator");
        let lines = properties.iter().map(|(name, value)| format!("{name:?} = {value:?}\n"));
        Some((keys, lines.collect()))
    }

    /// Returns the configuration file: the settings that differ from the defaults.
    fn config(&self, credentials: &Credentials, layout: &Layout) -> anyhow::Result<String> {
        let run = self.dirs.run.display();
        let mut toml = String::new();
        let mut section = |name: &str, keys: &str| {
            writeln!(toml, "[{name}]\n{keys}").context("write to a string")
        };
        let (bootstrap, prefix) = (self.kafka.bootstrap(), &self.name.kafka_prefix);
        let (keys, properties) = self.secured().unwrap_or_default();
        section("kafka", &format!("bootstrap = {bootstrap:?}\nprefix = {prefix:?}\n{keys}"))?;
        let more = layout.keys.get(PROPERTIES).map_or("", String::as_str);
        section(PROPERTIES, &format!("{properties}{more}"))?;
        let (recipient, scope) = layout.partitions;
        let partitions = format!("recipient_partitions = {recipient}\nscope_partitions = {scope}");
        let (replication, create) = (replication(self.authority), self.authority.is_none());
        section(
            "topics",
            &format!("{partitions}\nreplication = {replication}\ncreate = {create}"),
        )?;
        let (url, database) = (self.clickhouse.url(), &self.name.database);
        section("clickhouse", &format!("url = {url:?}\ndatabase = {database:?}"))?;
        for service in SERVICES {
            let mut keys = layout.keys.get(service).cloned().unwrap_or_default();
            if service == "ingress" {
                keys += &format!(
                    "listen = {:?}\nsns_certificates = \"{run}/sns-certificates\"\n",
                    self.ingress
                );
            }
            section(service, &keys)?;
        }
        if let Some(console) = self.console {
            section(CONSOLE, &format!("open = true\nlisten = {console:?}"))?;
        }
        let is_other = |name: &str| !SERVICES.contains(&name) && name != PROPERTIES;
        for (name, keys) in layout.keys.iter().filter(|(name, _)| is_other(name)) {
            section(name, keys)?;
        }
        for (name, keys) in self.acting.into_iter().flat_map(Acting::sections) {
            section(name, &keys)?;
        }
        for (provider, name) in SOURCES.iter().chain(&layout.extra_sources).copied() {
            toml.push('\n');
            toml += &credentials.source_toml(provider, name);
            toml += layout.source_keys.get(name).map_or("", String::as_str);
        }
        Ok(toml)
    }
}
