//! `cargo xtask bench queries`: fills ClickHouse with events of a month, and prints how long each question of
//! docs/analysts.md takes and how many rows it reads, while new events are being inserted.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use devstack::{ClickHouse, Dirs};
use serde::Deserialize;

use super::servers::bar;
use crate::clickhouse::Database;
use crate::phase::Phase;
use crate::pipeline::report;
use crate::questions::file::{self, Question};
use crate::run_name::RunName;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The number of events. Fifty million take a quarter of an hour and 12 GiB of disk.
    #[arg(long, default_value_t = 5_000_000, value_parser = clap::value_parser!(u64).range(100_000..=200_000_000))]
    events: u64,
    /// Keep the database in this directory, and use it again if it has one with as many events.
    #[arg(long, value_name = "DIRECTORY")]
    data: Option<PathBuf>,
}

/// One block of events, as a statement with parameters.
const FILL: &str = include_str!("queries/fill.sql");
/// Events of one insert.
const BLOCK: u64 = 100_000;
/// Each message has three events.
const EVENTS_OF_MESSAGE: u64 = 3;
/// Each recipient has about five messages.
const EVENTS_OF_RECIPIENT: u64 = 15;
/// The time of the last message: the end of the examples in the files.
const UNTIL: &str = "2026-11-03 00:00:00";
/// The same a month later: the events that arrive while questions are asked.
const UNTIL_LIVE: &str = "2026-12-03 00:00:00";
/// Events of an insert while questions are asked, and the pause between two: 1,000 events per second.
const LIVE_BLOCK: u64 = 1_000;
const LIVE_PAUSE: Duration = Duration::from_secs(1);
/// How often each question is asked.
const TIMES: usize = 5;
/// The share of `events` that a question may read, in percent.
const SHARE: f64 = 2.0;

/// Fills the database, asks, and prints the table.
pub(crate) fn queries(arguments: &Arguments) -> anyhow::Result<()> {
    let root = devstack::fetch::workspace();
    let questions = file::read_all(root)?;
    let dirs = Dirs::new()?;
    let clickhouse = match &arguments.data {
        Some(data) => ClickHouse::start_on(&dirs, &root.join(data))?,
        None => ClickHouse::start(&dirs)?,
    };
    report("ClickHouse", clickhouse.url(), clickhouse.kind());
    let name = arguments.data.as_ref().map_or_else(
        || RunName::new("queries").database,
        |_| format!("queries_{}", arguments.events),
    );
    let database = Database::new(clickhouse.url(), &name);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(measure(arguments.events, root, &questions, &database, clickhouse.url()))
}

async fn measure(
    events: u64,
    root: &Path,
    questions: &[Question],
    database: &Database,
    url: &str,
) -> anyhow::Result<()> {
    create(root, database, url).await?;
    if database.count("SELECT count() FROM events").await? < events {
        fill(events, database).await?;
    }
    println!("{}", sizes(database).await?);
    let phase = Phase::begin("refreshing the table of recipients", "1 min per 20 million events");
    database.text("SYSTEM REFRESH VIEW recipients_refresh").await?;
    database.text("SYSTEM WAIT VIEW recipients_refresh").await?;
    drop(phase);
    let recipient = "SELECT recipient FROM recipients WHERE source = 'shop' LIMIT 1";
    let recipient = database.text(recipient).await?;
    let special = [
        ("campaign", "newsletter-2026-11-01".to_owned()),
        ("id", format!("message-{}", events / EVENTS_OF_MESSAGE / 2)),
        ("address", recipient.trim().to_owned()),
    ];
    let live = Live { is_over: AtomicBool::new(false), inserted: AtomicU64::new(0) };
    let ask = async {
        let table = ask_all(events, questions, &special, database).await;
        live.is_over.store(true, Ordering::Relaxed);
        table
    };
    let (table, inserted) = tokio::join!(ask, live.insert(events, database));
    inserted?;
    println!("{}", table?);
    println!("{} events were inserted meanwhile", live.inserted.load(Ordering::Relaxed));
    Ok(())
}

/// Creates the database and applies the files of `schemas/clickhouse`.
async fn create(root: &Path, database: &Database, url: &str) -> anyhow::Result<()> {
    let server = Database::new(url, "default");
    server.text(&format!("CREATE DATABASE IF NOT EXISTS {}", database.name)).await?;
    let directory = root.join("schemas/clickhouse");
    let entries = std::fs::read_dir(&directory).context("read schemas/clickhouse")?;
    let mut files: Vec<PathBuf> =
        entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>()?;
    // Only migrations begin with a number.
    files.retain(|path| {
        path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(char::is_numeric))
    });
    files.sort();
    for path in files {
        let content = std::fs::read_to_string(&path)?;
        for statement in content.split(";\n").map(str::trim).filter(|it| !it.is_empty()) {
            database.text(statement).await.with_context(|| path.display().to_string())?;
        }
    }
    Ok(())
}

/// Inserts all events in blocks, as archive does.
async fn fill(events: u64, database: &Database) -> anyhow::Result<()> {
    let _phase = Phase::begin("filling the tables", "1 min per 3 million events");
    let progress = bar("events", events);
    let mut first = database.count("SELECT count() FROM events").await? / BLOCK * BLOCK;
    progress.inc(first);
    while first < events {
        let number = BLOCK.min(events - first);
        insert(database, first, number, events, UNTIL).await?;
        first += number;
        progress.inc(number);
    }
    progress.finish();
    Ok(())
}

async fn insert(
    database: &Database,
    first: u64,
    number: u64,
    events: u64,
    until: &str,
) -> anyhow::Result<()> {
    let parameters = [
        ("first", first.to_string()),
        ("number", number.to_string()),
        ("messages", (events / EVENTS_OF_MESSAGE).to_string()),
        ("recipients", (events / EVENTS_OF_RECIPIENT).to_string()),
        ("until", until.to_owned()),
    ];
    let parameters = parameters.map(|(name, value)| (name.to_owned(), value));
    database.text_with(FILL.trim().trim_end_matches(';'), &parameters).await?;
    Ok(())
}

/// Inserts new events until it is over.
struct Live {
    is_over: AtomicBool,
    inserted: AtomicU64,
}

impl Live {
    async fn insert(&self, events: u64, database: &Database) -> anyhow::Result<()> {
        let mut first = events;
        while !self.is_over.load(Ordering::Relaxed) {
            insert(database, first, LIVE_BLOCK, events, UNTIL_LIVE).await?;
            first += LIVE_BLOCK;
            self.inserted.fetch_add(LIVE_BLOCK, Ordering::Relaxed);
            tokio::time::sleep(LIVE_PAUSE).await;
        }
        Ok(())
    }
}

/// Returns the rows and bytes of every table.
async fn sizes(database: &Database) -> anyhow::Result<String> {
    #[derive(Deserialize)]
    struct Size {
        table: String,
        rows: u64,
        bytes: u64,
    }
    let sql = "SELECT table, sum(rows) AS rows, sum(bytes_on_disk) AS bytes FROM system.parts \
               WHERE active AND database = currentDatabase() GROUP BY table ORDER BY bytes DESC";
    let sizes: Vec<Size> = database.rows(sql).await?;
    let mut text = format!("{:<18} {:>12} {:>10}\n", "table", "rows", "MiB");
    for Size { table, rows, bytes } in sizes {
        let _ = writeln!(text, "{table:<18} {rows:>12} {:>10}", bytes >> 20);
    }
    Ok(text)
}

async fn ask_all(
    events: u64,
    questions: &[Question],
    special: &[(&str, String)],
    database: &Database,
) -> anyhow::Result<String> {
    let _phase = Phase::begin("asking every question five times", "1 min");
    let mut text = format!(
        "{:<36} {:>9} {:>9} {:>13} {:>9}\n",
        "question", "median", "longest", "rows read", "of events"
    );
    let mut above = Vec::new();
    for question in questions {
        let mut values = question.example.clone();
        for (name, value) in special {
            values.entry((*name).to_owned()).and_modify(|old| old.clone_from(value));
        }
        let values: Vec<(String, String)> = values.into_iter().collect();
        let (mut times, mut rows) = (Vec::new(), 0);
        for _ in 0..TIMES {
            let began = Instant::now();
            rows = database
                .rows_read(&question.sql, &values)
                .await
                .with_context(|| question.file.clone())?;
            times.push(began.elapsed().as_millis());
        }
        times.sort_unstable();
        let share = 100.0 * rows as f64 / events as f64;
        let name = question.file.trim_end_matches(".sql");
        let _ = writeln!(
            text,
            "{name:<36} {:>6} ms {:>6} ms {rows:>13} {share:>7.2} %",
            times[TIMES / 2],
            times[TIMES - 1],
        );
        if share > SHARE
            && question.reads.contains("`events`")
            && !question.reads.contains("nothing of `events`")
        {
            above.push(name);
        }
    }
    let _ = write!(
        text,
        "questions that read `events` and more than {SHARE} % as many rows: {above:?}"
    );
    Ok(text)
}
