//! Generates hours of mail from a seed, in the order and form in which the providers would post it.

mod plan;
mod reported_kinds;
mod schedule;
mod source_events;

use std::sync::Arc;

pub use plan::{Burst, Plan};
#[cfg(test)]
pub(crate) use reported_kinds::ReportedKinds;
pub(crate) use schedule::{Content, ScheduledRequest};

use crate::{Expected, MailEvent, SignedRequest};

/// Signed requests with a known expected result. The same seed and plan give the same mail.
///
/// Event time moves forward over all sources together, with a disorder of at most 4 seconds.
/// Requests that are posted again come in addition, up to 3 minutes later.
#[derive(Debug)]
pub struct Traffic {
    plan: Plan,
    schedule: Vec<ScheduledRequest>,
    expected: Expected,
}

impl Traffic {
    /// Generates all events. [`Traffic::requests`] signs them.
    pub fn new(seed: u64, plan: Plan) -> Self {
        let schedule = schedule::schedule(seed, &plan);
        let expected = Expected::of(&schedule);
        Self { plan, schedule, expected }
    }

    /// Returns the requests in the order of posting, and signs each of them when it is needed.
    pub fn requests(&self) -> impl Iterator<Item = SignedRequest> {
        self.schedule.iter().flat_map(|request| request.sign(&self.plan))
    }

    /// Returns the genuine requests, repeated ones included, in the order of posting and unsigned:
    /// the event time (microseconds) of posting, and the events of one source.
    /// [`crate::sign::events`] makes exactly one request of each. For senders that sign again
    /// whenever they post again.
    pub fn genuine_requests(&self) -> impl Iterator<Item = (i64, Arc<[MailEvent]>)> {
        self.schedule.iter().filter_map(|request| match &request.content {
            Content::Events(events) => Some((request.at, Arc::clone(events))),
            Content::Malformed { .. } | Content::Forged(_) => None,
        })
    }

    /// Returns what a correct pipeline must make of the requests.
    pub fn expected(&self) -> &Expected {
        &self.expected
    }

    /// Returns every event that must reach the archive, once each, in the order of first posting.
    pub fn events(&self) -> impl Iterator<Item = &MailEvent> {
        self.schedule.iter().filter(|request| !request.repeat).flat_map(ScheduledRequest::genuine)
    }

    pub fn plan(&self) -> &Plan {
        &self.plan
    }
}

#[cfg(test)]
mod tests;
