//! `cargo xtask bench suppress`: fills `mail.suppressions`, starts `suppress`, and measures its memory and how long lookups
//! take over one connection.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use kafka::{PreparedHeaders, Publisher, PublisherSettings};
use privacy::ErasureKey;
use suppression::entry::EntryValue;
use suppression::{Author, EntryKey, Reason, RecipientKey, State};

use super::cpu::memory;
use super::servers::{Namespace, Servers, bar};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The number of entries. Ten million take about 2 GB of disk.
    #[arg(long, default_value_t = 10_000_000, value_parser = clap::value_parser!(u64).range(10_000..=100_000_000))]
    entries: u64,
    /// The number of lookups of one address.
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u64).range(1_000..=10_000_000))]
    lookups: u64,
    /// The number of checks of 10,000 addresses.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(20..=100_000))]
    checks: u64,
}

const KEY: &str = "a key of the benchmark alone";
const TOKEN: &str = "a token of the benchmark";
/// What ten million entries may need.
const TARGET_MEMORY: u64 = 300_000_000;
const TARGET_OF_ONE: Duration = Duration::from_millis(1);
const TARGET_OF_CHECK: Duration = Duration::from_millis(20);
/// How long the service rests before its memory is measured: the allocator gives pages back that have been free for ten
/// seconds.
const REST: Duration = Duration::from_secs(15);
/// Records of one batch.
const BATCH: u64 = 20_000;
const ADDRESSES_OF_CHECK: u64 = 10_000;
/// One address of a check in this many is suppressed. Most recipients of real mail are not.
const SUPPRESSED_OF_CHECK: u64 = 20;
const SINCE: i64 = 1_780_000_000_000_000;

/// Fills the topic, measures and prints the figures.
pub(crate) fn suppress(arguments: &Arguments) -> anyhow::Result<()> {
    if cfg!(debug_assertions) {
        eprintln!("this is a debug build, and its figures mean nothing");
    }
    let servers = Servers::start()?;
    let namespace = servers.namespace("suppress")?;
    namespace.create_topics()?;
    fill(&servers, &namespace, arguments.entries)?;

    let listen = format!("127.0.0.1:{}", devstack::process::free_port()?);
    let settings = format!(
        "[suppress]\nlisten = {listen:?}\n\
         tokens = [{{ name = \"bench\", role = \"reader\", secret = {TOKEN:?} }}]\n\
         [privacy]\nerasure_key = {KEY:?}\n"
    );
    let started = Instant::now();
    let service = namespace.start_with("suppress", &settings)?;
    println!(
        "  ready with {} entries after {:.1} s",
        arguments.entries,
        started.elapsed().as_secs_f64()
    );
    let mut client = Client::connect(&listen)?;
    let lookups = (0..arguments.lookups).map(|number| {
        // Every other address is not suppressed.
        let recipient = scatter(number, arguments.entries);
        let name = if number % 2 == 0 { "r" } else { "n" };
        client.time(
            "GET",
            &format!("/suppressions/{name}{recipient}@example.com?list=ses/news"),
            "",
        )
    });
    print_latencies("one address", lookups.collect::<anyhow::Result<_>>()?, TARGET_OF_ONE);
    let checks = (0..arguments.checks).map(|check| {
        let addresses = (0..ADDRESSES_OF_CHECK).map(|number| {
            let recipient = scatter(check * ADDRESSES_OF_CHECK + number, arguments.entries);
            let name = if number % SUPPRESSED_OF_CHECK == 0 { "r" } else { "n" };
            format!("\"{name}{recipient}@example.com\"")
        });
        let addresses: Vec<String> = addresses.collect();
        let body = format!("{{\"addresses\":[{}]}}", addresses.join(","));
        client.time("POST", "/suppressions/check", &body)
    });
    print_latencies("10,000 addresses", checks.collect::<anyhow::Result<_>>()?, TARGET_OF_CHECK);
    std::thread::sleep(REST);
    let memory = memory(service.pid())?;
    println!(
        "  memory {} MB at rest, at most {} MB (target for 10,000,000 entries: {} MB)",
        memory.bytes / 1_000_000,
        memory.peak_bytes / 1_000_000,
        TARGET_MEMORY / 1_000_000
    );
    namespace.stop(service)
}

/// Writes one entry for each recipient.
fn fill(servers: &Servers, namespace: &Namespace<'_>, entries: u64) -> anyhow::Result<()> {
    let settings = PublisherSettings {
        linger: Duration::from_millis(5),
        queue_bytes: 64 << 20,
        ack_timeout: None,
    };
    let publisher = Publisher::open(&servers.connection("lz4"), "bench", settings)?;
    let (keys, headers) = (keys()?, PreparedHeaders::new(&[]));
    let bar = bar("mail.suppressions", entries);
    for start in (0..entries).step_by(BATCH as usize) {
        let batch = publisher.batch();
        for number in start..(start + BATCH).min(entries) {
            let recipient = keys.of_address(&format!("r{number}@example.com"));
            let key = EntryKey {
                list: "ses/news".into(),
                recipient: recipient.context("it is an address")?,
                reason: reason(number),
                scope: "".into(),
                author: Author::Event,
            };
            let since = SINCE + number.cast_signed() * 1_000_000;
            let value = serde_json::to_vec(&EntryValue::new(&key, State::Suppressed, since))?;
            let topic = &namespace.topics.suppressions;
            batch.send(topic, key.to_string().as_bytes(), &value, &headers)?;
        }
        servers.block_on(batch.acknowledged())?;
        bar.inc(BATCH);
    }
    bar.finish_and_clear();
    Ok(())
}

/// Returns the reason of an entry: those that never end, and one of 20 that does, which every instance also keeps by its
/// time.
const fn reason(number: u64) -> Reason {
    match number % 20 {
        0 => Reason::SoftBounces,
        1 => Reason::Complaint,
        2..10 => Reason::Unsubscribe,
        _ => Reason::HardBounce,
    }
}

fn keys() -> anyhow::Result<RecipientKey> {
    Ok(RecipientKey::new(ErasureKey::new(KEY.as_bytes())?, None))
}

/// Returns numbers below `below` that have no pattern.
fn scatter(number: u64, below: u64) -> u64 {
    number.wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(31) % below
}

/// A connection that stays open.
struct Client {
    stream: BufReader<TcpStream>,
    host: String,
}

impl Client {
    fn connect(host: &str) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(host)?;
        stream.set_nodelay(true)?;
        Ok(Self { stream: BufReader::new(stream), host: host.to_owned() })
    }

    /// Returns how long a request takes until its response was read.
    fn time(&mut self, method: &str, path: &str, body: &str) -> anyhow::Result<Duration> {
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {TOKEN}\r\n\
             content-length: {}\r\n\r\n{body}",
            self.host,
            body.len()
        );
        let started = Instant::now();
        self.stream.get_mut().write_all(request.as_bytes())?;
        let (mut line, mut length) = (String::new(), 0);
        self.stream.read_line(&mut line)?;
        ensure!(line.starts_with("HTTP/1.1 200"), "{path}: {line}");
        loop {
            line.clear();
            self.stream.read_line(&mut line)?;
            let line = line.trim().to_ascii_lowercase();
            if line.is_empty() {
                break;
            }
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse()?;
            }
        }
        self.stream.read_exact(&mut vec![0; length])?;
        Ok(started.elapsed())
    }
}

fn print_latencies(what: &str, mut times: Vec<Duration>, target: Duration) {
    times.sort_unstable();
    let at = |share: f64| {
        let index = ((times.len() as f64 * share) as usize).min(times.len().saturating_sub(1));
        times.get(index).map_or(0.0, |time| time.as_secs_f64() * 1_000.0)
    };
    let target = target.as_millis();
    println!(
        "  {what}: p50 {:.3} ms, p99 {:.3} ms (target {target} ms), longest {:.3} ms",
        at(0.5),
        at(0.99),
        at(1.0)
    );
}
