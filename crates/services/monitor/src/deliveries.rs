//! Which sources and tenants still send `delivered` events. Fold publishes it, rate reads it.
//!
//! The number of sent messages is a sum of deliveries and bounces. If a source sends no deliveries, all
//! its rates would be wrong, so rate must know in every shard whether it does.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};
use window::HourStart;

/// The number of sources and tenants above which fold forgets what it has published. It then publishes
/// all of them again.
const MAX_REMEMBERED: usize = 1 << 16;

/// The latest hour in which each source and tenant has delivered a message, by the key of its scope. A
/// member of fold sends it to every partition of `mail.panes` as the value of a record with the key
/// [`Deliveries::KEY`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Deliveries(pub(crate) BTreeMap<String, HourStart>);

impl Deliveries {
    /// Differs from the key of every scope, which contains a slash.
    pub(crate) const KEY: &[u8] = b"deliveries";
}

/// What a member of fold has to publish.
#[derive(Debug, Default)]
pub(crate) struct UnpublishedDeliveries {
    /// What this member has published. It may publish something again after a restart; the latest
    /// hour counts.
    published: HashMap<String, HourStart>,
    /// What the current batch publishes.
    publishing: Deliveries,
}

impl UnpublishedDeliveries {
    /// Notes that the source or tenant has delivered a message in an hour.
    pub(crate) fn note(&mut self, scope: &str, hour: HourStart) {
        let is_newer = |known: Option<&HourStart>| known.is_none_or(|known| *known < hour);
        if is_newer(self.published.get(scope)) && is_newer(self.publishing.0.get(scope)) {
            self.publishing.0.insert(scope.to_owned(), hour);
        }
    }

    /// Returns what the current batch has to publish.
    pub(crate) const fn publishing(&self) -> &Deliveries {
        &self.publishing
    }

    pub(crate) fn committed(&mut self) {
        if self.published.len() > MAX_REMEMBERED {
            self.published.clear();
        }
        self.published.extend(std::mem::take(&mut self.publishing).0);
    }

    pub(crate) fn rolled_back(&mut self) {
        self.publishing = Deliveries::default();
    }
}

#[cfg(test)]
mod tests {
    use event::OccurredAt;

    use super::*;

    fn hour(number: i64) -> HourStart {
        HourStart::of(OccurredAt(number * 3_600_000_000))
    }

    /// Members of different releases exchange this form during an upgrade.
    #[test]
    fn the_json_form_does_not_change() {
        let deliveries = Deliveries([("source/ses/acme".to_owned(), hour(2))].into());
        let json = r#"{"source/ses/acme":7200000000}"#;
        assert_eq!(serde_json::to_string(&deliveries).unwrap(), json);
        assert_eq!(serde_json::from_str::<Deliveries>(json).unwrap(), deliveries);
    }

    #[test]
    fn only_a_later_hour_is_published_and_a_rolled_back_one_again() {
        let mut unpublished = UnpublishedDeliveries::default();
        let mut publishing = |hours: &[i64], commits: bool| {
            hours.iter().for_each(|number| unpublished.note("source/ses/acme", hour(*number)));
            let publishing = unpublished.publishing().clone();
            if commits {
                unpublished.committed();
            } else {
                unpublished.rolled_back();
            }
            publishing.0.into_values().collect::<Vec<_>>()
        };
        assert_eq!(publishing(&[5, 7, 6], false), [hour(7)]);
        assert_eq!(publishing(&[5], true), [hour(5)]);
        assert_eq!(publishing(&[5, 4], true), []);
        assert_eq!(publishing(&[6], true), [hour(6)]);
    }
}
