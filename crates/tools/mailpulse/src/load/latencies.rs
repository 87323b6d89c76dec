//! The distribution of latencies, in constant memory.

use std::time::Duration;

/// The upper limit of a bucket is by this factor higher than that of the one below.
const FACTOR: f64 = 1.01;
/// Up to about half a minute in microseconds; a request has ended by then.
const BUCKETS: usize = 1_750;

/// Counts in buckets that are 1 % wide.
#[derive(Debug)]
pub(super) struct Latencies {
    buckets: Vec<u64>,
    count: u64,
    max: Duration,
}

impl Default for Latencies {
    fn default() -> Self {
        Self { buckets: vec![0; BUCKETS], count: 0, max: Duration::ZERO }
    }
}

impl Latencies {
    pub(super) fn add(&mut self, latency: Duration) {
        #[expect(clippy::cast_precision_loss, reason = "buckets are 1 % wide")]
        let micros = latency.as_micros().max(1) as f64;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "the logarithm of at least 1 is not negative, and the index is limited below"
        )]
        let index = (micros.ln() / FACTOR.ln()) as usize;
        if let Some(bucket) = self.buckets.get_mut(index.min(BUCKETS - 1)) {
            *bucket += 1;
        }
        self.count += 1;
        self.max = self.max.max(latency);
    }

    /// Returns a quantile in milliseconds, at most 1 % too high. `-` without latencies.
    pub(super) fn millis(&self, quantile: f64) -> String {
        if self.count == 0 {
            return "-".to_owned();
        }
        #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
        let wanted = quantile * self.count as f64;
        let mut seen = 0;
        for (index, count) in self.buckets.iter().enumerate() {
            seen += count;
            #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
            if seen as f64 >= wanted && seen > 0 {
                #[expect(clippy::cast_precision_loss, reason = "an index of a few thousand")]
                let micros = FACTOR.powf(index as f64 + 1.0);
                return format!("{:.1}", (micros / 1000.0).min(self.max.as_secs_f64() * 1000.0));
            }
        }
        self.max_millis()
    }

    /// Returns the longest latency in milliseconds.
    pub(super) fn max_millis(&self) -> String {
        if self.count == 0 {
            "-".to_owned()
        } else {
            format!("{:.1}", self.max.as_secs_f64() * 1000.0)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_within_one_percent() {
        let mut latencies = Latencies::default();
        assert_eq!(latencies.millis(0.5), "-");
        for millis in 1..=1000 {
            latencies.add(Duration::from_millis(millis));
        }
        for (quantile, wanted) in [(0.5, 500.0), (0.99, 990.0)] {
            let found: f64 = latencies.millis(quantile).parse().unwrap();
            assert!((wanted..=wanted * 1.011).contains(&found), "{quantile}: {found}");
        }
        assert_eq!(latencies.max_millis(), "1000.0");
        latencies.add(Duration::from_secs(86_400));
        let beyond: f64 = latencies.millis(1.0).parse().unwrap();
        assert!(beyond > 30_000.0, "what is beyond the buckets is in the last one: {beyond}");
        assert_eq!(latencies.max_millis(), "86400000.0");
    }
}
