//! The time from the answer to the POST of the event that breaks a rule, to the receipt of the page.
//!
//! Every incident has a source of its own. Its deliveries are posted first, and all bounces but one some seconds later, so
//! that no prefix of the log has bounces without their share of the deliveries. The last bounce follows some seconds after
//! that. It is the first one that satisfies the rule, by the generator's own arithmetic. Meanwhile other mail arrives at half
//! of the highest rate.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use bytes::Bytes;
use devstack::Running;
use event::Provider;
use serde_json::Value;
use testkit::Credentials;
use testkit::load::Load;
use tokio::net::TcpStream as AsyncTcpStream;

use super::Arguments;
use super::archive::rows;
use super::client::{Arrivals, Posting, exchange, post, unix_millis};
use super::cpu::{CpuMeter, Usage};
use super::latency::Percentiles;
use super::report::{Figure, Report, thousands};
use super::script::{Dates, Script, write_request};
use super::servers::{Namespace, Servers, bar};
use crate::binaries::SERVICES;

/// The messages of an incident that are delivered. The rule needs 200 messages.
const DELIVERED: u64 = 260;
/// The threshold of `hard_bounces` for the severity page, and its error rate.
const THRESHOLD: f64 = 0.10;
const CONFIDENCE: f64 = 0.0005;
/// How long before its last bounce the deliveries of an incident are posted. The other bounces follow after half of this time.
/// Warnings are held for a minute, so they do not come before.
const LEAD: Duration = Duration::from_secs(10);
/// The time between two incidents.
const INTERVAL: Duration = Duration::from_millis(500);
/// A page that does not come within this time is missing.
const MISSING_AFTER: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(50);
pub(super) const EVENTS_PER_REQUEST: u64 = 10;
/// The burst that measures the highest rate has one of this many events of the other legs.
pub(super) const BURST_SHARE: u64 = 4;
pub(super) const WARM_UP_SHARE: u64 = 50;
/// So few incidents can be measured with a debug build, to see that the leg works.
pub(super) const SMOKE_TEST: u64 = 20;
/// The key of the receiver's signatures, which it does not check.
const SECRET: &str = "whsec_YmVuY2gtYmVuY2gtYmVuY2gtYmVuY2gtYmVuY2g=";

/// Measures `--incidents` pages.
pub(crate) fn page(
    servers: &Servers,
    arguments: &Arguments,
    report: &mut Report,
) -> anyhow::Result<()> {
    let namespace = servers.namespace("page")?;
    let receiver = Receiver::start()?;
    let settings = settings(&receiver.address, arguments.incidents);
    let mut services: Vec<Running> = Vec::new();
    for service in SERVICES {
        services.push(namespace.start_with(service, &settings)?);
    }
    let script = |run: &str, events: u64| {
        Script::new(
            &format!("{run}{}", unix_millis()),
            events.max(1),
            EVENTS_PER_REQUEST,
            Dates::Live,
        )
    };
    burst(&namespace, arguments, script("pw", arguments.events / WARM_UP_SHARE))?;
    let best = burst(&namespace, arguments, script("pb", arguments.events / BURST_SHARE))?;
    let half = best / 2.0;
    let meter = |service: &Running| CpuMeter::start(service.pid());
    let meters = services.iter().map(meter).collect::<anyhow::Result<Vec<_>>>()?;
    let mut posted = at(&namespace, arguments, half, &receiver)?;
    for meter in &meters {
        posted.cpu_seconds += meter.usage()?.cpu_seconds;
    }
    let Paged { seconds, cpu_seconds, .. } = posted;
    let usage = Usage { seconds, cpu_seconds };
    let mut figure = Figure::new("pages at half load", "all services", posted.events, usage);
    figure.paged = Percentiles::of(posted.micros);
    let sources = arguments.incidents;
    report.add(figure.note(format!(
        "{sources} incidents of {sources} sources while {} events per second arrived, half of {}; from the answer to the POST \
         of the first event that satisfies the rule to the receipt of the webhook; targets: p50 1.5 s, p99 5 s",
        thousands(half),
        thousands(best)
    )));
    for service in services {
        namespace.stop(service)?;
    }
    Ok(())
}

/// Returns what differs from the settings of the other legs.
fn settings(receiver: &str, incidents: u64) -> String {
    let credentials = Credentials::new("");
    let mut toml = format!(
        "[monitor.incidents]\njoin_sources = 0\n[[notify.channel]]\nname = \"hook\"\nkind = \"webhook\"\n\
         url = \"http://{receiver}/\"\nsecret = {SECRET:?}\nallow_private = true\n"
    );
    for number in 0..incidents {
        let _ = writeln!(toml, "{}", credentials.source_toml(Provider::Generic, &source(number)));
    }
    toml
}

fn source(number: u64) -> String {
    format!("page-{number:04}")
}

/// Returns how many hard bounces break the rule after [`DELIVERED`] deliveries.
fn bounces() -> anyhow::Result<u64> {
    let breaks = |bounces: &u64| {
        alerting::bounds::is_above(*bounces, DELIVERED + *bounces, THRESHOLD, CONFIDENCE)
    };
    (1..DELIVERED).find(breaks).context("no number of bounces breaks the rule")
}

/// Posts events at full load, and returns the rate up to the last row.
pub(super) fn burst(
    namespace: &Namespace<'_>,
    arguments: &Arguments,
    script: Script,
) -> anyhow::Result<f64> {
    let Namespace { servers, database, .. } = namespace;
    let script = Arc::new(script);
    let before = rows(servers, database)?;
    let started = Instant::now();
    load(namespace, &script, Arrivals::Closed, arguments.connections)?;
    let goal = before + script.events();
    namespace.wait_for("rows in ClickHouse", goal, || rows(servers, database))?;
    Ok(script.events() as f64 / started.elapsed().as_secs_f64())
}

pub(super) fn load(
    namespace: &Namespace<'_>,
    script: &Arc<Script>,
    arrivals: Arrivals,
    connections: usize,
) -> anyhow::Result<Duration> {
    let bar = bar("other mail", script.requests);
    let requests = 0..script.requests;
    let address = &namespace.ingress;
    let posted = post(&Posting { address, script, requests, connections, arrivals, bar: &bar })?;
    bar.finish_and_clear();
    Ok(posted.took)
}

/// What was measured.
struct Paged {
    events: u64,
    seconds: f64,
    /// Of all services.
    cpu_seconds: f64,
    micros: Vec<u32>,
}

/// Posts other mail at a rate, and the events of the incidents meanwhile.
fn at(
    namespace: &Namespace<'_>,
    arguments: &Arguments,
    per_second: f64,
    receiver: &Receiver,
) -> anyhow::Result<Paged> {
    let pages = INTERVAL * u32::try_from(arguments.incidents)?;
    let seconds = (LEAD + pages).as_secs_f64() + 5.0;
    let run = format!("ph{}", unix_millis());
    let events = (per_second * seconds).max(1.0) as u64;
    let script = Arc::new(Script::new(&run, events, EVENTS_PER_REQUEST, Dates::Live));
    let arrivals = Arrivals::Paced(per_second / EVENTS_PER_REQUEST as f64);
    let failed = AtomicBool::new(false);
    let (loaded, posted) = std::thread::scope(|scope| {
        let loaded = scope.spawn(|| {
            let loaded = load(namespace, &script, arrivals, arguments.connections);
            failed.store(loaded.is_err(), Ordering::Relaxed);
            loaded
        });
        let posted = scope.spawn(|| post_incidents(namespace, arguments.incidents));
        (loaded.join(), posted.join())
    });
    let panicked = |_| anyhow::anyhow!("a thread of the benchmark panicked");
    let took = loaded.map_err(panicked)??;
    let answered = posted.map_err(panicked)??;
    ensure!(!failed.load(Ordering::Relaxed), "the other mail could not be posted");
    let mut micros = Vec::new();
    for (source, last) in answered {
        let received = receiver.await_page(&source)?;
        ensure!(received >= last.began, "the page about {source} came before its last event");
        // The answer may come after the page if the machine is busy.
        let late = received.saturating_duration_since(last.answered);
        micros.push(u32::try_from(late.as_micros()).unwrap_or(u32::MAX));
    }
    Ok(Paged { events: script.events(), seconds: took.as_secs_f64(), cpu_seconds: 0.0, micros })
}

/// The request with the last event of an incident.
struct LastPost {
    began: Instant,
    answered: Instant,
}

/// Posts the events of all incidents. Returns the last request of each source.
fn post_incidents(
    namespace: &Namespace<'_>,
    incidents: u64,
) -> anyhow::Result<Vec<(String, LastPost)>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let run = format!("page{}", unix_millis());
    let bounces = bounces()?;
    runtime.block_on(async {
        let mut stream = AsyncTcpStream::connect(&namespace.ingress).await?;
        stream.set_nodelay(true)?;
        let credentials = Credentials::new("");
        let (mut wire, mut answer) = (Vec::new(), Vec::new());
        let began = tokio::time::Instant::now();
        let lead = u64::try_from(LEAD.as_millis() / INTERVAL.as_millis())?;
        let mut answered = Vec::new();
        let last = DELIVERED + bounces - 1;
        let parts = [(0, 0..DELIVERED), (lead / 2, DELIVERED..last), (lead, last..last + 1)];
        for tick in 0..incidents + lead {
            tokio::time::sleep_until(began + INTERVAL * u32::try_from(tick)?).await;
            for (later, messages) in parts.clone() {
                let Some(number) = tick.checked_sub(later).filter(|it| *it < incidents) else {
                    continue;
                };
                let now = unix_millis();
                let source = source(number);
                let is_last = messages.start == last;
                let body = body(&run, number, messages, now);
                let load = Load::new(&credentials, &source, &run, 1, 0);
                write_request(&load.sign(body, now / 1000), &mut wire)?;
                let began = Instant::now();
                exchange(&mut stream, &wire, &mut answer).await?;
                if is_last {
                    answered.push((source, LastPost { began, answered: Instant::now() }));
                }
            }
        }
        Ok(answered)
    })
}

/// Returns the body of a request with the messages of an incident: first those that are delivered, then those that bounce.
fn body(run: &str, incident: u64, messages: std::ops::Range<u64>, millis: i64) -> Bytes {
    let events = messages.map(|message| {
        let id = format!("{run}-{incident}-{message}");
        let (kind, more) = if message < DELIVERED {
            ("delivered", "")
        } else {
            ("bounced", r#","bounce":{"permanence":"hard","status":"5.1.1","diagnostic":"550 5.1.1 user unknown"}"#)
        };
        format!(
            r#"{{"id":"{id}","event":"{kind}","recipient":"reader-{incident}-{message}@example.org","timestamp":{millis},"message_id":"{id}"{more}}}"#
        )
    });
    format!("[{}]", events.collect::<Vec<_>>().join(",")).into()
}

/// A webhook that notes when each source was first paged.
struct Receiver {
    address: String,
    pages: Arc<Mutex<BTreeMap<String, Instant>>>,
}

impl Receiver {
    /// Starts a thread that listens until this process ends.
    fn start() -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?.to_string();
        let pages = Arc::<Mutex<BTreeMap<String, Instant>>>::default();
        let to = Arc::clone(&pages);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // An incomplete request is delivered again.
                if let Ok(Some((source, at))) = receive(stream) {
                    to.lock().unwrap_or_else(PoisonError::into_inner).entry(source).or_insert(at);
                }
            }
        });
        Ok(Self { address, pages })
    }

    /// Waits for the first page about a source.
    fn await_page(&self, source: &str) -> anyhow::Result<Instant> {
        let key = format!("generic/{source}");
        let began = Instant::now();
        loop {
            let found =
                self.pages.lock().unwrap_or_else(PoisonError::into_inner).get(&key).copied();
            if let Some(at) = found {
                return Ok(at);
            }
            ensure!(
                began.elapsed() < MISSING_AFTER,
                "no page about {source} after {MISSING_AFTER:?}"
            );
            std::thread::sleep(POLL);
        }
    }
}

/// Reads a request and answers it. Returns the source and the time of receipt if it is a page.
fn receive(mut stream: TcpStream) -> anyhow::Result<Option<(String, Instant)>> {
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let (mut line, mut length) = (String::new(), 0);
    loop {
        line.clear();
        reader.read_line(&mut line)?;
        if line.trim_end().is_empty() {
            break;
        }
        if let Some((name, value)) = line.trim_end().split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().unwrap_or(0);
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let at = Instant::now();
    stream.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")?;
    let body: Value = serde_json::from_slice(&body)?;
    let incident = &body["data"];
    let is_page = incident["severity"] == "page" && incident["group"] == "source";
    let source = incident["of"].as_str().filter(|_| is_page);
    Ok(source.map(|source| (source.to_owned(), at)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_bounce_is_the_first_that_breaks_the_rule() {
        let rules = alerting::RuleSet::defaults();
        let rule = rules.rules().iter().find(|rule| rule.name == "hard_bounces").unwrap();
        assert_eq!((rule.page, rule.confidence), (Some(THRESHOLD), CONFIDENCE));
        assert!(rule.min_volume <= DELIVERED);
        let last = bounces().unwrap();
        assert!(last > rule.min_count);
        let is_above = |k: u64| alerting::bounds::is_above(k, DELIVERED + k, THRESHOLD, CONFIDENCE);
        assert!(is_above(last) && !is_above(last - 1));
        let events: Vec<Value> =
            serde_json::from_slice(&body("r", 3, 0..DELIVERED + last, 1_795_255_200_000)).unwrap();
        let bounced = events.iter().filter(|event| event["event"] == "bounced").count();
        assert_eq!((events.len() as u64, bounced as u64), (DELIVERED + last, last));
    }
}
