//! The definitions of all rates. `docs/metrics.md` is the page for people; both must agree.

use event::Counter::{
    self, BouncedBlock, BouncedHard, BouncedSoft, BouncedUndetermined, Clicked, Complained,
    Deferred, DeferredSettled, Delivered, DeliveredFbl, Engaged, Injected, LateBounces,
    LateBouncesFbl, MachineOpened, Opened, Unsubscribed,
};
use serde::{Deserialize, Serialize};

use crate::{Counts, Metric};

/// The counters of bounces. A message counts in at most one of them, and in none if it bounced after
/// its delivery.
pub const BOUNCES: [Counter; 4] = [BouncedHard, BouncedSoft, BouncedBlock, BouncedUndetermined];

/// By what messages are grouped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum View {
    /// By when something happened to them: windows.
    Arrival,
    /// By when they were sent: cohorts.
    Cohort,
}

/// Returns `sent`: the messages that the recipients' servers decided on. A delivered message that
/// bounced later is in `delivered` only.
pub fn sent(counts: &Counts) -> u64 {
    counts.get(Delivered).saturating_add(counts.sum(&BOUNCES))
}

/// Returns `accepted_by_recipient`: the delivered messages. In a cohort, those that bounced later are
/// subtracted; in a window they may be of an earlier window, so they are not.
pub fn accepted_by_recipient(counts: &Counts, view: View) -> u64 {
    match view {
        View::Arrival => counts.get(Delivered),
        View::Cohort => counts.get(Delivered).saturating_sub(counts.get(LateBounces)),
    }
}

/// Returns the part of [`accepted_by_recipient`] at mailbox providers that report complaints.
fn accepted_with_feedback(counts: &Counts, view: View) -> u64 {
    match view {
        View::Arrival => counts.get(DeliveredFbl),
        View::Cohort => counts.get(DeliveredFbl).saturating_sub(counts.get(LateBouncesFbl)),
    }
}

/// Returns the messages that a server has judged at least once: `sent` and those that are still
/// deferred. A window can contain more settled deferrals than deferrals, so it is never below 0.
fn attempted(counts: &Counts) -> u64 {
    let judged = sent(counts).saturating_add(counts.get(Deferred));
    judged.saturating_sub(counts.get(DeferredSettled))
}

/// Returns whether the source reports all messages that the provider takes in. `last_hour` are its
/// counts of the last hour, or those of a cohort.
pub fn reports_injected(last_hour: &Counts) -> bool {
    last_hour.get(Injected) >= last_hour.get(Delivered)
}

/// Returns the numerator and the denominator of a rate. Injection loss has a meaning only if
/// [`reports_injected`].
pub fn fraction(metric: Metric, counts: &Counts, view: View) -> (u64, u64) {
    let accepted = || accepted_by_recipient(counts, view);
    match metric {
        Metric::Bounce => (counts.sum(&BOUNCES), sent(counts)),
        Metric::HardBounce => (counts.get(BouncedHard), sent(counts)),
        Metric::SoftBounce => (counts.get(BouncedSoft), sent(counts)),
        Metric::BlockBounce => (counts.get(BouncedBlock), sent(counts)),
        Metric::UndeterminedBounce => (counts.get(BouncedUndetermined), sent(counts)),
        Metric::LateBounce => (counts.get(LateBounces), counts.get(Delivered)),
        Metric::Deferral => (counts.get(Deferred), attempted(counts)),
        Metric::Delivery => (accepted(), sent(counts)),
        Metric::Complaint => (counts.get(Complained), accepted_with_feedback(counts, view)),
        Metric::PlainComplaint => (counts.get(Complained), accepted()),
        Metric::Unsubscribe => (counts.get(Unsubscribed), accepted()),
        Metric::Open => (counts.get(Opened), accepted()),
        Metric::OpenWithMachines => (counts.sum(&[Opened, MachineOpened]), accepted()),
        Metric::Click => (counts.get(Clicked), accepted()),
        Metric::Engagement => (counts.get(Engaged), accepted()),
        Metric::InjectionLoss => {
            let injected = counts.get(Injected);
            (injected.saturating_sub(attempted(counts)), injected)
        }
    }
}

macro_rules! rates {
    ($($(#[$doc:meta])+ $field:ident => $metric:ident,)+) => {
        /// The rates of one window or cohort, from 0 to 1 (0.05 is 5 %). A rate is `None` if its
        /// denominator is 0, or if it is unknown.
        ///
        /// An event counts when it happened, not when its message was sent. A window can therefore
        /// contain more opens, complaints or deferrals than it has deliveries, about mail of earlier
        /// windows. Its rate is then 1, never more; the counts tell.
        #[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
        pub struct Rates {
            /// Messages on which the recipients' servers decided.
            pub sent: u64,
            /// Messages delivered; in a cohort, those that did not bounce afterwards.
            pub accepted_by_recipient: u64,
            $($(#[$doc])+ #[serde(default)] pub $field: Option<f64>,)+
        }

        impl Rates {
            /// Computes the rates from the counts.
            pub fn of(counts: &Counts, view: View, reports_injected: bool) -> Self {
                let rate = |metric| {
                    let (numerator, denominator) = fraction(metric, counts, view);
                    let is_known = reports_injected || metric != Metric::InjectionLoss;
                    ratio(numerator, denominator).filter(|_| is_known)
                };
                Self {
                    sent: sent(counts),
                    accepted_by_recipient: accepted_by_recipient(counts, view),
                    $($field: rate(Metric::$metric),)+
                }
            }

            /// Returns the rate of this metric.
            pub const fn get(&self, metric: Metric) -> Option<f64> {
                match metric { $(Metric::$metric => self.$field),+ }
            }
        }
    };
}

rates! {
    /// Bounces that were not late ÷ sent.
    bounce => Bounce,
    /// Hard bounces ÷ sent.
    hard_bounce => HardBounce,
    /// Soft bounces ÷ sent.
    soft_bounce => SoftBounce,
    /// Bounces because of the sender ÷ sent.
    block_bounce => BlockBounce,
    /// Bounces of an unknown cause ÷ sent.
    undetermined_bounce => UndeterminedBounce,
    /// Bounces after the delivery ÷ delivered.
    late_bounce => LateBounce,
    /// Messages deferred ÷ messages that a server has judged at least once.
    deferral => Deferral,
    /// Accepted by the recipient ÷ sent.
    delivery => Delivery,
    /// Complaints ÷ accepted by the recipient, at mailbox providers that report complaints.
    complaint => Complaint,
    /// Complaints ÷ accepted by the recipient.
    plain_complaint => PlainComplaint,
    /// Unsubscribes ÷ accepted by the recipient.
    unsubscribe => Unsubscribe,
    /// Messages opened by people ÷ accepted by the recipient.
    open => Open,
    /// Messages opened by people or machines ÷ accepted by the recipient. The open rate is between
    /// `open` and this.
    open_with_machines => OpenWithMachines,
    /// Messages clicked by people ÷ accepted by the recipient.
    click => Click,
    /// Messages opened or clicked by people ÷ accepted by the recipient.
    engagement => Engagement,
    /// Messages injected of which nothing else is known ÷ injected. `None` also if the source does
    /// not report all of them.
    injection_loss => InjectionLoss,
}

impl Rates {
    /// Returns the rates of a source that sends no `delivered` events: all are unknown.
    #[must_use]
    pub fn without_deliveries(counts: &Counts, view: View) -> Self {
        Self {
            sent: sent(counts),
            accepted_by_recipient: accepted_by_recipient(counts, view),
            ..Self::default()
        }
    }
}

/// Returns the share, which is at most 1, or `None` if the denominator is 0.
#[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
pub(crate) fn ratio(numerator: u64, denominator: u64) -> Option<f64> {
    (denominator > 0).then(|| (numerator as f64 / denominator as f64).min(1.0))
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn example() -> Counts {
        Counts::of([
            (Injected, 250),
            (Delivered, 180),
            (BouncedHard, 10),
            (BouncedSoft, 4),
            (BouncedBlock, 5),
            (BouncedUndetermined, 1),
            (LateBounces, 20),
            (Deferred, 30),
            (DeferredSettled, 10),
            (Complained, 4),
            (DeliveredFbl, 90),
            (LateBouncesFbl, 10),
            (Unsubscribed, 8),
            (Opened, 80),
            (MachineOpened, 60),
            (Clicked, 16),
            (Engaged, 88),
            (Counter::Dropped, 1000),
            (Counter::AutoReplies, 1000),
        ])
    }

    #[test]
    fn each_rate_has_its_documented_definition() {
        let arrival = Rates {
            sent: 200,
            accepted_by_recipient: 180,
            bounce: Some(0.1),
            hard_bounce: Some(0.05),
            soft_bounce: Some(0.02),
            block_bounce: Some(0.025),
            undetermined_bounce: Some(0.005),
            late_bounce: Some(20.0 / 180.0),
            deferral: Some(30.0 / 220.0),
            delivery: Some(0.9),
            complaint: Some(4.0 / 90.0),
            plain_complaint: Some(4.0 / 180.0),
            unsubscribe: Some(8.0 / 180.0),
            open: Some(80.0 / 180.0),
            open_with_machines: Some(140.0 / 180.0),
            click: Some(16.0 / 180.0),
            engagement: Some(88.0 / 180.0),
            injection_loss: Some(30.0 / 250.0),
        };
        assert_eq!(Rates::of(&example(), View::Arrival, true), arrival);
        let cohort = Rates {
            accepted_by_recipient: 160,
            delivery: Some(0.8),
            complaint: Some(4.0 / 80.0),
            plain_complaint: Some(0.025),
            unsubscribe: Some(0.05),
            open: Some(0.5),
            open_with_machines: Some(0.875),
            click: Some(0.1),
            engagement: Some(0.55),
            injection_loss: None,
            ..arrival
        };
        assert_eq!(Rates::of(&example(), View::Cohort, false), cohort);
    }

    #[test]
    fn rates_with_denominator_0_are_null() {
        let late = Counts::of([(Complained, 1), (LateBounces, 2), (DeferredSettled, 5)]);
        for view in [View::Arrival, View::Cohort] {
            assert_eq!(Rates::of(&Counts::default(), view, true), Rates::default());
            assert_eq!(Rates::of(&late, view, true), Rates::default());
        }
        let json = serde_json::to_value(Rates::default()).unwrap();
        assert!(json["bounce"].is_null() && json.get("sent_is_estimated").is_none());
    }

    #[test]
    fn a_rate_is_never_above_1() {
        let counts = Counts::of([(Delivered, 1), (Opened, 3), (Deferred, 3), (DeferredSettled, 2)]);
        let rates = Rates::of(&counts, View::Arrival, true);
        assert_eq!((rates.open, rates.deferral), (Some(1.0), Some(1.0)));
    }

    #[test]
    fn injection_loss_needs_all_messages_that_the_provider_took_in() {
        assert!(reports_injected(&example()));
        assert!(!reports_injected(&Counts::of([(Injected, 1), (Delivered, 2)])));
        let rates = Rates::of(&example(), View::Arrival, false);
        assert_eq!((rates.injection_loss, rates.bounce), (None, Some(0.1)));
    }

    #[test]
    fn without_deliveries_all_rates_are_unknown() {
        let counts = Counts::of([(BouncedHard, 7), (Injected, 9), (Deferred, 1)]);
        let rates = Rates::without_deliveries(&counts, View::Arrival);
        assert_eq!(rates, Rates { sent: 7, ..Rates::default() });
        assert!(Metric::ALL.iter().all(|metric| rates.get(*metric).is_none()));
    }

    fn counts() -> impl Strategy<Value = Counts> {
        vec(0..9_i64, Counter::ALL.len()).prop_map(|numbers| {
            let mut counts = Counts::default();
            let all = Counter::ALL.iter().zip(numbers);
            all.for_each(|(&counter, number)| counts.increase(counter, number));
            counts
        })
    }

    proptest! {
        #[test]
        fn injected_changes_only_injection_loss(counts in counts(), injected in -9..99_i64) {
            let other = counts + Counts::of([(Injected, injected)]);
            for view in [View::Arrival, View::Cohort] {
                let without = |counts| Rates {
                    injection_loss: None,
                    ..Rates::of(counts, view, reports_injected(counts))
                };
                prop_assert_eq!(without(&counts), without(&other));
            }
        }

        #[test]
        fn every_rate_is_a_share(counts in counts()) {
            for view in [View::Arrival, View::Cohort] {
                let rates = Rates::of(&counts, view, true);
                for metric in Metric::ALL {
                    prop_assert!(rates.get(*metric).is_none_or(|rate| (0.0..=1.0).contains(&rate)));
                }
            }
        }
    }
}
