//! `mailpulse load`: posts signed test events at a rate, and measures the answers.

mod latencies;

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use service::{ServiceSettings, Settings};
use testkit::signers::SignedBody;
use tokio::sync::Semaphore;

use crate::args::Load;
use crate::configured::ConfiguredSource;
use crate::installation::note;
use crate::interrupt::Interrupt;
use crate::post::{Client, Poster, TestEvent, load_recipient, local_ingress};
use crate::{InputError, Outcome};
use latencies::Latencies;

/// The number of different recipients.
const RECIPIENTS: u64 = 10_000;
/// The greatest number of different answers that are counted apart.
const MAX_ANSWERS: usize = 50;
/// How long answers may take after the last request.
const LAST_ANSWERS: Duration = Duration::from_secs(20);
/// How often events that are due are posted.
const TICK: Duration = Duration::from_millis(2);

/// Posts events until the time is over or Ctrl-C.
///
/// # Errors
/// If the arguments or the settings are invalid.
pub(crate) fn run(config: Option<&Path>, args: &Load) -> anyhow::Result<Outcome> {
    let settings = Settings::discover(config)?;
    let service: ServiceSettings = settings.section("service")?;
    service::init_log(&service).map_err(|error| InputError(format!("{error:#}")))?;
    let source = ConfiguredSource::find(&settings, &args.source)?;
    let poster = Poster::new(source, &args.with)?;
    let base = match &args.to.url {
        Some(url) => url.clone(),
        None => local_ingress(&settings)?,
    };
    let client = Client::new(&base, &poster.source().path())?;
    // Reports a kind that the provider does not report, before anything is posted.
    request(&poster, args, crate::now(), 0, 0)?;
    note(&format!(
        "posting {} events per second to {} for {} s; they count like real ones in every rate of {}, and their \
         recipients are …@mailpulse.invalid",
        args.rate,
        client.url(),
        args.duration.as_secs_f64(),
        poster.source().label()
    ))?;
    let interrupt = Interrupt::listen()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let counts = runtime.block_on(post_all(poster, client, args, &interrupt))?;
    writeln!(io::stdout(), "{counts}")?;
    Ok(if counts.is_all_accepted() { Outcome::Done } else { Outcome::Incomplete })
}

/// Returns a signed request with one event. `number` makes its message different, and `recipient` is one of the
/// recipients.
fn request(
    poster: &Poster,
    args: &Load,
    now: Timestamp,
    number: u128,
    recipient: u64,
) -> Result<SignedBody, InputError> {
    let test = TestEvent {
        source: poster.source(),
        kind: args.kind,
        recipient: &load_recipient(recipient),
        at: now.as_microsecond(),
        number,
    };
    poster.request(&test.mail_event(), now.as_second())
}

async fn post_all(
    poster: Poster,
    client: Client,
    args: &Load,
    interrupt: &Interrupt,
) -> anyhow::Result<Counts> {
    let shared = Arc::new(Mutex::new(Counts::default()));
    let permits = Arc::new(Semaphore::new(args.connections.into()));
    let run = uuid::Uuid::new_v4().as_u128();
    let begin = Instant::now();
    let (mut posted, mut printed) = (0u64, 0u64);
    let mut ticks = tokio::time::interval(TICK);
    while begin.elapsed() < args.duration && !interrupt.is_requested() {
        ticks.tick().await;
        let due = due(begin.elapsed().min(args.duration), args.rate);
        while posted < due && begin.elapsed() < args.duration {
            // Waits if too many requests have no answer, so that fewer are posted instead of ever more waiting.
            let permit = Arc::clone(&permits).acquire_owned().await?;
            let number = run.wrapping_add(u128::from(posted));
            let request = request(&poster, args, crate::now(), number, posted % RECIPIENTS)?;
            let (client, counts) = (client.clone(), Arc::clone(&shared));
            tokio::spawn(async move {
                let start = Instant::now();
                let answer = client.post(request).await;
                let took = start.elapsed();
                let (is_accepted, text) = match answer {
                    Ok(answer) => (
                        answer.status.is_success(),
                        format!("{} {}", answer.status.as_u16(), answer.code),
                    ),
                    Err(reason) => (false, format!("no answer: {reason}")),
                };
                lock(&counts).add(text.trim_end(), is_accepted, took);
                drop(permit);
            });
            posted += 1;
            print_progress(begin, &mut printed, posted, &shared)?;
        }
        print_progress(begin, &mut printed, posted, &shared)?;
    }
    let posting = begin.elapsed();
    // All permits are free when every request has its answer.
    let all = permits.acquire_many(args.connections.into());
    let is_complete = tokio::time::timeout(LAST_ANSWERS, all).await.is_ok();
    let mut counts = std::mem::take(&mut *lock(&shared));
    counts.posted = posted;
    counts.seconds = posting.as_secs_f64();
    if !is_complete {
        note("some requests have no answer yet; they are not counted")?;
    }
    Ok(counts)
}

/// Returns how many events are due after a time.
fn due(elapsed: Duration, rate: u32) -> u64 {
    let due = elapsed.as_nanos() * u128::from(rate) / 1_000_000_000;
    u64::try_from(due).unwrap_or(u64::MAX)
}

/// Prints a line about each second that is over.
fn print_progress(
    begin: Instant,
    printed: &mut u64,
    posted: u64,
    shared: &Mutex<Counts>,
) -> io::Result<()> {
    let second = begin.elapsed().as_secs();
    if second == *printed {
        return Ok(());
    }
    *printed = second;
    let counts = lock(shared);
    writeln!(
        io::stdout(),
        "{second:>5} s  {posted:>9} posted  {:>9} accepted  {:>7} others  p99 {} ms",
        counts.accepted,
        counts.answered() - counts.accepted,
        counts.latencies.millis(0.99),
    )
}

fn lock(counts: &Mutex<Counts>) -> std::sync::MutexGuard<'_, Counts> {
    counts.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What was posted and answered.
#[derive(Debug, Default)]
struct Counts {
    posted: u64,
    accepted: u64,
    /// The time of posting, without that of the last answers.
    seconds: f64,
    /// By status and code, or by the reason why there was no answer.
    answers: BTreeMap<String, u64>,
    latencies: Latencies,
}

impl Counts {
    fn add(&mut self, answer: &str, is_accepted: bool, took: Duration) {
        self.accepted += u64::from(is_accepted);
        let is_known = self.answers.contains_key(answer);
        let name = if is_known || self.answers.len() < MAX_ANSWERS { answer } else { "others" };
        *self.answers.entry(name.to_owned()).or_default() += 1;
        self.latencies.add(took);
    }

    fn answered(&self) -> u64 {
        self.answers.values().sum()
    }

    /// Returns whether every event was accepted.
    fn is_all_accepted(&self) -> bool {
        self.accepted == self.posted
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        #[expect(clippy::cast_precision_loss, reason = "printed with one digit")]
        let rate = self.posted as f64 / self.seconds.max(f64::MIN_POSITIVE);
        writeln!(
            f,
            "{} posted in {:.1} s: {rate:.1} per second; {} answered",
            self.posted,
            self.seconds,
            self.answered()
        )?;
        for (answer, count) in &self.answers {
            writeln!(f, "{count:>9}  {answer}")?;
        }
        write!(
            f,
            "p50 {} ms, p99 {} ms, max {} ms from a request to its answer",
            self.latencies.millis(0.5),
            self.latencies.millis(0.99),
            self.latencies.max_millis()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_due_at_the_rate() {
        assert_eq!(due(Duration::ZERO, 20_000), 0);
        assert_eq!(due(Duration::from_millis(500), 3), 1);
        assert_eq!(due(Duration::from_secs(3600), 20_000), 72_000_000);
    }

    #[test]
    fn the_summary_has_every_answer_and_is_bounded() {
        let mut counts = Counts { posted: 3, seconds: 1.0, ..Counts::default() };
        counts.add("200", true, Duration::from_millis(10));
        counts.add("200", true, Duration::from_millis(10));
        counts.add("429 too_fast", false, Duration::from_millis(1000));
        assert!(!counts.is_all_accepted());
        let text = counts.to_string();
        assert!(text.starts_with("3 posted in 1.0 s: 3.0 per second; 3 answered\n"), "{text}");
        assert!(text.contains("        2  200\n        1  429 too_fast\n"), "{text}");
        assert!(
            text.ends_with(
                "p50 10.0 ms, p99 1000.0 ms, max 1000.0 ms from a request to its answer"
            ),
            "{text}"
        );
        for number in 0..100 {
            counts.add(&format!("no answer: {number}"), false, Duration::ZERO);
        }
        assert_eq!(counts.answers.len(), MAX_ANSWERS + 1);
        assert_eq!(counts.answered(), 103);
    }
}
