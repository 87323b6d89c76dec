//! `cargo xtask chaos`: kills, freezes and stops everything while mail flows, and then compares the
//! results with what was posted. See docs/chaos.md.

mod acting;
mod action;
mod alerts;
mod attack;
mod balance;
mod execute;
mod full_disk;
mod incidents;
mod mail;
mod notified;
mod offline;
mod pace;
mod post;
mod progress;
mod prometheus;
mod prove;
mod replay;
mod report;
mod scale;
mod schedule;
mod topics;
mod verified;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail, ensure};

pub(crate) use self::balance::{Balance, Errors};
pub(crate) use self::mail::closing;
pub(crate) use self::offline::{Before, OldRule, PANE};
pub(crate) use self::prove::settle_windows;
pub(crate) use self::report::keep_logs;

use self::action::Brokers;
use self::attack::{Attacks, GENUINE};
use self::mail::{Answers, CLOSING_GAP, EventClock, Mail, OrderedRecipient};
use self::notified::Notified;
use self::pace::Pace;
use self::post::Poster;
use self::progress::Progress;
use self::prometheus::Prometheus;
use self::prove::Until;
use self::report::Report;
use self::scale::Scale;
use self::schedule::{GROUPS, Schedule, extra_members};
use self::topics::Log;
use crate::clickhouse::Database;
use crate::phase::Phase;
use crate::pipeline::{Layout, Pipeline, Servers};
use crate::supervisor::Member;

/// The default seed.
const SEED: u64 = 7;

#[derive(Default, clap::Args)]
pub(crate) struct Arguments {
    /// The seed of schedule and mail. The same seed gives the same run.
    #[arg(long, default_value_t = SEED)]
    seed: u64,
    /// How long actions are executed.
    #[arg(long, default_value_t = 60, conflicts_with = "short")]
    minutes: u64,
    /// Execute every kind of action once. The whole run takes less than five minutes.
    #[arg(long)]
    short: bool,
    /// Let an hour of event time pass in a minute, without time records. Otherwise events happen when they
    /// are posted, as in production.
    #[arg(long)]
    compressed: bool,
    /// Run on three brokers with TLS, SCRAM and access control, and kill and restart these too. Records are at most
    /// 8 MiB, groups use the classic protocol and sessions last 45 s, as with managed services.
    #[arg(long)]
    cluster: bool,
    /// Print the schedule and end.
    #[arg(long)]
    plan: bool,
    /// Write schedule, actions and results as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

impl Arguments {
    /// The arguments of the run that is part of the tests.
    pub(crate) fn short() -> Self {
        Self { seed: SEED, short: true, ..Self::default() }
    }
}

/// The partitions of topics keyed by recipient, and of those keyed by scope.
const PARTITIONS: (i32, i32) = (6, 3);
/// How long to wait for the last answers when everything runs again.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(90);
/// A member that does not poll for this time loses its partitions. It is the smallest value that
/// librdkafka accepts. Long runs freeze ClickHouse for longer, which tests that no member waits for it
/// without polling.
const POLL_INTERVAL_MS: u32 = 45_000;
/// The tables are complete if they do not change for this time.
const STABLE_FOR: Duration = Duration::from_secs(3);
/// The same when time has stopped.
const REST_FOR: Duration = Duration::from_secs(8);
const POLL: Duration = Duration::from_millis(250);

/// Starts everything, executes the schedule and compares the results.
pub(crate) fn chaos(arguments: &Arguments) -> anyhow::Result<()> {
    let began = Instant::now();
    let scale = Scale::of(arguments);
    let schedule = Schedule::of_seed(arguments.seed, scale.length, arguments.brokers());
    println!("{}\n{schedule}", arguments.command());
    if arguments.plan {
        return Ok(());
    }
    let phase = Phase::begin("starting Kafka, ClickHouse and the services", "20 s");
    let notified = Notified::start()?;
    let mut pipeline = start(arguments.brokers(), &scale, &notified)?;
    drop(phase);
    let report = run(&mut pipeline, &notified, arguments, &schedule, &scale);
    if !report.as_ref().is_ok_and(|report| report.balance.is_balanced()) {
        eprintln!("the logs are in {}", report::keep_logs("chaos", &pipeline.dirs.run)?.display());
    }
    let report = report?;
    let took = began.elapsed();
    println!("{}", report.text(&arguments.command(), took));
    if let Some(file) = &arguments.json {
        let json = report.json(&arguments.command(), &schedule, took);
        std::fs::write(file, format!("{json:#}\n")).with_context(|| file.display().to_string())?;
    }
    ensure!(report.balance.is_balanced(), "the run does not balance; see the lines marked with ←");
    Ok(())
}

/// Starts several members of every group on servers that can be killed.
fn start(brokers: Brokers, scale: &Scale, notified: &Notified) -> anyhow::Result<Pipeline> {
    let layout = Layout {
        keys: [
            ("ingress", scale.pace.ingress()),
            ("monitor", scale.pace.monitor(scale.out_of_orderness())),
            ("archive", "retry_max = \"1s\"\n".to_owned()),
            ("notify", notified.settings()),
            ("kafka.properties", format!("\"max.poll.interval.ms\" = {POLL_INTERVAL_MS}\n")),
        ]
        .into(),
        members: GROUPS.into(),
        extra_members: extra_members().into(),
        extra_sources: attack::SOURCES.into(),
        partitions: PARTITIONS,
        servers: match brokers {
            Brokers::One => Servers::Own,
            Brokers::Three => Servers::Cluster,
        },
        acting: true,
        ..Layout::new("chaos")
    };
    Pipeline::start(&layout)
}

/// Posts mail while the schedule is executed, waits until the tables are complete, and compares.
fn run(
    pipeline: &mut Pipeline,
    notified: &Notified,
    arguments: &Arguments,
    schedule: &Schedule,
    scale: &Scale,
) -> anyhow::Result<Report> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let database = pipeline.database.clone();
    let poster = Poster::new(&pipeline.ingress, &pipeline.credentials)?;
    let progress = Progress::new(schedule.0.len());
    let start = scale.event_time_start(schedule)?;
    let (mail, clock) = (
        Mail::new(arguments.seed, &pipeline.credentials, start, scale.pace),
        EventClock::at(start),
    );
    let attacks = Attacks::new(pipeline, start);
    let attacking = runtime.spawn(Arc::clone(&attacks).run());
    let shown = runtime.spawn(Arc::clone(&progress).show(Arc::clone(&poster), database.clone()));

    let phase = Phase::begin(
        "killing, freezing and stopping",
        &format!("{} s", schedule.duration().as_secs()),
    );
    let log = Log::new(pipeline);
    let actions = std::thread::scope(|scope| {
        let executing = scope.spawn(|| {
            let actions = execute::execute(pipeline, schedule, &progress, &log, &poster);
            progress.is_over.store(true, Ordering::Relaxed);
            actions
        });
        runtime.block_on(post_until_over(&poster, mail, (&clock, scale.pace), &progress))?;
        executing.join().map_err(|_| anyhow::anyhow!("the schedule's thread panicked"))?
    })?;

    runtime.block_on(attacks.finish(attacking, ANSWER_TIMEOUT))?;
    drop(phase);
    let _phase = Phase::begin("waiting for the last events and comparing", "1 min");
    progress.set_activity("waiting until every event is archived");
    pipeline.await_ready()?;
    let until = runtime.block_on(close(&database, &poster, &clock, scale))?;
    shown.abort();
    progress.print("  every request has an answer; waiting until the tables are complete");
    let answers = poster.answers();
    let mut balance = runtime.block_on(async {
        let mut balance = settle(&database, &answers, &attacks, until, scale).await?;
        full_disk::account(&mut balance, &actions.full_disks);
        execute::account(&mut balance, &actions);
        if let Some(acting) = &pipeline.acting {
            acting::settle(&mut balance, acting, &database, scale).await?;
        }
        anyhow::Ok(balance)
    })?;
    let mut figures = report::figures(&runtime, pipeline, &answers, &actions)?;
    figures.extend(attacks.figures());
    progress.set_activity("stopping time, and comparing alerts and incidents");
    let mut failed = Errors::default();
    match runtime.block_on(at_rest(&mut balance, pipeline, &log, notified, scale)) {
        Ok(more) => figures.extend(more),
        Err(error) => failed.add(|| format!("{error:#}")),
    }
    if let Err(error) = replay::prove(&mut balance, pipeline, &runtime, &log, PARTITIONS) {
        failed.add(|| format!("{error:#}"));
    }
    balance.none("at rest", "comparisons that could not be made", &failed);
    progress.finish();
    Ok(Report { actions, balance, figures })
}

/// Stops the ingress, so that time stops, then monitor, and compares what must be complete then. Returns
/// figures.
async fn at_rest(
    balance: &mut Balance,
    pipeline: &Pipeline,
    log: &Log,
    notified: &Notified,
    scale: &Scale,
) -> anyhow::Result<Vec<(&'static str, u64)>> {
    pipeline.supervisor.stop(Member { service: "ingress", number: 1 })?;
    let database = &pipeline.database;
    await_rest(database, Instant::now() + scale.settle_timeout).await?;
    let rows = database.count("SELECT count() FROM events").await?;
    prometheus::prove(balance, &Prometheus::start(pipeline)?, rows).await?;
    // It would publish once more when it expects no more records of the partitions.
    for member in pipeline.members.keys().filter(|member| member.service == "monitor") {
        pipeline.supervisor.stop(*member)?;
    }
    let times = topics::prove_time(balance, log)?;
    topics::prove_rows(balance, database, log).await?;
    topics::prove_content_types(balance, log)?;
    notified.prove(balance, database).await?;
    verified::prove(balance, pipeline)?;
    let count = async |table| database.count(&format!("SELECT count() FROM {table}")).await;
    Ok(vec![
        ("time records in mail.enriched", times),
        ("alerts", count("alerts").await?),
        ("episodes", count("(SELECT DISTINCT episode_id FROM alerts)").await?),
        ("incidents", count("(SELECT DISTINCT id FROM incidents)").await?),
        ("changes of incidents", count("incidents").await?),
        ("deliveries, repeated ones included", notified.count()),
    ])
}

/// Waits until neither alerts nor incidents change any more.
async fn await_rest(database: &Database, deadline: Instant) -> anyhow::Result<()> {
    const STATE: &str = "SELECT (SELECT count() FROM rates), (SELECT count() FROM alerts), \
        (SELECT count() FROM incidents) FORMAT TSV";
    let (mut before, mut since) = (String::new(), Instant::now());
    while since.elapsed() < REST_FOR && Instant::now() < deadline {
        let state = database.text(STATE).await?;
        if state != before {
            (before, since) = (state, Instant::now());
        }
        tokio::time::sleep(POLL).await;
    }
    Ok(())
}

/// Posts mail until the schedule is over and all requests have a final answer.
async fn post_until_over(
    poster: &Arc<Poster>,
    mail: Mail,
    (clock, pace): (&EventClock, Pace),
    progress: &Progress,
) -> anyhow::Result<()> {
    let over = &progress.is_over;
    let timeout = async {
        while !over.load(Ordering::Relaxed) {
            tokio::time::sleep(POLL).await;
        }
        tokio::time::sleep(ANSWER_TIMEOUT).await;
        poster.give_up();
        std::future::pending::<()>().await;
    };
    let [a, b, c, d] = OrderedRecipient::all();
    let ordered = |recipient| post::ordered(poster, recipient, clock, pace, over);
    let posting = async {
        let traffic = post::traffic(poster, mail, clock, pace, over);
        let (posted, ..) = tokio::join!(traffic, ordered(a), ordered(b), ordered(c), ordered(d));
        posted
    };
    tokio::select! {
        posted = posting => posted,
        () = timeout => bail!("some requests get no answer"),
    }
}

/// Waits until all events are archived. Returns the event time up to which windows are compared.
///
/// If event time is compressed, closing events follow, which are so late that every window of the other
/// events is complete. All other events must be archived before: kinds have different topics, and requests may be in
/// the spool, so closing events could overtake them, and they would be late.
async fn close(
    database: &Database,
    poster: &Arc<Poster>,
    clock: &EventClock,
    scale: &Scale,
) -> anyhow::Result<Until> {
    let events = poster.answers().events.len() as u64;
    await_stable(database, events, scale, Instant::now() + scale.settle_timeout).await?;
    if scale.pace == Pace::Live {
        // The panes of all events are complete when time has passed them. Time goes on after that.
        return Ok(Until { end: clock.now().div_euclid(PANE) * PANE + PANE, goes_on: true });
    }
    // In the middle of a pane, so that rounding makes no difference.
    let last = clock.now().div_euclid(PANE) * PANE + PANE / 2;
    let at = last + CLOSING_GAP + scale.out_of_orderness();
    ensure!(at < now_micros()?, "the run took so long that event time is later than real time");
    post::all(poster, mail::closing(at)).await?;
    let end = (at - scale.out_of_orderness()).div_euclid(PANE) * PANE;
    Ok(Until { end, goes_on: false })
}

/// Compares when the tables are stable. Repeats it until it balances or the time is over.
async fn settle(
    database: &Database,
    answers: &Answers,
    attacks: &Attacks,
    until: Until,
    scale: &Scale,
) -> anyhow::Result<Balance> {
    let deadline = Instant::now() + scale.settle_timeout;
    loop {
        await_stable(database, answers.events.len() as u64, scale, deadline).await?;
        let mut balance = prove::prove(database, answers, until).await?;
        attacks.account(&mut balance, database).await?;
        if balance.is_balanced() || Instant::now() > deadline {
            return Ok(balance);
        }
    }
}

/// Waits until there are as many rows as events, and no table has changed for some time. While time passes,
/// there are always new windows, and changes of open incidents.
async fn await_stable(
    database: &Database,
    events: u64,
    scale: &Scale,
    deadline: Instant,
) -> anyhow::Result<()> {
    let of_monitor = match scale.pace {
        Pace::Live => "",
        Pace::Compressed => {
            "(SELECT sum(o) FROM (SELECT max(kafka_offset) AS o FROM rates GROUP BY kafka_partition)),
            (SELECT count() FROM alerts), (SELECT count() FROM incidents),"
        }
    };
    let state_query = format!(
        "SELECT (SELECT count() FROM events WHERE {GENUINE}), (SELECT count() FROM events),
            {of_monitor} (SELECT count() FROM dead_letters)
        FORMAT TSV"
    );
    let (mut before, mut since) = (String::new(), Instant::now());
    while Instant::now() < deadline {
        let state = database.text(&state_query).await?;
        if state != before {
            (before, since) = (state, Instant::now());
        }
        let rows = before.split('\t').next().and_then(|rows| rows.parse::<u64>().ok());
        if since.elapsed() >= STABLE_FOR && rows >= Some(events) {
            return Ok(());
        }
        tokio::time::sleep(POLL).await;
    }
    Ok(())
}

impl Arguments {
    fn command(&self) -> String {
        let Self { seed, minutes, short, compressed, cluster, .. } = self;
        let length = if *short { "--short".to_owned() } else { format!("--minutes {minutes}") };
        let pace = if *compressed { " --compressed" } else { "" };
        let cluster = if *cluster { " --cluster" } else { "" };
        format!("cargo xtask chaos --seed {seed} {length}{pace}{cluster}")
    }

    fn brokers(&self) -> Brokers {
        if self.cluster { Brokers::Three } else { Brokers::One }
    }
}

/// Returns microseconds since the Unix epoch.
fn now_micros() -> anyhow::Result<i64> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH)?;
    Ok(i64::try_from(since.as_micros())?)
}
