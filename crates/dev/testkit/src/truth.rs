use std::collections::{BTreeMap, BTreeSet};

use event::{EventId, Kind, Provider};

use crate::Fact;
use crate::rates::{HOUR_MICROS, Scope, timelines};
use crate::traffic::{Content, Posting};

/// Hard bounces in one message sent above which the demo's rule fires, and the fewest messages
/// sent it judges by.
const BOUNCE_THRESHOLD: f64 = 0.05;
const BOUNCE_MIN_SENT: usize = 200;

/// What a correct pipeline must make of a [`Traffic`](crate::Traffic), counted from its facts.
///
/// Conservation: `accepted_total() = distinct_total() + duplicates`; each malformed request is one
/// dead letter beside them, and nothing of a refused one goes anywhere.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Truth {
    /// Requests posted, of every sort.
    pub requests: u64,
    /// Requests that are refused for their signature.
    pub refused: u64,
    /// Requests that are accepted and end whole in the dead letters.
    pub malformed: u64,
    /// Events the ingress accepts, repeats included.
    pub accepted: BTreeMap<(Provider, Kind), u64>,
    /// Events that reach the archive.
    pub distinct: BTreeMap<(Provider, Kind), u64>,
    /// Events that are repeats of earlier ones.
    pub duplicates: u64,
    /// What each source's distinct events amount to.
    pub sources: BTreeMap<(Provider, String), SourceTruth>,
    /// The alert episodes that must arise; no others may.
    pub alerts: Vec<ExpectedAlert>,
}

/// What one source's distinct events amount to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SourceTruth {
    /// Messages the provider took for sending; 0 where it does not say.
    pub accepted: u64,
    /// Messages delivered.
    pub delivered: u64,
    /// Final refusals.
    pub hard_bounces: u64,
    /// Refusals that are not final.
    pub soft_bounces: u64,
    /// Complaints.
    pub complaints: u64,
    /// Recipients who want no more.
    pub unsubscribes: u64,
    /// Opens and clicks by machines; events, not messages.
    pub machine_engagements: u64,
    /// Messages (with recipient) that a person opened.
    pub unique_opens: u64,
    /// Messages (with recipient) in which a person followed a link.
    pub unique_clicks: u64,
}

/// An episode in which a source bounces hard too much, by the windows of an hour: more than 5 %
/// of at least 200 sent.
#[derive(Debug, Clone, PartialEq)]
pub struct ExpectedAlert {
    /// The provider.
    pub provider: Provider,
    /// The source.
    pub source: String,
    /// The end of the first window in breach, UTC microseconds since the Unix epoch.
    pub from_micros: i64,
    /// The end of the last one.
    pub until_micros: i64,
    /// The highest rate of any window between them, 0 to 1.
    pub peak: f64,
}

impl SourceTruth {
    /// Messages sent: those accepted, or, where the provider does not say, delivered and bounced.
    pub const fn sent(&self) -> u64 {
        if self.accepted > 0 {
            self.accepted
        } else {
            self.delivered + self.hard_bounces + self.soft_bounces
        }
    }
}

impl Truth {
    /// Events the ingress accepts, repeats included.
    pub fn accepted_total(&self) -> u64 {
        self.accepted.values().sum()
    }

    /// Events that reach the archive.
    pub fn distinct_total(&self) -> u64 {
        self.distinct.values().sum()
    }

    /// The sum of one figure over all sources, such as `|source| source.unique_opens`.
    pub fn sum(&self, figure: impl Fn(&SourceTruth) -> u64) -> u64 {
        self.sources.values().map(figure).sum()
    }

    pub(crate) fn of(postings: &[Posting]) -> Self {
        let mut truth = Self::default();
        let mut seen: BTreeSet<EventId> = BTreeSet::new();
        let mut distinct: Vec<&Fact> = Vec::new();
        for posting in postings {
            truth.requests += 1;
            match &posting.content {
                Content::Garbage { .. } => truth.malformed += 1,
                Content::Forged(_) => truth.refused += 1,
                Content::Facts(facts) => {
                    for fact in facts.iter() {
                        let key = (fact.provider, fact.kind);
                        *truth.accepted.entry(key).or_default() += 1;
                        if seen.insert(fact.id()) {
                            *truth.distinct.entry(key).or_default() += 1;
                            distinct.push(fact);
                        } else {
                            truth.duplicates += 1;
                        }
                    }
                }
            }
        }
        truth.sources = sources(&distinct);
        truth.alerts = alerts(&distinct);
        truth
    }
}

fn sources(facts: &[&Fact]) -> BTreeMap<(Provider, String), SourceTruth> {
    let mut sources: BTreeMap<(Provider, String), SourceTruth> = BTreeMap::new();
    let mut engaged = BTreeSet::new();
    for fact in facts {
        let source = sources.entry((fact.provider, fact.source.clone())).or_default();
        let first = engaged.insert((
            fact.provider,
            &fact.source,
            &fact.message_id,
            &fact.recipient,
            fact.kind,
            fact.machine,
        ));
        let figure = match fact.kind {
            Kind::Accepted => &mut source.accepted,
            Kind::Delivered => &mut source.delivered,
            Kind::Bounced if fact.is_hard_bounce() => &mut source.hard_bounces,
            Kind::Bounced => &mut source.soft_bounces,
            Kind::Complained => &mut source.complaints,
            Kind::Unsubscribed => &mut source.unsubscribes,
            Kind::Opened | Kind::Clicked if fact.machine => &mut source.machine_engagements,
            Kind::Opened if first => &mut source.unique_opens,
            Kind::Clicked if first => &mut source.unique_clicks,
            _ => continue,
        };
        *figure += 1;
    }
    sources
}

fn alerts(facts: &[&Fact]) -> Vec<ExpectedAlert> {
    let mut alerts = Vec::new();
    for (scope, timeline) in timelines(facts.iter().copied()) {
        let Scope::Source(provider, source) = scope else { continue };
        for stretch in timeline.bounce_breaches(HOUR_MICROS, BOUNCE_MIN_SENT, BOUNCE_THRESHOLD) {
            let peak = timeline
                .ends(HOUR_MICROS)
                .filter(|end| stretch.contains(end))
                .map(|end| timeline.window(end, HOUR_MICROS).hard_rate())
                .fold(0.0, f64::max);
            alerts.push(ExpectedAlert {
                provider,
                source: source.clone(),
                from_micros: *stretch.start(),
                until_micros: *stretch.end(),
                peak,
            });
        }
    }
    alerts
}
