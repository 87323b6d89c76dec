//! The content of a report. Its JSON is described in docs/tool.md.

use event::Counter;
use serde::Serialize;
use window::{BOUNCES, Counts, Metric, Rates, View};

use super::period::Step;

/// The report of a period. Times are RFC 3339 in the zone of the report.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) period: ReportPeriod,
    pub(super) totals: Totals,
    /// Every counter of docs/metrics.md.
    pub(super) counters: Vec<CounterLine>,
    pub(super) rates: Vec<RateLine>,
    pub(super) kinds: Vec<KindLine>,
    pub(super) providers: Vec<Group>,
    pub(super) mailbox_providers: Vec<Group>,
    /// The ten with the most messages.
    pub(super) campaigns: Vec<Group>,
    /// The ten with the most messages.
    pub(super) domains: Vec<Group>,
    pub(super) countries: Vec<Country>,
    /// The fifteen most frequent.
    pub(super) bounce_reasons: Vec<BounceReason>,
    pub(super) processing: Option<Processing>,
    pub(super) pace: Pace,
    pub(super) course: Course,
    /// Those that were open in the period; at most 50, the latest first.
    pub(super) incidents: Vec<IncidentLine>,
}

#[derive(Debug, Serialize)]
pub(super) struct ReportPeriod {
    pub(super) from: String,
    /// The first moment after it.
    pub(super) to: String,
    pub(super) first_day: String,
    pub(super) last_day: String,
    pub(super) zone: String,
    pub(super) source: Option<String>,
    pub(super) made_at: String,
}

#[derive(Debug, Serialize)]
pub(super) struct Totals {
    pub(super) events: u64,
    /// Messages on which receiving servers decided.
    pub(super) sent: u64,
    /// Addresses with at least one event.
    pub(super) unique_recipients: u64,
    /// Campaigns with at least one event.
    pub(super) active_campaigns: u64,
}

#[derive(Debug, Serialize)]
pub(super) struct CounterLine {
    pub(super) counter: &'static str,
    pub(super) messages: u64,
}

/// A rate by docs/metrics.md.
#[derive(Debug, Clone, Serialize)]
pub(super) struct RateLine {
    pub(super) metric: Metric,
    pub(super) numerator: u64,
    pub(super) denominator: u64,
    /// From 0 to 1; absent while the denominator is 0.
    pub(super) rate: Option<f64>,
}

#[derive(Debug, Serialize)]
pub(super) struct KindLine {
    pub(super) kind: String,
    pub(super) events: u64,
}

/// The messages of a provider, a mailbox provider, a campaign or a domain.
#[derive(Debug, Serialize)]
pub(super) struct Group {
    pub(super) name: String,
    pub(super) sent: u64,
    pub(super) delivered: u64,
    pub(super) bounced: u64,
    /// Delivery, bounce, complaint, open and click rate.
    pub(super) rates: Vec<RateLine>,
}

#[derive(Debug, Serialize)]
pub(super) struct Country {
    /// ISO 3166-1.
    pub(super) country: String,
    pub(super) opened: u64,
    pub(super) clicked: u64,
}

#[derive(Debug, Serialize)]
pub(super) struct BounceReason {
    pub(super) permanence: String,
    pub(super) class: String,
    pub(super) side: String,
    pub(super) status: String,
    pub(super) messages: u64,
    /// One answer of a server, at most 200 characters.
    pub(super) example: String,
}

/// From the receipt of an event to its row in ClickHouse, in seconds.
#[derive(Debug, Serialize)]
pub(super) struct Processing {
    pub(super) avg: f64,
    pub(super) p50: f64,
    pub(super) p95: f64,
    pub(super) max: f64,
}

/// Events per hour and per minute. The averages are over the time of the period that has passed.
#[derive(Debug, Serialize)]
pub(super) struct Pace {
    pub(super) per_hour: Speed,
    pub(super) per_minute: Speed,
}

#[derive(Debug, Serialize)]
pub(super) struct Speed {
    pub(super) avg: f64,
    pub(super) peak: u64,
    /// The beginning of the hour or minute of the peak; absent without events.
    pub(super) peak_at: Option<String>,
}

/// The report by hour or day. Steps without events are included.
#[derive(Debug, Serialize)]
pub(super) struct Course {
    pub(super) step: Step,
    pub(super) points: Vec<Point>,
}

#[derive(Debug, Serialize)]
pub(super) struct Point {
    pub(super) at: String,
    pub(super) events: u64,
    pub(super) sent: u64,
    pub(super) bounced: u64,
    pub(super) bounce_rate: Option<f64>,
}

#[derive(Debug, Serialize)]
pub(super) struct IncidentLine {
    pub(super) id: String,
    pub(super) severity: String,
    pub(super) state: String,
    pub(super) family: String,
    pub(super) opened_at: String,
    pub(super) summary: String,
}

/// The rates of a group.
const OF_GROUPS: [Metric; 5] =
    [Metric::Delivery, Metric::Bounce, Metric::Complaint, Metric::Open, Metric::Click];

impl RateLine {
    pub(super) fn of(metric: Metric, counts: &Counts) -> Self {
        let (numerator, denominator) = window::fraction(metric, counts, View::Arrival);
        let rate = Rates::of(counts, View::Arrival, true).get(metric);
        Self { metric, numerator, denominator, rate }
    }

    /// Returns every rate that has a meaning for a period. Injection loss has none, because it is about the last
    /// hour.
    pub(super) fn all(counts: &Counts) -> Vec<Self> {
        let metrics = Metric::ALL.iter().filter(|metric| **metric != Metric::InjectionLoss);
        metrics.map(|&metric| Self::of(metric, counts)).collect()
    }
}

impl CounterLine {
    pub(super) fn all(counts: &Counts) -> Vec<Self> {
        let line =
            |&counter: &Counter| Self { counter: counter.as_str(), messages: counts.get(counter) };
        Counter::ALL.iter().map(line).collect()
    }
}

impl Group {
    pub(super) fn of(name: String, counts: &Counts) -> Self {
        Self {
            name,
            sent: window::sent(counts),
            delivered: counts.get(Counter::Delivered),
            bounced: counts.sum(&BOUNCES),
            rates: OF_GROUPS.map(|metric| RateLine::of(metric, counts)).to_vec(),
        }
    }

    pub(super) fn rate(&self, metric: Metric) -> Option<f64> {
        self.rates.iter().find(|line| line.metric == metric)?.rate
    }
}
