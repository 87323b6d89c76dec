use serde::{Deserialize, Serialize};

use crate::Counts;

/// The rates of one window. Each is at least 0 (0.05 is 5 %), or `None` if its denominator is 0.
///
/// The denominator of bounces is *sent*; the denominator of complaints, unsubscribes, opens, clicks
/// and engagement is *accepted by the recipient*. An event counts at the time when it happened, not
/// when its message was sent. A short window with the bounces of an earlier burst of messages can
/// therefore show a rate above 1.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Rates {
    /// Messages sent.
    pub sent: u64,
    /// True if the provider reported no accepted messages, so `sent` is delivered plus bounced.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub sent_is_estimated: bool,
    /// Messages delivered that did not bounce afterwards.
    pub accepted_by_recipient: u64,
    /// Hard, soft and undetermined bounces ÷ sent.
    pub bounce: Option<f64>,
    /// Hard bounces ÷ sent.
    pub hard_bounce: Option<f64>,
    /// Complaints ÷ accepted.
    pub complaint: Option<f64>,
    /// Unsubscribes ÷ accepted.
    pub unsubscribe: Option<f64>,
    /// Messages opened by people ÷ accepted.
    pub open: Option<f64>,
    /// Messages clicked by people ÷ accepted.
    pub click: Option<f64>,
    /// Messages opened or clicked by people ÷ accepted.
    pub engagement: Option<f64>,
}

impl Rates {
    /// Computes the rates from the counts.
    pub fn of(counts: &Counts) -> Self {
        let sent_is_estimated = counts.accepted == 0 && counts.delivered + counts.bounced() > 0;
        let sent = sent(counts);
        let accepted = accepted_by_recipient(counts);
        Self {
            sent,
            sent_is_estimated,
            accepted_by_recipient: accepted,
            bounce: ratio(counts.bounced(), sent),
            hard_bounce: ratio(counts.bounced_hard, sent),
            complaint: ratio(counts.complained, accepted),
            unsubscribe: ratio(counts.unsubscribed, accepted),
            open: ratio(counts.opened, accepted),
            click: ratio(counts.clicked, accepted),
            engagement: ratio(counts.engaged, accepted),
        }
    }
}

/// Returns the messages sent: the accepted ones, or delivered plus bounced if the provider does not
/// send `accepted` events.
pub(crate) const fn sent(counts: &Counts) -> u64 {
    match counts.accepted {
        0 => counts.delivered.saturating_add(counts.bounced()),
        accepted => accepted,
    }
}

/// Returns the messages delivered, minus those that bounced afterwards. The subtraction saturates
/// because the delivery can lie in an earlier window than its late bounce.
pub(crate) const fn accepted_by_recipient(counts: &Counts) -> u64 {
    counts.delivered.saturating_sub(counts.late_bounces)
}

#[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
pub(crate) fn ratio(numerator: u64, denominator: u64) -> Option<f64> {
    (denominator > 0).then(|| numerator as f64 / denominator as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounces_are_divided_by_sent_and_other_rates_by_accepted() {
        let rates = Rates::of(&Counts {
            accepted: 200,
            delivered: 165,
            bounced_hard: 10,
            bounced_soft: 6,
            bounced_undetermined: 4,
            late_bounces: 5,
            complained: 2,
            unsubscribed: 4,
            opened: 80,
            clicked: 16,
            engaged: 88,
            machine_opened: 1000,
            machine_clicked: 1000,
            dropped: 1000,
            deferred: 1000,
        });
        assert_eq!(
            rates,
            Rates {
                sent: 200,
                sent_is_estimated: false,
                accepted_by_recipient: 160,
                bounce: Some(0.1),
                hard_bounce: Some(0.05),
                complaint: Some(0.0125),
                unsubscribe: Some(0.025),
                open: Some(0.5),
                click: Some(0.1),
                engagement: Some(0.55),
            }
        );
    }

    #[test]
    fn without_accepted_events_sent_is_estimated_as_delivered_plus_bounced() {
        let counts =
            Counts { delivered: 90, bounced_hard: 7, bounced_soft: 3, ..Counts::default() };
        let rates = Rates::of(&counts);
        assert_eq!((rates.sent, rates.sent_is_estimated), (100, true));
        assert_eq!((rates.bounce, rates.hard_bounce), (Some(0.1), Some(0.07)));
    }

    #[test]
    fn rates_with_denominator_0_are_null() {
        assert_eq!(Rates::of(&Counts::default()), Rates::default());
        let rates = Rates::of(&Counts { complained: 1, late_bounces: 2, ..Counts::default() });
        assert_eq!((rates.accepted_by_recipient, rates.complaint), (0, None));
        let json = serde_json::to_value(Rates::default()).unwrap();
        assert!(json["bounce"].is_null() && json.get("sent_is_estimated").is_none());
    }
}
