//! Kafka, ClickHouse and all services on this machine.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use devstack::{ClickHouse, Dirs, Kafka, ServerKind};
use event::Provider;
use testkit::{Credentials, SOURCES};

use crate::acting::Acting;
use crate::binaries::{self, ACTING, CONSOLE, SERVICES};
use crate::clickhouse::Database;
use crate::run_name::RunName;
use crate::supervisor::{Member, Plan, Supervisor};

const READY_TIMEOUT: Duration = Duration::from_secs(120);

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
    /// Start Kafka and ClickHouse as child processes, which can be killed.
    pub(crate) own_servers: bool,
    /// Start the console, open to everybody on this machine.
    pub(crate) console: bool,
    /// Start the services that act on events.
    pub(crate) acting: bool,
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
            own_servers: false,
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
    /// Dropped last, because it removes the data.
    pub(crate) dirs: Dirs,
}

impl Pipeline {
    /// Starts everything and returns when every service is ready.
    pub(crate) fn start(layout: &Layout) -> anyhow::Result<Self> {
        let dirs = Dirs::new()?;
        let (kafka, clickhouse) = start_servers(&dirs, layout.own_servers)?;
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
        };
        std::fs::write(&config, addresses.config(&credentials, layout)?)?;

        let (supervisor, mut members) = (Supervisor::new(), BTreeMap::new());
        for (member, wanted) in layout.all_members() {
            let admin = free_address()?;
            supervisor.add(plan(member, &admin, &binaries, &config, &dirs)?, wanted);
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
        kafka::Connection {
            bootstrap: self.kafka.bootstrap().to_owned(),
            instance: instance.to_owned(),
            group_protocol: "consumer".to_owned(),
            compression: "lz4".to_owned(),
            ..kafka::Connection::default()
        }
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

fn start_servers(dirs: &Dirs, own: bool) -> anyhow::Result<(Kafka, ClickHouse)> {
    let kafka = if own { Kafka::start_own(dirs)? } else { Kafka::start(dirs)? };
    report("Kafka", kafka.bootstrap(), kafka.kind());
    let clickhouse = if own { ClickHouse::start_own(dirs)? } else { ClickHouse::start(dirs)? };
    report("ClickHouse", clickhouse.url(), clickhouse.kind());
    Ok((kafka, clickhouse))
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
}

impl Addresses<'_> {
    /// Returns the configuration file: the settings that differ from the defaults.
    fn config(&self, credentials: &Credentials, layout: &Layout) -> anyhow::Result<String> {
        let run = self.dirs.run.display();
        let mut toml = String::new();
        let mut section = |name: &str, keys: &str| {
            writeln!(toml, "[{name}]\n{keys}").context("write to a string")
        };
        let (bootstrap, prefix) = (self.kafka.bootstrap(), &self.name.kafka_prefix);
        section("kafka", &format!("bootstrap = {bootstrap:?}\nprefix = {prefix:?}"))?;
        let (recipient, scope) = layout.partitions;
        let partitions = format!("recipient_partitions = {recipient}\nscope_partitions = {scope}");
        section("topics", &format!("{partitions}\nreplication = 1"))?;
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
        for (name, keys) in layout.keys.iter().filter(|(name, _)| !SERVICES.contains(name)) {
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
