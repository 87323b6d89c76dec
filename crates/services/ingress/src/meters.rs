//! What the ingress counts.

use std::time::Duration;

use event::{Kind, Provider};
use metrics::{Counter, Histogram, counter, histogram};
use providers::Refusal;

use crate::problem::Problem;

/// Handles looked up once; a hot path must not search a registry by name.
pub(crate) struct Meters {
    accepted: Vec<[Counter; Kind::ALL.len()]>,
    requests: Vec<Counter>,
    seconds: Histogram,
}

impl Meters {
    pub(crate) fn new() -> Self {
        let accepted = |provider: Provider| {
            Kind::ALL.map(|kind| {
                counter!("mailpulse_ingress_events_total",
                    "provider" => provider.as_str(), "kind" => kind.as_str())
            })
        };
        let requests = |provider: Provider| {
            counter!("mailpulse_ingress_requests_total",
                "provider" => provider.as_str(), "code" => "accepted")
        };
        Self {
            accepted: Provider::ALL.into_iter().map(accepted).collect(),
            requests: Provider::ALL.into_iter().map(requests).collect(),
            seconds: histogram!("mailpulse_ingress_request_seconds"),
        }
    }

    /// Counts one request whose events are durable.
    pub(crate) fn accepted(&self, provider: Provider, kinds: &KindCounts, took: Duration) {
        let row = position(provider);
        for (counter, &count) in self.accepted[row].iter().zip(&kinds.0) {
            if count > 0 {
                counter.increment(count);
            }
        }
        self.requests[row].increment(1);
        self.seconds.record(took.as_secs_f64());
    }

    /// Counts one request that was not taken.
    pub(crate) fn refused(&self, provider: Option<Provider>, problem: &Problem) {
        let provider = provider.map_or("unknown", Provider::as_str);
        counter!("mailpulse_ingress_requests_total",
            "provider" => provider, "code" => problem.code())
        .increment(1);
    }
}

/// What is counted of one source.
pub(crate) struct SourceMeters {
    provider: Provider,
    source: String,
    /// Requests by the secret they were made with: the old one is out of use when its count
    /// stands still.
    by_key: Vec<Counter>,
    without_key: Counter,
}

impl SourceMeters {
    pub(crate) fn new(provider: Provider, source: &str, keys: usize) -> Self {
        let counter = |key: String| {
            counter!("mailpulse_ingress_verified_total",
                "provider" => provider.as_str(), "source" => source.to_owned(), "key" => key)
        };
        Self {
            provider,
            source: source.to_owned(),
            by_key: (0..keys).map(|key| counter(key.to_string())).collect(),
            without_key: counter("none".to_owned()),
        }
    }

    /// Counts an authentic request, by the index of its secret.
    pub(crate) fn verified(&self, key: Option<usize>) {
        key.and_then(|key| self.by_key.get(key)).unwrap_or(&self.without_key).increment(1);
    }

    /// Counts a request that would have been refused without shadow mode.
    pub(crate) fn let_through(&self, refusal: &Refusal) {
        counter!("mailpulse_ingress_shadow_refusals_total", "provider" => self.provider.as_str(),
            "source" => self.source.clone(), "code" => refusal.code())
        .increment(1);
    }
}

/// Events of one request, by kind.
#[derive(Debug, Default)]
pub(crate) struct KindCounts([u64; Kind::ALL.len()]);

impl KindCounts {
    pub(crate) fn add(&mut self, kind: Kind) {
        self.0[kind as usize] += 1;
    }
}

fn position(provider: Provider) -> usize {
    Provider::ALL.iter().position(|&p| p == provider).unwrap_or(0)
}
