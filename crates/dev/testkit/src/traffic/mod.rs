//! Hours of mail, from a seed, in the order and form in which the providers would post it.

mod journey;
mod plan;
mod posting;
mod says;

use std::sync::Arc;

pub use plan::{Burst, Plan};
pub(crate) use posting::{Content, Posting};
#[cfg(test)]
pub(crate) use says::Says;

use crate::{Fact, SignedRequest, Truth};

/// Signed requests whose truth is known: the same seed and plan give the same mail.
///
/// Event time moves forward over all sources together, with a disorder of at most 4 seconds;
/// repeats of earlier requests come on top of that.
#[derive(Debug)]
pub struct Traffic {
    plan: Plan,
    postings: Vec<Posting>,
    truth: Truth,
}

impl Traffic {
    /// Draws all of the traffic. Signing is left to [`Traffic::requests`].
    pub fn new(seed: u64, plan: Plan) -> Self {
        let postings = posting::schedule(seed, &plan);
        let truth = Truth::of(&postings);
        Self { plan, postings, truth }
    }

    /// The requests in the order of posting, each signed as it is asked for.
    pub fn requests(&self) -> impl Iterator<Item = SignedRequest> {
        self.postings.iter().flat_map(|posting| posting.sign(&self.plan))
    }

    /// The genuine requests, repeats included, in the order of posting, unsigned: when in event time
    /// (microseconds), and the facts of one source that it reports. For senders that sign anew
    /// whenever they post again; [`crate::sign::facts`] makes exactly one request of each.
    pub fn batches(&self) -> impl Iterator<Item = (i64, Arc<[Fact]>)> {
        self.postings.iter().filter_map(|posting| match &posting.content {
            Content::Facts(facts) => Some((posting.at, Arc::clone(facts))),
            Content::Garbage { .. } | Content::Forged(_) => None,
        })
    }

    /// What a correct pipeline must make of them.
    pub fn truth(&self) -> &Truth {
        &self.truth
    }

    /// Every fact that must end in the archive, once each, in the order of first posting.
    pub fn facts(&self) -> impl Iterator<Item = &Fact> {
        self.postings.iter().filter(|posting| !posting.repeat).flat_map(Posting::genuine)
    }

    /// The plan, with what was filled in.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }
}

#[cfg(test)]
mod tests;
