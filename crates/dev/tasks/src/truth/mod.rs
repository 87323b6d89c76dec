//! `cargo xtask truth`: posts mail of which everything is known, and compares every metric with the
//! truth. See docs/truth.md.
//!
//! The truth is counted here, by rules that are written down again from docs/metrics.md. This module uses
//! none of the crates under test, except for the names of providers.

mod compare;
pub(crate) mod counts;
pub(crate) mod lives;
pub(crate) mod message;
pub(crate) mod payload;
mod post;
pub(crate) mod sources;
mod tables;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::io::{IsTerminal, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use serde_json::json;

use self::compare::{Comparison, Expected, Extent};
use self::lives::{CAMPAIGN_OF_TENANT, HOUR, Plan};
use self::message::Message;
use self::post::{Post, Poster, now_micros};
use self::tables::{PANE, SCOPES};
use crate::clickhouse::Database;
use crate::phase::Phase;
use crate::pipeline::{Layout, Pipeline, TIME_OF_EVENTS};
use crate::scrape;
use crate::supervisor::Member;

/// The default seed.
const SEED: u64 = 7;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The seed of the mail and of the kills. The same seed gives the same mail.
    #[arg(long, default_value_t = SEED)]
    seed: u64,
    /// Few messages: posting takes about a minute.
    #[arg(long)]
    short: bool,
    /// Kill members of dedupe and monitor with SIGKILL at random moments.
    #[arg(long)]
    kills: bool,
    /// Post everything in random order, and compare only totals that do not depend on it.
    #[arg(long)]
    shuffle: bool,
    /// The number of messages of each source.
    #[arg(long, value_name = "N")]
    messages: Option<usize>,
}

impl Arguments {
    /// The arguments of the run that is part of the tests.
    pub(crate) fn short() -> Self {
        Self { seed: SEED, short: true, kills: true, shuffle: false, messages: None }
    }

    fn command(&self) -> String {
        let mut command = format!("cargo xtask truth --seed {}", self.seed);
        for (flag, is_set) in
            [(" --short", self.short), (" --kills", self.kills), (" --shuffle", self.shuffle)]
        {
            command.push_str(if is_set { flag } else { "" });
        }
        if let Some(messages) = self.messages {
            let _ = write!(command, " --messages {messages}");
        }
        command
    }

    fn plan(&self) -> Plan {
        let (hours_per_wave, waves, messages) = if self.short { (6, 26, 90) } else { (3, 52, 300) };
        let mut plan = Plan {
            seed: self.seed,
            start: 0,
            hours_per_wave,
            waves,
            messages_per_source: self.messages.unwrap_or(messages),
        };
        // All event time is in the past, also that of the events that close the last windows.
        let length = plan.end() + self.out_of_orderness(&plan) + CLOSING_GAP + HOUR;
        plan.start = (now_micros() - length).div_euclid(HOUR) * HOUR;
        plan
    }

    /// Returns how far events may be out of order, in microseconds. Everything in one wave is posted at
    /// the same time, and some events arrive a wave later.
    fn out_of_orderness(&self, plan: &Plan) -> i64 {
        if self.shuffle { plan.waves as i64 * plan.wave() + HOUR } else { 3 * plan.wave() }
    }
}

/// From the last event to those that close its windows: longer than the widest window.
const CLOSING_GAP: i64 = 26 * HOUR;
/// Each has its own recipient, so that every partition receives some.
const CLOSING_EVENTS: usize = 240;
/// How long to wait for the events of a wave, or until tables are complete.
const TIMEOUT: Duration = Duration::from_secs(120);
/// How long to wait for a result that equals the truth.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(50);
/// The tables are complete if they do not change for this time.
const STABLE_FOR: Duration = Duration::from_secs(3);
/// The number of kills, so that a slow machine ends as well.
const MOST_KILLS: usize = 60;
const MOST_KILLS_IF_SHORT: usize = 12;
/// Between two kills, in milliseconds.
const KILL_EVERY: std::ops::Range<u64> = 2_000..8_000;

/// Starts everything, posts the mail and compares the results.
pub(crate) fn truth(arguments: &Arguments) -> anyhow::Result<()> {
    println!("{}", arguments.command());
    let plan = arguments.plan();
    let mut messages = lives::generate(&plan);
    if !arguments.shuffle {
        let now = plan.end() + CLOSING_GAP;
        messages.extend(lives::stragglers(&plan, now, messages.len()));
    }
    let messages = Arc::new(messages);
    let tables = tempfile::tempdir().context("create a directory for the look-up tables")?;
    write_tables(tables.path(), &messages)?;
    let phase = Phase::begin("starting Kafka, ClickHouse and the services", "20 s");
    let pipeline = Pipeline::start(&layout(arguments, &plan, tables.path()))?;
    drop(phase);
    let comparison = run(&pipeline, arguments, &plan, &messages);
    if !comparison.as_ref().is_ok_and(Comparison::is_equal) {
        let logs = crate::chaos::keep_logs("truth", &pipeline.dirs.run)?;
        if let Ok(comparison) = &comparison {
            std::fs::write(logs.join("differences.tsv"), comparison.tsv())?;
        }
        eprintln!("the logs and all differences are in {}", logs.display());
    }
    let comparison = comparison?;
    println!("{}", comparison.report());
    ensure!(comparison.is_equal(), "some numbers differ from the truth; see docs/truth.md");
    println!("every number equals the truth");
    Ok(())
}

fn layout(arguments: &Arguments, plan: &Plan, tables: &Path) -> Layout {
    let hours = arguments.out_of_orderness(plan) / HOUR;
    let scopes = SCOPES.map(|scope| format!("{scope:?}")).join(", ");
    // Real time says nothing about the compressed event time, so monitor waits for idle partitions.
    let monitor = format!(
        "publish = \"all\"\nscopes = [{scopes}]\nout_of_orderness = \"{hours}h\"\nidle_after = \"2h\"\n"
    );
    let table = |name| tables.join(name).display().to_string();
    let lookup =
        format!("lookup = [{:?}, {:?}]\n", table("recipients.csv"), table("campaigns.csv"));
    // If everything is out of order, a duplicate can be many days older than the newest event.
    let horizon = if arguments.shuffle { "horizon = \"20d\"\nremember = \"30d\"\n" } else { "" };
    Layout {
        keys: [
            ("ingress", TIME_OF_EVENTS.to_owned()),
            ("monitor", monitor),
            ("enrich", lookup),
            ("dedupe", horizon.to_owned()),
        ]
        .into(),
        members: [("dedupe", 2), ("monitor", 2)].into(),
        extra_sources: vec![sources::WITHOUT_DELIVERIES, sources::CLOSING],
        source_keys: sources::settings(),
        ..Layout::new("truth")
    }
}

/// Writes the operator's tables of tenants.
fn write_tables(directory: &Path, messages: &[Message]) -> anyhow::Result<()> {
    let mut recipients = String::from("recipient,tenant\n");
    for message in messages {
        if let Some(tenant) = message.tenant {
            let _ = writeln!(recipients, "{},{tenant}", message.recipient);
        }
    }
    let (campaign, tenant) = CAMPAIGN_OF_TENANT;
    std::fs::write(directory.join("recipients.csv"), recipients)?;
    std::fs::write(
        directory.join("campaigns.csv"),
        format!("campaign,tenant\n{campaign},{tenant}\n"),
    )?;
    Ok(())
}

/// Posts everything, and compares when all of it is counted.
fn run(
    pipeline: &Pipeline,
    arguments: &Arguments,
    plan: &Plan,
    messages: &Arc<Vec<Message>>,
) -> anyhow::Result<Comparison> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let poster = Poster::new(&pipeline.ingress, &pipeline.credentials, Arc::clone(messages))?;
    let progress = Progress::new(plan.waves);
    let phase =
        Phase::begin("posting days of mail", if arguments.short { "1 min" } else { "5 min" });
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        if arguments.kills {
            scope.spawn(|| kill_until_over(pipeline, arguments, &is_over, &progress));
        }
        let posted =
            runtime.block_on(post_all(pipeline, arguments, plan, messages, &poster, &progress));
        is_over.store(true, Ordering::Relaxed);
        posted
    })?;
    pipeline.await_ready()?;
    let events = plan_events(messages, plan.waves);
    let at = plan.end() + arguments.out_of_orderness(plan) + CLOSING_GAP;
    runtime.block_on(async {
        close(&poster, at).await?;
        await_rows(&pipeline.database, events + CLOSING_EVENTS).await?;
        await_stable(&pipeline.database).await?;
        // The windows of up to an hour are closed now, and those of a day are not.
        poster.post(&posted_last(messages, plan.waves)).await
    })?;
    progress.finish(&poster);
    drop(phase);
    let _phase = Phase::begin("waiting for the last windows and comparing", "20 s");
    let truth = tables::truth(messages);
    let expected = Expected {
        truth: &truth,
        waves_until: plan.end(),
        until: (at - arguments.out_of_orderness(plan)).div_euclid(PANE) * PANE,
        extent: if arguments.shuffle { Extent::Totals } else { Extent::Everything },
    };
    runtime.block_on(settle(&pipeline.database, &expected))
}

/// Returns the number of events that are posted in the waves, each counted once.
fn plan_events(messages: &[Message], waves: usize) -> usize {
    let facts = messages.iter().flat_map(|message| &message.facts);
    facts.filter(|fact| fact.wave < waves).count()
}

/// Returns the events that are posted after the last wave.
fn posted_last(messages: &[Message], waves: usize) -> Vec<Post> {
    let is_last = |message: &Message| message.facts.first().is_some_and(|fact| fact.wave == waves);
    let all = messages.iter().enumerate();
    all.filter(|(_, message)| is_last(message)).map(|(number, _)| (number, 0)).collect()
}

/// Posts the waves one after the other. The next one begins when all events of the last one are
/// archived: different kinds of events travel through different topics, and would otherwise overtake
/// each other by days.
async fn post_all(
    pipeline: &Pipeline,
    arguments: &Arguments,
    plan: &Plan,
    messages: &[Message],
    poster: &Arc<Poster>,
    progress: &Progress,
) -> anyhow::Result<()> {
    let (mut first, mut again) = (BTreeMap::new(), BTreeMap::new());
    for (number, message) in messages.iter().enumerate() {
        for (fact_number, fact) in message.facts.iter().enumerate() {
            let add = |waves: &mut BTreeMap<usize, Vec<Post>>, wave| {
                waves.entry(wave).or_default().push((number, fact_number));
            };
            add(&mut first, fact.wave);
            fact.again.into_iter().for_each(|wave| add(&mut again, wave));
        }
    }
    let (mut events, mut events_before, mut fold) = (0, 0, FoldProgress::default());
    if arguments.shuffle {
        let mut posts: Vec<Post> = first.into_values().flatten().collect();
        events += posts.len();
        posts.extend(again.into_values().flatten());
        posts.shuffle(&mut StdRng::seed_from_u64(arguments.seed));
        poster.post(&posts).await?;
        return await_rows(&pipeline.database, events).await;
    }
    for wave in 0..plan.waves {
        let mut posts = first.remove(&wave).unwrap_or_default();
        events += posts.len();
        let time = |&(message, fact): &Post| messages[message].facts[fact].at.counted_at();
        posts.sort_by_key(time);
        posts.extend(again.remove(&wave).unwrap_or_default());
        poster.post(&posts).await?;
        await_rows(&pipeline.database, events).await?;
        // Fold may lag by one wave, and not by a day: monitor would believe that a source has sent no
        // deliveries for a day if it had not yet read them.
        fold.wait(pipeline, events_before).await?;
        events_before = events;
        progress.wave(wave + 1, poster);
    }
    Ok(())
}

/// Waits until this many events are archived.
async fn await_rows(database: &Database, events: usize) -> anyhow::Result<()> {
    let deadline = Instant::now() + TIMEOUT;
    loop {
        let rows = database.count("SELECT count() FROM events").await?;
        if rows >= events as u64 {
            return Ok(());
        }
        ensure!(
            Instant::now() < deadline,
            "only {rows} of {events} events are archived after {TIMEOUT:?}"
        );
        tokio::time::sleep(POLL).await;
    }
}

/// How many events monitor-fold has read, according to the ledgers of its members. A killed member does
/// not answer, so the greatest number of each counts.
#[derive(Default)]
struct FoldProgress(BTreeMap<Member, f64>);

impl FoldProgress {
    /// Waits until fold has read this many events.
    async fn wait(&mut self, pipeline: &Pipeline, events: usize) -> anyhow::Result<()> {
        let (client, deadline) = (reqwest::Client::new(), Instant::now() + TIMEOUT);
        while self.0.values().sum::<f64>() < events as f64 {
            ensure!(Instant::now() < deadline, "monitor has not read {events} events in time");
            for (member, address) in &pipeline.members {
                if member.service == "monitor"
                    && let Ok(text) = scrape::one(&client, address).await
                {
                    let read = self.0.entry(*member).or_default();
                    *read = read.max(read_by_fold(&text));
                }
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }
}

fn read_by_fold(metrics: &str) -> f64 {
    let is_read = |line: &&str| {
        line.contains("component=\"monitor-fold\"") && line.contains("entry=\"read\"")
    };
    let lines: Vec<&str> = metrics.lines().filter(is_read).collect();
    scrape::sum(&lines.join("\n"), "mailpulse_ledger_records", "")
}

/// Posts events that are so late that the windows of all others close.
async fn close(poster: &Poster, at: i64) -> anyhow::Result<()> {
    let (provider, source) = sources::CLOSING;
    let timestamp = jiff::Timestamp::from_microsecond(at)?.to_string();
    for number in 0..CLOSING_EVENTS {
        let event = json!({
            "id": format!("closing-{number}"), "event": "accepted", "timestamp": timestamp,
            "recipient": format!("closing-{number:03}@example.net"),
            "message_id": format!("closing-{number}"),
        });
        poster.values(provider, source, &[event]).await?;
    }
    Ok(())
}

/// Compares when the table is stable. Repeats it until the result equals the truth or the time is over.
async fn settle(database: &Database, expected: &Expected<'_>) -> anyhow::Result<Comparison> {
    let deadline = Instant::now() + SETTLE_TIMEOUT;
    loop {
        await_stable(database).await?;
        let comparison = compare::compare(database, expected).await?;
        if comparison.is_equal() || Instant::now() > deadline {
            return Ok(comparison);
        }
    }
}

/// Waits until the table `rates` has not changed for some time.
async fn await_stable(database: &Database) -> anyhow::Result<()> {
    const STATE: &str =
        "SELECT count(), max(kafka_offset), sum(kafka_offset) FROM rates FORMAT TSV";
    let deadline = Instant::now() + TIMEOUT;
    let (mut before, mut since) = (String::new(), Instant::now());
    while since.elapsed() < STABLE_FOR {
        let state = database.text(STATE).await?;
        if state != before {
            (before, since) = (state, Instant::now());
        }
        ensure!(Instant::now() < deadline, "the table `rates` never stops growing");
        tokio::time::sleep(POLL).await;
    }
    Ok(())
}

/// Kills members of dedupe and monitor until the run is over.
fn kill_until_over(
    pipeline: &Pipeline,
    arguments: &Arguments,
    is_over: &AtomicBool,
    progress: &Progress,
) {
    let mut rng = StdRng::seed_from_u64(arguments.seed);
    let victims: Vec<_> = pipeline
        .members
        .keys()
        .copied()
        .filter(|member| matches!(member.service, "dedupe" | "monitor"))
        .collect();
    let most = if arguments.short { MOST_KILLS_IF_SHORT } else { MOST_KILLS };
    for _ in 0..most {
        let next = Instant::now() + Duration::from_millis(rng.random_range(KILL_EVERY));
        while Instant::now() < next {
            if is_over.load(Ordering::Relaxed) {
                return;
            }
            std::thread::sleep(POLL);
        }
        let victim = victims[rng.random_range(0..victims.len())];
        match pipeline.supervisor.kill_where(|member| member == victim) {
            Ok(killed) => progress.killed(killed.len()),
            Err(error) => eprintln!("{victim} cannot be killed: {error:#}"),
        }
    }
}

/// One line with the state of the run: rewritten on a terminal, otherwise printed now and then.
struct Progress {
    waves: usize,
    kills: AtomicU32,
    is_live: bool,
}

/// Without a terminal, a line is printed after this many waves.
const WAVES_PER_LINE: usize = 10;

impl Progress {
    fn new(waves: usize) -> Self {
        Self { waves, kills: AtomicU32::new(0), is_live: std::io::stderr().is_terminal() }
    }

    fn killed(&self, members: usize) {
        self.kills.fetch_add(u32::try_from(members).unwrap_or(0), Ordering::Relaxed);
    }

    fn wave(&self, wave: usize, poster: &Poster) {
        if self.is_live {
            eprint!("\r{}", self.line(wave, poster));
            let _ = std::io::stderr().flush();
        } else if wave.is_multiple_of(WAVES_PER_LINE) {
            eprintln!("{}", self.line(wave, poster));
        }
    }

    fn finish(&self, poster: &Poster) {
        let start = if self.is_live { "\r" } else { "" };
        eprintln!("{start}{}", self.line(self.waves, poster));
    }

    fn line(&self, wave: usize, poster: &Poster) -> String {
        let (posted, repeated) = poster.counts();
        let kills = self.kills.load(Ordering::Relaxed);
        format!(
            "    wave {wave} of {} · {posted} events posted · {repeated} requests repeated · {kills} kills",
            self.waves
        )
    }
}
