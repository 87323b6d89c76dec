//! The load generator: HTTP/1.1 over persistent connections, one request at a time on each, on one
//! thread.
//!
//! It implements only the part of HTTP that the ingress needs, so that it uses little CPU.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail};
use indicatif::ProgressBar;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Mutex, mpsc};

use super::latency::Percentiles;
use super::script::Script;

/// If a request has no answer after this time, the benchmark fails.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// The interval at which requests are released at a given rate.
const TICK: Duration = Duration::from_millis(1);
const BAR_EVERY: u64 = 256;

/// How requests arrive.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Arrivals {
    /// Full load: each connection posts its next request when it has the answer to the previous one.
    Closed,
    /// Requests per second, independent of the answers.
    Paced(f64),
}

/// What to post, and where.
pub(crate) struct Posting<'a> {
    /// `host:port` of the ingress.
    pub(crate) address: &'a str,
    pub(crate) script: &'a Arc<Script>,
    /// The numbers of the requests to post.
    pub(crate) requests: std::ops::Range<u64>,
    pub(crate) connections: usize,
    pub(crate) arrivals: Arrivals,
    pub(crate) bar: &'a ProgressBar,
}

/// The result of posting.
pub(crate) struct Posted {
    pub(crate) took: Duration,
    /// The time from POST to answer. At a given rate it includes the wait for a free connection.
    pub(crate) acks: Option<Percentiles>,
}

/// Posts everything. An answer other than 200 is an error.
pub(crate) fn post(posting: &Posting<'_>) -> anyhow::Result<Posted> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(run(posting))
}

async fn run(posting: &Posting<'_>) -> anyhow::Result<Posted> {
    let mut streams = Vec::with_capacity(posting.connections);
    for _ in 0..posting.connections {
        let stream =
            TcpStream::connect(posting.address).await.context(posting.address.to_owned())?;
        stream.set_nodelay(true)?;
        streams.push(stream);
    }
    posting.bar.set_length(posting.requests.end - posting.requests.start);
    let started = Instant::now();
    let tickets = Arc::new(Tickets::new(posting));
    let workers: Vec<_> = streams
        .into_iter()
        .map(|stream| {
            let worker = Worker {
                stream,
                script: Arc::clone(posting.script),
                tickets: Arc::clone(&tickets),
                first: posting.requests.start,
                bar: posting.bar.clone(),
            };
            tokio::spawn(worker.run())
        })
        .collect();
    let mut micros = Vec::new();
    for worker in workers {
        micros.extend(worker.await??);
    }
    Ok(Posted { took: started.elapsed(), acks: Percentiles::of(micros) })
}

/// Distributes the numbers of requests to connections.
enum Tickets {
    Closed { next: AtomicU64, end: u64 },
    Paced(Mutex<mpsc::UnboundedReceiver<(u64, Instant)>>),
}

impl Tickets {
    fn new(posting: &Posting<'_>) -> Self {
        let requests = posting.requests.clone();
        match posting.arrivals {
            Arrivals::Closed => {
                Self::Closed { next: AtomicU64::new(requests.start), end: requests.end }
            }
            Arrivals::Paced(per_second) => {
                let (release, arrived) = mpsc::unbounded_channel();
                tokio::spawn(pace(requests, per_second, release));
                Self::Paced(Mutex::new(arrived))
            }
        }
    }

    /// Returns the number of a request, and the time of its release at a given rate.
    async fn next(&self) -> Option<(u64, Option<Instant>)> {
        match self {
            Self::Closed { next, end } => {
                let k = next.fetch_add(1, Ordering::Relaxed);
                (k < *end).then_some((k, None))
            }
            Self::Paced(arrived) => {
                let (k, at) = arrived.lock().await.recv().await?;
                Some((k, Some(at)))
            }
        }
    }
}

/// Releases requests at a rate. Those of one tick are released together.
async fn pace(
    requests: std::ops::Range<u64>,
    per_second: f64,
    release: mpsc::UnboundedSender<(u64, Instant)>,
) {
    let started = Instant::now();
    let mut ticks = tokio::time::interval(TICK);
    let mut next = requests.start;
    while next < requests.end {
        ticks.tick().await;
        let due = requests.start + (started.elapsed().as_secs_f64() * per_second) as u64;
        let now = Instant::now();
        for k in next..due.min(requests.end) {
            if release.send((k, now)).is_err() {
                return;
            }
        }
        next = next.max(due.min(requests.end));
    }
}

struct Worker {
    stream: TcpStream,
    script: Arc<Script>,
    tickets: Arc<Tickets>,
    first: u64,
    bar: ProgressBar,
}

impl Worker {
    /// Posts until no requests are left. Returns the duration of each request in microseconds.
    async fn run(mut self) -> anyhow::Result<Vec<u32>> {
        let (mut wire, mut answer, mut micros) = (Vec::new(), Vec::new(), Vec::new());
        while let Some((k, arrived)) = self.tickets.next().await {
            self.script.write(k, unix_millis(), &mut wire)?;
            let since = arrived.unwrap_or_else(Instant::now);
            exchange(&mut self.stream, &wire, &mut answer).await?;
            micros.push(u32::try_from(since.elapsed().as_micros()).unwrap_or(u32::MAX));
            if k % BAR_EVERY == 0 {
                self.bar.set_position(k - self.first);
            }
        }
        Ok(micros)
    }
}

/// Returns the current Unix time in milliseconds.
pub(crate) fn unix_millis() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// Sends a request and reads the whole answer, which must be a 200.
pub(crate) async fn exchange(
    stream: &mut TcpStream,
    wire: &[u8],
    answer: &mut Vec<u8>,
) -> anyhow::Result<()> {
    tokio::time::timeout(REQUEST_TIMEOUT, async {
        stream.write_all(wire).await?;
        answer.clear();
        loop {
            anyhow::ensure!(
                stream.read_buf(answer).await? > 0,
                "the ingress closed the connection"
            );
            if is_complete(answer) {
                break;
            }
        }
        if !answer.starts_with(b"HTTP/1.1 200 ") {
            bail!("the ingress answered {}", String::from_utf8_lossy(answer));
        }
        Ok(())
    })
    .await
    .context("the ingress did not answer")?
}

/// Whether an answer with a `content-length` is complete.
fn is_complete(answer: &[u8]) -> bool {
    const LENGTH: &[u8] = b"\r\ncontent-length: ";
    let find = |what: &[u8]| answer.windows(what.len()).position(|part| part == what);
    let (Some(head), Some(length)) = (find(b"\r\n\r\n"), find(LENGTH)) else { return false };
    let digits = answer[length + LENGTH.len()..].iter().take_while(|byte| byte.is_ascii_digit());
    let length = digits.fold(0, |sum, digit| sum * 10 + usize::from(digit - b'0'));
    answer.len() >= head + 4 + length
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_complete_with_its_last_byte() {
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 12\r\ndate: x\r\n\r\nhello, world";
        assert!(is_complete(answer));
        for end in 0..answer.len() {
            assert!(!is_complete(&answer[..end]), "{end}");
        }
    }
}
