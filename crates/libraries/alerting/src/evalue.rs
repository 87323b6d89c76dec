//! A test that may be repeated after every message: a beta-mixture e-value.
//!
//! The hypothesis is that each message bounces with a probability of at most `p0`, whatever happened before.
//! For a single alternative p > p0, the likelihood ratio (p / p0)^k · ((1 − p) / (1 − p0))^(n − k) is a
//! supermartingale under the hypothesis: its expectation grows with the true rate and is 1 at p0. The e-value
//! is its average over p with the density Beta([`A`], [`B`]), cut off below p0, so it is a supermartingale,
//! too. By Ville's inequality it ever reaches 1000 with a probability of at most 1/1000, however often it is
//! looked at (Ville 1939; Robbins, Ann. Math. Statist. 41, 1970; Ramdas and others, Statist. Sci. 38, 2023).
//! Repeated bounds at 95 % would stop a quarter of the healthy campaigns.
//!
//! The e-value depends on the cumulative counts alone, not on the chunks in which they arrived. If counts are
//! corrected downwards, it falls. An episode that it has opened then recovers as any other. The guarantee
//! holds for counts of messages in the order of sending: if bounces arrive sooner than deliveries, the first
//! counts of a campaign are too bad. `settle` of a rule is made for that.

use statrs::function::beta::ln_beta;

use crate::bounds::{beta_cdf, float};

/// The density of alternatives. Beta(1, 9) has the mean 10 %, and half of it is below 7.4 %.
const A: f64 = 1.0;
const B: f64 = 9.0;

/// Returns the natural logarithm of the e-value for `k` bounces of `n` messages against a rate of at most `p0`.
/// It is −∞ if there is no evidence at all.
pub fn ln_e_value(k: u64, n: u64, p0: f64) -> f64 {
    let k = float(k.min(n));
    let rest = float(n) - k;
    let above = |a: f64, b: f64| beta_cdf(b, a, 1.0 - p0).map_or(f64::NEG_INFINITY, f64::ln);
    let posterior = ln_beta(A + k, B + rest) + above(A + k, B + rest);
    let prior = ln_beta(A, B) + above(A, B);
    let e = posterior - prior - k * p0.ln() - rest * (-p0).ln_1p();
    if e.is_nan() { f64::NEG_INFINITY } else { e }
}

/// Returns whether the e-value has reached 1 / `alpha`: the evidence that the true rate is above `p0`. The
/// probability of ever returning true at a true rate of at most `p0` is at most `alpha`.
pub fn stops(k: u64, n: u64, p0: f64, alpha: f64) -> bool {
    float(k) > p0 * float(n) && ln_e_value(k, n, p0) >= -alpha.ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_e_value_is_the_average_likelihood_ratio() {
        // The average by Simpson's rule over 20,000 steps.
        for (k, n, p0) in
            [(0, 0, 0.02_f64), (1, 1, 0.02), (9, 100, 0.02), (3, 400, 0.02), (80, 500, 0.05)]
        {
            let (steps, mut sum, mut weight) = (20_000, 0.0, 0.0);
            for step in 0..=steps {
                let p = p0 + (1.0 - p0) * f64::from(step) / f64::from(steps);
                let simpson = match step {
                    0 => 1.0,
                    _ if step == steps => 1.0,
                    _ if step % 2 == 1 => 4.0,
                    _ => 2.0,
                };
                let density = p.powf(A - 1.0) * (1.0 - p).powf(B - 1.0);
                let rest = i32::try_from(n - k).unwrap();
                let ratio =
                    (p / p0).powi(i32::try_from(k).unwrap()) * ((1.0 - p) / (1.0 - p0)).powi(rest);
                sum += simpson * density * ratio;
                weight += simpson * density;
            }
            let expected = (sum / weight).ln();
            let ours = ln_e_value(k, n, p0);
            assert!((ours - expected).abs() < 1e-6, "{k} of {n}: {ours}, not {expected}");
        }
    }

    #[test]
    fn more_bounces_are_more_evidence() {
        let values: Vec<f64> = (0..50).map(|k| ln_e_value(k, 500, 0.02)).collect();
        assert!(values.is_sorted());
        assert!(stops(60, 500, 0.02, 0.001) && !stops(12, 500, 0.02, 0.001));
        assert!(!stops(0, 0, 0.02, 0.001) && !stops(0, 5_000_000, 0.02, 0.001));
        assert!(stops(300_000, 5_000_000, 0.02, 0.001));
        assert!(stops(7, 5, 0.02, 0.001), "counts that exceed the denominator do not panic");
    }
}
