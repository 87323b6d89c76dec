use std::collections::{BTreeMap, BTreeSet};

use event::{EventId, Kind, Provider};

use crate::MailEvent;
use crate::rates::{HOUR_MICROS, Scope, timelines};
use crate::traffic::{Content, ScheduledRequest};

/// The demo's rule fires if more than this share of at least [`BOUNCE_MIN_SENT`] sent messages
/// bounce hard.
const BOUNCE_THRESHOLD: f64 = 0.05;
const BOUNCE_MIN_SENT: usize = 200;

/// What a correct pipeline must make of a [`Traffic`](crate::Traffic), counted from its events.
///
/// `accepted_total() = distinct_total() + duplicates`. In addition, each malformed request becomes
/// one dead letter. Rejected requests leave nothing behind.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Expected {
    /// All posted requests.
    pub requests: u64,
    /// Requests with a wrong signature.
    pub rejected: u64,
    /// Requests that are accepted and become one dead letter each.
    pub malformed: u64,
    /// Events that the ingress accepts, repeated ones included.
    pub accepted: BTreeMap<(Provider, Kind), u64>,
    /// Events that reach the archive.
    pub distinct: BTreeMap<(Provider, Kind), u64>,
    pub duplicates: u64,
    pub sources: BTreeMap<(Provider, String), ExpectedSource>,
    /// Exactly these episodes must arise.
    pub alerts: Vec<ExpectedAlert>,
}

/// Counts over the distinct events of one source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ExpectedSource {
    /// Messages that the provider accepted for sending; 0 if it does not report them.
    pub accepted: u64,
    pub delivered: u64,
    pub hard_bounces: u64,
    pub soft_bounces: u64,
    pub complaints: u64,
    pub unsubscribes: u64,
    /// Opens and clicks by machines. All of them count, not only the first per message.
    pub machine_engagements: u64,
    /// Messages, per recipient, that a person opened.
    pub unique_opens: u64,
    /// Messages, per recipient, in which a person clicked.
    pub unique_clicks: u64,
}

/// An episode of the demo's rule: in windows of one hour, more than 5 % of at least 200 sent
/// messages of a source bounced hard.
#[derive(Debug, Clone, PartialEq)]
pub struct ExpectedAlert {
    pub provider: Provider,
    pub source: String,
    /// The end of the first window beyond the threshold, UTC microseconds since the Unix epoch.
    pub from_micros: i64,
    /// The end of the last such window.
    pub until_micros: i64,
    /// The highest rate of these windows, 0 to 1.
    pub peak: f64,
}

impl ExpectedSource {
    /// Returns the accepted messages or, if the provider does not report them, the delivered and
    /// bounced ones.
    pub const fn sent(&self) -> u64 {
        if self.accepted > 0 {
            self.accepted
        } else {
            self.delivered + self.hard_bounces + self.soft_bounces
        }
    }
}

impl Expected {
    pub fn accepted_total(&self) -> u64 {
        self.accepted.values().sum()
    }

    pub fn distinct_total(&self) -> u64 {
        self.distinct.values().sum()
    }

    /// Sums one count over all sources, such as `|source| source.unique_opens`.
    pub fn sum(&self, count: impl Fn(&ExpectedSource) -> u64) -> u64 {
        self.sources.values().map(count).sum()
    }

    pub(crate) fn of(requests: &[ScheduledRequest]) -> Self {
        let mut expected = Self::default();
        let mut seen: BTreeSet<EventId> = BTreeSet::new();
        let mut distinct: Vec<&MailEvent> = Vec::new();
        for request in requests {
            expected.requests += 1;
            match &request.content {
                Content::Malformed { .. } => expected.malformed += 1,
                Content::Forged(_) => expected.rejected += 1,
                Content::Events(events) => {
                    for event in events.iter() {
                        let key = (event.provider, event.kind);
                        *expected.accepted.entry(key).or_default() += 1;
                        if seen.insert(event.id()) {
                            *expected.distinct.entry(key).or_default() += 1;
                            distinct.push(event);
                        } else {
                            expected.duplicates += 1;
                        }
                    }
                }
            }
        }
        expected.sources = sources(&distinct);
        expected.alerts = alerts(&distinct);
        expected
    }
}

fn sources(events: &[&MailEvent]) -> BTreeMap<(Provider, String), ExpectedSource> {
    let mut sources: BTreeMap<(Provider, String), ExpectedSource> = BTreeMap::new();
    let mut engaged = BTreeSet::new();
    for event in events {
        let source = sources.entry((event.provider, event.source.clone())).or_default();
        let first = engaged.insert((
            event.provider,
            &event.source,
            &event.message_id,
            &event.recipient,
            event.kind,
            event.machine,
        ));
        let count = match event.kind {
            Kind::Accepted => &mut source.accepted,
            Kind::Delivered => &mut source.delivered,
            Kind::Bounced if event.is_hard_bounce() => &mut source.hard_bounces,
            Kind::Bounced => &mut source.soft_bounces,
            Kind::Complained => &mut source.complaints,
            Kind::Unsubscribed => &mut source.unsubscribes,
            Kind::Opened | Kind::Clicked if event.machine => &mut source.machine_engagements,
            Kind::Opened if first => &mut source.unique_opens,
            Kind::Clicked if first => &mut source.unique_clicks,
            _ => continue,
        };
        *count += 1;
    }
    sources
}

fn alerts(events: &[&MailEvent]) -> Vec<ExpectedAlert> {
    let mut alerts = Vec::new();
    for (scope, timeline) in timelines(events.iter().copied()) {
        let Scope::Source(provider, source) = scope else { continue };
        for breach in timeline.bounce_breaches(HOUR_MICROS, BOUNCE_MIN_SENT, BOUNCE_THRESHOLD) {
            let peak = timeline
                .ends(HOUR_MICROS)
                .filter(|end| breach.contains(end))
                .map(|end| timeline.window(end, HOUR_MICROS).hard_rate())
                .fold(0.0, f64::max);
            alerts.push(ExpectedAlert {
                provider,
                source: source.clone(),
                from_micros: *breach.start(),
                until_micros: *breach.end(),
                peak,
            });
        }
    }
    alerts
}
