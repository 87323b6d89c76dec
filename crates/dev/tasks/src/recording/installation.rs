//! A running installation whose data is in its home.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::Duration;

use anyhow::{Context, ensure};
use devstack::{ClickHouse, Dirs, Kafka};

use super::expected::Cluster;
use super::home::{self, Addresses, Home};
use super::receiver::Receiver;
use crate::binaries::{self, SERVICES};
use crate::clickhouse::Database;
use crate::pipeline::{self, free_address};
use crate::supervisor::{Member, Plan, Supervisor};

/// The database of the recorded installations.
const DATABASE: &str = "mailpulse";
/// Reads the state of Kafka.
const INSPECT: &str = include_str!("Inspect.java");
/// The JVM also compiles the program.
const INSPECT_TIMEOUT: Duration = Duration::from_secs(120);

/// Servers and services. Dropping it stops the services first, then the servers. The data stays in
/// the home.
pub(crate) struct Installation {
    pub(crate) supervisor: Supervisor,
    /// The admin addresses of the started members.
    pub(crate) members: BTreeMap<Member, String>,
    addresses: Addresses,
    pub(crate) receiver: Receiver,
    pub(crate) database: Database,
    pub(crate) clickhouse: ClickHouse,
    pub(crate) kafka: Kafka,
    root: PathBuf,
    config: PathBuf,
    binaries: PathBuf,
    environment: BTreeMap<String, String>,
    /// Dropped last, because it removes the logs.
    pub(crate) dirs: Dirs,
}

impl Installation {
    /// Starts Kafka and ClickHouse on the data in the home, at free addresses.
    pub(crate) fn start_servers(
        home: &Home,
        written: &Addresses,
        environment: BTreeMap<String, String>,
    ) -> anyhow::Result<Self> {
        let dirs = Dirs::new()?;
        let kafka = Kafka::start_on(&dirs, &home.path("kafka"))?;
        let clickhouse = ClickHouse::start_on(&dirs, &home.path("clickhouse"))?;
        let given = Addresses::from([
            (home::KAFKA.to_owned(), kafka.bootstrap().to_owned()),
            (home::CLICKHOUSE.to_owned(), clickhouse.url().replace("http://", "")),
        ]);
        let addresses = home::free_addresses(written, given)?;
        let config = dirs.run.join("mailpulse.toml");
        std::fs::write(&config, home.settings_at(written, &addresses)?)?;
        let binaries = dirs.run.join("bin");
        binaries::link_into(&binaries)?;
        Ok(Self {
            supervisor: Supervisor::new(),
            members: BTreeMap::new(),
            receiver: Receiver::start(&addresses[home::RECEIVER])?,
            addresses,
            database: Database::new(clickhouse.url(), DATABASE),
            clickhouse,
            kafka,
            root: home.root().to_owned(),
            config,
            binaries,
            environment,
            dirs,
        })
    }

    /// Starts a member of each service and returns when all are ready.
    pub(crate) fn start_services(&mut self) -> anyhow::Result<()> {
        for service in SERVICES {
            // A service that is newer than the recording has no address in it.
            let admin = self.addresses.get(service).cloned().map_or_else(free_address, Ok)?;
            self.add(Member { service, number: 1 }, admin);
        }
        pipeline::await_ready(&self.members, &self.dirs.run)
    }

    /// Starts another member of a service and returns when it is ready.
    pub(crate) fn start_member(&mut self, member: Member) -> anyhow::Result<()> {
        self.add(member, free_address()?);
        pipeline::await_ready(&self.members, &self.dirs.run)
    }

    fn add(&mut self, member: Member, admin: String) {
        let mut environment: Vec<_> = self.environment.clone().into_iter().collect();
        let admin_key = format!("MAILPULSE__{}__ADMIN", member.service.to_uppercase());
        environment.push((admin_key, admin.clone()));
        // Every window is compared. Earlier releases published all of them.
        environment.push(("MAILPULSE__MONITOR__PUBLISH".to_owned(), "all".to_owned()));
        // The recorded rows become old.
        environment.extend(devstack::retention::keep_rows_environment());
        let plan = Plan {
            member,
            binary: self.binaries.join(member.service),
            config: self.config.clone(),
            environment,
            directory: self.root.clone(),
            log: self.log_file(member),
        };
        self.supervisor.add(plan, true);
        self.members.insert(member, admin);
    }

    /// Runs a service with `--check`.
    pub(crate) fn check_settings(&self, service: &str) -> anyhow::Result<Output> {
        Command::new(self.binaries.join(service))
            .arg("--check")
            .arg("--config")
            .arg(&self.config)
            .current_dir(&self.root)
            .env("NO_COLOR", "1")
            .envs(&self.environment)
            .output()
            .with_context(|| format!("cannot start {service}"))
    }

    /// Kills the selected members with SIGKILL. They are not restarted.
    pub(crate) fn kill(&self, selected: impl Fn(Member) -> bool) -> anyhow::Result<()> {
        self.supervisor.set_wanted(&selected, false);
        self.supervisor.kill_where(selected).map(drop)
    }

    /// Returns the address to which providers post.
    pub(crate) fn webhooks(&self) -> &str {
        &self.addresses[home::WEBHOOKS]
    }

    /// Returns everything that a member has logged.
    pub(crate) fn log(&self, member: Member) -> anyhow::Result<String> {
        let file = self.log_file(member);
        std::fs::read_to_string(&file).with_context(|| file.display().to_string())
    }

    fn log_file(&self, member: Member) -> PathBuf {
        self.dirs.run.join(format!("{member}.log"))
    }

    /// Returns the state of Kafka, read with Kafka's own client: it does not share the code under test.
    pub(crate) fn inspect(&self) -> anyhow::Result<Cluster> {
        let source = self.dirs.run.join("Inspect.java");
        std::fs::write(&source, INSPECT)?;
        let jars = devstack::fetch::kafka_jars(&self.dirs.cache)?;
        let output = Command::new("timeout")
            .arg(INSPECT_TIMEOUT.as_secs().to_string())
            .arg(devstack::fetch::java()?)
            .args(["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"])
            .arg("-Dorg.slf4j.simpleLogger.defaultLogLevel=warn")
            .arg("-cp")
            .arg(jars.join("*"))
            .arg(&source)
            .arg(self.kafka.bootstrap())
            .output()
            .context("cannot start java")?;
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "Inspect.java failed ({}): {errors}", output.status);
        serde_json::from_slice(&output.stdout).context("parse the output of Inspect.java")
    }
}
