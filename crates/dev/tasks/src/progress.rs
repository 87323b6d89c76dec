//! Shows the progress of the demo.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use testkit::Traffic;
use tokio::task::JoinHandle;

use crate::check::Posted;
use crate::clickhouse::Database;
use crate::pipeline::Pipeline;
use crate::scrape;

const INTERVAL: Duration = Duration::from_millis(400);

/// A line with a bar.
struct Line {
    bar: ProgressBar,
    name: &'static str,
    seen: u64,
}

impl Line {
    /// Adds the growth of a counter. A restarted service counts from zero, so the records between the
    /// last reading and its end are not shown. The comparison at the end reads ClickHouse instead.
    fn show(&mut self, count: u64) {
        let new = if count < self.seen { count } else { count - self.seen };
        self.seen = count;
        self.bar.inc(new);
    }
}

/// Bars on a terminal, otherwise a line every few seconds.
pub(crate) struct Progress {
    requests: Arc<AtomicU64>,
    all: MultiProgress,
    is_live: bool,
    task: JoinHandle<()>,
}

impl Progress {
    pub(crate) fn start(pipeline: &Pipeline, traffic: &Traffic) -> Self {
        let truth = traffic.expected();
        let is_live = std::io::stderr().is_terminal();
        let all = MultiProgress::new();
        let requests = Arc::new(AtomicU64::new(0));
        let goals: [(&'static str, u64); 8] = [
            ("requests posted", truth.requests),
            ("events accepted", truth.accepted_total()),
            ("enriched", truth.accepted_total()),
            ("passed by dedupe", truth.distinct_total()),
            ("duplicates", truth.duplicates),
            ("rows in ClickHouse", truth.distinct_total()),
            ("dead letters", truth.malformed),
            ("incidents opened", truth.alerts.len() as u64),
        ];
        let lines: Vec<Line> = goals
            .into_iter()
            .map(|(name, goal)| {
                let bar = all.add(ProgressBar::new(goal));
                bar.set_style(style());
                bar.set_prefix(name);
                Line { bar, name, seen: 0 }
            })
            .collect();
        let reader = Reader {
            client: reqwest::Client::new(),
            admins: pipeline.admins.clone(),
            database: pipeline.database.clone(),
            requests: Arc::clone(&requests),
            lines,
            is_live,
        };
        Self { requests, all, is_live, task: tokio::spawn(reader.run()) }
    }

    pub(crate) fn posted(&self, posted: &Posted) {
        self.requests.store(posted.requests(), Ordering::Relaxed);
    }

    /// Prints a line above the bars.
    pub(crate) fn print(&self, line: &str) {
        if !self.is_live || self.all.println(line).is_err() {
            eprintln!("    {line}");
        }
    }

    /// Shows the last state and stops.
    pub(crate) async fn finish(self) {
        tokio::time::sleep(INTERVAL * 3).await;
        self.task.abort();
    }
}

struct Reader {
    client: reqwest::Client,
    admins: BTreeMap<&'static str, String>,
    database: Database,
    requests: Arc<AtomicU64>,
    lines: Vec<Line>,
    is_live: bool,
}

impl Reader {
    async fn run(mut self) {
        let mut rounds = 0_u32;
        loop {
            let counts = self.counts().await;
            for (line, count) in self.lines.iter_mut().zip(counts) {
                // `None` while the service restarts.
                count.into_iter().for_each(|count| line.show(count));
            }
            if !self.is_live && rounds.is_multiple_of(10) {
                let counts = self.lines.iter().map(|line| {
                    let (at, of) = (line.bar.position(), line.bar.length().unwrap_or(0));
                    format!("{} {at}/{of}", line.name)
                });
                eprintln!("    {}", counts.collect::<Vec<_>>().join(" · "));
            }
            rounds += 1;
            tokio::time::sleep(INTERVAL).await;
        }
    }

    async fn counts(&self) -> [Option<u64>; 8] {
        let metrics = scrape::all(&self.client, &self.admins).await;
        let of = |service: &str, name: &str| {
            metrics.get(service).map(|text| scrape::sum(text, name, "") as u64)
        };
        let count = async |sql: &str| self.database.count(sql).await.ok();
        let dead =
            self.admins.keys().map(|service| of(service, "mailpulse_dead_letters_total")).sum();
        let duplicates = of("dedupe", "mailpulse_dedupe_duplicates_total");
        let processed = of("dedupe", "mailpulse_processed_records_total");
        [
            Some(self.requests.load(Ordering::Relaxed)),
            of("ingress", "mailpulse_ingress_events_total"),
            of("enrich", "mailpulse_processed_records_total"),
            processed.zip(duplicates).map(|(all, dropped)| all.saturating_sub(dropped)),
            duplicates,
            count("SELECT count() FROM events").await,
            dead,
            count("SELECT countIf(change = 'opened') FROM incidents").await,
        ]
    }
}

fn style() -> ProgressStyle {
    ProgressStyle::with_template("  {prefix:<20} {bar:40.cyan/238} {pos:>6} / {len}")
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("━╸─")
}
