//! Finds the mailbox providers of domains that are not in the built-in table, by their mail
//! exchangers.
//!
//! This is the only part of `enrich` that depends on an external service. If DNS changes, the same
//! bytes can give an event with another `mailbox_provider`; the `event_id` does not depend on it.
//! Each batch resolves all its unknown domains at once and waits at most `enrich.mx_timeout` for
//! them. A domain that is not resolved by then is `other` in this batch. Later batches use the
//! answer when it is there, but do not wait for it again.

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

/// The minimum time for which an answer is cached, whatever its TTL.
const MIN_TTL: Duration = Duration::from_secs(5 * 60);
/// The maximum time for which an answer is cached, whatever its TTL.
const MAX_TTL: Duration = Duration::from_secs(24 * 3600);
/// How long it is cached that a domain has no mail exchanger.
const NO_RECORDS_TTL: Duration = Duration::from_secs(3600);
/// How long a domain is not resolved again after a failure.
const FAILURE_TTL: Duration = Duration::from_secs(60);
/// After this time the resolver reports a failure.
const QUERY_TIMEOUT: Duration = Duration::from_secs(2);
const MAX_CONCURRENT_QUERIES: usize = 64;
/// The longest domain name, RFC 1035 §2.3.4.
const MAX_NAME_LENGTH: usize = 253;

/// A cache of mailbox providers by domain, and the thread that resolves the domains.
pub(crate) struct MailExchanges {
    hosts: MxHosts,
    cache: LruCache<Box<str>, Cached>,
    /// Domains whose query has no answer yet.
    in_flight: HashSet<Box<str>>,
    queries: UnboundedSender<Box<str>>,
    answers: Receiver<Answer>,
    timeout: Duration,
    meters: Meters,
}

struct Cached {
    provider: Option<String>,
    until: Instant,
}

struct Answer {
    domain: Box<str>,
    result: Resolved,
}

enum Resolved {
    /// The hosts, the most preferred first, and the shortest TTL.
    Hosts(Vec<String>, Duration),
    /// The domain has no mail exchanger.
    NoRecords,
    /// The query failed or timed out.
    Failed,
}

impl MailExchanges {
    /// Starts the thread. `server` is the name server, or `None` for those of the system. `timeout`
    /// is how long a batch waits at most. `cache_size` is a number of domains.
    pub(crate) fn start(
        server: Option<SocketAddr>,
        timeout: Duration,
        cache_size: NonZeroUsize,
    ) -> Result<Self, OpenError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(OpenError::Thread)?;
        let resolver = resolver(server).map_err(OpenError::Resolver)?;
        let (queries, received_queries) = tokio::sync::mpsc::unbounded_channel();
        let (answer_sender, answers) = mpsc::channel();
        std::thread::Builder::new()
            .name("mx".to_owned())
            .spawn(move || runtime.block_on(resolve_all(resolver, received_queries, answer_sender)))
            .map_err(OpenError::Thread)?;
        Ok(Self {
            hosts: MxHosts::load()?,
            cache: LruCache::new(cache_size),
            in_flight: HashSet::new(),
            queries,
            answers,
            timeout,
            meters: Meters::new(),
        })
    }

    /// Resolves the domains that are not cached, and waits for those that this call is the first to
    /// query. An expired entry is resolved again, without waiting, and used until the answer is
    /// there.
    pub(crate) fn prepare<'d>(&mut self, domains: impl Iterator<Item = &'d str>) {
        while let Ok(answer) = self.answers.try_recv() {
            self.store(answer);
        }
        let now = Instant::now();
        let mut awaited = HashSet::new();
        for domain in domains.filter(|domain| is_domain(domain)).collect::<BTreeSet<_>>() {
            let cached = self.cache.get(domain);
            if cached.is_some_and(|cached| now < cached.until) {
                continue;
            }
            let is_unknown = cached.is_none();
            if self.query(domain) && is_unknown {
                awaited.insert(Box::from(domain));
            }
        }
        self.await_answers(awaited, now + self.timeout);
    }

    /// Returns the cached mailbox provider of a domain.
    pub(crate) fn of_domain(&self, domain: &str) -> Option<&str> {
        self.cache.peek(domain)?.provider.as_deref()
    }

    /// Sends a query. Returns false if the domain is already being resolved, or if too many are.
    fn query(&mut self, domain: &str) -> bool {
        // Limited to the size of the cache, so that a flood of invented domains cannot exhaust the
        // memory.
        let is_allowed = self.in_flight.len() < self.cache.cap().get();
        // Sending cannot fail, because the thread ends only after `queries` was dropped.
        is_allowed
            && self.in_flight.insert(domain.into())
            && self.queries.send(domain.into()).is_ok()
    }

    fn await_answers(&mut self, mut awaited: HashSet<Box<str>>, deadline: Instant) {
        while !awaited.is_empty() {
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok(answer) = self.answers.recv_timeout(left) else { break };
            awaited.remove(&answer.domain);
            self.store(answer);
        }
        self.meters.timed_out.increment(awaited.len() as u64);
    }

    fn store(&mut self, Answer { domain, result }: Answer) {
        self.in_flight.remove(&domain);
        let (provider, ttl, counter) = match result {
            Resolved::Hosts(hosts, ttl) => {
                let provider = hosts.iter().find_map(|host| self.hosts.of_host(host));
                (provider.map(str::to_owned), ttl.clamp(MIN_TTL, MAX_TTL), &self.meters.found)
            }
            Resolved::NoRecords => (None, NO_RECORDS_TTL, &self.meters.no_records),
            Resolved::Failed => {
                // Keep the expired provider: it is more likely right than `other`.
                let expired = self.cache.pop(&domain).and_then(|cached| cached.provider);
                (expired, FAILURE_TTL, &self.meters.failed)
            }
        };
        counter.increment(1);
        self.cache.put(domain, Cached { provider, until: Instant::now() + ttl });
    }
}

/// Returns false for text that cannot be a domain name. Addresses may have any text after the `@`.
fn is_domain(domain: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'.';
    domain.len() <= MAX_NAME_LENGTH && domain.contains('.') && domain.bytes().all(plain)
}

fn resolver(server: Option<SocketAddr>) -> Result<TokioResolver, NetError> {
    let mut builder = match server {
        Some(server) => {
            let mut config = NameServerConfig::udp_and_tcp(server.ip());
            config.connections.iter_mut().for_each(|connection| connection.port = server.port());
            let config = ResolverConfig::from_name_servers(vec![config]);
            Resolver::builder_with_config(config, TokioRuntimeProvider::default())
        }
        None => Resolver::builder_tokio()?,
    };
    let options = builder.options_mut();
    options.timeout = QUERY_TIMEOUT;
    options.attempts = 1;
    // `MailExchanges` has its own cache, which is limited by domains and keeps expired entries.
    options.cache_size = 0;
    builder.build()
}

/// Resolves domains until the sender of the queries is dropped.
async fn resolve_all(
    resolver: TokioResolver,
    mut queries: UnboundedReceiver<Box<str>>,
    answers: Sender<Answer>,
) {
    let permits = Arc::new(Semaphore::new(MAX_CONCURRENT_QUERIES));
    while let Some(domain) = queries.recv().await {
        let Ok(permit) = Arc::clone(&permits).acquire_owned().await else { return };
        let (resolver, answers) = (resolver.clone(), answers.clone());
        tokio::spawn(async move {
            // The trailing dot prevents the system's search list from being applied.
            let result = resolved(resolver.mx_lookup(format!("{domain}.")).await);
            let _ = answers.send(Answer { domain, result });
            drop(permit);
        });
    }
}

fn resolved(answer: Result<Lookup, NetError>) -> Resolved {
    let lookup = match answer {
        Ok(lookup) => lookup,
        Err(error) if error.is_no_records_found() => return Resolved::NoRecords,
        Err(_) => return Resolved::Failed,
    };
    let mut hosts = Vec::new();
    let mut ttl = MAX_TTL;
    for record in lookup.answers() {
        if let RData::MX(mx) = &record.data {
            hosts.push((mx.preference, mx.exchange.to_string().to_ascii_lowercase()));
            ttl = ttl.min(Duration::from_secs(record.ttl.into()));
        }
    }
    // Name servers shuffle hosts of equal preference. Sorting makes the result deterministic.
    hosts.sort();
    Resolved::Hosts(hosts.into_iter().map(|(_, host)| host).collect(), ttl)
}

struct Meters {
    found: Counter,
    no_records: Counter,
    failed: Counter,
    timed_out: Counter,
}

impl Meters {
    fn new() -> Self {
        let lookups = |outcome: &'static str| metrics::counter!("mailpulse_enrich_mx_lookups_total", "outcome" => outcome);
        Self {
            found: lookups("found"),
            no_records: lookups("not_found"),
            failed: lookups("failed"),
            timed_out: metrics::counter!("mailpulse_enrich_mx_timeouts_total"),
        }
    }
}

#[cfg(test)]
mod tests;
