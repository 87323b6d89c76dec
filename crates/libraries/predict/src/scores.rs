//! How good predictions were, after what they were about has happened.

use crate::float;
use crate::odds::Interval;
use crate::probability::Probability;

/// A prediction, and what happened.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Forecast {
    pub probability: Probability,
    pub happened: bool,
}

/// The bins of the expected calibration error.
const BINS: u32 = 10;

/// A prediction of 0 or 1 that turns out wrong would have an infinite log loss. Predictions count as if they kept this
/// distance; the models never come so close.
const CLOSEST: f64 = 1e-15;

/// The mean errors of forecasts; 0 is best for all.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scores {
    /// The mean squared difference between the probability and what happened (0 or 1).
    pub brier: f64,
    /// The mean of −ln of the probability of what happened.
    pub log_loss: f64,
    /// The expected calibration error: the mean difference between the mean probability and the share that happened, of
    /// ten bins with the same number of forecasts.
    pub ece: f64,
}

/// Forecasts with similar probabilities; a point of a calibration plot.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Bin {
    /// The number of forecasts. It has a fraction where forecasts with the same probability fall into two bins.
    pub forecasts: f64,
    /// The mean probability.
    pub predicted: f64,
    /// The share that happened.
    pub happened: f64,
}

impl Scores {
    /// Returns `None` without forecasts.
    pub fn of(forecasts: &[Forecast]) -> Option<Self> {
        let number = float(u64::try_from(forecasts.len()).ok()?);
        if forecasts.is_empty() {
            return None;
        }
        let mean = |error: fn(&Forecast) -> f64| forecasts.iter().map(error).sum::<f64>() / number;
        let bins = Bin::of(forecasts);
        Some(Self {
            brier: mean(|it| (it.probability.get() - f64::from(u8::from(it.happened))).powi(2)),
            log_loss: mean(|it| {
                let probability = it.probability.get().clamp(CLOSEST, 1.0 - CLOSEST);
                -if it.happened { probability.ln() } else { (-probability).ln_1p() }
            }),
            ece: bins.iter().map(|bin| bin.forecasts * bin.error()).sum::<f64>() / number,
        })
    }
}

impl Bin {
    /// Divides forecasts into ten bins of the same number, in ascending order of probability. Forecasts with the same
    /// probability share what happened to them, so that the result does not depend on their order.
    pub fn of(forecasts: &[Forecast]) -> Vec<Self> {
        let mut sorted = forecasts.to_vec();
        sorted.sort_by(|left, right| left.probability.get().total_cmp(&right.probability.get()));
        let size = float(sorted.len() as u64) / f64::from(BINS);
        let (mut bins, mut bin) = (Vec::new(), Self::default());
        for equal in sorted.chunk_by(|left, right| left.probability == right.probability) {
            let Some(first) = equal.first() else { continue };
            let happened = equal.iter().filter(|forecast| forecast.happened).count();
            let mut left = float(equal.len() as u64);
            let share = float(happened as u64) / left;
            while left > 0.0 {
                // The last bin takes what rounding leaves.
                let is_last = bins.len() as u32 + 1 == BINS;
                let part = if is_last { left } else { left.min(size - bin.forecasts) };
                bin.add(part, first.probability.get(), share);
                left -= part;
                if !is_last && bin.forecasts >= size {
                    bins.push(std::mem::take(&mut bin));
                }
            }
        }
        if bin.forecasts > 0.0 {
            bins.push(bin);
        }
        bins
    }

    fn add(&mut self, forecasts: f64, predicted: f64, happened: f64) {
        let weight = forecasts / (self.forecasts + forecasts);
        self.forecasts += forecasts;
        self.predicted += weight * (predicted - self.predicted);
        self.happened += weight * (happened - self.happened);
    }

    fn error(&self) -> f64 {
        (self.predicted - self.happened).abs()
    }
}

/// Returns the share of the intervals that contain what happened; `None` without intervals.
pub fn coverage(intervals: &[(Interval, u32)]) -> Option<f64> {
    let hits = intervals.iter().filter(|(interval, number)| interval.contains(*number)).count();
    (!intervals.is_empty()).then(|| float(hits as u64) / float(intervals.len() as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn forecast(probability: f64, happened: bool) -> Forecast {
        Forecast { probability: Probability::new(probability).unwrap(), happened }
    }

    fn is_near(left: f64, right: f64) -> bool {
        (left - right).abs() < 1e-12
    }

    #[test]
    fn the_scores_of_five_forecasts_are_those_computed_by_hand() {
        let forecasts = [(0.9, true), (0.8, false), (0.1, false), (0.5, true), (0.3, false)]
            .map(|(probability, happened)| forecast(probability, happened));
        let scores = Scores::of(&forecasts).unwrap();
        assert!(is_near(scores.brier, (0.01 + 0.64 + 0.01 + 0.25 + 0.09) / 5.0), "{scores:?}");
        let losses = [0.9_f64, 0.2, 0.9, 0.5, 0.7].map(|probability| -probability.ln());
        assert!(is_near(scores.log_loss, losses.iter().sum::<f64>() / 5.0), "{scores:?}");
        // Each forecast fills two bins.
        assert!(is_near(scores.ece, (0.1 + 0.8 + 0.1 + 0.5 + 0.3) / 5.0), "{scores:?}");
        assert_eq!(Scores::of(&[]), None);
    }

    #[test]
    fn certainty_that_is_wrong_has_a_large_but_finite_loss() {
        let scores = Scores::of(&[forecast(0.0, true), forecast(1.0, false)]).unwrap();
        assert!((34.0..36.0).contains(&scores.log_loss), "{scores:?}");
    }

    #[test]
    fn bins_have_equal_counts_and_do_not_depend_on_the_order() {
        let mut forecasts: Vec<Forecast> =
            (0..95).map(|index| forecast(f64::from(index / 7) / 20.0, index % 3 == 0)).collect();
        let bins = Bin::of(&forecasts);
        assert_eq!(bins.len(), 10);
        assert!(bins.iter().all(|bin| (bin.forecasts - 9.5).abs() < 1e-9), "{bins:?}");
        assert!(bins.is_sorted_by(|left, right| left.predicted < right.predicted), "{bins:?}");
        forecasts.reverse();
        let reversed = Bin::of(&forecasts);
        for (left, right) in bins.iter().zip(&reversed) {
            assert!(is_near(left.happened, right.happened), "{left:?} {right:?}");
        }
    }

    #[test]
    fn forecasts_that_are_all_alike_are_calibrated_if_their_mean_is() {
        let forecasts: Vec<_> = (0..100).map(|index| forecast(0.25, index < 25)).collect();
        let scores = Scores::of(&forecasts).unwrap();
        assert!(scores.ece < 1e-12, "{scores:?}");
    }
}
