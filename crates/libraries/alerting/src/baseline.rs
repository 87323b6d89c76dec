//! What is usual for a scope at an hour of the week.
//!
//! A baseline has 168 buckets, one for each hour of the week in the zone of the source. A bucket keeps the
//! counts of this hour in the last four weeks. The event rate λ of an hour follows a gamma distribution:
//! Gamma(α, β) with α = α₀ + Σ wᵢcᵢ and β = β₀ + Σ wᵢ, where cᵢ is the count i weeks ago, wᵢ falls from 1 to
//! 0.25, and the prior (α₀, β₀) has the mean of the whole scope. Then no event comes for the time t with the
//! probability (β / (β + t))^α, and k or more come with that of a negative binomial distribution
//! (Gelman and others, Bayesian Data Analysis, 3rd edition, section 2.6).

mod bucket;
mod engagement;
mod totals;
mod zone;

use std::collections::{BTreeMap, BTreeSet};

use window::Counts;

pub use bucket::{Bucket, Series};
pub use engagement::{Engagement, EngagementHistory};
pub use zone::{UnknownZone, Zone};

use crate::bounds::{beta_cdf, float};
use bucket::HourCounts;
use totals::Totals;

/// In microseconds.
pub(crate) const HOUR: i64 = 3_600_000_000;

/// The weight of the prior, in hours.
const PRIOR_HOURS: f64 = 0.5;

/// The greatest shape α. Mail comes in bursts, so the rate of an hour is never known better than to 1 / √20.
const MAX_SHAPE: f64 = 20.0;

/// No silence is shorter, in microseconds.
pub(crate) const SHORTEST_SILENCE: i64 = 5 * 60_000_000;

/// An hour is usual if it was active in this many of the last four weeks.
const ACTIVE_WEEKS: usize = 3;

/// How far ahead a silence is foreseen, in hours.
pub(crate) const HORIZON: i64 = 7 * 24;

/// The messages of weight of the scope's own share when the share of an hour is estimated.
const SHARE_PRIOR: f64 = 100.0;

/// The smallest number of messages in four weeks that makes a share usual.
const SHARE_LEAST: u64 = 1000;

/// How long after its last hour a baseline says nothing any more, in microseconds: all of its weeks have passed.
const EXPIRES: i64 = 5 * 7 * 24 * HOUR;

/// The gamma distribution of the rate of an hour, in events an hour.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Gamma {
    /// The shape.
    pub alpha: f64,
    /// The rate parameter, in hours.
    pub beta: f64,
}

impl Gamma {
    /// Returns the natural logarithm of the probability of no event for this many hours.
    fn ln_silence(self, hours: f64) -> f64 {
        -self.alpha * (hours / self.beta).ln_1p()
    }

    /// Returns the hours of silence with this logarithm of their probability.
    fn hours_of_silence(self, ln_probability: f64) -> f64 {
        self.beta * (-ln_probability / self.alpha).exp_m1()
    }

    /// Returns the probability of `k` or more events in one hour.
    pub fn tail(self, k: u64) -> f64 {
        if k == 0 {
            return 1.0;
        }
        beta_cdf(float(k), self.alpha, 1.0 / (1.0 + self.beta)).unwrap_or(1.0)
    }

    /// Returns the expected number of events in one hour.
    pub fn mean(self) -> f64 {
        self.alpha / self.beta
    }
}

/// What is usual for one scope.
#[derive(Debug, Clone)]
pub struct Baseline {
    zone: Zone,
    /// By hour of the week. Hours in which nothing ever happened are missing.
    buckets: BTreeMap<u8, Bucket>,
    /// The sums of the buckets.
    totals: Totals,
    /// The last hour that was observed.
    observed: Option<i64>,
    /// Engagement within two hours of the sending, by weekday.
    engagement: EngagementHistory,
}

impl Baseline {
    /// Returns a baseline without history. Nothing is usual yet.
    pub fn new(zone: Zone) -> Self {
        Self {
            zone,
            buckets: BTreeMap::new(),
            totals: Totals::default(),
            observed: None,
            engagement: EngagementHistory::default(),
        }
    }

    /// Restores a baseline from its buckets, by hour of the week, and its engagement. If the buckets are those of
    /// another zone, their hours are put where they belong in this one. The second value has the numbers of the
    /// buckets that differ from the stored ones.
    pub fn restore(
        zone: Zone,
        stored: impl IntoIterator<Item = (u8, Bucket)>,
        engagement: EngagementHistory,
    ) -> (Self, BTreeSet<u8>) {
        let stored: BTreeMap<u8, Bucket> = stored.into_iter().collect();
        let is_at_its_place = |(index, bucket): (&u8, &Bucket)| {
            bucket.hours().all(|hour| zone.place(hour.start()) == (hour.week, *index))
        };
        let mut baseline = Self { engagement, ..Self::new(zone.clone()) };
        let mut changed = BTreeSet::new();
        if stored.iter().all(is_at_its_place) {
            baseline.buckets = stored;
        } else {
            let mut hours: Vec<HourCounts> =
                stored.values().flat_map(Bucket::hours).copied().collect();
            hours.sort_unstable_by_key(HourCounts::start);
            for mut hour in hours {
                let (week, index) = zone.place(hour.start());
                hour.week = week;
                baseline.buckets.entry(index).or_default().add(hour);
            }
            let numbers = stored.keys().chain(baseline.buckets.keys());
            changed =
                numbers.copied().filter(|it| stored.get(it) != baseline.buckets.get(it)).collect();
        }
        for hour in baseline.buckets.values().flat_map(Bucket::hours) {
            baseline.totals.add(hour);
        }
        baseline.observed = baseline.buckets.values().filter_map(Bucket::observed).max();
        (baseline, changed)
    }

    /// Adds a full hour of the clock that starts at `hour` (UTC microseconds). `longest_gap` is the longest
    /// time within the hour without an event, in microseconds; 0 if it is not known.
    ///
    /// Returns the number of the bucket that has changed, or `None` if the hour, or a later one, was observed
    /// before: the same input read again changes nothing.
    pub fn observe(&mut self, hour: i64, counts: &Counts, longest_gap: i64) -> Option<u8> {
        if self.observed.is_some_and(|observed| hour <= observed) || counts.is_zero() {
            return None;
        }
        self.observed = Some(hour);
        let (week, index) = self.zone.place(hour);
        let hour = HourCounts::of(hour, week, counts, longest_gap);
        self.totals.add(&hour);
        self.buckets.entry(index).or_default().add(hour);
        Some(index)
    }

    /// Returns the bucket of an hour of the week, as stored in the changelog.
    pub fn bucket(&self, index: u8) -> Option<&Bucket> {
        self.buckets.get(&index)
    }

    /// Returns the zone of the hours.
    pub const fn zone(&self) -> &Zone {
        &self.zone
    }

    /// Returns true if nothing was observed.
    pub fn is_empty(&self) -> bool {
        self.buckets.is_empty() && self.engagement.latest().is_none()
    }

    /// Returns when the baseline says nothing any more unless another hour is observed, in UTC microseconds.
    pub fn expires(&self) -> Option<i64> {
        let latest = self.observed.into_iter().chain(self.engagement.latest()).max()?;
        Some(latest.saturating_add(EXPIRES))
    }

    /// Returns the estimated memory, in bytes.
    pub fn estimated_bytes(&self) -> usize {
        let buckets = self.buckets.len() * size_of::<(u8, Bucket)>();
        let hours: usize = self.buckets.values().map(|bucket| bucket.hours().len()).sum();
        size_of::<Self>()
            + buckets
            + hours * size_of::<HourCounts>()
            + self.engagement.estimated_bytes()
    }

    /// Returns the buckets by hour of the week.
    pub fn buckets(&self) -> impl Iterator<Item = (u8, &Bucket)> {
        self.buckets.iter().map(|(index, bucket)| (*index, bucket))
    }

    /// Adds the messages that were sent in the hour that starts at `hour`, with what happened to them within
    /// two hours after its end. Returns whether the history has changed.
    pub fn observe_cohort(&mut self, hour: i64, counts: &Counts) -> bool {
        let (week, index) = self.zone.place(hour);
        self.engagement.observe(hour, week, index / 24, counts)
    }

    /// Returns the history of engagement, as stored in the changelog.
    pub const fn engagement_history(&self) -> &EngagementHistory {
        &self.engagement
    }

    /// Returns the engagement of the last 24 hours of sending before `end`, and what is usual on this
    /// weekday.
    pub fn engagement(&self, end: i64) -> Option<(Engagement, Engagement)> {
        let (week, index) = self.zone.place(end - HOUR);
        self.engagement.compare(end, week, index / 24)
    }

    /// Returns the engagement of the last 24 hours of sending before `end`.
    pub fn recent_engagement(&self, end: i64) -> Engagement {
        self.engagement.recent(end)
    }

    /// Returns the distribution of the rate of a series in the hour that contains `at`, or `None` if the scope
    /// is not usually active then.
    pub fn usual(&self, series: Series, at: i64) -> Option<Gamma> {
        let (week, index) = self.zone.place(at);
        let bucket = self.buckets.get(&index)?;
        let counts = bucket.last_weeks(week, series);
        if counts.iter().filter(|count| **count > 0.0).count() < ACTIVE_WEEKS {
            return None;
        }
        Some(self.gamma(series, week, &counts, &WEIGHTS))
    }

    /// Returns the distribution of the rate of a series at the hour of the day that contains `at`, from the
    /// same hour of the seven days before, and the sum of their counts. `None` if the scope is younger than
    /// that.
    pub fn usual_at_hour(&self, series: Series, at: i64) -> Option<(Gamma, u64)> {
        let days: Vec<f64> = (1..=7).map(|day| self.count(series, at - day * 24 * HOUR)).collect();
        let oldest = self.buckets.values().filter_map(Bucket::oldest).min()?;
        let (week, _) = self.zone.place(at);
        let days: [f64; 7] = days.try_into().ok().filter(|_| oldest <= at - 7 * 24 * HOUR)?;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a sum of counts"
        )]
        let sum = days.iter().sum::<f64>() as u64;
        Some((self.gamma(series, week, &days, &[1.0; 7]), sum))
    }

    /// Returns the share of two series that is usual at this hour of the week, shrunk to the scope's own share
    /// over four weeks. `None` without enough history.
    pub fn usual_share(&self, part: Series, whole: Series, at: i64) -> Option<f64> {
        let (week, index) = self.zone.place(at);
        let all = |series| self.totals.last_weeks(week, series);
        let (all_part, all_whole) = (all(part), all(whole));
        if all_whole < float(SHARE_LEAST) {
            return None;
        }
        let here = |series| {
            let bucket = self.buckets.get(&index);
            bucket.map_or(0.0, |it| it.last_weeks(week, series).iter().sum::<f64>())
        };
        let mean = all_part / all_whole;
        Some((here(part) + mean * SHARE_PRIOR) / (here(whole) + SHARE_PRIOR))
    }

    /// Returns the natural logarithm of the probability that no event of the series came since `last` until
    /// `now`. In each hour, the longest gap that was usual does not count. 0 (certain) if no usually active
    /// hour is in between.
    pub fn ln_silence(&self, series: Series, last: i64, now: i64) -> f64 {
        let segments = self.segments(series, last, now);
        segments.map(|(_, gamma, hours)| gamma.ln_silence(hours)).sum()
    }

    /// Returns when the probability of silence since `last` falls below `probability` if no event comes, or
    /// `None` if it does not within a week.
    pub fn silence_at(&self, series: Series, last: i64, probability: f64) -> Option<i64> {
        let (mut left, until) = (probability.ln(), last.saturating_add(HORIZON * HOUR));
        for (start, gamma, hours) in self.segments(series, last, until) {
            let here = gamma.ln_silence(hours);
            if here < left {
                #[expect(clippy::cast_possible_truncation, reason = "at most an hour")]
                let within = (gamma.hours_of_silence(left) * float(HOUR.cast_unsigned())) as i64;
                return Some((start + within + 1).max(last + SHORTEST_SILENCE));
            }
            left -= here;
        }
        None
    }

    /// Returns the parts of [from, to) that lie in usually active hours: their start without the usual gap, the
    /// distribution, and how many hours they last.
    fn segments(
        &self,
        series: Series,
        from: i64,
        to: i64,
    ) -> impl Iterator<Item = (i64, Gamma, f64)> {
        let to = to.min(from.saturating_add(HORIZON * HOUR));
        let first = from.div_euclid(HOUR);
        (first..=to.div_euclid(HOUR)).filter_map(move |hour| {
            // Hours are observed in the bucket of their start.
            let gamma = self.usual(series, hour * HOUR)?;
            let (week, index) = self.zone.place(hour * HOUR);
            let gap = self.buckets.get(&index).map_or(0, |it| it.longest_gap(week));
            let start = (hour * HOUR).max(from).saturating_add(gap);
            let end = ((hour + 1) * HOUR).min(to);
            (start < end).then(|| (start, gamma, hours(end - start)))
        })
    }

    fn count(&self, series: Series, at: i64) -> f64 {
        let (week, index) = self.zone.place(at);
        self.buckets.get(&index).map_or(0.0, |bucket| bucket.count(week, series))
    }

    /// Returns the distribution from counts of hours and their weights.
    fn gamma(&self, series: Series, week: i32, counts: &[f64], weights: &[f64]) -> Gamma {
        let hours = f64::from(Zone::HOURS) * float(WEIGHTS.len() as u64);
        let mean_of_all = (self.totals.last_weeks(week, series) / hours).max(1.0 / hours);
        let weight: f64 = weights.iter().sum();
        let sum: f64 = counts.iter().zip(weights).map(|(count, weight)| count * weight).sum();
        let (alpha, beta) = (mean_of_all * PRIOR_HOURS + sum, PRIOR_HOURS + weight);
        let mean = alpha / beta;
        // If the weeks differ more than by chance, the rate is known less well (method of moments).
        let squares =
            counts.iter().zip(weights).map(|(count, weight)| weight * (count - mean).powi(2));
        let excess = squares.sum::<f64>() / weight - mean;
        let shape = if excess > 0.0 { alpha.min(mean * mean / excess) } else { alpha };
        let shape = shape.min(MAX_SHAPE);
        Gamma { alpha: shape, beta: shape / mean }
    }
}

/// The weights of the last four weeks, the latest first.
const WEIGHTS: [f64; 4] = [1.0, 0.75, 0.5, 0.25];

#[expect(clippy::cast_precision_loss, reason = "at most a week of microseconds")]
fn hours(micros: i64) -> f64 {
    micros as f64 / HOUR as f64
}

#[cfg(test)]
mod tests;
