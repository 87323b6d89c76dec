//! Posting as ESPs do: a few requests at once, each again and again until it is answered for good.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use event::{Kind, Provider};
use serde::Deserialize;
use testkit::{Credentials, Fact, SOURCES, SignedRequest, shape, sign};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use super::mail::{EventClock, Lane, Mail, SECOND, Taken, real};

/// Requests under way at once.
const AT_ONCE: usize = 32;
/// The fastest that requests follow each other: what piled up in an outage is not thrown at the
/// ingress all at once.
const SHORTEST_GAP: Duration = Duration::from_millis(5);
/// Between two events of a lane.
const LANE_GAP: Duration = Duration::from_millis(250);
/// Of the pauses between tries.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// Every so many requests there is an unreadable one, and a forged one.
const GARBAGE_EVERY: u64 = 97;
const FORGED_EVERY: u64 = 61;

/// What one request is made of. Signed anew for every try, since signatures age.
pub(crate) enum Errand {
    Genuine(Arc<[Fact]>),
    /// Authentic, and cannot be read; numbered.
    Garbage(u64),
    /// Signed with keys that nobody has configured; numbered.
    Forged(u64),
}

/// The answer to a webhook.
#[derive(Deserialize)]
struct Receipt {
    accepted: u64,
    dead_lettered: u64,
}

/// What all posting shares.
pub(crate) struct Post {
    client: reqwest::Client,
    ingress: String,
    credentials: Credentials,
    taken: Mutex<Taken>,
    give_up: AtomicBool,
}

impl Post {
    pub(crate) fn new(ingress: &str, credentials: &Credentials) -> anyhow::Result<Arc<Self>> {
        Ok(Arc::new(Self {
            client: reqwest::Client::builder().timeout(ANSWER_WITHIN).build()?,
            ingress: ingress.to_owned(),
            credentials: credentials.clone(),
            taken: Mutex::default(),
            give_up: AtomicBool::new(false),
        }))
    }

    /// What was taken so far.
    pub(crate) fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on nothing is posted again.
    pub(crate) fn give_up(&self) {
        self.give_up.store(true, Ordering::Relaxed);
    }

    /// Posts until there is an answer that is final for its sender. Says whether it was taken.
    pub(crate) async fn deliver(&self, errand: &Errand) -> bool {
        let mut pause = FIRST_PAUSE;
        loop {
            let problem = match self.try_once(errand).await {
                Ok((status, receipt)) if self.settles(errand, status, receipt.as_ref()) => {
                    return receipt.is_some();
                }
                Ok((status, _)) => format!("status {status}"),
                Err(error) => error.to_string(),
            };
            if !self.goes_on(errand, &problem) {
                return false;
            }
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Puts down that it was not taken; says whether it is to be posted again.
    fn goes_on(&self, errand: &Errand, problem: &str) -> bool {
        let mut taken = self.taken();
        let goes_on = !self.give_up.load(Ordering::Relaxed);
        if goes_on {
            taken.posted_again += 1;
        } else {
            taken.never_taken.push(format!("{errand}: {problem}"));
        }
        goes_on
    }

    async fn try_once(&self, errand: &Errand) -> reqwest::Result<(u16, Option<Receipt>)> {
        let SignedRequest { path, headers, body } = errand.sign(&self.credentials);
        let url = format!("http://{}{path}", self.ingress);
        let request =
            headers.iter().fold(self.client.post(url).body(body), |request, (name, value)| {
                request.header(name, value)
            });
        let response = request.send().await?;
        let status = response.status();
        // An answer that breaks off in its body is none.
        let receipt = if status.is_success() { Some(response.json().await?) } else { None };
        Ok((status.as_u16(), receipt))
    }

    /// Puts down a final answer; says whether it is one.
    fn settles(&self, errand: &Errand, status: u16, receipt: Option<&Receipt>) -> bool {
        let mut taken = self.taken();
        match (errand, receipt) {
            (Errand::Genuine(facts), Some(receipt)) => {
                taken.requests += 1;
                taken.accepted += receipt.accepted;
                taken.wrong_receipts += u64::from(receipt.accepted != facts.len() as u64);
                facts.iter().for_each(|fact| taken.event(fact));
            }
            (Errand::Garbage(n), Some(receipt)) => {
                taken.requests += 1;
                taken.wrong_receipts += u64::from(receipt.dead_lettered != 1);
                taken.garbage.insert(*n);
            }
            (Errand::Forged(_), Some(_)) => taken.forged_taken += 1,
            // Others in the client's range, such as 429, are passing faults.
            (Errand::Forged(_), None) if matches!(status, 401 | 403 | 406) => taken.refused += 1,
            (_, None) => return false,
        }
        true
    }
}

impl Errand {
    fn sign(&self, credentials: &Credentials) -> SignedRequest {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        let one = |facts: &[Fact], credentials: &Credentials| {
            let request = sign::facts(credentials, facts, now).into_iter().next();
            // Of facts the provider has no words for; there are none in the mail.
            request.unwrap_or_else(|| sign::postmark_body(credentials, "", "".into()))
        };
        match self {
            Self::Genuine(facts) => one(facts, credentials),
            Self::Garbage(n) => {
                let (provider, source) = unreadable_source(*n);
                let n = usize::try_from(*n).unwrap_or(usize::MAX);
                sign::garbage(credentials, provider, source, n, now)
            }
            Self::Forged(n) => one(&[forged(*n)], &credentials.impostor()),
        }
    }
}

impl std::fmt::Display for Errand {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Genuine(facts) => match &facts[..] {
                [first, ..] => write!(f, "{} events of {}", facts.len(), first.source),
                [] => write!(f, "no events"),
            },
            Self::Garbage(n) => write!(f, "unreadable request {n}"),
            Self::Forged(n) => write!(f, "forged request {n}"),
        }
    }
}

/// Those whose unreadable bodies carry their number in plain text: all but Mandrill's form.
fn unreadable_source(n: u64) -> (Provider, &'static str) {
    let plain: Vec<_> =
        SOURCES.into_iter().filter(|(provider, _)| *provider != Provider::Mandrill).collect();
    plain[n as usize % plain.len()]
}

fn forged(n: u64) -> Fact {
    let (provider, source) = SOURCES[n as usize % SOURCES.len()];
    let number = 1 << 122 | u128::from(n);
    Fact {
        message_id: shape::message_id(provider, number),
        ..Fact::new(provider, source, Kind::Delivered, "mallory@example.net", 0)
    }
}

/// Posts the mail at the pace of event time until told that it is enough, and returns when
/// everything was answered.
pub(crate) async fn traffic(
    post: &Arc<Post>,
    mail: Mail,
    clock: &EventClock,
    enough: &AtomicBool,
) -> anyhow::Result<()> {
    let (started, start) = (Instant::now(), clock.now());
    let mut under_way = JoinSet::new();
    let mut last = started;
    for (number, (at, facts)) in (1..).zip(mail) {
        let due = (started + real(at - start)).max(last + SHORTEST_GAP);
        sleep_until(due).await;
        if enough.load(Ordering::Relaxed) {
            break;
        }
        last = Instant::now();
        clock.advance(at);
        send(&mut under_way, post, Errand::Genuine(facts)).await?;
        if number % GARBAGE_EVERY == 0 {
            send(&mut under_way, post, Errand::Garbage(number / GARBAGE_EVERY)).await?;
        }
        if number % FORGED_EVERY == 0 {
            send(&mut under_way, post, Errand::Forged(number / FORGED_EVERY)).await?;
        }
    }
    finish(under_way).await
}

/// Posts a lane's events one after the other.
///
/// No two happen at the same time, also while event time stands still: a provider without event ids
/// tells them apart by it.
pub(crate) async fn lane(post: &Arc<Post>, lane: Lane, clock: &EventClock, enough: &AtomicBool) {
    let mut at = i64::MIN;
    for n in 0.. {
        if enough.load(Ordering::Relaxed) {
            return;
        }
        at = clock.now().max(at.saturating_add(SECOND));
        let fact = lane.fact(n, at);
        let message_id = fact.message_id.clone();
        if post.deliver(&Errand::Genuine([fact].into())).await {
            post.taken().lanes.entry(lane.recipient()).or_default().push(message_id);
        }
        sleep(LANE_GAP).await;
    }
}

/// Posts the last requests.
pub(crate) async fn all(post: &Arc<Post>, batches: Vec<Arc<[Fact]>>) -> anyhow::Result<()> {
    let mut under_way = JoinSet::new();
    for facts in batches {
        send(&mut under_way, post, Errand::Genuine(facts)).await?;
    }
    finish(under_way).await
}

async fn send(under_way: &mut JoinSet<()>, post: &Arc<Post>, errand: Errand) -> anyhow::Result<()> {
    while under_way.len() >= AT_ONCE {
        under_way.join_next().await.transpose()?;
    }
    let post = Arc::clone(post);
    under_way.spawn(async move {
        post.deliver(&errand).await;
    });
    Ok(())
}

async fn finish(mut under_way: JoinSet<()>) -> anyhow::Result<()> {
    while under_way.join_next().await.transpose()?.is_some() {}
    Ok(())
}
