//! The whole of Mailpulse on this machine: Kafka, ClickHouse, every service.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use devstack::{ClickHouse, Dirs, Kafka};
use testkit::Credentials;

use crate::build::{self, SERVICES};
use crate::supervisor::{Member, Orders, Supervisor};

const READY_WITHIN: Duration = Duration::from_secs(120);

/// What differs from one member of each service, on default settings, with whatever servers there
/// are.
#[derive(Default)]
pub(crate) struct Layout {
    /// Keys of a section beside those that the pipeline itself needs.
    pub(crate) keys: BTreeMap<&'static str, String>,
    /// How many of a service are kept running, where it is not one.
    pub(crate) members: BTreeMap<&'static str, u8>,
    /// Members that are known to the supervisor and not started.
    pub(crate) guests: Vec<Member>,
    /// Kafka and ClickHouse are to be processes of ours, which can be killed.
    pub(crate) own_servers: bool,
}

/// A running pipeline. Stopped in order when dropped: services first.
pub(crate) struct Pipeline {
    pub(crate) supervisor: Supervisor,
    pub(crate) ingress: String,
    /// Of the first member of each service.
    pub(crate) admins: BTreeMap<&'static str, String>,
    /// Of every member that is kept running.
    pub(crate) members: BTreeMap<Member, String>,
    pub(crate) config: PathBuf,
    pub(crate) credentials: Credentials,
    pub(crate) clickhouse: ClickHouse,
    pub(crate) kafka: Kafka,
    /// Dropped last: removes the data.
    pub(crate) dirs: Dirs,
}

impl Pipeline {
    /// Starts everything and returns when every service is ready.
    pub(crate) fn start(binaries: &Path, layout: &Layout) -> anyhow::Result<Self> {
        let dirs = Dirs::new()?;
        let (kafka, clickhouse) = if layout.own_servers {
            (Kafka::start_own(&dirs)?, ClickHouse::start_own(&dirs)?)
        } else {
            (Kafka::start(&dirs)?, ClickHouse::start(&dirs)?)
        };
        let aside = dirs.run.join("bin");
        build::set_aside(binaries, &aside)?;
        let ingress = free_address()?;
        let credentials = Credentials::new(&format!("http://{ingress}"));
        let config = dirs.run.join("mailpulse.toml");
        let certificates = dirs.run.join("sns-certificates");
        std::fs::create_dir_all(&certificates)?;
        credentials.write_certificates(&certificates)?;
        let place =
            Place { dirs: &dirs, kafka: &kafka, clickhouse: &clickhouse, ingress: &ingress };
        std::fs::write(&config, place.config(&credentials, layout)?)?;

        let (supervisor, mut members) = (Supervisor::new(), BTreeMap::new());
        for (member, wanted) in layout.cast() {
            let admin = free_address()?;
            supervisor.take(orders(member, &admin, &aside, &config, &dirs)?, wanted);
            if wanted {
                members.insert(member, admin);
            }
        }
        let firsts = members.iter().filter(|(member, _)| member.number == 1);
        let admins = firsts.map(|(member, admin)| (member.service, admin.clone())).collect();
        let pipeline = Self {
            supervisor,
            ingress,
            admins,
            members,
            config,
            credentials,
            clickhouse,
            kafka,
            dirs,
        };
        pipeline.await_ready()?;
        Ok(pipeline)
    }

    /// Waits until every member that is kept running says it is ready.
    pub(crate) fn await_ready(&self) -> anyhow::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let client = reqwest::Client::builder().timeout(Duration::from_secs(5)).build()?;
        let deadline = Instant::now() + READY_WITHIN;
        for (member, address) in &self.members {
            let url = format!("http://{address}/readyz");
            loop {
                let answer = runtime.block_on(async { client.get(&url).send().await });
                if answer.is_ok_and(|answer| answer.status().is_success()) {
                    break;
                }
                if Instant::now() > deadline {
                    let log = self.dirs.run.join(format!("{member}.log"));
                    bail!(
                        "{member} is not ready; its log ends:\n{}",
                        devstack::process::tail(&log, 20)
                    );
                }
                std::thread::sleep(Duration::from_millis(50));
            }
        }
        Ok(())
    }

    /// Where things are, for people.
    pub(crate) fn directory(&self) -> String {
        let mut lines = String::new();
        let mut line = |what: &str, place: &str| {
            let _ = writeln!(lines, "  {what:<14} {place}");
        };
        line("webhooks", &format!("http://{}/webhooks/{{provider}}/{{source}}", self.ingress));
        line("clickhouse", &format!("{}/?database=mailpulse", self.clickhouse.url()));
        line("kafka", self.kafka.bootstrap());
        for (member, address) in &self.members {
            line(&member.to_string(), &format!("http://{address}/metrics"));
        }
        line("configuration", &self.config.display().to_string());
        line("logs", &format!("{}/*.log", self.dirs.run.display()));
        lines
    }
}

impl Layout {
    /// Every member, in the order of an event's way, and whether it is kept running.
    fn cast(&self) -> impl Iterator<Item = (Member, bool)> {
        let regular = SERVICES.into_iter().flat_map(|service| {
            let many = self.members.get(service).copied().unwrap_or(1);
            (1..=many).map(move |number| (Member { service, number }, true))
        });
        regular.chain(self.guests.iter().map(|&guest| (guest, false)))
    }
}

/// How to start a member, with a directory of its own for what it keeps on disk.
fn orders(
    member: Member,
    admin: &str,
    binaries: &Path,
    config: &Path,
    dirs: &Dirs,
) -> anyhow::Result<Orders> {
    let directory = dirs.run.join(member.to_string());
    std::fs::create_dir_all(&directory)?;
    let admin_key = format!("MAILPULSE__{}__ADMIN", member.service.to_uppercase());
    Ok(Orders {
        member,
        binary: binaries.join(member.service),
        config: config.to_owned(),
        environment: vec![(admin_key, admin.to_owned())],
        directory,
        log: dirs.run.join(format!("{member}.log")),
    })
}

/// An address of this machine that nobody listens on.
fn free_address() -> Result<String, devstack::Error> {
    Ok(format!("127.0.0.1:{}", devstack::process::free_port()?))
}

struct Place<'a> {
    dirs: &'a Dirs,
    kafka: &'a Kafka,
    clickhouse: &'a ClickHouse,
    ingress: &'a str,
}

impl Place<'_> {
    /// The configuration: what differs from the defaults.
    fn config(&self, credentials: &Credentials, layout: &Layout) -> anyhow::Result<String> {
        let run = self.dirs.run.display();
        let mut toml = String::new();
        let mut section = |name: &str, keys: &str| {
            writeln!(toml, "[{name}]\n{keys}").context("writing to a string")
        };
        section("kafka", &format!("bootstrap = {:?}", self.kafka.bootstrap()))?;
        section("topics", "recipient_partitions = 6\nscope_partitions = 3\nreplication = 1")?;
        section("clickhouse", &format!("url = {:?}", self.clickhouse.url()))?;
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
        for (name, keys) in layout.keys.iter().filter(|(name, _)| !SERVICES.contains(name)) {
            section(name, keys)?;
        }
        Ok(toml + &credentials.sources_toml())
    }
}
