//! `cargo xtask questions`: sends mail of which everything is known, runs every file of `docs/questions`, and
//! compares each answer with the truth. See docs/analysts.md.
//!
//! The truth is computed from the generated mail, by the rules of docs/metrics.md that `cargo xtask truth` has
//! written down. No SQL takes part in it.

mod compare;
mod feed;
pub(crate) mod file;
mod mail;
mod page;
mod roles;
mod truth;
mod views;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use record::Topics;

use self::compare::{Checks, Scope};
use self::feed::Feed;
use self::file::Question;
use self::mail::{DAY, END, HOUR, Mail, RULES, SECOND};
use self::truth::events::Happened;
use self::truth::{Failed, Incident, Others, Truth, predictions, suppressions};
use crate::clickhouse::Database;
use crate::lag::lag;
use crate::phase::Phase;
use crate::pipeline::{Layout, Pipeline, TIME_OF_EVENTS};
use crate::supervisor::Member;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Only ask everything once, after a replay, and again after message_life was fed twice: half a minute.
    #[arg(long)]
    short: bool,
    /// Write the answers into docs/analysts.md. Without it, they must already be there.
    #[arg(long, conflicts_with = "short")]
    write: bool,
}

impl Arguments {
    /// The run of `cargo xtask test`.
    pub(crate) const fn short() -> Self {
        Self { short: true, write: false }
    }
}

/// Partitions of topics keyed by recipient, and of those keyed by scope. Every time record is written to twelve
/// raw topics, so there are fewer than by default.
const PARTITIONS: (i32, i32) = (3, 2);
/// The member that stands still while mail is sent.
const ENRICH: Member = Member { service: "enrich", number: 1 };
const TIMEOUT: Duration = Duration::from_secs(180);
const POLL: Duration = Duration::from_millis(50);
/// One of this many events is published twice in random order.
const TWICE: usize = 30;
/// Events in random order are up to five weeks late.
const NO_HORIZON: &str = "horizon = \"60d\"\nremember = \"60d\"\n";
/// Those that unsigned requests bring count as well.
const COUNT_UNAUTHENTIC: &str = "count_unauthentic = true\n";
/// When records that cannot be parsed are received.
const FAULTY: [i64; 3] = [END - 15 * HOUR, END - 14 * HOUR, END - 2 * DAY];
/// Records of which this program stores the dead letters itself: one with two, because a process died, one that
/// was redriven, and one of which only the time of its row is known.
const STORED: [Failed; 3] = [
    Failed { letters: 2, ..faulty(END - 13 * HOUR) },
    Failed { is_redriven: true, ..faulty(END - 12 * HOUR) },
    Failed { received: None, archived: END - 11 * HOUR, ..faulty(END - 11 * HOUR) },
];
/// What people were notified of.
const INCIDENTS: [Incident; 4] = [
    incident("bounces", 150, 190, "true"),
    incident("bounces", 90, 400, "false"),
    incident("complaints", 40, 1_900, "true"),
    incident("silence", 20, 80, ""),
];

const fn faulty(received: i64) -> Failed {
    Failed {
        source: "shop",
        received: Some(received),
        archived: END,
        letters: 1,
        is_redriven: false,
    }
}

const fn incident(
    family: &'static str,
    hours_before_end: i64,
    seconds: i64,
    judged: &'static str,
) -> Incident {
    let opened_at = END - hours_before_end * HOUR;
    Incident { family, opened_at, notified_at: opened_at + seconds, judged }
}

/// Sends the mail, asks every question, and compares.
pub(crate) fn questions(arguments: &Arguments) -> anyhow::Result<()> {
    let root = devstack::fetch::workspace();
    let questions = file::read_all(root)?;
    let mails = mail::generate();
    let mut checks = Checks::default();
    in_order(arguments, root, &questions, &mails, &mut checks)?;
    if !arguments.short {
        in_random_order(&questions, mails, &mut checks)?;
    }
    ensure!(
        checks.differences.is_empty(),
        "{} of {} answers differ from the truth:\n{}",
        checks.differences.len(),
        checks.answers,
        checks.differences.join("\n")
    );
    println!("{} answers equal the truth", checks.answers);
    Ok(())
}

/// Sends the mail in the order of receipt.
fn in_order(
    arguments: &Arguments,
    root: &Path,
    questions: &[Question],
    mails: &[Mail],
    checks: &mut Checks,
) -> anyhow::Result<()> {
    let run = Run::start(mails, COUNT_UNAUTHENTIC, "")?;
    let truth = Truth::new(mails);
    let failed: Vec<Failed> = FAULTY.map(faulty).into_iter().chain(STORED).collect();
    let others = Others {
        incidents: &INCIDENTS,
        failed: &failed,
        best_times: &predictions::BEST_TIMES,
        scores: &predictions::SCORES,
    };
    run.runtime.block_on(async {
        let received: Vec<_> = truth.happened.iter().map(|it| (it, it.received * SECOND)).collect();
        let mut feed = Feed::open(&run.pipeline, PARTITIONS.0)?;
        let phase = Phase::begin("sending five weeks of mail", "10 s");
        println!("    {} messages, {} events", mails.len(), truth.happened.len());
        feed.publish(&received).await?;
        feed.publish_faulty("shop", &FAULTY.map(|at| at * SECOND)).await?;
        run.settle(&mut feed, truth.happened.len()).await?;
        insert_incidents(run.database()).await?;
        insert_dead_letters(run.database()).await?;
        predictions::insert(run.database()).await?;
        suppressions::insert(run.database()).await?;
        drop(phase);
        let phase = Phase::begin("asking every question", "3 s");
        checks.ask("at first", run.database(), questions, &truth, &others, Scope::All).await?;
        drop(phase);
        let page = page::check(arguments.write, root, questions, run.database()).await?;
        checks.differences.extend(page);
        roles::check(root, run.database(), mails).await?;
        views::check(run.database(), &truth).await?;

        let phase = Phase::begin("feeding message_life a second time", "3 s");
        let before = run.lives().await?;
        run.feed_lives_again().await?;
        ensure!(before == run.lives().await?, "feeding message_life again has changed a message");
        checks.ask("fed twice", run.database(), questions, &truth, &others, Scope::All).await?;
        drop(phase);

        let _phase = Phase::begin("sending all of it again", "10 s");
        feed.publish(&received).await?;
        run.settle(&mut feed, truth.happened.len()).await?;
        checks.ask("replayed", run.database(), questions, &truth, &others, Scope::All).await
    })
}

/// Sends the mail in random order, and compares what does not depend on it.
fn in_random_order(
    questions: &[Question],
    mut mails: Vec<Mail>,
    checks: &mut Checks,
) -> anyhow::Result<()> {
    // An event without a usable time counts when it is received, which is another time now.
    mails.retain(|mail| !mail.timeless.contains(&true));
    let run = Run::start(&mails, "", NO_HORIZON)?;
    let all = Truth::new(&mails);
    // The others count for nothing now.
    let authentic: Vec<Mail> = mails.iter().filter(|mail| mail.is_authentic()).cloned().collect();
    let truth = Truth::new(&authentic);
    let others = Others { incidents: &[], failed: &[], best_times: &[], scores: &[] };
    let mut order: Vec<&Happened<'_>> = all.happened.iter().collect();
    order.extend(all.happened.iter().step_by(TWICE));
    order.shuffle(&mut StdRng::seed_from_u64(7));
    run.runtime.block_on(async {
        let _phase = Phase::begin("sending it in random order", "15 s");
        let mut feed = Feed::open(&run.pipeline, PARTITIONS.0)?;
        let received = |(it, number)| (it, (END + number) * SECOND);
        feed.publish(&order.into_iter().zip(0..).map(received).collect::<Vec<_>>()).await?;
        run.settle(&mut feed, all.happened.len()).await?;
        let scope = Scope::IndependentOfOrder;
        views::check(run.database(), &truth).await?;
        checks.ask("shuffled", run.database(), questions, &truth, &others, scope).await
    })
}

/// A running pipeline and what it was started with.
struct Run {
    pipeline: Pipeline,
    runtime: tokio::runtime::Runtime,
    /// Has the look-up table.
    _directory: tempfile::TempDir,
}

impl Run {
    /// `enrich` and `dedupe` are further settings of these services.
    fn start(mails: &[Mail], enrich: &str, dedupe: &str) -> anyhow::Result<Self> {
        let directory = tempfile::tempdir().context("create a directory for the look-up table")?;
        let table = directory.path().join("recipients.csv");
        let mut lists = String::from("recipient,list\n");
        let of_recipient: BTreeMap<&str, &str> =
            mails.iter().map(|mail| (mail.message.recipient.as_str(), mail.list)).collect();
        for (recipient, list) in of_recipient {
            let _ = writeln!(lists, "{recipient},{list}");
        }
        std::fs::write(&table, lists)?;
        let enrich = format!("{enrich}lookup = [{:?}]\n{RULES}", table.display().to_string());
        let _phase = Phase::begin("starting Kafka, ClickHouse and the services", "20 s");
        let pipeline = Pipeline::start(&Layout {
            keys: [
                ("ingress", TIME_OF_EVENTS.to_owned()),
                ("enrich", enrich),
                ("dedupe", dedupe.to_owned()),
            ]
            .into(),
            extra_sources: mail::SOURCES
                .iter()
                .map(|source| (source.provider, source.name))
                .filter(|source| !testkit::SOURCES.contains(source))
                .chain([feed::CLOSING])
                .collect(),
            source_keys: [("acme", "sender_pointer = \"/sender\"\n".to_owned())].into(),
            partitions: PARTITIONS,
            ..Layout::new("questions")
        })?;
        // The only incidents are those that this program inserts.
        pipeline.supervisor.stop(Member { service: "monitor", number: 1 })?;
        pipeline.supervisor.stop(ENRICH)?;
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        Ok(Self { pipeline, runtime, _directory: directory })
    }

    const fn database(&self) -> &Database {
        &self.pipeline.database
    }

    /// Closes the feed, waits until all rows are there, and refreshes the table of recipients.
    ///
    /// Only now does `enrich` run: it reads the raw topics in the order of receipt as long as each of them has more
    /// records, but not while they are written.
    async fn settle(&self, feed: &mut Feed, events: usize) -> anyhow::Result<()> {
        let closed = feed.close((END + 12 * HOUR) * SECOND).await?;
        self.pipeline.supervisor.set_wanted(|member| member == ENRICH, true);
        let of_closing = format!("SELECT count() FROM events WHERE source = '{}'", feed::CLOSING.1);
        self.await_count(&of_closing, closed).await?;
        let others = format!("SELECT count() FROM events WHERE source != '{}'", feed::CLOSING.1);
        self.await_count(&others, events).await?;
        self.await_commits().await?;
        self.pipeline.supervisor.stop(ENRICH)?;
        self.database().text("SYSTEM REFRESH VIEW recipients_refresh").await?;
        self.database().text("SYSTEM WAIT VIEW recipients_refresh").await?;
        Ok(())
    }

    /// Waits until a query returns a number. Fails if it returns a greater one.
    async fn await_count(&self, sql: &str, expected: usize) -> anyhow::Result<()> {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            let count = self.database().count(sql).await?;
            ensure!(count <= expected as u64, "{count} instead of {expected} rows: {sql}");
            if count == expected as u64 {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "only {count} of {expected} rows: {sql}");
            tokio::time::sleep(POLL).await;
        }
    }

    /// Waits until archive has committed all events. Rows are visible before the sums and lives that follow
    /// from them.
    async fn await_commits(&self) -> anyhow::Result<()> {
        let topics = Topics::new(self.pipeline.kafka_prefix());
        let connection = self.pipeline.connection(feed::INGRESS);
        let deadline = Instant::now() + TIMEOUT;
        while lag(&connection, &topics.group("archive"), &topics.events)? > 0 {
            ensure!(Instant::now() < deadline, "archive has not committed all events in time");
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    /// Returns a digest of the view `messages`.
    async fn lives(&self) -> anyhow::Result<String> {
        self.database()
            .text("SELECT count(), groupBitXor(cityHash64(toString(tuple(*)))) FROM messages")
            .await
    }

    /// Runs the SELECT of the materialized view over all events again.
    async fn feed_lives_again(&self) -> anyhow::Result<()> {
        let select = "SELECT as_select FROM system.tables WHERE database = currentDatabase() \
                      AND name = 'message_life_feed' FORMAT TSVRaw";
        let select = self.database().text(select).await?;
        let columns = "SELECT arrayStringConcat(groupArray(name), ', ') FROM (SELECT name FROM system.columns \
                       WHERE database = currentDatabase() AND table = 'message_life_feed' ORDER BY position)";
        let columns = self.database().text(columns).await?;
        let insert = format!("INSERT INTO message_life ({}) {select}", columns.trim());
        self.database().text(&insert).await?;
        Ok(())
    }
}

/// Stores the dead letters of [`STORED`], and the marker of the one that was redriven.
async fn insert_dead_letters(database: &Database) -> anyhow::Result<()> {
    const FIRST: usize = 900_000;
    let mut rows = Vec::new();
    let mut row = |failed: &Failed, reason: &str, origin: &str| {
        let (number, source) = (FIRST + rows.len(), failed.source);
        let time = |at: i64| format!("toDateTime64({at}, 6, 'UTC')");
        let received = failed.received.map_or_else(|| "NULL".to_owned(), time);
        let archived = time(failed.archived);
        rows.push(format!(
            "('{reason}', 'enrich', '{origin}', 'generic', '{source}', {received}, 0, {number}, {archived})"
        ));
        number
    };
    for (number, failed) in STORED.iter().enumerate() {
        // A body that could not be split comes from a request, and from no topic.
        let from_topic = failed.received.is_some();
        let origin =
            if from_topic { format!("mail.raw.delivered/0/{number}") } else { String::new() };
        for _ in 0..failed.letters {
            let letter = row(failed, "not_json", &origin);
            if failed.is_redriven {
                row(failed, "redriven", &format!("mail.dead-letters/0/{letter}"));
            }
        }
    }
    let columns = "reason, stage, origin, provider, source, received_at, kafka_partition, \
                   kafka_offset, archived_at";
    database
        .text(&format!(
            "INSERT INTO dead_letters ({columns}) SETTINGS async_insert = 0 VALUES {}",
            rows.join(", ")
        ))
        .await?;
    Ok(())
}

async fn insert_incidents(database: &Database) -> anyhow::Result<()> {
    let mut rows = Vec::new();
    for (number, incident) in INCIDENTS.iter().enumerate() {
        let Incident { family, opened_at, notified_at, judged } = incident;
        let row = |seq: u32, page: u32, at: i64, judged: &str| {
            let time = |at: i64| format!("toDateTime64({at}, 6, 'UTC')");
            let (opened_at, at) = (time(*opened_at), time(at));
            format!("('{number:032x}', {seq}, {page}, '{family}', {opened_at}, {at}, '{judged}')")
        };
        rows.push(row(1, 0, *opened_at, ""));
        rows.push(row(2, 1, *notified_at, ""));
        rows.push(row(3, 1, notified_at + HOUR, judged));
    }
    let columns = "id, seq, page, family, opened_at, at, judged";
    database
        .text(&format!(
            "INSERT INTO incidents ({columns}) SETTINGS async_insert = 0 VALUES {}",
            rows.join(", ")
        ))
        .await?;
    Ok(())
}
