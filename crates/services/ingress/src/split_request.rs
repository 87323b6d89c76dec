//! A request body that was split into its events.

use event::Provider;
use providers::{SplitBody, SplitError};

use crate::request_metrics::KindCounts;

/// The result of splitting a body. Each body is split only once.
pub(crate) struct SplitRequest<'b> {
    pub(crate) body: &'b [u8],
    pub(crate) split: Result<SplitBody<'b>, SplitError>,
}

/// The counts of an accepted request, for its receipt and the metrics.
#[derive(Debug, Default)]
pub(crate) struct Acceptance {
    pub(crate) accepted: usize,
    /// 1 for a body that cannot be split, otherwise 0.
    pub(crate) dead_lettered: usize,
    pub(crate) kinds: KindCounts,
}

impl<'b> SplitRequest<'b> {
    pub(crate) fn new(provider: Provider, body: &'b [u8]) -> Self {
        Self { body, split: providers::split(provider, body) }
    }

    /// Returns the number of events, which is 0 if the body cannot be split.
    pub(crate) fn event_count(&self) -> usize {
        self.split.as_ref().map_or(0, SplitBody::len)
    }

    /// Returns how many bytes the split events take besides the body.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.split.as_ref().map_or(0, SplitBody::memory_bytes)
    }

    /// Returns true if there is nothing to store, as in a message about an SNS subscription.
    pub(crate) fn is_empty(&self) -> bool {
        self.split.as_ref().is_ok_and(SplitBody::is_empty)
    }

    pub(crate) fn acceptance(&self) -> Acceptance {
        let mut kinds = KindCounts::default();
        self.split.iter().flat_map(SplitBody::kinds).for_each(|kind| kinds.add(kind));
        Acceptance {
            accepted: self.event_count(),
            dead_lettered: usize::from(self.split.is_err()),
            kinds,
        }
    }
}
