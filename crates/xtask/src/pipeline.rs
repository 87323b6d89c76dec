//! The whole of Mailpulse on this machine: Kafka, ClickHouse, every service.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use devstack::{ClickHouse, Dirs, Kafka};
use testkit::Credentials;

use crate::build::SERVICES;
use crate::supervisor::Supervisor;

const READY_WITHIN: Duration = Duration::from_secs(120);

/// A running pipeline. Stopped in order when dropped: services first.
pub(crate) struct Pipeline {
    pub(crate) supervisor: Supervisor,
    pub(crate) ingress: String,
    pub(crate) admins: BTreeMap<&'static str, String>,
    pub(crate) config: PathBuf,
    pub(crate) credentials: Credentials,
    pub(crate) clickhouse: ClickHouse,
    pub(crate) kafka: Kafka,
    /// Dropped last: removes the data.
    pub(crate) dirs: Dirs,
}

impl Pipeline {
    /// Starts everything and returns when every service is ready.
    pub(crate) fn start(binaries: &Path, tuning: &str) -> anyhow::Result<Self> {
        let dirs = Dirs::new()?;
        let kafka = Kafka::start(&dirs)?;
        let clickhouse = ClickHouse::start(&dirs)?;
        let ports = Ports::choose()?;
        let credentials = Credentials::new(&format!("http://{}", ports.ingress));
        let config = dirs.run.join("mailpulse.toml");
        let certificates = dirs.run.join("sns-certificates");
        std::fs::create_dir_all(&certificates)?;
        credentials.write_certificates(&certificates)?;
        let place = Place { dirs: &dirs, kafka: &kafka, clickhouse: &clickhouse, ports: &ports };
        std::fs::write(&config, place.config(&credentials, tuning)?)?;

        let supervisor = Supervisor::new();
        for service in SERVICES {
            let log = dirs.run.join(format!("{service}.log"));
            supervisor.keep(service, binaries.join(service), config.clone(), log);
        }
        let Ports { ingress, admins } = ports;
        let pipeline =
            Self { supervisor, ingress, admins, config, credentials, clickhouse, kafka, dirs };
        pipeline.await_ready()?;
        Ok(pipeline)
    }

    fn await_ready(&self) -> anyhow::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let client = reqwest::Client::new();
        let deadline = Instant::now() + READY_WITHIN;
        for (job, address) in &self.admins {
            let url = format!("http://{address}/readyz");
            loop {
                let answer = runtime.block_on(async { client.get(&url).send().await });
                if answer.is_ok_and(|answer| answer.status().is_success()) {
                    break;
                }
                if Instant::now() > deadline {
                    let log = self.dirs.run.join(format!("{job}.log"));
                    bail!(
                        "{job} is not ready; its log ends:\n{}",
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
        for (job, address) in &self.admins {
            line(job, &format!("http://{address}/metrics"));
        }
        line("configuration", &self.config.display().to_string());
        line("logs", &format!("{}/*.log", self.dirs.run.display()));
        lines
    }
}

/// Free ports for everything that listens.
struct Ports {
    ingress: String,
    admins: BTreeMap<&'static str, String>,
}

impl Ports {
    fn choose() -> anyhow::Result<Self> {
        let free =
            || Ok::<_, devstack::Error>(format!("127.0.0.1:{}", devstack::process::free_port()?));
        let ingress = free()?;
        let admins = SERVICES
            .into_iter()
            .map(|service| Ok((service, free()?)))
            .collect::<Result<_, devstack::Error>>()?;
        Ok(Self { ingress, admins })
    }
}

struct Place<'a> {
    dirs: &'a Dirs,
    kafka: &'a Kafka,
    clickhouse: &'a ClickHouse,
    ports: &'a Ports,
}

impl Place<'_> {
    /// The configuration: what differs from the defaults.
    fn config(&self, credentials: &Credentials, tuning: &str) -> anyhow::Result<String> {
        let run = self.dirs.run.display();
        let mut toml = String::new();
        let mut section = |name: &str, keys: &str| {
            writeln!(toml, "[{name}]\n{keys}").context("writing to a string")
        };
        section("kafka", &format!("bootstrap = {:?}", self.kafka.bootstrap()))?;
        section("topics", "recipient_partitions = 6\nscope_partitions = 3\nreplication = 1")?;
        section("clickhouse", &format!("url = {:?}", self.clickhouse.url()))?;
        for (service, admin) in &self.ports.admins {
            let mut keys = format!("admin = {admin:?}\n");
            match *service {
                "ingress" => {
                    keys += &format!(
                        "listen = {:?}\nsns_certificates = \"{run}/sns-certificates\"\n",
                        self.ports.ingress
                    );
                }
                "dedupe" => keys += &format!("directory = \"{run}/dedupe\"\n"),
                "monitor" => keys += tuning,
                _ => {}
            }
            section(service, &keys)?;
        }
        Ok(toml + &credentials.sources_toml())
    }
}
