//! Counters and rates, written down again from docs/metrics.md.

use std::ops::{AddAssign, Index, IndexMut, Sub};

/// What a message counts for. The order is that of [`NAMES`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Counter {
    Injected,
    Delivered,
    Deferred,
    DeferredSettled,
    Deferrals,
    BouncedHard,
    BouncedSoft,
    BouncedBlock,
    BouncedUndetermined,
    AutoReplies,
    LateBounces,
    Dropped,
    Suppressed,
    Opened,
    Clicked,
    Engaged,
    MachineOpened,
    MachineClicked,
    Complained,
    Unsubscribed,
    DeliveredFbl,
    LateBouncesFbl,
    AuthRefused,
    Throttled,
    Listed,
    Unclassified,
}

/// The columns of the table `rates`.
pub(crate) const NAMES: [&str; 26] = [
    "injected",
    "delivered",
    "deferred",
    "deferred_settled",
    "deferrals",
    "bounced_hard",
    "bounced_soft",
    "bounced_block",
    "bounced_undetermined",
    "auto_replies",
    "late_bounces",
    "dropped",
    "suppressed",
    "opened",
    "clicked",
    "engaged",
    "machine_opened",
    "machine_clicked",
    "complained",
    "unsubscribed",
    "delivered_fbl",
    "late_bounces_fbl",
    "auth_refused",
    "throttled",
    "listed",
    "unclassified",
];

/// The names of rates. Their columns end in `_rate`.
pub(crate) const RATES: [&str; 16] = [
    "bounce",
    "hard_bounce",
    "soft_bounce",
    "block_bounce",
    "undetermined_bounce",
    "late_bounce",
    "deferral",
    "delivery",
    "complaint",
    "plain_complaint",
    "unsubscribe",
    "open",
    "open_with_machines",
    "click",
    "engagement",
    "injection_loss",
];

/// How messages are grouped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum View {
    /// By the time at which things happened.
    Arrival,
    /// By the hour in which the message was sent.
    Cohort,
}

/// The value of every counter.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts(pub(crate) [i64; NAMES.len()]);

impl Index<Counter> for Counts {
    type Output = i64;

    fn index(&self, counter: Counter) -> &i64 {
        &self.0[counter as usize]
    }
}

impl IndexMut<Counter> for Counts {
    fn index_mut(&mut self, counter: Counter) -> &mut i64 {
        &mut self.0[counter as usize]
    }
}

impl AddAssign<Counts> for Counts {
    fn add_assign(&mut self, other: Self) {
        self.0.iter_mut().zip(other.0).for_each(|(sum, more)| *sum += more);
    }
}

impl Sub for Counts {
    type Output = Self;

    fn sub(mut self, other: Self) -> Self {
        self.0.iter_mut().zip(other.0).for_each(|(rest, less)| *rest -= less);
        self
    }
}

impl Counts {
    pub(crate) fn is_zero(&self) -> bool {
        self.0.iter().all(|count| *count == 0)
    }

    pub(crate) fn bounced(&self) -> i64 {
        use Counter as C;
        [C::BouncedHard, C::BouncedSoft, C::BouncedBlock, C::BouncedUndetermined]
            .into_iter()
            .map(|counter| self[counter])
            .sum()
    }

    pub(crate) fn sent(&self) -> i64 {
        self[Counter::Delivered] + self.bounced()
    }

    pub(crate) fn accepted_by_recipient(&self, view: View) -> i64 {
        match view {
            View::Arrival => self[Counter::Delivered],
            View::Cohort => (self[Counter::Delivered] - self[Counter::LateBounces]).max(0),
        }
    }

    /// Returns the rates in the order of [`RATES`]. `None` means that the rate is not known.
    /// `has_deliveries` is false if the source has sent no `delivered` event for a day.
    pub(crate) fn rates(
        &self,
        view: View,
        has_deliveries: bool,
        injection_is_known: bool,
    ) -> [Option<f64>; RATES.len()] {
        use Counter as C;
        let (sent, accepted) = (self.sent(), self.accepted_by_recipient(view));
        let can_complain = match view {
            View::Arrival => self[C::DeliveredFbl],
            View::Cohort => self[C::DeliveredFbl] - self[C::LateBouncesFbl],
        };
        let judged = sent + self[C::Deferred] - self[C::DeferredSettled];
        let rate = |part: i64, whole: i64| {
            let is_known = whole > 0 && has_deliveries;
            is_known.then(|| (part as f64 / whole as f64).clamp(0.0, 1.0))
        };
        let lost = self[C::Injected] - judged;
        [
            rate(self.bounced(), sent),
            rate(self[C::BouncedHard], sent),
            rate(self[C::BouncedSoft], sent),
            rate(self[C::BouncedBlock], sent),
            rate(self[C::BouncedUndetermined], sent),
            rate(self[C::LateBounces], self[C::Delivered]),
            rate(self[C::Deferred], judged),
            rate(accepted, sent),
            rate(self[C::Complained], can_complain),
            rate(self[C::Complained], accepted),
            rate(self[C::Unsubscribed], accepted),
            rate(self[C::Opened], accepted),
            rate(self[C::Opened] + self[C::MachineOpened], accepted),
            rate(self[C::Clicked], accepted),
            rate(self[C::Engaged], accepted),
            rate(lost, self[C::Injected]).filter(|_| injection_is_known),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(values: &[(Counter, i64)]) -> Counts {
        let mut counts = Counts::default();
        values.iter().for_each(|&(counter, value)| counts[counter] = value);
        counts
    }

    #[test]
    fn the_last_counter_is_the_last_name() {
        assert_eq!(NAMES[Counter::Unclassified as usize], "unclassified");
        assert_eq!(NAMES[Counter::LateBounces as usize], "late_bounces");
    }

    #[test]
    fn late_bounces_belong_to_cohorts_only() {
        let counts = counts(&[
            (Counter::Delivered, 90),
            (Counter::BouncedHard, 10),
            (Counter::LateBounces, 9),
        ]);
        assert_eq!(counts.sent(), 100);
        let at = |view, name| {
            let number = RATES.iter().position(|rate| *rate == name).unwrap();
            counts.rates(view, true, true)[number]
        };
        assert_eq!(at(View::Arrival, "bounce"), Some(0.1));
        assert_eq!(at(View::Arrival, "delivery"), Some(0.9));
        assert_eq!(at(View::Cohort, "delivery"), Some(0.81));
        assert_eq!(at(View::Arrival, "complaint"), None, "nobody there can complain");
        assert!(counts.rates(View::Arrival, false, true).iter().all(Option::is_none));
    }
}
