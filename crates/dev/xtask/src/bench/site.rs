//! Where the benchmark takes place: one Kafka, one ClickHouse, and services started from release
//! binaries, each on a set of topics of its own.

use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use devstack::{ClickHouse, Dirs, Kafka, Origin, Running};
use indicatif::{ProgressBar, ProgressStyle};
use record::Topics;
use kafka::{Connection, TopicSettings, admin, inspect};

use super::script;
use crate::scrape;

/// Of every topic keyed by recipient, as the default settings have it.
pub(crate) const RECIPIENT_PARTITIONS: i32 = 6;
pub(crate) const SCOPE_PARTITIONS: i32 = 3;
/// How far back `dedupe` remembers, as the default settings have it.
const HORIZON_HOURS: u32 = 72;
/// How often progress is looked at. Asking a service for its metrics costs it a fraction of a
/// millisecond.
pub(crate) const LOOK_EVERY: Duration = Duration::from_millis(100);
/// A leg that does not get on for so long has failed.
pub(crate) const STUCK_AFTER: Duration = Duration::from_secs(60);
const STOP_WITHIN: Duration = Duration::from_secs(30);

/// An hour of mail goes by in seconds here: what is a moment's disorder in live traffic is minutes
/// of event time.
const COMPRESSED_TIME: &str = "out_of_orderness = \"5m\"\nallowed_lateness = \"30m\"\n";

/// The servers, and how to start services beside them.
pub(crate) struct Site {
    binaries: PathBuf,
    clickhouse: Mutex<ClickHouse>,
    pub(crate) kafka: Kafka,
    runtime: tokio::runtime::Runtime,
    http: reqwest::Client,
    /// Dropped last: removes the data.
    pub(crate) dirs: Dirs,
}

impl Site {
    /// Starts Kafka and ClickHouse.
    pub(crate) fn start(binaries: PathBuf) -> anyhow::Result<Self> {
        let dirs = Dirs::new()?;
        Ok(Self {
            binaries,
            kafka: Kafka::start(&dirs)?,
            clickhouse: Mutex::new(ClickHouse::start(&dirs)?),
            runtime: tokio::runtime::Builder::new_current_thread().enable_all().build()?,
            // No connection is kept: while nobody polls the runtime, nobody sees the server close it.
            http: reqwest::Client::builder().pool_max_idle_per_host(0).build()?,
            dirs,
        })
    }

    /// Topics, groups and tables under a name of their own.
    pub(crate) fn line(&self, name: &str) -> anyhow::Result<Line<'_>> {
        let port = devstack::process::free_port()?;
        Ok(Line {
            site: self,
            topics: Topics::new(&format!("{name}.")),
            database: format!("bench_{name}"),
            ingress: format!("127.0.0.1:{port}"),
            directory: self.dirs.run.join(name),
        })
    }

    /// How to reach Kafka for ourselves.
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

    /// Where ClickHouse answers.
    pub(crate) fn clickhouse_url(&self) -> String {
        self.clickhouse().url().to_owned()
    }

    /// The process id of a ClickHouse of ours.
    pub(crate) fn clickhouse_pid(&self) -> Option<u32> {
        self.clickhouse().pid()
    }

    /// Where ClickHouse comes from.
    pub(crate) fn clickhouse_origin(&self) -> Origin {
        self.clickhouse().origin()
    }

    /// Stops ClickHouse, as a crash would.
    pub(crate) fn stop_clickhouse(&self) -> anyhow::Result<()> {
        Ok(self.clickhouse().kill()?)
    }

    /// Starts it again over its data.
    pub(crate) fn restart_clickhouse(&self) -> anyhow::Result<()> {
        Ok(self.clickhouse().restart()?)
    }

    /// What ClickHouse answers.
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

    /// The one number a query gives.
    pub(crate) fn number(&self, sql: &str) -> anyhow::Result<u64> {
        let answer = String::from_utf8(self.sql(sql)?)?;
        answer.trim().parse().with_context(|| format!("{sql}: {answer}"))
    }

    /// The sum of a metric over the label sets that contain `label`.
    pub(crate) fn metric(&self, service: &Running, name: &str, label: &str) -> anyhow::Result<u64> {
        let url = format!("http://{}/metrics", service.admin());
        let text =
            self.runtime.block_on(async { self.http.get(url).send().await?.text().await })?;
        Ok(scrape::sum(&text, name, label) as u64)
    }

    /// Waits for a future of a client library.
    pub(crate) fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }
}

/// One pipeline's worth of topics and tables.
pub(crate) struct Line<'s> {
    pub(crate) site: &'s Site,
    pub(crate) topics: Topics,
    pub(crate) database: String,
    /// Where this line's ingress listens once it is started.
    pub(crate) ingress: String,
    directory: PathBuf,
}

impl Line<'_> {
    /// Makes the topics, for who writes to them before any service has started.
    pub(crate) fn create_topics(&self) -> anyhow::Result<()> {
        let settings = TopicSettings {
            recipient_partitions: RECIPIENT_PARTITIONS,
            scope_partitions: SCOPE_PARTITIONS,
            replication: 1,
            create: true,
        };
        Ok(settings.prepare(&self.site.connection("none"), &self.topics, HORIZON_HOURS)?)
    }

    /// Starts a service and returns when it is ready.
    pub(crate) fn start(&self, job: &'static str) -> anyhow::Result<Running> {
        let binary = self.site.binaries.join(job);
        let instance = format!("{job}-bench");
        let name = [("MAILPULSE__SERVICE__INSTANCE", instance.as_str())];
        Ok(Running::start_as(&self.site.dirs, &binary, job, &self.toml(), &name)?)
    }

    /// Stops a service as an operator would.
    pub(crate) fn stop(&self, mut service: Running) -> anyhow::Result<()> {
        let status = service.terminate(STOP_WITHIN)?;
        ensure!(status.success(), "{status}; its log ends:\n{}", service.log_tail(20));
        Ok(())
    }

    /// Removes what the services keep on disk.
    pub(crate) fn wipe(&self) -> anyhow::Result<()> {
        std::fs::remove_dir_all(&self.directory).context(self.directory.display().to_string())
    }

    fn toml(&self) -> String {
        format!(
            "[kafka]\nbootstrap = {bootstrap:?}\nprefix = {prefix:?}\n\
             [topics]\nreplication = 1\nrecipient_partitions = {RECIPIENT_PARTITIONS}\n\
             scope_partitions = {SCOPE_PARTITIONS}\n\
             [clickhouse]\nurl = {url:?}\ndatabase = {database:?}\n\
             [ingress]\nlisten = {listen:?}\nsns_certificates = {directory:?}\n\
             spool_directory = {spool:?}\ndrain_delay = \"0s\"\n\
             [dedupe]\ndirectory = {directory:?}\n\
             [monitor]\n{COMPRESSED_TIME}{sources}",
            bootstrap = self.site.kafka.bootstrap(),
            prefix = self.topics.prefix,
            url = self.site.clickhouse_url(),
            database = self.database,
            listen = self.ingress,
            directory = self.directory,
            spool = self.directory.join("spool"),
            sources = script::sources_toml(),
        )
    }

    /// Records of a topic that a group has still to read. A topic written in transactions ends in
    /// their `markers`, one a partition, which are no records.
    pub(crate) fn lag(&self, job: &str, topic: &str, markers: i64) -> anyhow::Result<u64> {
        let connection = self.site.connection("none");
        let counts = admin::partition_counts(&connection)?;
        let partitions = *counts.get(topic).with_context(|| format!("no topic {topic}"))?;
        let ends = admin::watermarks(&connection, topic, partitions)?;
        let group = self.topics.group(job);
        let committed = inspect::committed_offsets(&connection, &group, topic, partitions)?;
        let left = ends.iter().zip(committed).map(|(&(first, end), committed)| {
            let at = committed.map_or(first, |(offset, _)| offset);
            let data_end = if end > first { end - markers } else { end };
            (data_end - at).max(0)
        });
        Ok(left.sum::<i64>().unsigned_abs())
    }

    /// Waits until a figure reaches `goal`, showing it; returns what was seen on the way.
    pub(crate) fn watch(
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
            ensure!(moved.elapsed() < STUCK_AFTER, "{what}: stuck at {now} of {goal}");
            std::thread::sleep(LOOK_EVERY);
        }
    }
}

/// How a figure grew.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    first: Option<(Instant, u64)>,
    last: Option<(Instant, u64)>,
}

impl Progress {
    /// Growth per second between the first time it had grown and the last.
    pub(crate) fn per_second(&self) -> f64 {
        let (Some((began, first)), Some((ended, last))) = (self.first, self.last) else {
            return 0.0;
        };
        (last - first) as f64 / (ended - began).as_secs_f64()
    }
}

/// A line of progress.
pub(crate) fn bar(what: &str, goal: u64) -> ProgressBar {
    let style = "  {prefix:<34} {bar:30.cyan/238} {human_pos:>10}/{human_len} {per_sec:>14}";
    let style = ProgressStyle::with_template(style)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("━╸─");
    let bar = ProgressBar::new(goal).with_style(style).with_prefix(what.to_owned());
    if bar.is_hidden() {
        eprintln!("  {what}: {goal} …");
    }
    bar
}
