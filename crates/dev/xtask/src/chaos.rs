//! `cargo xtask chaos`: everything is killed, frozen and stopped while mail flows; then a ledger
//! shows that nothing came of it. See docs/chaos.md.

mod action;
mod conservation;
mod full_disk;
mod ledger;
mod mail;
mod offline;
mod outcome;
mod post;
mod progress;
mod prove;
mod schedule;
mod stage;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail, ensure};

use self::conservation::Prometheus;
use self::ledger::Ledger;
use self::mail::{CLOSING_GAP, COMPRESSION, EventClock, Lane, MINUTE, Mail, SECOND, Taken};
use self::offline::PANE;
use self::outcome::Outcome;
use self::post::Post;
use self::progress::Progress;
use self::schedule::{GROUPS, Length, Schedule, guests};
use crate::build::{self, Profile};
use crate::check;
use crate::pipeline::{Layout, Pipeline};

/// Of a run that names none.
const SEED: u64 = 7;

/// How to run it.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Of schedule and mail: the same seed gives the same of both.
    #[arg(long, default_value_t = SEED)]
    seed: u64,
    /// How long things are broken.
    #[arg(long, default_value_t = 60, conflicts_with = "short")]
    minutes: u64,
    /// Every sort of action once: under five minutes with everything.
    #[arg(long)]
    short: bool,
    /// Print the schedule and end.
    #[arg(long)]
    plan: bool,
    /// Where to write schedule, deeds and ledger as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

impl Arguments {
    /// The run that is part of the tests.
    pub(crate) fn short() -> Self {
        Self { seed: SEED, minutes: 0, short: true, plan: false, json: None }
    }
}

/// How long the last requests may take to be answered, once everything runs again.
const ANSWERED_WITHIN: Duration = Duration::from_secs(90);
/// A member that does not poll for so long loses its partitions: the least that librdkafka takes.
/// Long runs freeze ClickHouse for longer, which shows that nobody waits for it without polling.
const POLL_INTERVAL_MS: u32 = 45_000;
/// For how long nothing may change before it counts as settled.
const STILL_FOR: Duration = Duration::from_secs(3);
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// What depends on the length of a run.
struct Scale {
    length: Length,
    /// How far, in our time, requests and partitions may drift apart in an outage with nothing late.
    drift: Duration,
    /// How long the ledger may take to balance.
    settled_within: Duration,
}

/// Builds, starts, breaks, mends, proves.
pub(crate) fn chaos(arguments: &Arguments) -> anyhow::Result<()> {
    let began = Instant::now();
    let scale = Scale::of(arguments);
    let schedule = Schedule::draw(arguments.seed, scale.length);
    println!("{}\n{schedule}", arguments.command());
    if arguments.plan {
        return Ok(());
    }
    eprintln!("building the services …");
    let binaries = build::services(Profile::Dev)?;
    eprintln!("starting Kafka, ClickHouse and the services …");
    let mut pipeline = start(&binaries, &scale)?;
    let outcome = play(&mut pipeline, arguments.seed, &schedule, &scale);
    if !outcome.as_ref().is_ok_and(|outcome| outcome.ledger.is_balanced()) {
        eprintln!("the logs are in {}", outcome::keep_logs(&pipeline.dirs.run)?.display());
    }
    let outcome = outcome?;
    let took = began.elapsed();
    println!("{}", outcome.report(&arguments.command(), took));
    if let Some(file) = &arguments.json {
        let json = outcome.json(&arguments.command(), &schedule, took);
        std::fs::write(file, format!("{json:#}\n")).with_context(|| file.display().to_string())?;
    }
    ensure!(outcome.ledger.is_balanced(), "the ledger does not balance");
    Ok(())
}

/// Several members of every group, on servers of our own, and event time that goes by quickly.
fn start(binaries: &Path, scale: &Scale) -> anyhow::Result<Pipeline> {
    let layout = Layout {
        keys: [
            ("monitor", scale.monitor()),
            ("archive", "retry_max = \"1s\"\n".to_owned()),
            ("kafka.properties", format!("\"max.poll.interval.ms\" = {POLL_INTERVAL_MS}\n")),
        ]
        .into(),
        members: GROUPS.into(),
        guests: guests().into(),
        own_servers: true,
    };
    Pipeline::start(binaries, &layout)
}

/// Posts while the schedule is carried out, waits until all has settled, and proves it.
fn play(
    pipeline: &mut Pipeline,
    seed: u64,
    schedule: &Schedule,
    scale: &Scale,
) -> anyhow::Result<Outcome> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let clickhouse = pipeline.clickhouse.url().to_owned();
    let post = Post::new(&pipeline.ingress, &pipeline.credentials)?;
    let progress = Progress::new(schedule.0.len());
    let start = scale.event_time_start(schedule)?;
    let (mail, clock) = (Mail::new(seed, &pipeline.credentials, start), EventClock::at(start));
    let shown = runtime.spawn(Arc::clone(&progress).show(Arc::clone(&post), clickhouse.clone()));

    let deeds = std::thread::scope(|scope| {
        let breaking = scope.spawn(|| {
            let deeds = stage::carry_out(pipeline, schedule, &progress);
            progress.is_over.store(true, Ordering::Relaxed);
            deeds
        });
        runtime.block_on(mail_until_over(&post, mail, &clock, &progress))?;
        breaking.join().map_err(|_| anyhow::anyhow!("the schedule's thread panicked"))?
    })?;

    progress.doing("waiting until every event is a row");
    pipeline.await_ready()?;
    let until = runtime.block_on(close(&clickhouse, &post, &clock, scale))?;
    shown.abort();
    progress.say("  every event was answered; waiting until nothing moves …");
    let prometheus = Prometheus::start(pipeline)?;
    let taken = post.taken();
    let ledger = runtime.block_on(async {
        let mut ledger = settle(&clickhouse, &taken, until, scale).await?;
        full_disk::account(&mut ledger, &deeds.full_disks);
        conservation::prove(&mut ledger, &prometheus, taken.events.len() as u64).await?;
        anyhow::Ok(ledger)
    })?;
    let figures = outcome::figures(&runtime, pipeline, &clickhouse, &taken, &deeds)?;
    progress.finish();
    Ok(Outcome { deeds, ledger, figures })
}

/// Mail and lanes, until the schedule is over and everything posted was answered.
async fn mail_until_over(
    post: &Arc<Post>,
    mail: Mail,
    clock: &EventClock,
    progress: &Progress,
) -> anyhow::Result<()> {
    let over = &progress.is_over;
    let patience = async {
        while !over.load(Ordering::Relaxed) {
            tokio::time::sleep(LOOK_EVERY).await;
        }
        tokio::time::sleep(ANSWERED_WITHIN).await;
        post.give_up();
        std::future::pending::<()>().await;
    };
    let [a, b, c, d] = Lane::all();
    let lane = |lane| post::lane(post, lane, clock, over);
    let posting = async {
        let traffic = post::traffic(post, mail, clock, over);
        let (posted, ..) = tokio::join!(traffic, lane(a), lane(b), lane(c), lane(d));
        posted
    };
    tokio::select! {
        posted = posting => posted,
        () = patience => bail!("posting does not end"),
    }
}

/// Posts events so much later that every window of the others is over. Returns the moment of event
/// time that the monitor comes to by them.
///
/// They must not overtake the others, as hours of event time later nothing could: kinds have topics
/// of their own, and the spool is a way around Kafka.
async fn close(
    clickhouse: &str,
    post: &Arc<Post>,
    clock: &EventClock,
    scale: &Scale,
) -> anyhow::Result<i64> {
    let events = post.taken().events.len() as u64;
    stand_still(clickhouse, events, Instant::now() + scale.settled_within).await?;
    // In the middle of a pane, so that a microsecond more or less makes no difference.
    let last = clock.now().div_euclid(PANE) * PANE + PANE / 2;
    let at = last + CLOSING_GAP + scale.out_of_orderness();
    ensure!(at < now_micros()?, "the run took so long that event time has overtaken ours");
    post::all(post, mail::closing(at)).await?;
    Ok((at - scale.out_of_orderness()).div_euclid(PANE) * PANE)
}

/// Proves as soon as nothing moves any more; again, when it moved after all and time is left.
async fn settle(url: &str, taken: &Taken, until: i64, scale: &Scale) -> anyhow::Result<Ledger> {
    let deadline = Instant::now() + scale.settled_within;
    loop {
        stand_still(url, taken.events.len() as u64, deadline).await?;
        let ledger = prove::prove(url, taken, until).await?;
        if ledger.is_balanced() || Instant::now() > deadline {
            return Ok(ledger);
        }
    }
}

/// Waits until there are as many rows as events, and no table has changed for a while.
async fn stand_still(url: &str, events: u64, deadline: Instant) -> anyhow::Result<()> {
    const STATE: &str = "
        SELECT (SELECT count() FROM mailpulse.events),
            (SELECT sum(o) FROM (SELECT max(kafka_offset) AS o FROM mailpulse.rates GROUP BY kafka_partition)),
            (SELECT count() FROM mailpulse.alerts), (SELECT count() FROM mailpulse.dead_letters)
        FORMAT TSV";
    let (mut before, mut since) = (String::new(), Instant::now());
    while Instant::now() < deadline {
        let state = check::text(url, STATE).await?;
        if state != before {
            (before, since) = (state, Instant::now());
        }
        let rows = before.split('\t').next().and_then(|rows| rows.parse::<u64>().ok());
        if since.elapsed() >= STILL_FOR && rows >= Some(events) {
            return Ok(());
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Ok(())
}

impl Arguments {
    fn command(&self) -> String {
        let Self { seed, minutes, short, .. } = self;
        if *short {
            format!("cargo xtask chaos --seed {seed} --short")
        } else {
            format!("cargo xtask chaos --seed {seed} --minutes {minutes}")
        }
    }
}

impl Scale {
    fn of(arguments: &Arguments) -> Self {
        let minutes = Duration::from_secs(60 * arguments.minutes);
        if arguments.short {
            let (drift, settled_within) = (Duration::from_secs(60), Duration::from_secs(90));
            Self { length: Length::Short, drift, settled_within }
        } else {
            let settled_within = Duration::from_secs(180) + minutes / 6;
            let length = Length::Minutes(arguments.minutes);
            Self { length, drift: Duration::from_secs(150), settled_within }
        }
    }

    /// Microseconds of event time.
    fn out_of_orderness(&self) -> i64 {
        self.drift.as_secs().cast_signed() * SECOND * COMPRESSION
    }

    /// `[monitor]`. Event time is compressed, so what may be out of order is hours of it. Idle
    /// partitions are waited for: nothing but events moves the clock, and no number depends on how
    /// long an outage lasts.
    fn monitor(&self) -> String {
        let minutes = self.out_of_orderness() / MINUTE;
        format!(
            "out_of_orderness = \"{minutes}m\"\nallowed_lateness = \"{minutes}m\"\n\
             idle_after = \"2h\"\n"
        )
    }

    /// So long ago that all of the run's event time lies in the past, also when servers take twice
    /// the planned time to come back: an event from the future would not move the clock.
    fn event_time_start(&self, schedule: &Schedule) -> anyhow::Result<i64> {
        let play = schedule.lasts() * 2 + Duration::from_secs(300);
        let play = i64::try_from(play.as_micros())? * COMPRESSION;
        Ok(now_micros()? - play - CLOSING_GAP - self.out_of_orderness())
    }
}

/// Microseconds since the Unix epoch.
fn now_micros() -> anyhow::Result<i64> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH)?;
    Ok(i64::try_from(since.as_micros())?)
}
