//! Posts like providers: a few requests at a time, each of them until it gets a final answer.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use event::{Kind, Provider};
use serde::Deserialize;
use testkit::{Credentials, MailEvent, SOURCES, SignedRequest, payloads, sign};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use super::mail::{Answers, EventClock, Mail, OrderedRecipient, SECOND};
use super::pace::Pace;

/// The number of concurrent requests.
const CONCURRENCY: usize = 32;
/// The shortest time between two requests. It limits the rate after an outage.
const SHORTEST_GAP: Duration = Duration::from_millis(5);
/// The pause after a failed attempt is doubled each time.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// After this many requests, an unreadable one is posted.
const GARBAGE_EVERY: u64 = 97;
/// After this many requests, a forged one is posted.
const FORGED_EVERY: u64 = 61;

/// The content of a request. It is signed for every attempt, because signatures expire.
pub(crate) enum Content {
    Genuine(Arc<[MailEvent]>),
    /// Authentic and unreadable, with a number.
    Garbage(u64),
    /// Signed with unknown keys, with a number.
    Forged(u64),
}

/// The answer of the ingress.
#[derive(Deserialize)]
struct Receipt {
    accepted: u64,
    dead_lettered: u64,
}

/// Posts requests and counts the answers.
pub(crate) struct Poster {
    client: reqwest::Client,
    ingress: String,
    credentials: Credentials,
    answers: Mutex<Answers>,
    give_up: AtomicBool,
}

impl Poster {
    pub(crate) fn new(ingress: &str, credentials: &Credentials) -> anyhow::Result<Arc<Self>> {
        Ok(Arc::new(Self {
            client: reqwest::Client::builder().timeout(REQUEST_TIMEOUT).build()?,
            ingress: ingress.to_owned(),
            credentials: credentials.clone(),
            answers: Mutex::default(),
            give_up: AtomicBool::new(false),
        }))
    }

    pub(crate) fn answers(&self) -> MutexGuard<'_, Answers> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on no request is repeated.
    pub(crate) fn give_up(&self) {
        self.give_up.store(true, Ordering::Relaxed);
    }

    /// Posts until the answer is final: the provider would not repeat the request. Returns whether it was
    /// accepted.
    pub(crate) async fn post(&self, content: &Content) -> bool {
        let mut pause = FIRST_PAUSE;
        loop {
            let problem = match self.attempt(content).await {
                Ok((status, receipt)) if self.is_final(content, status, receipt.as_ref()) => {
                    return receipt.is_some();
                }
                Ok((status, _)) => format!("status {status}"),
                Err(error) => error.to_string(),
            };
            if !self.repeats(content, &problem) {
                return false;
            }
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Counts a failed attempt. Returns whether to repeat it.
    fn repeats(&self, content: &Content, problem: &str) -> bool {
        let mut answers = self.answers();
        let repeats = !self.give_up.load(Ordering::Relaxed);
        if repeats {
            answers.repeated += 1;
            answers.refused += u64::from(matches!(content, Content::Genuine(_)));
        } else {
            answers.abandoned.push(format!("{content}: {problem}"));
        }
        repeats
    }

    async fn attempt(&self, content: &Content) -> reqwest::Result<(u16, Option<Receipt>)> {
        let SignedRequest { path, headers, body } = content.sign(&self.credentials);
        let url = format!("http://{}{path}", self.ingress);
        let request =
            headers.iter().fold(self.client.post(url).body(body), |request, (name, value)| {
                request.header(name, value)
            });
        let response = request.send().await?;
        let status = response.status();
        // A truncated body is an error, so the request is repeated.
        let receipt = if status.is_success() { Some(response.json().await?) } else { None };
        Ok((status.as_u16(), receipt))
    }

    /// Returns whether an answer is final, and counts it if so.
    fn is_final(&self, content: &Content, status: u16, receipt: Option<&Receipt>) -> bool {
        let mut answers = self.answers();
        match (content, receipt) {
            (Content::Genuine(events), Some(receipt)) => {
                answers.requests += 1;
                answers.accepted += receipt.accepted;
                answers.wrong_counts += u64::from(receipt.accepted != events.len() as u64);
                events.iter().for_each(|event| answers.add_event(event));
            }
            (Content::Garbage(n), Some(receipt)) => {
                answers.requests += 1;
                answers.wrong_counts += u64::from(receipt.dead_lettered != 1);
                answers.garbage.insert(*n);
            }
            (Content::Forged(_), Some(_)) => answers.forged_accepted += 1,
            // Other client errors, such as 429, are temporary.
            (Content::Forged(_), None) if matches!(status, 401 | 403 | 406) => {
                answers.forged_rejected += 1;
            }
            (_, None) => return false,
        }
        true
    }
}

impl Content {
    fn sign(&self, credentials: &Credentials) -> SignedRequest {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        let one = |events: &[MailEvent], credentials: &Credentials| {
            let request = sign::events(credentials, events, now).into_iter().next();
            // A provider does not report every kind, but the mail contains only what it reports.
            request.unwrap_or_else(|| sign::postmark_body(credentials, "", "".into()))
        };
        match self {
            Self::Genuine(events) => one(events, credentials),
            Self::Garbage(n) => {
                let (provider, source) = unreadable_source(*n);
                let n = usize::try_from(*n).unwrap_or(usize::MAX);
                sign::malformed(credentials, provider, source, n, now)
            }
            Self::Forged(n) => one(&[forged(*n)], &credentials.impostor()),
        }
    }
}

impl std::fmt::Display for Content {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Genuine(events) => match &events[..] {
                [first, ..] => write!(f, "{} events of {}", events.len(), first.source),
                [] => write!(f, "no events"),
            },
            Self::Garbage(n) => write!(f, "unreadable request {n}"),
            Self::Forged(n) => write!(f, "forged request {n}"),
        }
    }
}

/// Returns a source whose unreadable body contains the number in plain text. Mandrill's form does not.
fn unreadable_source(n: u64) -> (Provider, &'static str) {
    let plain: Vec<_> =
        SOURCES.into_iter().filter(|(provider, _)| *provider != Provider::Mandrill).collect();
    plain[n as usize % plain.len()]
}

fn forged(n: u64) -> MailEvent {
    let (provider, source) = SOURCES[n as usize % SOURCES.len()];
    let number = 1 << 122 | u128::from(n);
    MailEvent {
        message_id: payloads::message_id(provider, number),
        ..MailEvent::new(provider, source, Kind::Delivered, "mallory@example.net", 0)
    }
}

/// Posts the mail at the speed of event time until `stop` is set, and returns when all requests have a
/// final answer.
pub(crate) async fn traffic(
    poster: &Arc<Poster>,
    mail: Mail,
    clock: &EventClock,
    pace: Pace,
    stop: &AtomicBool,
) -> anyhow::Result<()> {
    let (started, start) = (Instant::now(), clock.now());
    let mut in_flight = JoinSet::new();
    let mut last = started;
    for (number, (at, events)) in (1..).zip(mail) {
        let due = (started + pace.real_time(at - start)).max(last + SHORTEST_GAP);
        sleep_until(due).await;
        if stop.load(Ordering::Relaxed) {
            break;
        }
        last = Instant::now();
        clock.advance(at);
        send(&mut in_flight, poster, Content::Genuine(events)).await?;
        if number % GARBAGE_EVERY == 0 {
            send(&mut in_flight, poster, Content::Garbage(number / GARBAGE_EVERY)).await?;
        }
        if number % FORGED_EVERY == 0 {
            send(&mut in_flight, poster, Content::Forged(number / FORGED_EVERY)).await?;
        }
    }
    finish(in_flight).await
}

/// Posts the events of an ordered recipient one after the other. They have different times even while
/// event time is paused, because some providers have no event ids.
pub(crate) async fn ordered(
    poster: &Arc<Poster>,
    recipient: OrderedRecipient,
    clock: &EventClock,
    pace: Pace,
    stop: &AtomicBool,
) {
    let mut at = i64::MIN;
    for n in 0.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        at = clock.now().max(at.saturating_add(SECOND));
        let event = recipient.event(n, at);
        let message_id = event.message_id.clone();
        if poster.post(&Content::Genuine([event].into())).await {
            poster.answers().ordered.entry(recipient.address()).or_default().push(message_id);
        }
        sleep(pace.ordered_gap()).await;
    }
}

/// Posts the last requests.
pub(crate) async fn all(
    poster: &Arc<Poster>,
    batches: Vec<Arc<[MailEvent]>>,
) -> anyhow::Result<()> {
    let mut in_flight = JoinSet::new();
    for events in batches {
        send(&mut in_flight, poster, Content::Genuine(events)).await?;
    }
    finish(in_flight).await
}

async fn send(
    in_flight: &mut JoinSet<()>,
    poster: &Arc<Poster>,
    content: Content,
) -> anyhow::Result<()> {
    while in_flight.len() >= CONCURRENCY {
        in_flight.join_next().await.transpose()?;
    }
    let poster = Arc::clone(poster);
    in_flight.spawn(async move {
        poster.post(&content).await;
    });
    Ok(())
}

async fn finish(mut in_flight: JoinSet<()>) -> anyhow::Result<()> {
    while in_flight.join_next().await.transpose()?.is_some() {}
    Ok(())
}
