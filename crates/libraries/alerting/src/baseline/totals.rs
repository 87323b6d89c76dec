use std::collections::BTreeMap;

use super::Series;
use super::bucket::{HourCounts, KEPT};
use crate::bounds::float;

/// The sums of all hours of each week, by series. They could be read from the buckets, but judgements ask for
/// them all the time.
#[derive(Debug, Clone, Default)]
pub(super) struct Totals(BTreeMap<i32, [u64; Series::COUNT]>);

impl Totals {
    /// Adds an hour. Weeks that no judgement asks for any more are dropped.
    pub(super) fn add(&mut self, hour: &HourCounts) {
        let sums = self.0.entry(hour.week).or_default();
        sums.iter_mut().zip(hour.counts).for_each(|(sum, count)| *sum += u64::from(count));
        while self.0.len() > KEPT {
            self.0.pop_first();
        }
    }

    /// Returns the sum over the four weeks before `week`.
    pub(super) fn last_weeks(&self, week: i32, series: Series) -> f64 {
        let weeks = self.0.range(week.saturating_sub(4)..week);
        float(weeks.map(|(_, sums)| sums[series as usize]).sum())
    }
}
