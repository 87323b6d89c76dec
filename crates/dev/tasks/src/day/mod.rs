//! `cargo xtask day`: a scripted day of mail in virtual time, and of what people are notified. See docs/day.md.
//!
//! The services are real, and so are Kafka, ClickHouse and Alertmanager. Only the ingress is not: this program
//! writes raw events and time records as the ingress does, with virtual times of receipt, because no stage behind
//! the ingress reads a clock.

mod alertmanager;
mod expect;
mod feed;
mod mail;
mod script;
mod truth;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use record::Topics;
use serde_json::Value;

use crate::binaries::SERVICES;
use crate::lag::lag;
use crate::phase::Phase;
use crate::pipeline::{Layout, Pipeline, TIME_OF_EVENTS, free_address};
use crate::recording::receiver::Receiver;
use crate::supervisor::Member;
use crate::verify_alerts::{recompute, verify_alerts, verify_complete};
use alertmanager::Alertmanager;
use feed::{Feed, clock_text};
use mail::Mails;
use script::{HOUR, Script, Step};

/// What people must be notified of: files beside this one.
const EXPECTED: &str = "expected.toml";
const EXPECTED_SHORT: &str = "expected_short.toml";

/// Partitions of topics keyed by recipient, and of those keyed by scope. Every time record is written to twelve
/// raw topics, so there are fewer than by default.
const PARTITIONS: (i32, i32) = (3, 2);
const SECRET: &str = "whsec_ZGF5LWRheS1kYXktZGF5LWRheS1kYXktZGF5LWRheQ==";
const DAY: i64 = 24 * HOUR;
/// Windows that end so late in the script may not have been judged when it is over, in seconds.
const UNFINISHED: i64 = 10 * script::MINUTE;
/// Virtual time between two lines of progress, in seconds.
const PROGRESS: i64 = 30 * script::MINUTE;
const SETTLE_TIMEOUT: Duration = Duration::from_secs(180);
const POLL: Duration = Duration::from_millis(200);
/// The lines of each log that are printed if the day cannot be played to its end.
const LAST_LINES: usize = 8;
/// notify waits for newer records before it sends, so a repeated notification would come within this time.
const QUIET: Duration = Duration::from_secs(3);

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Kill every service with SIGKILL several times during the day. The notifications must be the same.
    #[arg(long)]
    kills: bool,
    /// Play only four hours with the most important episodes.
    #[arg(long)]
    short: bool,
    /// The seed of the mail. The same seed gives the same mail.
    #[arg(long, default_value_t = 7)]
    seed: u64,
}

impl Arguments {
    /// The run of `cargo xtask test`.
    pub(crate) const fn short() -> Self {
        Self { kills: false, short: true, seed: 7 }
    }
}

/// Plays the day and compares. Fails on any difference.
pub(crate) fn day(arguments: &Arguments) -> anyhow::Result<()> {
    let mut script = if arguments.short { Script::short() } else { Script::day() };
    if arguments.kills {
        script.add_kills();
    }
    let mails = Mails::new(&script, arguments.seed);
    println!("{} mails, {} events, seed {}", mails.mails.len(), mails.events.len(), arguments.seed);
    let receiver_address = free_address()?;
    let receiver = Receiver::start(&receiver_address)?;
    let directory = tempfile::tempdir()?;
    let alertmanager = Alertmanager::start(directory.path().to_owned(), &receiver_address)?;
    let channels = format!(
        "retry_min = \"100ms\"\nretry_max = \"1s\"\n\
         [[notify.channel]]\nname = \"log\"\nkind = \"log\"\n\
         [[notify.channel]]\nname = \"alertmanager\"\nkind = \"alertmanager\"\nurl = \"http://{}\"\n\
         [[notify.channel]]\nname = \"hook\"\nkind = \"webhook\"\nurl = \"http://{receiver_address}/hook\"\n\
         secret = {SECRET:?}\nallow_private = true\n",
        alertmanager.address
    );
    let phase = Phase::begin("starting Kafka, ClickHouse and the services", "20 s");
    let pipeline = Pipeline::start(&Layout {
        keys: [("ingress", TIME_OF_EVENTS.to_owned()), ("notify", channels)].into(),
        partitions: PARTITIONS,
        ..Layout::new("day")
    })?;
    drop(phase);
    // The day before yesterday: the script goes on into the next day, and nothing may be in the future.
    let now = jiff::Timestamp::now().as_second();
    let start = (now.div_euclid(DAY) - 2) * DAY;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let mut day = Day { script: &script, mails: &mails, start, pipeline, receiver, alertmanager };
    let played = runtime.block_on(day.play());
    let differences = match played {
        Ok(()) => runtime.block_on(day.compare(arguments))?,
        Err(error) => {
            day.print_logs();
            vec![format!("{error:#}")]
        }
    };
    if differences.is_empty() {
        println!("every notification is as expected");
        return Ok(());
    }
    bail!("{} differences:\n{}", differences.len(), differences.join("\n"))
}

struct Day<'a> {
    script: &'a Script,
    mails: &'a Mails,
    /// The start of the day, unix seconds.
    start: i64,
    pipeline: Pipeline,
    receiver: Receiver,
    alertmanager: Alertmanager,
}

impl Day<'_> {
    async fn play(&mut self) -> anyhow::Result<()> {
        let _phase = Phase::begin("playing the day", "10 min, --short 2 min");
        let (script, mails) = (self.script, self.mails);
        let mut feed = Feed::open(&self.pipeline, PARTITIONS.0, script, mails, self.start)?;
        let began = Instant::now();
        let mut steps = script.steps.iter().peekable();
        let mut next_line = script.begin;
        let mut is_throttled = true;
        loop {
            while let Some((at, step)) = steps.next_if(|(at, _)| *at <= feed.now) {
                println!("    {} {step:?}", clock_text(*at));
                match step {
                    Step::StopEnrich => {
                        self.pipeline.supervisor.stop(ENRICH)?;
                        is_throttled = false;
                    }
                    Step::StartEnrich => {
                        self.pipeline.supervisor.set_wanted(|member| member == ENRICH, true);
                        is_throttled = true;
                    }
                    Step::RestartAlertmanager => self.restart_alertmanager(&mut feed).await?,
                    Step::Kill(service) => self.pipeline.supervisor.kill(service)?,
                }
            }
            let limit = steps.peek().map_or(i64::MAX, |(at, _)| *at);
            if !feed.pass(limit).await? {
                break;
            }
            if is_throttled {
                feed.throttle().await?;
            }
            if feed.now >= next_line {
                let every = if feed.now < 0 { DAY } else { PROGRESS };
                next_line = feed.now - feed.now.rem_euclid(every) + every;
                let incidents = self.pipeline.database.count(OPENED).await.unwrap_or(0);
                println!(
                    "    {:>9} after {:>4} s: {} events, {incidents} incidents",
                    clock_text(feed.now),
                    began.elapsed().as_secs(),
                    feed.published(),
                );
            }
        }
        feed.await_clock(script.end - script::MINUTE).await?;
        self.settle().await
    }

    /// Restarts Alertmanager twice while an incident is open. It must know all alerts again within 60 s, and must
    /// not notify of them again.
    async fn restart_alertmanager(&mut self, feed: &mut Feed<'_>) -> anyhow::Result<()> {
        feed.await_clock(feed.now - script::MINUTE).await?;
        self.settle().await?;
        let open = self.alertmanager.active().await?;
        ensure!(!open.is_empty(), "no alert is active when Alertmanager is restarted");
        let counts = |receiver: &Receiver| {
            open.iter().map(|id| alertmanager::notified(receiver, id)).collect::<Vec<_>>()
        };
        let before = counts(&self.receiver);
        for _ in 0..2 {
            let took = self.alertmanager.restart_and_await(&open).await?;
            tokio::time::sleep(QUIET).await;
            println!(
                "    after a restart of Alertmanager, its {} alerts were back in {took:.1?}",
                open.len()
            );
        }
        let after = counts(&self.receiver);
        ensure!(
            before == after,
            "Alertmanager has notified again after a restart: {before:?}, then {after:?}"
        );
        Ok(())
    }

    /// Prints the warnings and the end of every log, because the run's directory is removed.
    fn print_logs(&self) {
        for service in SERVICES {
            let log = self.pipeline.log(service).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            let (older, end) = lines.split_at(lines.len().saturating_sub(LAST_LINES));
            println!("the log of {service}:");
            let is_bad = |line: &&&str| line.contains("WARN") || line.contains("ERROR");
            older.iter().filter(is_bad).chain(end).for_each(|line| println!("    {line}"));
        }
    }

    /// Waits until archive and notify have read everything.
    async fn settle(&self) -> anyhow::Result<()> {
        let began = Instant::now();
        let connection = self.pipeline.connection(feed::INGRESS);
        let topics = Topics::new(self.pipeline.kafka_prefix());
        let read = [
            ("archive", &topics.events),
            ("archive", &topics.alerts),
            ("archive", &topics.incidents),
            ("notify", &topics.incidents),
        ];
        for (stage, topic) in read {
            while lag(&connection, &topics.group(stage), topic)? > 0 {
                ensure!(
                    began.elapsed() < SETTLE_TIMEOUT,
                    "{stage} has not read {topic} to its end after {SETTLE_TIMEOUT:?}; see its log"
                );
                tokio::time::sleep(POLL).await;
            }
        }
        Ok(())
    }

    /// Prints the notifications, and returns how they differ from the expectation.
    async fn compare(&self, arguments: &Arguments) -> anyhow::Result<Vec<String>> {
        let _phase = Phase::begin("comparing", "20 s");
        let database = &self.pipeline.database;
        let incidents = expect::notified(database, self.start).await?;
        let file = if arguments.short { EXPECTED_SHORT } else { EXPECTED };
        let hooks = self.hooks();
        let comparison = expect::compare(&expectation(file)?, &incidents, &hooks.first_lines)?;
        println!("\n{}", comparison.table);
        let mut differences = comparison.differences;
        for incident in &incidents {
            for (seq, (at, change)) in incident.seqs.iter().zip(&incident.changes) {
                let count =
                    hooks.deliveries.get(&(incident.id.clone(), *seq)).copied().unwrap_or(0);
                if count != 1 && !(arguments.kills && count > 1) {
                    differences.push(format!(
                        "incident {}: {change} at {} was delivered {count} times",
                        incident.id,
                        clock_text(*at)
                    ));
                }
            }
        }
        let compared = truth::compare(database, self.script, self.mails, self.start).await?;
        println!(
            "{} alerts have the generator's own numbers, {} have others; not compared: {:?}",
            compared.equal,
            compared.different.len(),
            compared.unknown
        );
        ensure!(compared.equal > 0, "no alert was compared with the generator's own numbers");
        differences.extend(compared.different);
        let verified = verify_alerts(&self.pipeline)?;
        let [equal, different, unverifiable] =
            ["equal", "different", "unverifiable"].map(|result| verified.count(result));
        println!(
            "mailpulse alerts verify --all: {equal} equal, {different} different, {unverifiable} \
             unverifiable"
        );
        let others = verified.others.into_iter().filter(|(result, _)| result == "different");
        differences.extend(others.map(|(_, line)| line));
        let last = self.start + self.script.end - UNFINISHED;
        // How late stages may be that were killed, in seconds of virtual time. Otherwise the command's own bound.
        let bound = if arguments.kills { feed::AHEAD + script::MINUTE } else { script::MINUTE };
        match verify_complete(&self.pipeline, (self.start, last), bound)? {
            Ok(text) => println!("mailpulse alerts verify --complete: {text}"),
            Err(text) => differences.push(format!("mailpulse alerts verify --complete: {text}")),
        }
        match recompute(&self.pipeline)? {
            Ok(text) => println!("mailpulse recompute: {text}"),
            Err(text) => differences.push(format!("mailpulse recompute: {text}")),
        }
        if !differences.is_empty() {
            self.write_tables().await?;
        }
        Ok(differences)
    }

    /// Writes the tables that explain a difference to files, because the database is removed.
    async fn write_tables(&self) -> anyhow::Result<()> {
        let directory = devstack::fetch::workspace().join("target/day");
        std::fs::create_dir_all(&directory)?;
        for table in ["alerts", "incidents"] {
            let query = format!(
                "SELECT * FROM {table} ORDER BY kafka_offset, kafka_partition FORMAT JSONEachRow"
            );
            let path = directory.join(table).with_extension("jsonl");
            std::fs::write(&path, self.pipeline.database.text(&query).await?)?;
            println!("the table {table} is in {}", path.display());
        }
        Ok(())
    }

    /// Returns what the webhook has received.
    fn hooks(&self) -> Hooks {
        let mut hooks = Hooks::default();
        for delivery in self.receiver.deliveries().iter().filter(|it| it.path == "/hook") {
            // The body has the newest record of the incident, and the header the number of the one that notifies.
            let key = delivery.id.strip_prefix("incident_").and_then(|key| key.rsplit_once('_'));
            let Some((id, seq)) = key.and_then(|(id, seq)| Some((id, seq.parse().ok()?))) else {
                continue;
            };
            *hooks.deliveries.entry((id.to_owned(), seq)).or_default() += 1;
            let body: Value = serde_json::from_str(&delivery.body).unwrap_or_default();
            let line = body["page"].as_str().and_then(|page| page.lines().next());
            hooks
                .first_lines
                .entry(id.to_owned())
                .or_insert_with(|| line.unwrap_or_default().to_owned());
        }
        hooks
    }
}

/// Reads an expectation from the checkout.
fn expectation(file: &str) -> anyhow::Result<String> {
    let path = devstack::fetch::workspace().join("crates/dev/tasks/src/day").join(file);
    std::fs::read_to_string(&path).with_context(|| path.display().to_string())
}

/// What the webhook has received.
#[derive(Default)]
struct Hooks {
    /// How often each record of `mail.incidents` was delivered, by incident and number.
    deliveries: BTreeMap<(String, u32), u32>,
    /// The first line of the first page, by incident.
    first_lines: BTreeMap<String, String>,
}

const OPENED: &str = "SELECT uniqExact(id) FROM incidents WHERE page > 0";
const ENRICH: Member = Member { service: "enrich", number: 1 };
