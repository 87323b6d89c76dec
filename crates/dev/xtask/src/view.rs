//! What flows, while it flows.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use testkit::Traffic;
use tokio::task::JoinHandle;

use crate::check::{Posted, count};
use crate::pipeline::Pipeline;
use crate::scrape;

const EVERY: Duration = Duration::from_millis(400);

/// One line of the view.
struct Line {
    bar: ProgressBar,
    name: &'static str,
    seen: u64,
}

impl Line {
    /// Goes on by what is new. A restarted service counts from zero again, so the few it counted
    /// between the last look and its death are not shown; the comparison at the end asks ClickHouse.
    fn show(&mut self, figure: u64) {
        let new = if figure < self.seen { figure } else { figure - self.seen };
        self.seen = figure;
        self.bar.inc(new);
    }
}

/// Live on a terminal, a line now and then elsewhere.
pub(crate) struct View {
    requests: Arc<AtomicU64>,
    all: MultiProgress,
    is_live: bool,
    task: JoinHandle<()>,
}

impl View {
    /// Starts to look.
    pub(crate) fn start(pipeline: &Pipeline, traffic: &Traffic) -> Self {
        let truth = traffic.truth();
        let is_live = std::io::stderr().is_terminal();
        let all = MultiProgress::new();
        let requests = Arc::new(AtomicU64::new(0));
        let goals: [(&'static str, u64); 9] = [
            ("requests posted", truth.requests),
            ("events accepted", truth.accepted_total()),
            ("enriched", truth.accepted_total()),
            ("first sights", truth.distinct_total()),
            ("duplicates", truth.duplicates),
            ("rows in ClickHouse", truth.distinct_total()),
            ("dead letters", truth.malformed),
            ("alerts fired", truth.alerts.len() as u64),
            ("alerts resolved", truth.alerts.len() as u64),
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
        let look = Look {
            client: reqwest::Client::new(),
            admins: pipeline.admins.clone(),
            clickhouse: pipeline.clickhouse.url().to_owned(),
            requests: Arc::clone(&requests),
            lines,
            is_live,
        };
        Self { requests, all, is_live, task: tokio::spawn(look.run()) }
    }

    /// So much was posted.
    pub(crate) fn posted(&self, posted: &Posted) {
        self.requests.store(posted.requests(), Ordering::Relaxed);
    }

    /// Something worth a line of its own.
    pub(crate) fn say(&self, what: &str) {
        if !self.is_live || self.all.println(what).is_err() {
            eprintln!("{what}");
        }
    }

    /// Shows the last state and stops looking.
    pub(crate) async fn finish(self) {
        tokio::time::sleep(EVERY * 3).await;
        self.task.abort();
    }
}

struct Look {
    client: reqwest::Client,
    admins: BTreeMap<&'static str, String>,
    clickhouse: String,
    requests: Arc<AtomicU64>,
    lines: Vec<Line>,
    is_live: bool,
}

impl Look {
    async fn run(mut self) {
        let mut rounds = 0_u32;
        loop {
            let figures = self.figures().await;
            for (line, figure) in self.lines.iter_mut().zip(figures) {
                // `None`: whoever knows it is being started again.
                figure.into_iter().for_each(|figure| line.show(figure));
            }
            if !self.is_live && rounds.is_multiple_of(10) {
                let figures = self.lines.iter().map(|line| {
                    let (at, of) = (line.bar.position(), line.bar.length().unwrap_or(0));
                    format!("{} {at}/{of}", line.name)
                });
                eprintln!("{}", figures.collect::<Vec<_>>().join(" · "));
            }
            rounds += 1;
            tokio::time::sleep(EVERY).await;
        }
    }

    async fn figures(&self) -> [Option<u64>; 9] {
        let metrics = scrape::all(&self.client, &self.admins).await;
        let of =
            |job: &str, name: &str| metrics.get(job).map(|text| scrape::sum(text, name, "") as u64);
        let ask = async |sql: &str| count(&self.clickhouse, sql).await.ok();
        let dead = self.admins.keys().map(|job| of(job, "mailpulse_dead_letters_total")).sum();
        let duplicates = of("dedupe", "mailpulse_duplicates_total");
        let looked_up = of("dedupe", "mailpulse_records_total");
        [
            Some(self.requests.load(Ordering::Relaxed)),
            of("ingress", "mailpulse_ingress_events_total"),
            of("enrich", "mailpulse_records_total"),
            looked_up.zip(duplicates).map(|(all, again)| all.saturating_sub(again)),
            duplicates,
            ask("SELECT count() FROM mailpulse.events").await,
            dead,
            ask("SELECT uniqExact(episode_id) FROM mailpulse.alerts").await,
            ask("SELECT countIf(state = 'resolved') FROM mailpulse.alerts").await,
        ]
    }
}

fn style() -> ProgressStyle {
    ProgressStyle::with_template("  {prefix:<20} {bar:40.cyan/238} {pos:>6} / {len}")
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("━╸─")
}
