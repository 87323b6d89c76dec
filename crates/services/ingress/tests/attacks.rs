//! Measures genuine requests and memory while strangers attack, on loopback and for a bounded time.
//!
//! `cargo test -p ingress --test attacks -- --ignored --nocapture` prints the figures. The limits at the
//! end are those of `docs/operations.md`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

mod common;

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use common::{Ingress, genuine, header_lines};
use event::Provider;
use flate2::Compression;
use flate2::write::GzEncoder;
use testkit::SignedRequest;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

const DURATION: Duration = Duration::from_secs(10);
/// The time between the starts of two addresses.
const STAGGER: Duration = Duration::from_millis(200);
/// Requests of the provider per second.
const RATE: u32 = 20;
const MAX_RSS: u64 = 300 << 20;
const MAX_P99: Duration = Duration::from_secs(1);

/// What strangers do, from several addresses.
struct Attack {
    name: &'static str,
    addresses: u8,
    connections: usize,
    /// What is sent on each connection, and how often it is sent.
    payload: Vec<u8>,
    repeats: usize,
    reads: bool,
}

fn gzip(body: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(body).unwrap();
    encoder.finish().unwrap()
}

fn head(path: &str, headers: &str, length: usize) -> Vec<u8> {
    format!("POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n{headers}\r\n")
        .into_bytes()
}

fn attacks(ingress: &Ingress) -> Vec<Attack> {
    let bomb = gzip(&b"a&".repeat(8 << 20));
    let mandrill = genuine(ingress, Provider::Mandrill);
    let headers = header_lines(&mandrill.headers);
    let form = head(&mandrill.path, &format!("{headers}content-encoding: gzip\r\n"), bomb.len());
    // A form with one field of 16 MiB is within all limits, so that its HMAC must be computed.
    let large = gzip(&[&b"mandrill_events="[..], &b"%41".repeat(5 << 20)].concat());
    let hmac = head(&mandrill.path, &format!("{headers}content-encoding: gzip\r\n"), large.len());
    let sendgrid = genuine(ingress, Provider::SendGrid);
    let stalled = head(&sendgrid.path, &header_lines(&sendgrid.headers), 1 << 20);
    let ses = genuine(ingress, Provider::Ses);
    vec![
        Attack {
            name: "no attack",
            addresses: 0,
            connections: 0,
            payload: Vec::new(),
            repeats: 0,
            reads: false,
        },
        Attack {
            name: "row 6: gzipped form of separators",
            addresses: 4,
            connections: 8,
            payload: [form, bomb].concat(),
            repeats: 200,
            reads: true,
        },
        Attack {
            name: "row 6: gzipped form with one large field",
            addresses: 4,
            connections: 8,
            payload: [hmac, large].concat(),
            repeats: 200,
            reads: true,
        },
        Attack {
            name: "row 7: pipelined requests without reading",
            addresses: 4,
            connections: 300,
            payload: b"GET /webhooks/x HTTP/1.1\r\nhost: x\r\n\r\n".repeat(20),
            repeats: 1000,
            reads: false,
        },
        Attack {
            name: "row 8: stalled bodies",
            addresses: 8,
            connections: 250,
            payload: [stalled, vec![b' '; 64_000]].concat(),
            repeats: 1,
            reads: true,
        },
        Attack {
            name: "row 8: stalled bodies whose head cannot be judged",
            addresses: 8,
            connections: 250,
            payload: [head(&ses.path, "", 1 << 20), vec![b' '; 64_000]].concat(),
            repeats: 1,
            reads: true,
        },
    ]
}

/// Connects from an address of the loopback network.
async fn connect(to: SocketAddr, from: u8) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 0, 1, from)), 0))?;
    socket.connect(to).await
}

/// Repeats one connection of the attack until the end.
async fn attack(attack: Arc<Attack>, to: SocketAddr, from: u8, end: Instant, sent: Arc<AtomicU64>) {
    let work = async {
        loop {
            let Ok(mut stream) = connect(to, from).await else {
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            };
            for _ in 0..attack.repeats {
                if stream.write_all(&attack.payload).await.is_err() {
                    break;
                }
                sent.fetch_add(attack.payload.len() as u64, Ordering::Relaxed);
                let mut buffer = [0; 4096];
                if !attack.reads {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                } else if stream.read(&mut buffer).await.unwrap_or(0) == 0 {
                    break;
                }
            }
            // Opening connections as fast as possible is another attack.
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    let _ = tokio::time::timeout_at(end.into(), work).await;
}

/// Returns the resident memory of a process in bytes.
fn rss(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

/// Returns the CPU time of a process in seconds. A latency without CPU time of the ingress comes from
/// other programs.
fn cpu_seconds(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let after_name = stat.rsplit_once(')').unwrap().1;
    let ticks = after_name.split_whitespace().skip(11).take(2);
    ticks.map(|ticks| ticks.parse::<f64>().unwrap()).sum::<f64>() / 100.0
}

/// Posts genuine requests at a fixed rate and returns their latencies. A failed one counts as
/// unbounded.
fn probe(address: &str, request: &SignedRequest, is_over: &AtomicBool) -> Vec<Duration> {
    std::thread::scope(|scope| {
        let mut probes = Vec::new();
        while !is_over.load(Ordering::Relaxed) {
            probes.push(scope.spawn(|| {
                let started = Instant::now();
                let response = post(address, request);
                if matches!(response, Ok(200)) {
                    return started.elapsed();
                }
                println!("    genuine request failed after {:?}: {response:?}", started.elapsed());
                Duration::MAX
            }));
            std::thread::sleep(Duration::from_secs(1) / RATE);
        }
        probes.into_iter().map(|probe| probe.join().unwrap()).collect()
    })
}

fn post(address: &str, request: &SignedRequest) -> std::io::Result<u16> {
    let mut stream = std::net::TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    let headers = format!("connection: close\r\n{}", header_lines(&request.headers));
    stream.write_all(&head(&request.path, &headers, request.body.len()))?;
    stream.write_all(&request.body)?;
    let mut response = String::new();
    stream.read_to_string(&mut response)?;
    Ok(response.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0))
}

fn run(ingress: &Ingress, number: u8, planned: Attack) -> (Duration, u64) {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let runtime = builder.worker_threads(2).enable_all().build().unwrap();
    let to: SocketAddr = ingress.address.parse().unwrap();
    let (is_over, sent) = (AtomicBool::new(false), Arc::new(AtomicU64::new(0)));
    let planned = Arc::new(planned);
    let request = genuine(ingress, Provider::SendGrid);
    let cpu = cpu_seconds(ingress.service.pid());
    let (mut latencies, peak) = std::thread::scope(|scope| {
        let probe = scope.spawn(|| probe(&ingress.address, &request, &is_over));
        let end = Instant::now() + DURATION;
        for from in 0..planned.addresses {
            // Connections of the attack before this one may still be open.
            let from = number * 10 + from;
            for _ in 0..planned.connections {
                runtime.spawn(attack(Arc::clone(&planned), to, from, end, Arc::clone(&sent)));
            }
            std::thread::sleep(STAGGER);
        }
        let mut peak = 0;
        while Instant::now() < end {
            peak = peak.max(rss(ingress.service.pid()));
            std::thread::sleep(Duration::from_millis(20));
        }
        is_over.store(true, Ordering::Relaxed);
        (probe.join().unwrap(), peak)
    });
    drop(runtime);
    latencies.sort();
    let at = |share: usize| latencies[(latencies.len() - 1) * share / 100];
    println!(
        "{}: genuine p50 {:?}, p99 {:?}, max {:?} of {}; peak RSS {} MiB; CPU of the ingress {:.1} s; \
         attackers sent {} MiB",
        planned.name,
        at(50),
        at(99),
        at(100),
        latencies.len(),
        peak >> 20,
        cpu_seconds(ingress.service.pid()) - cpu,
        sent.load(Ordering::Relaxed) >> 20,
    );
    let limits = ingress.service.metrics();
    println!(
        "    limits: {:?}",
        LIMITS.map(|limit| {
            (
                limit,
                limits
                    .get("mailpulse_ingress_limit_hits_total", &[("limit", limit)])
                    .unwrap_or(0.0),
            )
        })
    );
    (at(99), peak)
}

const LIMITS: [&str; 7] = [
    "connections",
    "connections_per_client",
    "body_memory",
    "body_memory_per_client",
    "body_rate",
    "write_timeout",
    "rejections",
];

#[test]
#[ignore = "measures for a minute; run it on a quiet machine"]
fn attacks_delay_no_genuine_request_and_take_little_memory() {
    let ingress = Ingress::start_with("ack_timeout = \"3s\"\nread_timeout = \"10s\"\n");
    let attacks = (1..).zip(attacks(&ingress));
    let results: Vec<_> = attacks.map(|(number, attack)| run(&ingress, number, attack)).collect();
    for (p99, peak) in results {
        assert!(p99 < MAX_P99 && peak < MAX_RSS, "p99 {p99:?}, peak {} MiB", peak >> 20);
    }
}
