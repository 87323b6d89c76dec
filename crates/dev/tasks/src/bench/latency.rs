//! Percentiles, computed from all samples.

use serde::Serialize;

/// Percentiles of durations, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Percentiles {
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) max: f64,
    /// The number of samples.
    pub(crate) samples: usize,
}

impl Percentiles {
    /// Computes the percentiles of samples in microseconds. Returns `None` without samples.
    pub(crate) fn of(mut micros: Vec<u32>) -> Option<Self> {
        micros.sort_unstable();
        let max = f64::from(*micros.last()?) / 1e3;
        // Nearest rank: the smallest sample that is not exceeded by `percent` of all samples.
        let rank = |percent: usize| (micros.len() * percent).div_ceil(100).max(1) - 1;
        let at = |percent| f64::from(micros[rank(percent)]) / 1e3;
        Some(Self { p50: at(50), p99: at(99), max, samples: micros.len() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_rank() {
        let found = Percentiles::of((1..=200).rev().map(|n| n * 1000).collect()).unwrap();
        assert_eq!(found, Percentiles { p50: 100.0, p99: 198.0, max: 200.0, samples: 200 });
        let single = Percentiles::of(vec![7000]).unwrap();
        assert_eq!((single.p50, single.p99), (7.0, 7.0));
        assert!(Percentiles::of(Vec::new()).is_none());
    }
}
