use serde::{Deserialize, Serialize};
use window::{Counts, PaneCounts};

/// How long a campaign is counted before its counts begin again, in microseconds: one day.
const RESTARTS_AFTER: i64 = 24 * 3_600_000_000;

/// The counts of a campaign since it began, or since a day ago at most. The JSON form is in the changelog of
/// `monitor`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Campaign {
    since: i64,
    counts: PaneCounts,
}

impl Campaign {
    /// Adds the counts of the pane that begins at `pane`, in UTC microseconds. The first pane begins the campaign.
    /// What happened before the beginning is not counted.
    pub fn add(campaign: &mut Option<Self>, pane: i64, counts: &Counts) {
        let is_over = |it: &Self| pane >= it.since.saturating_add(RESTARTS_AFTER);
        if campaign.as_ref().is_none_or(is_over) {
            *campaign = Some(Self { since: pane, counts: PaneCounts::default() });
        }
        if let Some(campaign) = campaign
            && pane >= campaign.since
        {
            campaign.counts.increase(counts);
        }
    }

    /// Returns the first moment of the first pane, in UTC microseconds, and the counts since, as
    /// [`Evidence::campaign`](crate::Evidence::campaign) returns them.
    pub fn since(&self) -> (i64, Counts) {
        (self.since, self.counts.to_counts())
    }
}

#[cfg(test)]
mod tests {
    use event::Counter::Delivered;

    use super::*;

    /// The changelogs of running installations contain this form.
    #[test]
    fn a_campaign_begins_again_after_a_day_and_counts_nothing_from_before() {
        let mut campaign = None;
        let mut add = |pane: i64| {
            Campaign::add(&mut campaign, pane, &Counts::of([(Delivered, 1)]));
            let (since, counts) = campaign.as_ref().map(Campaign::since).unwrap();
            (since, counts.get(Delivered))
        };
        let begin = 100 * 10_000_000;
        assert_eq!(add(begin), (begin, 1));
        assert_eq!(add(begin - 10_000_000), (begin, 1), "before the beginning");
        assert_eq!(add(begin + RESTARTS_AFTER - 10_000_000), (begin, 2));
        assert_eq!(add(begin + RESTARTS_AFTER), (begin + RESTARTS_AFTER, 1));
        let json = serde_json::to_string(&campaign).unwrap();
        assert_eq!(json, r#"{"since":87400000000,"counts":{"delivered":1}}"#);
    }
}
