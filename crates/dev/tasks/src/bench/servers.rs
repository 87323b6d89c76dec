//! The servers of the benchmark: one Kafka and one ClickHouse. Each leg has its own topics and tables.

use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use bytes::Bytes;
use devstack::{ClickHouse, Dirs, Kafka, Running, ServerKind};
use indicatif::{ProgressBar, ProgressStyle};
use kafka::{Connection, TopicSettings, inspect, topics};
use record::Topics;

use super::script;
use crate::pipeline::report;
use crate::run_name::RunName;
use crate::{binaries, scrape};

/// The partitions of topics keyed by recipient, as in the default settings.
pub(crate) const RECIPIENT_PARTITIONS: i32 = 6;
pub(crate) const SCOPE_PARTITIONS: i32 = 3;
/// How long `dedupe` remembers messages, as in the default settings.
const HORIZON_HOURS: u32 = 9 * 24;
/// How often metrics are read. A service needs a fraction of a millisecond to return them.
pub(crate) const POLL: Duration = Duration::from_millis(100);
/// A leg that makes no progress for this time has failed.
pub(crate) const STUCK_AFTER: Duration = Duration::from_secs(60);
const STOP_TIMEOUT: Duration = Duration::from_secs(30);

/// An hour of mail passes in seconds, so a short disorder is minutes of event time.
const COMPRESSED_TIME: &str = "out_of_orderness = \"5m\"\n";

/// The servers, and the services to start.
pub(crate) struct Servers {
    binaries: PathBuf,
    clickhouse: Mutex<ClickHouse>,
    pub(crate) kafka: Kafka,
    runtime: tokio::runtime::Runtime,
    http: reqwest::Client,
    /// The names of this run.
    pub(crate) name: RunName,
    /// Dropped last, because it removes the data.
    pub(crate) dirs: Dirs,
}

impl Servers {
    /// Starts Kafka and ClickHouse.
    pub(crate) fn start() -> anyhow::Result<Self> {
        let dirs = Dirs::new()?;
        let kafka = Kafka::start_optimised(&dirs)?;
        report("Kafka", kafka.bootstrap(), kafka.kind());
        let clickhouse = ClickHouse::start(&dirs)?;
        report("ClickHouse", clickhouse.url(), clickhouse.kind());
        Ok(Self {
            binaries: binaries::directory()?,
            kafka,
            clickhouse: Mutex::new(clickhouse),
            runtime: tokio::runtime::Builder::new_current_thread().enable_all().build()?,
            // The runtime does not run between requests, so it would not notice a closed connection.
            http: reqwest::Client::builder().pool_max_idle_per_host(0).build()?,
            name: RunName::new("bench"),
            dirs,
        })
    }

    /// Returns topics, groups and tables with unique names.
    pub(crate) fn namespace(&self, name: &str) -> anyhow::Result<Namespace<'_>> {
        let port = devstack::process::free_port()?;
        Ok(Namespace {
            servers: self,
            topics: Topics::new(&self.name.part(name).kafka_prefix),
            database: self.name.part(name).database,
            ingress: format!("127.0.0.1:{port}"),
            directory: self.dirs.run.join(name),
        })
    }

    /// Returns the connection to Kafka for this process.
    pub(crate) fn connection(&self, compression: &str) -> Connection {
        Connection {
            bootstrap: self.kafka.bootstrap().to_owned(),
            instance: "bench".to_owned(),
            group_protocol: "consumer".to_owned(),
            compression: compression.to_owned(),
            ..Connection::default()
        }
    }

    fn clickhouse(&self) -> MutexGuard<'_, ClickHouse> {
        self.clickhouse.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn clickhouse_url(&self) -> String {
        self.clickhouse().url().to_owned()
    }

    /// Returns the process id of ClickHouse if it is a child process.
    pub(crate) fn clickhouse_pid(&self) -> Option<u32> {
        self.clickhouse().pid()
    }

    pub(crate) fn clickhouse_kind(&self) -> ServerKind {
        self.clickhouse().kind()
    }

    /// Kills ClickHouse.
    pub(crate) fn stop_clickhouse(&self) -> anyhow::Result<()> {
        Ok(self.clickhouse().kill()?)
    }

    /// Restarts ClickHouse with its data.
    pub(crate) fn restart_clickhouse(&self) -> anyhow::Result<()> {
        Ok(self.clickhouse().restart()?)
    }

    /// Returns ClickHouse's answer to a statement.
    pub(crate) fn sql(&self, sql: &str) -> anyhow::Result<Vec<u8>> {
        self.runtime.block_on(async {
            let response = self.http.post(self.clickhouse_url()).body(sql.to_owned());
            let response = response.send().await?;
            let status = response.status();
            let bytes = response.bytes().await?;
            ensure!(status.is_success(), "ClickHouse: {}", String::from_utf8_lossy(&bytes));
            Ok(bytes.to_vec())
        })
    }

    /// Inserts a block of rows.
    pub(crate) fn insert(&self, sql: &str, block: Bytes) -> anyhow::Result<()> {
        self.runtime.block_on(async {
            let request = self.http.post(self.clickhouse_url());
            let response = request.query(&[("query", sql), ("async_insert", "0")]).body(block);
            let response = response.send().await?;
            let status = response.status();
            ensure!(status.is_success(), "ClickHouse: {}", response.text().await?);
            Ok(())
        })
    }

    /// Returns the number that a query returns.
    pub(crate) fn number(&self, sql: &str) -> anyhow::Result<u64> {
        let answer = String::from_utf8(self.sql(sql)?)?;
        answer.trim().parse().with_context(|| format!("{sql}: {answer}"))
    }

    /// Returns the sum of a metric over the label sets that contain `label`.
    pub(crate) fn metric(&self, service: &Running, name: &str, label: &str) -> anyhow::Result<u64> {
        let url = format!("http://{}/metrics", service.admin());
        let text =
            self.runtime.block_on(async { self.http.get(url).send().await?.text().await })?;
        Ok(scrape::sum(&text, name, label) as u64)
    }

    pub(crate) fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }
}

/// The topics, groups and tables of a leg.
pub(crate) struct Namespace<'s> {
    pub(crate) servers: &'s Servers,
    pub(crate) topics: Topics,
    pub(crate) database: String,
    /// The address of the ingress.
    pub(crate) ingress: String,
    directory: PathBuf,
}

impl Namespace<'_> {
    /// Creates the topics before the first service is started.
    pub(crate) fn create_topics(&self) -> anyhow::Result<()> {
        let settings = TopicSettings {
            recipient_partitions: RECIPIENT_PARTITIONS,
            scope_partitions: SCOPE_PARTITIONS,
            replication: 1,
            create: true,
        };
        Ok(settings.prepare(&self.servers.connection("none"), &self.topics, HORIZON_HOURS)?)
    }

    /// Starts a service and returns when it is ready.
    pub(crate) fn start(&self, service: &'static str) -> anyhow::Result<Running> {
        self.start_as(service, &self.toml())
    }

    /// Starts a service for the leg about pages, with time records and further settings.
    pub(crate) fn start_with(
        &self,
        service: &'static str,
        settings: &str,
    ) -> anyhow::Result<Running> {
        let toml = self.toml().replace("time_every = \"0s\"\n", "").replace(COMPRESSED_TIME, "");
        self.start_as(service, &(toml + settings))
    }

    fn start_as(&self, service: &'static str, toml: &str) -> anyhow::Result<Running> {
        let binary = self.servers.binaries.join(service);
        let instance = format!("{service}-bench");
        let name = [("MAILPULSE__SERVICE__INSTANCE", instance.as_str())];
        Ok(Running::start_as(&self.servers.dirs, &binary, service, toml, &name)?)
    }

    /// Stops a service with SIGTERM.
    pub(crate) fn stop(&self, mut service: Running) -> anyhow::Result<()> {
        let status = service.terminate(STOP_TIMEOUT)?;
        ensure!(status.success(), "{status}; its log ends:\n{}", service.log_tail(20));
        Ok(())
    }

    /// Removes the files of the services.
    pub(crate) fn wipe(&self) -> anyhow::Result<()> {
        std::fs::remove_dir_all(&self.directory).context(self.directory.display().to_string())
    }

    fn toml(&self) -> String {
        format!(
            "[kafka]\nbootstrap = {bootstrap:?}\nprefix = {prefix:?}\n\
             [topics]\nreplication = 1\nrecipient_partitions = {RECIPIENT_PARTITIONS}\n\
             scope_partitions = {SCOPE_PARTITIONS}\n\
             [clickhouse]\nurl = {url:?}\ndatabase = {database:?}\n\
             [ingress]\ntime_every = \"0s\"\nlisten = {listen:?}\nsns_certificates = {directory:?}\n\
             spool_directory = {spool:?}\ndrain_delay = \"0s\"\n\
             [dedupe]\ndirectory = {directory:?}\n\
             {retention}\
             [monitor]\n{COMPRESSED_TIME}{sources}",
            bootstrap = self.servers.kafka.bootstrap(),
            prefix = self.topics.prefix,
            url = self.servers.clickhouse_url(),
            database = self.database,
            listen = self.ingress,
            directory = self.directory,
            spool = self.directory.join("spool"),
            sources = script::sources_toml(),
            retention = devstack::retention::keep_rows_toml(),
        )
    }

    /// Returns how many records of a topic a group has not read. Each partition of a topic that is written
    /// in transactions ends with `markers`, which are not records.
    pub(crate) fn lag(&self, stage: &str, topic: &str, markers: i64) -> anyhow::Result<u64> {
        let connection = self.servers.connection("none");
        let counts = topics::partition_counts(&connection)?;
        let partitions = *counts.get(topic).with_context(|| format!("no topic {topic}"))?;
        let ends = topics::watermarks(&connection, topic, partitions)?;
        let group = self.topics.group(stage);
        let committed = inspect::committed_offsets(&connection, &group, topic, partitions)?;
        let left = ends.iter().zip(committed).map(|(&(first, end), committed)| {
            let at = committed.map_or(first, |(offset, _)| offset);
            let data_end = if end > first { end - markers } else { end };
            (data_end - at).max(0)
        });
        Ok(left.sum::<i64>().unsigned_abs())
    }

    /// Waits until a number reaches `goal`, and shows it. Returns how it grew.
    pub(crate) fn wait_for(
        &self,
        what: &str,
        goal: u64,
        mut figure: impl FnMut() -> anyhow::Result<u64>,
    ) -> anyhow::Result<Progress> {
        let bar = bar(what, goal);
        let mut seen = Progress::default();
        let mut moved = Instant::now();
        loop {
            let now = figure()?;
            let at = Instant::now();
            if now > seen.last.map_or(0, |(_, figure)| figure) {
                moved = at;
                seen.first.get_or_insert((at, now));
                seen.last = Some((at, now));
            }
            bar.set_position(now);
            if now >= goal {
                bar.finish_and_clear();
                return Ok(seen);
            }
            ensure!(moved.elapsed() < STUCK_AFTER, "{what}: no progress at {now} of {goal}");
            std::thread::sleep(POLL);
        }
    }
}

/// The growth of a number.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    first: Option<(Instant, u64)>,
    last: Option<(Instant, u64)>,
}

impl Progress {
    /// Returns the growth per second between the first and the last change.
    pub(crate) fn per_second(&self) -> f64 {
        let (Some((began, first)), Some((ended, last))) = (self.first, self.last) else {
            return 0.0;
        };
        (last - first) as f64 / (ended - began).as_secs_f64()
    }
}

/// Returns a progress bar.
pub(crate) fn bar(what: &str, goal: u64) -> ProgressBar {
    let style = "  {prefix:<34} {bar:30.cyan/238} {human_pos:>10}/{human_len} {per_sec:>14}";
    let style = ProgressStyle::with_template(style)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("━╸─");
    let bar = ProgressBar::new(goal).with_style(style).with_prefix(what.to_owned());
    if bar.is_hidden() {
        eprintln!("    {what}: {goal} …");
    }
    bar
}
