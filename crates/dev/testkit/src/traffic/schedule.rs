//! Puts events into requests, and adds repeated, malformed, forged and closing requests.

use std::sync::Arc;

use event::{Kind, Provider};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::plan::{CLOSING_EVENTS, CLOSING_GAP_MICROS, Plan};
use super::reported_kinds::ReportedKinds;
use super::source_events::{ScheduledEvent, SourceEvents};
use crate::time_formats::{MINUTE, SECOND};
use crate::{MailEvent, SignedRequest, payloads, sign};

/// How long a provider waits for more events of a batch, in event time. Together with the delays of
/// `source_events.rs`, disorder stays below 4 seconds.
const BATCH_WAIT_MICROS: i64 = 1_200_000;

/// One request, not yet signed.
#[derive(Debug, Clone)]
pub(crate) struct ScheduledRequest {
    /// The event time of posting, which determines the order.
    pub(crate) at: i64,
    /// Whether the same request is posted earlier.
    pub(crate) repeat: bool,
    pub(crate) content: Content,
}

#[derive(Debug, Clone)]
pub(crate) enum Content {
    /// Of one source.
    Events(Arc<[MailEvent]>),
    /// An authentic body that cannot be parsed.
    Malformed { provider: Provider, source: String, n: usize },
    /// Events that did not happen, signed with the wrong keys.
    Forged(Arc<[MailEvent]>),
}

impl ScheduledRequest {
    fn new(at: i64, content: Content) -> Self {
        Self { at, repeat: false, content }
    }

    /// Returns the events that a pipeline must accept.
    pub(crate) fn genuine(&self) -> &[MailEvent] {
        match &self.content {
            Content::Events(events) => events,
            Content::Malformed { .. } | Content::Forged(_) => &[],
        }
    }

    /// Returns one request, because a batch has at most as many events as the provider posts at
    /// once.
    pub(crate) fn sign(&self, plan: &Plan) -> Vec<SignedRequest> {
        let now = plan.signed_at_unix;
        match &self.content {
            Content::Events(events) => sign::events(&plan.credentials, events, now),
            Content::Malformed { provider, source, n } => {
                vec![sign::malformed(&plan.credentials, *provider, source, *n, now)]
            }
            Content::Forged(events) => sign::events(&plan.credentials.impostor(), events, now),
        }
    }
}

/// Returns every request of the plan in the order of posting.
pub(crate) fn schedule(seed: u64, plan: &Plan) -> Vec<ScheduledRequest> {
    let mut rng = StdRng::seed_from_u64(!seed);
    let mut requests: Vec<ScheduledRequest> = (0..plan.sources.len())
        .flat_map(|index| batched(SourceEvents::new(seed, plan, index).run()))
        .collect();
    let last = requests.iter().map(|request| request.at).max().unwrap_or(plan.start_micros);
    let repeats = repeats(&mut rng, plan, &requests);
    requests.extend(repeats);
    requests.extend(malformed(plan));
    requests.extend(forged(plan));
    if plan.closing {
        requests.extend(closing(plan, last + CLOSING_GAP_MICROS));
    }
    requests.sort_by_key(|request| request.at);
    requests
}

/// Divides the events of one source into requests.
fn batched(events: Vec<ScheduledEvent>) -> Vec<ScheduledRequest> {
    let mut requests = Vec::new();
    let mut rest = events.as_slice();
    while let [first, ..] = rest {
        let limit = ReportedKinds::of(first.event.provider).max_events_per_request.min(rest.len());
        let taken = rest[..limit]
            .iter()
            .take_while(|scheduled| scheduled.at <= first.at + BATCH_WAIT_MICROS)
            .count();
        let (batch, after) = rest.split_at(taken);
        let at = batch.last().map_or(first.at, |scheduled| scheduled.at);
        let events = batch.iter().map(|scheduled| scheduled.event.clone()).collect();
        requests.push(ScheduledRequest::new(at, Content::Events(events)));
        rest = after;
    }
    requests
}

/// Returns requests that the provider posts again, because it did not receive the answer.
fn repeats(rng: &mut StdRng, plan: &Plan, requests: &[ScheduledRequest]) -> Vec<ScheduledRequest> {
    let share = plan.duplicate_share.clamp(0.0, 1.0);
    let mut repeats = Vec::new();
    for request in requests {
        if rng.random_bool(share) {
            let at = request.at + rng.random_range(2 * SECOND..3 * MINUTE);
            repeats.push(ScheduledRequest { at, repeat: true, content: request.content.clone() });
        }
    }
    repeats
}

fn malformed(plan: &Plan) -> Vec<ScheduledRequest> {
    let wanted: Vec<Provider> =
        plan.malformed.iter().flat_map(|&(provider, n)| std::iter::repeat_n(provider, n)).collect();
    let count = wanted.len();
    let content = |(n, provider): (usize, Provider)| {
        let source = plan.sources.iter().find(|(p, _)| *p == provider)?.1.clone();
        let at = nth_time(plan, n, count);
        Some(ScheduledRequest::new(at, Content::Malformed { provider, source, n }))
    };
    wanted.into_iter().enumerate().filter_map(content).collect()
}

/// Distributes forged requests evenly over the sources.
fn forged(plan: &Plan) -> Vec<ScheduledRequest> {
    let forge = |n: usize| {
        let (provider, source) = &plan.sources[n % plan.sources.len()];
        let at = nth_time(plan, n, plan.bad_signatures);
        let event = MailEvent {
            recipient: format!("mallory-{n:03}@example.net"),
            message_id: payloads::message_id(*provider, u128::MAX - n as u128),
            occurred_at_micros: at.div_euclid(SECOND) * SECOND,
            ..MailEvent::new(*provider, source, Kind::Delivered, "", n as u32)
        };
        ScheduledRequest::new(at, Content::Forged([event].into()))
    };
    if plan.sources.is_empty() { Vec::new() } else { (0..plan.bad_signatures).map(forge).collect() }
}

/// Returns the `n`th of `count` times that divide the plan's duration into equal parts.
fn nth_time(plan: &Plan, n: usize, count: usize) -> i64 {
    plan.start_micros + plan.duration_micros * (n as i64 + 1) / (count as i64 + 1)
}

/// Returns accepted messages, so late that every earlier window closes. They are divided among the
/// sources that report accepted messages, so that no source has enough of them for a rule.
fn closing(plan: &Plan, start: i64) -> Vec<ScheduledRequest> {
    let sources: Vec<_> =
        plan.sources.iter().filter(|(provider, _)| ReportedKinds::of(*provider).accepted).collect();
    let mut requests = Vec::new();
    for (index, (provider, source)) in sources.iter().enumerate() {
        let events: Vec<MailEvent> = (index..CLOSING_EVENTS)
            .step_by(sources.len())
            .map(|n| closing_event(plan, *provider, source, n, start))
            .collect();
        requests.extend(events.chunks(ReportedKinds::of(*provider).max_events_per_request).map(
            |chunk| {
                let at = chunk.iter().map(|event| event.occurred_at_micros).max().unwrap_or(start);
                ScheduledRequest::new(at, Content::Events(chunk.into()))
            },
        ));
    }
    requests
}

/// All closing events happen within two seconds.
fn closing_event(plan: &Plan, provider: Provider, source: &str, n: usize, start: i64) -> MailEvent {
    MailEvent {
        recipient: format!("closing-{n:03}@example.net"),
        message_id: payloads::message_id(
            provider,
            (plan.start_micros as u128) << 64 | 1 << 56 | n as u128,
        ),
        campaign: "closing".to_owned(),
        occurred_at_micros: (start + SECOND * (n as i64 % 2)).div_euclid(SECOND) * SECOND,
        ..MailEvent::new(provider, source, Kind::Accepted, "", n as u32)
    }
}
