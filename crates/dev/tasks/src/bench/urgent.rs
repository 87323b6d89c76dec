//! How soon complaints, hard bounces and unsubscribes are suppressed while opens arrive at the highest rate at which no lag
//! grows: the time from the answer to the POST of the event until a client of the delta feed of `suppress` sees the entry.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use devstack::Running;
use event::Provider;
use privacy::ErasureKey;
use serde::Deserialize;
use suppression::RecipientKey;
use testkit::Credentials;
use testkit::load::Load;
use tokio::net::TcpStream;

use super::Arguments;
use super::archive::rows;
use super::client::{Arrivals, exchange, unix_millis};
use super::cpu::{CpuMeter, Usage};
use super::latency::Percentiles;
use super::page::{BURST_SHARE, EVENTS_PER_REQUEST, WARM_UP_SHARE, burst, load};
use super::report::{Figure, Report, thousands};
use super::script::{Dates, Script, write_request};
use super::servers::{Namespace, Servers};
use crate::binaries::SERVICES;

const SOURCE: &str = "urgent";
const KEY: &str = "a key of the benchmark alone";
const TOKEN: &str = "a token of the benchmark";
/// The time between two events that suppress.
const INTERVAL: Duration = Duration::from_millis(100);
/// How often the feed is asked.
const POLL: Duration = Duration::from_millis(10);
/// An entry that does not come within this time is missing.
const MISSING_AFTER: Duration = Duration::from_secs(60);
/// The shares of the rate of the burst that are tried, until no lag grows.
const SHARES: [f64; 5] = [0.9, 0.8, 0.7, 0.6, 0.5];
/// No lag has grown if the last row of the opens is there within this time after the last answer.
const NO_LAG: Duration = Duration::from_secs(3);
/// The parts of an event that suppress its recipient.
const KINDS: [&str; 3] = [
    r#""event":"complained""#,
    r#""event":"bounced","bounce":{"permanence":"hard","status":"5.1.1","diagnostic":"550 5.1.1 user unknown"}"#,
    r#""event":"unsubscribed""#,
];

/// Measures for `--seconds`.
pub(crate) fn urgent(
    servers: &Servers,
    arguments: &Arguments,
    report: &mut Report,
) -> anyhow::Result<()> {
    let namespace = servers.namespace("urgent")?;
    let feed = format!("127.0.0.1:{}", devstack::process::free_port()?);
    let settings = format!(
        "{}\n[suppress]\nlisten = {feed:?}\n\
         tokens = [{{ name = \"bench\", role = \"reader\", secret = {TOKEN:?} }}]\n\
         [privacy]\nerasure_key = {KEY:?}\n",
        Credentials::new("").source_toml(Provider::Generic, SOURCE)
    );
    let mut services: Vec<Running> = Vec::new();
    for service in SERVICES.into_iter().chain(["suppress"]) {
        services.push(namespace.start_with(service, &settings)?);
    }
    burst(&namespace, arguments, opens("uw", arguments.events / WARM_UP_SHARE))?;
    let best = burst(&namespace, arguments, opens("ub", arguments.events / BURST_SHARE))?;
    let mut measured = None;
    for share in SHARES {
        let attempt = at(&namespace, arguments, best * share, &services, &feed)?;
        println!(
            "    {} opens per second: the last row came {:.1} s after the last answer",
            thousands(best * share),
            attempt.behind.as_secs_f64()
        );
        let has_no_lag = attempt.behind <= NO_LAG;
        measured = Some((share, attempt));
        if has_no_lag {
            break;
        }
    }
    let (share, attempt) = measured.context("no rate was tried")?;
    let mut figure =
        Figure::new("urgent events beside opens", "all services", attempt.opens, attempt.usage);
    figure.suppressed = Percentiles::of(attempt.micros);
    report.add(figure.note(format!(
        "ten complaints, hard bounces and unsubscribes a second beside {} opens per second, {:.0} % of {}, the rate of a burst; \
         the last row of the opens came {:.1} s after the last answer; from the answer to the POST to the entry in the delta \
         feed; target: p99 2 s",
        thousands(best * share),
        share * 100.0,
        thousands(best),
        attempt.behind.as_secs_f64()
    )));
    for service in services {
        namespace.stop(service)?;
    }
    Ok(())
}

fn opens(run: &str, events: u64) -> Script {
    let run = format!("{run}{}", unix_millis());
    Script::new(&run, events.max(1), EVENTS_PER_REQUEST, Dates::Live).of_opens()
}

/// What was measured at one rate.
struct Attempt {
    opens: u64,
    usage: Usage,
    /// The time from the last answer about opens to their last row.
    behind: Duration,
    micros: Vec<u32>,
}

/// Posts opens at a rate, and urgent events meanwhile.
fn at(
    namespace: &Namespace<'_>,
    arguments: &Arguments,
    per_second: f64,
    services: &[Running],
    feed: &str,
) -> anyhow::Result<Attempt> {
    let script = Arc::new(opens("uh", (per_second * arguments.seconds as f64).max(1.0) as u64));
    let arrivals = Arrivals::Paced(per_second / EVENTS_PER_REQUEST as f64);
    let before = rows(namespace.servers, &namespace.database)?;
    let meters = services.iter().map(|service| CpuMeter::start(service.pid()));
    let meters = meters.collect::<anyhow::Result<Vec<_>>>()?;
    let urgent = arguments.seconds * 1000 / u64::try_from(INTERVAL.as_millis())?;
    let is_over = AtomicBool::new(false);
    let panicked = |_| anyhow::anyhow!("a thread of the benchmark panicked");
    let (loaded, posted, seen) = std::thread::scope(|scope| {
        let loaded = scope.spawn(|| {
            let took = load(namespace, &script, arrivals, arguments.connections)?;
            anyhow::Ok((took, Instant::now()))
        });
        let seen = scope.spawn(|| follow(feed, urgent, &is_over));
        let posted = scope.spawn(|| post_urgent(namespace, urgent)).join();
        if !matches!(posted, Ok(Ok(_))) {
            is_over.store(true, Ordering::Relaxed); // nothing more comes
        }
        (loaded.join(), posted, seen.join())
    });
    let (took, answered) = loaded.map_err(panicked)??;
    let posted = posted.map_err(panicked)??;
    let seen = seen.map_err(panicked)??;
    let goal = before + script.events() + urgent;
    namespace
        .wait_for("rows in ClickHouse", goal, || rows(namespace.servers, &namespace.database))?;
    let behind = answered.elapsed();
    let mut cpu_seconds = 0.0;
    for meter in &meters {
        cpu_seconds += meter.usage()?.cpu_seconds;
    }
    let micros = posted.iter().map(|(recipient, answered)| {
        let at = seen.get(recipient).with_context(|| {
            format!("an entry did not come within {MISSING_AFTER:?}; see the log of suppress")
        })?;
        // The entry may come before the answer if the machine is busy.
        Ok(u32::try_from(at.saturating_duration_since(*answered).as_micros()).unwrap_or(u32::MAX))
    });
    let micros = micros.collect::<anyhow::Result<_>>()?;
    let usage = Usage { seconds: took.as_secs_f64(), cpu_seconds };
    Ok(Attempt { opens: script.events(), usage, behind, micros })
}

/// Posts events that suppress. Returns the digest of each recipient, and when the request was answered.
fn post_urgent(namespace: &Namespace<'_>, events: u64) -> anyhow::Result<Vec<(String, Instant)>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let run = format!("urgent{}", unix_millis());
    let keys = RecipientKey::new(ErasureKey::new(KEY.as_bytes())?, None);
    let load = Load::new(&Credentials::new(""), SOURCE, &run, 1, 0);
    runtime.block_on(async {
        let mut stream = TcpStream::connect(&namespace.ingress).await?;
        stream.set_nodelay(true)?;
        let (mut wire, mut answer) = (Vec::new(), Vec::new());
        let began = tokio::time::Instant::now();
        let mut answered = Vec::new();
        for number in 0..events {
            tokio::time::sleep_until(began + INTERVAL * u32::try_from(number)?).await;
            let now = unix_millis();
            let address = format!("{run}-{number}@example.org");
            let kind = KINDS[(number % KINDS.len() as u64) as usize];
            let body = format!(
                r#"{{"id":"{run}-{number}",{kind},"recipient":"{address}","timestamp":{now},"message_id":"{run}-{number}"}}"#
            );
            write_request(&load.sign(body.into(), now / 1000), &mut wire)?;
            exchange(&mut stream, &wire, &mut answer).await?;
            let digest = keys.of_address(&address).context("it is an address")?;
            answered.push((digest.to_string(), Instant::now()));
        }
        Ok(answered)
    })
}

/// The part of an answer of the delta feed that is read.
#[derive(Deserialize)]
struct Delta {
    changes: Vec<Change>,
    cursor: String,
}

#[derive(Deserialize)]
struct Change {
    recipient: String,
}

/// Reads the delta feed until `entries` recipients came, or until nothing more comes. Returns when each was first seen.
fn follow(
    feed: &str,
    entries: u64,
    is_over: &AtomicBool,
) -> anyhow::Result<BTreeMap<String, Instant>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let http = reqwest::Client::new();
        let ask = async |since: Option<&str>| -> anyhow::Result<Delta> {
            let since = since.map(|cursor| format!("&since={cursor}")).unwrap_or_default();
            let url = format!("http://{feed}/suppressions?limit=10000{since}");
            let answer = http.get(url).bearer_auth(TOKEN).send().await?;
            let (status, text) = (answer.status(), answer.text().await?);
            ensure!(status.is_success(), "the delta feed answered {status}: {text}");
            Ok(serde_json::from_str(&text)?)
        };
        let mut seen = BTreeMap::new();
        let mut cursor = None;
        let mut moved = Instant::now();
        // Earlier attempts have entries, too.
        let mut earlier = 0;
        loop {
            let delta = ask(cursor.as_deref()).await?;
            let at = Instant::now();
            if cursor.is_none() {
                earlier = delta.changes.len() as u64;
            }
            if !delta.changes.is_empty() {
                moved = at;
            }
            for change in delta.changes {
                seen.entry(change.recipient).or_insert(at);
            }
            cursor = Some(delta.cursor);
            let is_complete = seen.len() as u64 >= earlier + entries;
            if is_complete || is_over.load(Ordering::Relaxed) || moved.elapsed() > MISSING_AFTER {
                return Ok(seen);
            }
            tokio::time::sleep(POLL).await;
        }
    })
}
