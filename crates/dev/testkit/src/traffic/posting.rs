//! From facts to requests: batches, repeats, garbage, forgeries, and the closing events.

use std::sync::Arc;

use event::{Kind, Provider};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::journey::{Journeys, Posted};
use super::plan::{CLOSING_EVENTS, CLOSING_GAP_MICROS, Plan};
use super::says::Says;
use crate::clock::{MINUTE, SECOND};
use crate::{Fact, SignedRequest, shape, sign};

/// How long a batch waits for more, in event time: with what a journey adds, less than 4 seconds.
const BATCH_WAIT_MICROS: i64 = 1_200_000;

/// One request to come.
#[derive(Debug, Clone)]
pub(crate) struct Posting {
    /// When, in event time; the order of posting.
    pub(crate) at: i64,
    /// The same request was posted before.
    pub(crate) repeat: bool,
    pub(crate) content: Content,
}

#[derive(Debug, Clone)]
pub(crate) enum Content {
    /// Events of one source.
    Facts(Arc<[Fact]>),
    /// An authentic body that cannot be read.
    Garbage { provider: Provider, source: String, n: usize },
    /// Events that never were, signed with the wrong keys.
    Forged(Arc<[Fact]>),
}

impl Posting {
    fn new(at: i64, content: Content) -> Self {
        Self { at, repeat: false, content }
    }

    /// The facts a pipeline must believe.
    pub(crate) fn genuine(&self) -> &[Fact] {
        match &self.content {
            Content::Facts(facts) => facts,
            Content::Garbage { .. } | Content::Forged(_) => &[],
        }
    }

    /// The request; one, since batches are cut to what the provider posts at once.
    pub(crate) fn sign(&self, plan: &Plan) -> Vec<SignedRequest> {
        let now = plan.signed_at_unix;
        match &self.content {
            Content::Facts(facts) => sign::facts(&plan.credentials, facts, now),
            Content::Garbage { provider, source, n } => {
                vec![sign::garbage(&plan.credentials, *provider, source, *n, now)]
            }
            Content::Forged(facts) => sign::facts(&plan.credentials.impostor(), facts, now),
        }
    }
}

/// Every request of the plan, in the order of posting.
pub(crate) fn schedule(seed: u64, plan: &Plan) -> Vec<Posting> {
    let mut rng = StdRng::seed_from_u64(!seed);
    let mut postings: Vec<Posting> = (0..plan.sources.len())
        .flat_map(|index| batched(Journeys::new(seed, plan, index).run()))
        .collect();
    let last = postings.iter().map(|posting| posting.at).max().unwrap_or(plan.start_micros);
    let repeats = repeats(&mut rng, plan, &postings);
    postings.extend(repeats);
    postings.extend(garbage(plan));
    postings.extend(forgeries(plan));
    if plan.closing {
        postings.extend(closing(plan, last + CLOSING_GAP_MICROS));
    }
    postings.sort_by_key(|posting| posting.at);
    postings
}

/// One source's facts, cut into what it posts at once.
fn batched(facts: Vec<Posted>) -> Vec<Posting> {
    let mut postings = Vec::new();
    let mut rest = facts.as_slice();
    while let [first, ..] = rest {
        let limit = Says::of(first.fact.provider).at_once.min(rest.len());
        let taken = rest[..limit]
            .iter()
            .take_while(|posted| posted.at <= first.at + BATCH_WAIT_MICROS)
            .count();
        let (batch, after) = rest.split_at(taken);
        let at = batch.last().map_or(first.at, |posted| posted.at);
        let facts = batch.iter().map(|posted| posted.fact.clone()).collect();
        postings.push(Posting::new(at, Content::Facts(facts)));
        rest = after;
    }
    postings
}

/// Requests the provider posts again because the answer got lost on the way.
fn repeats(rng: &mut StdRng, plan: &Plan, postings: &[Posting]) -> Vec<Posting> {
    let share = plan.duplicate_share.clamp(0.0, 1.0);
    let mut again = Vec::new();
    for posting in postings {
        if rng.random_bool(share) {
            let at = posting.at + rng.random_range(2 * SECOND..3 * MINUTE);
            again.push(Posting { at, repeat: true, content: posting.content.clone() });
        }
    }
    again
}

fn garbage(plan: &Plan) -> Vec<Posting> {
    let wanted: Vec<Provider> =
        plan.malformed.iter().flat_map(|&(provider, n)| std::iter::repeat_n(provider, n)).collect();
    let count = wanted.len();
    let content = |(n, provider): (usize, Provider)| {
        let source = plan.sources.iter().find(|(p, _)| *p == provider)?.1.clone();
        let at = evenly(plan, n, count);
        Some(Posting::new(at, Content::Garbage { provider, source, n }))
    };
    wanted.into_iter().enumerate().filter_map(content).collect()
}

/// Forged requests take turns over the sources.
fn forgeries(plan: &Plan) -> Vec<Posting> {
    let forge = |n: usize| {
        let (provider, source) = &plan.sources[n % plan.sources.len()];
        let at = evenly(plan, n, plan.bad_signatures);
        let fact = Fact {
            recipient: format!("mallory-{n:03}@example.net"),
            message_id: shape::message_id(*provider, u128::MAX - n as u128),
            occurred_at_micros: at.div_euclid(SECOND) * SECOND,
            ..Fact::new(*provider, source, Kind::Delivered, "", n as u32)
        };
        Posting::new(at, Content::Forged([fact].into()))
    };
    if plan.sources.is_empty() { Vec::new() } else { (0..plan.bad_signatures).map(forge).collect() }
}

/// The `n`th of `count` moments that cut the plan's duration into equal parts.
fn evenly(plan: &Plan, n: usize, count: usize) -> i64 {
    plan.start_micros + plan.duration_micros * (n as i64 + 1) / (count as i64 + 1)
}

/// Accepted messages and nothing else, so much later that every earlier window is over. They are
/// shared out among the sources that report them: to a rule, too few to judge anyone by.
fn closing(plan: &Plan, start: i64) -> Vec<Posting> {
    let sources: Vec<_> =
        plan.sources.iter().filter(|(provider, _)| Says::of(*provider).accepted).collect();
    let mut postings = Vec::new();
    for (index, (provider, source)) in sources.iter().enumerate() {
        let facts: Vec<Fact> = (index..CLOSING_EVENTS)
            .step_by(sources.len())
            .map(|n| closing_fact(plan, *provider, source, n, start))
            .collect();
        postings.extend(facts.chunks(Says::of(*provider).at_once).map(|chunk| {
            let at = chunk.iter().map(|fact| fact.occurred_at_micros).max().unwrap_or(start);
            Posting::new(at, Content::Facts(chunk.into()))
        }));
    }
    postings
}

/// The closing events lie within two seconds of each other.
fn closing_fact(plan: &Plan, provider: Provider, source: &str, n: usize, start: i64) -> Fact {
    Fact {
        recipient: format!("closing-{n:03}@example.net"),
        message_id: shape::message_id(
            provider,
            (plan.start_micros as u128) << 64 | 1 << 56 | n as u128,
        ),
        campaign: "closing".to_owned(),
        occurred_at_micros: (start + SECOND * (n as i64 % 2)).div_euclid(SECOND) * SECOND,
        ..Fact::new(provider, source, Kind::Accepted, "", n as u32)
    }
}
