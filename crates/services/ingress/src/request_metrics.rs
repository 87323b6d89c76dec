//! Metrics of requests.

use std::time::Duration;

use event::{Kind, Provider};
use metrics::{Counter, Histogram, counter, histogram};
use providers::{OverLimit, Rejection};

use crate::problem::Problem;

/// The label `provider` and `source` of requests whose path names no configured source. Labels never
/// come from a request, so their number is bounded by the configured sources.
pub(crate) const UNKNOWN: &str = "unknown";

/// The metrics of one source. The handles that every request uses are looked up once.
pub(crate) struct SourceMetrics {
    provider: Provider,
    source: String,
    events: [Counter; Kind::ALL.len()],
    accepted_requests: Counter,
    duration: Histogram,
    /// Verified requests by the position of the secret. A secret is no longer used when its counter
    /// stops growing.
    verified: Vec<Counter>,
    verified_without_secret: Counter,
}

impl SourceMetrics {
    pub(crate) fn new(provider: Provider, source: &str, secrets: usize) -> Self {
        let verified = |secret_index: String| {
            counter!("mailpulse_ingress_verified_requests_total",
                "provider" => provider.as_str(), "source" => source.to_owned(),
                "secret_index" => secret_index)
        };
        Self {
            provider,
            source: source.to_owned(),
            events: Kind::ALL.map(|kind| {
                counter!("mailpulse_ingress_events_total",
                    "provider" => provider.as_str(), "source" => source.to_owned(),
                    "kind" => kind.as_str())
            }),
            accepted_requests: counter!("mailpulse_ingress_requests_total",
                "provider" => provider.as_str(), "source" => source.to_owned(),
                "code" => "accepted"),
            duration: histogram!("mailpulse_ingress_request_duration_seconds"),
            verified: (0..secrets).map(|index| verified(index.to_string())).collect(),
            verified_without_secret: verified("none".to_owned()),
        }
    }

    /// Counts an accepted request. `duration` is the time until its events were durable.
    pub(crate) fn count_accepted(&self, kinds: &KindCounts, duration: Duration) {
        for (counter, &count) in self.events.iter().zip(&kinds.0) {
            if count > 0 {
                counter.increment(count);
            }
        }
        self.accepted_requests.increment(1);
        self.duration.record(duration.as_secs_f64());
    }

    /// Counts a verified request by the index of its secret.
    pub(crate) fn count_verified(&self, secret: Option<usize>) {
        let counter = secret.and_then(|index| self.verified.get(index));
        counter.unwrap_or(&self.verified_without_secret).increment(1);
    }

    /// Counts a body that became a dead letter because it exceeds a limit.
    pub(crate) fn count_over_limit(&self, over_limit: OverLimit) {
        counter!("mailpulse_ingress_over_limit_bodies_total",
            "provider" => self.provider.as_str(), "source" => self.source.clone(),
            "limit" => over_limit.code())
        .increment(1);
        tracing::warn!(
            provider = self.provider.as_str(),
            source = self.source,
            "a body became a dead letter as a whole: {over_limit}"
        );
    }

    /// Counts a request that is accepted only because of shadow mode.
    pub(crate) fn count_shadow_rejected(&self, rejection: &Rejection) {
        counter!("mailpulse_ingress_shadow_rejected_requests_total",
            "provider" => self.provider.as_str(), "source" => self.source.clone(),
            "code" => rejection.code())
        .increment(1);
    }
}

/// Counts a rejected request. `source` is the provider and name of its source, or [`UNKNOWN`] twice.
pub(crate) fn count_rejected((provider, source): (&'static str, &str), problem: &Problem) {
    counter!("mailpulse_ingress_requests_total",
        "provider" => provider, "source" => source.to_owned(), "code" => problem.code())
    .increment(1);
}

/// The number of events of a request by kind.
#[derive(Debug, Default)]
pub(crate) struct KindCounts([u64; Kind::ALL.len()]);

impl KindCounts {
    pub(crate) fn add(&mut self, kind: Kind) {
        self.0[kind as usize] += 1;
    }
}
