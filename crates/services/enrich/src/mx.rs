//! The mailbox providers of domains nobody has heard of, from their mail exchangers.
//!
//! The one thing in `enrich` that asks the outside world, and so the one by which the same bytes may
//! give another event tomorrow: only `mailbox_provider` depends on it, never the `event_id`. A round
//! asks for all of its unknown domains at once and waits for them a stated time in all. A domain that
//! has not answered by then is `other` in this round and may be known in the next, which does not wait
//! for it again.

use std::collections::{BTreeSet, HashSet};
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::{Duration, Instant};

use hickory_resolver::config::{NameServerConfig, ResolverConfig};
use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::RData;
use hickory_resolver::{Resolver, TokioResolver};
use lru::LruCache;
use metrics::Counter;
use tokio::sync::Semaphore;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};

use crate::OpenError;
use crate::mx_hosts::MxHosts;

/// Bounds of how long an answer is believed, whatever it says itself.
const AT_LEAST: Duration = Duration::from_secs(5 * 60);
const AT_MOST: Duration = Duration::from_secs(24 * 3600);
/// How long we believe that there is nothing.
const NOTHING_FOR: Duration = Duration::from_secs(3600);
/// How long we do not ask again after a failure.
const FAILURE_FOR: Duration = Duration::from_secs(60);
/// How long the resolver tries.
const TRY_FOR: Duration = Duration::from_secs(2);
/// Questions under way at once.
const AT_ONCE: usize = 64;
/// Of a domain's name, RFC 1035 §2.3.4.
const LONGEST_NAME: usize = 253;

/// What is known of domains, and the thread that asks.
pub(crate) struct MailExchanges {
    hosts: MxHosts,
    known: LruCache<Box<str>, Known>,
    /// Asked for and not yet answered.
    under_way: HashSet<Box<str>>,
    questions: UnboundedSender<Box<str>>,
    answers: Receiver<Answer>,
    wait: Duration,
    meters: Meters,
}

struct Known {
    provider: Option<String>,
    until: Instant,
}

struct Answer {
    domain: Box<str>,
    found: Found,
}

enum Found {
    /// Hosts, the most preferred first, and how long that holds.
    Hosts(Vec<String>, Duration),
    /// The domain has none.
    Nothing,
    /// Nobody could say.
    Failed,
}

impl MailExchanges {
    /// Starts the thread. `server` is the resolver to ask, the system's own where it is `None`;
    /// `wait` is how long a round may be held, `remembered` how many domains are kept.
    pub(crate) fn start(
        server: Option<SocketAddr>,
        wait: Duration,
        remembered: NonZeroUsize,
    ) -> Result<Self, OpenError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(OpenError::Thread)?;
        let resolver = resolver(server).map_err(OpenError::Resolver)?;
        let (questions, asked) = tokio::sync::mpsc::unbounded_channel();
        let (answered, answers) = mpsc::channel();
        std::thread::Builder::new()
            .name("mx".to_owned())
            .spawn(move || runtime.block_on(answer_all(resolver, asked, answered)))
            .map_err(OpenError::Thread)?;
        Ok(Self {
            hosts: MxHosts::load()?,
            known: LruCache::new(remembered),
            under_way: HashSet::new(),
            questions,
            answers,
            wait,
            meters: Meters::new(),
        })
    }

    /// Asks for the domains that are not known, and waits for those not asked for before, as long as
    /// a round may be held. An answer that has grown old is asked for anew, and goes on being used meanwhile.
    pub(crate) fn prepare<'d>(&mut self, domains: impl Iterator<Item = &'d str>) {
        while let Ok(answer) = self.answers.try_recv() {
            self.learn(answer);
        }
        let now = Instant::now();
        let mut awaited = HashSet::new();
        for domain in domains.filter(|domain| is_name(domain)).collect::<BTreeSet<_>>() {
            let known = self.known.get(domain);
            if known.is_some_and(|known| now < known.until) {
                continue;
            }
            let has_none = known.is_none();
            if self.ask(domain) && has_none {
                awaited.insert(Box::from(domain));
            }
        }
        self.await_answers(awaited, now + self.wait);
    }

    /// The mailbox provider, as far as it is known.
    pub(crate) fn of_domain(&self, domain: &str) -> Option<&str> {
        self.known.peek(domain)?.provider.as_deref()
    }

    /// Whether it was not under way before.
    fn ask(&mut self, domain: &str) -> bool {
        // As many as are kept: a flood of made-up domains must not fill the memory.
        let has_room = self.under_way.len() < self.known.cap().get();
        // The thread lives as long as we do.
        has_room
            && self.under_way.insert(domain.into())
            && self.questions.send(domain.into()).is_ok()
    }

    fn await_answers(&mut self, mut awaited: HashSet<Box<str>>, deadline: Instant) {
        while !awaited.is_empty() {
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok(answer) = self.answers.recv_timeout(left) else { break };
            awaited.remove(&answer.domain);
            self.learn(answer);
        }
        self.meters.late.increment(awaited.len() as u64);
    }

    fn learn(&mut self, Answer { domain, found }: Answer) {
        self.under_way.remove(&domain);
        let (provider, holds, counter) = match found {
            Found::Hosts(hosts, holds) => {
                let provider = hosts.iter().find_map(|host| self.hosts.of_host(host));
                (provider.map(str::to_owned), holds.clamp(AT_LEAST, AT_MOST), &self.meters.found)
            }
            Found::Nothing => (None, NOTHING_FOR, &self.meters.nothing),
            Found::Failed => {
                // What was known before is still the best there is.
                let before = self.known.pop(&domain).and_then(|known| known.provider);
                (before, FAILURE_FOR, &self.meters.failed)
            }
        };
        counter.increment(1);
        self.known.put(domain, Known { provider, until: Instant::now() + holds });
    }
}

/// Whether it can be a domain at all: anything may stand behind an at sign.
fn is_name(domain: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'.';
    domain.len() <= LONGEST_NAME && domain.contains('.') && domain.bytes().all(plain)
}

fn resolver(server: Option<SocketAddr>) -> Result<TokioResolver, NetError> {
    let mut builder = match server {
        Some(server) => {
            let mut config = NameServerConfig::udp_and_tcp(server.ip());
            config.connections.iter_mut().for_each(|way| way.port = server.port());
            let config = ResolverConfig::from_name_servers(vec![config]);
            Resolver::builder_with_config(config, TokioRuntimeProvider::default())
        }
        None => Resolver::builder_tokio()?,
    };
    let options = builder.options_mut();
    options.timeout = TRY_FOR;
    options.attempts = 1;
    options.cache_size = 0; // ours is bounded by domains and outlives answers
    builder.build()
}

/// Answers until nobody asks any more.
async fn answer_all(
    resolver: TokioResolver,
    mut asked: UnboundedReceiver<Box<str>>,
    answered: Sender<Answer>,
) {
    let places = Arc::new(Semaphore::new(AT_ONCE));
    while let Some(domain) = asked.recv().await {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let (resolver, answered) = (resolver.clone(), answered.clone());
        tokio::spawn(async move {
            // Fully qualified: no search list of this machine's is to be tried.
            let found = found(resolver.mx_lookup(format!("{domain}.")).await);
            let _ = answered.send(Answer { domain, found });
            drop(place);
        });
    }
}

fn found(answer: Result<Lookup, NetError>) -> Found {
    let lookup = match answer {
        Ok(lookup) => lookup,
        Err(error) if error.is_no_records_found() => return Found::Nothing,
        Err(_) => return Found::Failed,
    };
    let mut hosts = Vec::new();
    let mut holds = AT_MOST;
    for record in lookup.answers() {
        if let RData::MX(mx) = &record.data {
            hosts.push((mx.preference, mx.exchange.to_string().to_ascii_lowercase()));
            holds = holds.min(Duration::from_secs(record.ttl.into()));
        }
    }
    // Servers shuffle hosts of one preference; ours is one order.
    hosts.sort();
    Found::Hosts(hosts.into_iter().map(|(_, host)| host).collect(), holds)
}

struct Meters {
    found: Counter,
    nothing: Counter,
    failed: Counter,
    late: Counter,
}

impl Meters {
    fn new() -> Self {
        let lookups = |outcome: &'static str| metrics::counter!("mailpulse_mx_lookups_total", "outcome" => outcome);
        Self {
            found: lookups("found"),
            nothing: lookups("nothing"),
            failed: lookups("failed"),
            late: metrics::counter!("mailpulse_mx_late_total"),
        }
    }
}

#[cfg(test)]
mod tests;
