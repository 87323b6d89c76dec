//! What the ingress counts.

use std::time::Duration;

use event::{Kind, Provider};
use metrics::{Counter, Histogram, counter, histogram};

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
