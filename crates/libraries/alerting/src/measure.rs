use event::Counter::{
    AuthRefused, Delivered, Dropped, Injected, LateBounces, Listed, Suppressed, Throttled,
    Unclassified,
};
use window::{BOUNCES, Counts, Metric, View, fraction, sent};

use crate::baseline::Series;
use crate::{Measure, Share};

impl Measure {
    /// Returns the numerator and the denominator. The numerator is never the greater one: late events can
    /// belong to messages of earlier windows.
    ///
    /// The gap is no share of messages; its fraction is (0, 0).
    pub fn fraction(self, counts: &Counts, view: View) -> (u64, u64) {
        let (part, whole) = match self {
            Self::Rate(metric) => fraction(metric, counts, view),
            Self::Share(share) => share.fraction(counts),
        };
        (part.min(whole), whole)
    }

    /// Returns whether the measure needs the `delivered` events of a source.
    pub const fn needs_deliveries(self) -> bool {
        match self {
            Self::Rate(_) => true,
            Self::Share(share) => match share {
                Share::AuthRefused | Share::Throttled | Share::Listed => true,
                Share::Suppressed | Share::Unclassified | Share::Gap | Share::DeliveriesMissing => {
                    false
                }
            },
        }
    }

    /// Returns the word for what the numerator counts, as used in summaries: `hard bounces`.
    pub const fn noun(self) -> &'static str {
        match self {
            Self::Rate(metric) => match metric {
                Metric::Bounce => "bounces",
                Metric::HardBounce => "hard bounces",
                Metric::SoftBounce => "soft bounces",
                Metric::BlockBounce => "blocks",
                Metric::UndeterminedBounce => "undetermined bounces",
                Metric::LateBounce => "late bounces",
                Metric::Deferral => "deferrals",
                Metric::Delivery => "deliveries",
                Metric::Complaint | Metric::PlainComplaint => "complaints",
                Metric::Unsubscribe => "unsubscribes",
                Metric::Open => "opens",
                Metric::OpenWithMachines => "opens with machines",
                Metric::Click => "clicks",
                Metric::Engagement => "engagement",
                Metric::InjectionLoss => "injection loss",
            },
            Self::Share(share) => match share {
                Share::AuthRefused => "refused authentication",
                Share::Throttled => "throttled",
                Share::Listed => "answers naming a block list",
                Share::Suppressed => "suppressed",
                Share::Unclassified => "unclassified bounces",
                Share::Gap => "silence",
                Share::DeliveriesMissing => "events without deliveries",
            },
        }
    }

    /// Returns the word for the messages in the denominator, as used in summaries: `sent`.
    pub const fn whole(self) -> &'static str {
        match self {
            Self::Rate(metric) => match metric {
                Metric::Bounce
                | Metric::HardBounce
                | Metric::SoftBounce
                | Metric::BlockBounce
                | Metric::UndeterminedBounce
                | Metric::Delivery => "sent",
                Metric::LateBounce => "delivered",
                Metric::Deferral => "attempted",
                Metric::Complaint => "accepted by providers that report complaints",
                Metric::PlainComplaint
                | Metric::Unsubscribe
                | Metric::Open
                | Metric::OpenWithMachines
                | Metric::Click
                | Metric::Engagement => "accepted",
                Metric::InjectionLoss => "injected",
            },
            Self::Share(share) => match share {
                Share::AuthRefused | Share::Throttled | Share::Listed => "sent",
                Share::Suppressed => "injected or dropped",
                Share::Unclassified => "bounces",
                Share::Gap => "",
                Share::DeliveriesMissing => "other events",
            },
        }
    }
}

impl Share {
    fn fraction(self, counts: &Counts) -> (u64, u64) {
        // Refusals are counted for every attempt, so they can exceed the messages on which a server decided.
        let of_sent = |part: u64| (part, sent(counts).max(part));
        match self {
            Self::AuthRefused => of_sent(counts.get(AuthRefused)),
            Self::Throttled => of_sent(counts.get(Throttled)),
            Self::Listed => of_sent(counts.get(Listed)),
            Self::Suppressed => {
                let whole = counts.get(Injected).saturating_add(counts.get(Dropped));
                (counts.get(Suppressed), whole)
            }
            Self::Unclassified => {
                let whole = counts.sum(&BOUNCES).saturating_add(counts.get(LateBounces));
                (counts.get(Unclassified), whole)
            }
            Self::Gap => (0, 0),
            Self::DeliveriesMissing => {
                let delivered = counts.get(Delivered);
                let others = Series::Events.of(counts).saturating_sub(delivered);
                (if delivered == 0 { others } else { 0 }, others)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use event::Counter::{BouncedHard, Opened};

    use super::*;

    #[test]
    fn shares_have_their_documented_definitions() {
        let counts = Counts::of([
            (Delivered, 190),
            (BouncedHard, 10),
            (LateBounces, 10),
            (AuthRefused, 4),
            (Throttled, 300),
            (Unclassified, 5),
            (Injected, 180),
            (Dropped, 20),
            (Suppressed, 12),
        ]);
        for (share, expected) in [
            (Share::AuthRefused, (4, 200)),
            (Share::Throttled, (300, 300)),
            (Share::Listed, (0, 200)),
            (Share::Suppressed, (12, 200)),
            (Share::Unclassified, (5, 20)),
            (Share::Gap, (0, 0)),
            (Share::DeliveriesMissing, (0, 220)),
        ] {
            assert_eq!(
                Measure::Share(share).fraction(&counts, View::Arrival),
                expected,
                "{share:?}"
            );
        }
        let opens = Counts::of([(Opened, 30)]);
        let missing = Measure::Share(Share::DeliveriesMissing);
        assert_eq!(missing.fraction(&opens, View::Arrival), (30, 30));
        let open = Measure::Rate(Metric::Open);
        assert_eq!(open.fraction(&(opens + Counts::of([(Delivered, 9)])), View::Arrival), (9, 9));
    }
}
