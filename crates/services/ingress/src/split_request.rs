//! A request body that was split into its events.

use event::Provider;
use providers::{Mappings, OverLimit, SplitBody, SplitError, SplitLimits};
use record::Reason;

use crate::request_metrics::KindCounts;

/// The result of splitting a body. Each body is split only once.
pub(crate) struct SplitRequest<'b> {
    pub(crate) body: &'b [u8],
    pub(crate) split: Result<SplitBody<'b>, NotSplit>,
    /// True if `enrich` needs the mapping of the source too.
    pub(crate) is_mapped: bool,
}

/// Why a body becomes one dead letter as a whole.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotSplit {
    #[error(transparent)]
    Unreadable(#[from] SplitError),
    #[error(transparent)]
    OverLimit(#[from] OverLimit),
}

impl NotSplit {
    pub(crate) const fn reason(&self) -> Reason {
        match self {
            Self::Unreadable(SplitError::NotUtf8) => Reason::NotUtf8,
            Self::Unreadable(SplitError::NotJson { .. }) => Reason::NotJson,
            Self::Unreadable(SplitError::NotForm(_)) => Reason::NotForm,
            Self::Unreadable(SplitError::WrongShape(_)) => Reason::WrongShape,
            Self::Unreadable(SplitError::NoMapping) => Reason::NoMapping,
            Self::OverLimit(_) => Reason::TooLarge,
        }
    }
}

/// The counts of an accepted request, for its receipt and the metrics.
#[derive(Debug, Default)]
pub(crate) struct Acceptance {
    pub(crate) accepted: usize,
    /// 1 for a body that becomes a dead letter, otherwise 0.
    pub(crate) dead_lettered: usize,
    pub(crate) kinds: KindCounts,
}

impl<'b> SplitRequest<'b> {
    pub(crate) fn new(
        mappings: &Mappings,
        provider: Provider,
        source: &str,
        body: &'b [u8],
        limits: &SplitLimits,
    ) -> Self {
        let split = mappings.split(provider, source, body).map_err(NotSplit::Unreadable);
        let split = split.and_then(|split| {
            limits.check(&split)?;
            Ok(split)
        });
        Self { body, split, is_mapped: mappings.has(provider, source) }
    }

    /// Returns the number of events, which is 0 if the body becomes a dead letter.
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

    /// Returns the limit that the body exceeds.
    pub(crate) fn over_limit(&self) -> Option<OverLimit> {
        match self.split {
            Err(NotSplit::OverLimit(over_limit)) => Some(over_limit),
            _ => None,
        }
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
