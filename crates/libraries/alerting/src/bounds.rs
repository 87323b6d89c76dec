//! Exact one-sided bounds for a rate (Clopper and Pearson, Biometrika 26, 1934).
//!
//! Of `n` messages, `k` have bounced. The lower bound at the error rate `alpha` is the greatest rate at which
//! `k` or more bounces have a probability of at most `alpha`. It is exact at small counts, where Wilson's
//! interval is too eager: 3 of 500 give 0.030 % at `alpha` = 0.0005, Wilson 0.11 %.
//!
//! Rules compare a bound with a threshold at every commit, for every scope. [`is_above`] and [`is_below`]
//! do so with one value of the incomplete beta function, and with none if the rate itself is on the good
//! side. The bound is only computed for texts.

use statrs::function::beta::checked_beta_reg;

/// The error rate of rules that name none. The true rate of a healthy scope is beyond the bound in one of
/// 2,000 independent windows.
pub const ALPHA: f64 = 0.000_5;

/// The steps of the search for a bound: enough for all digits of a number of 64 bits.
const STEPS: u32 = 64;

/// Returns the regularized incomplete beta function I_x(a, b). `None` never happens for the arguments of
/// this module; then the evidence counts as none.
///
/// Compared with scipy for counts up to 5,000,000, the relative error is below 3e-8.
pub(crate) fn beta_cdf(a: f64, b: f64, x: f64) -> Option<f64> {
    checked_beta_reg(a, b, x.clamp(0.0, 1.0)).ok().filter(|value| value.is_finite())
}

#[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
pub(crate) const fn float(count: u64) -> f64 {
    count as f64
}

/// Returns P(X ≥ k) for n messages of which each counts with the probability `rate`.
fn upper_tail(k: u64, n: u64, rate: f64) -> f64 {
    match k {
        0 => 1.0,
        _ if k > n => 0.0,
        _ => beta_cdf(float(k), float(n - k) + 1.0, rate).unwrap_or(1.0),
    }
}

/// Returns P(X ≤ k) for n messages of which each counts with the probability `rate`.
fn lower_tail(k: u64, n: u64, rate: f64) -> f64 {
    if k >= n {
        return 1.0;
    }
    beta_cdf(float(n - k), float(k) + 1.0, 1.0 - rate).unwrap_or(1.0)
}

/// Returns whether the lower bound of the rate `k / n` is above `threshold`: the evidence that the true rate
/// is.
pub fn is_above(k: u64, n: u64, threshold: f64, alpha: f64) -> bool {
    float(k) > threshold * float(n) && upper_tail(k.min(n), n, threshold) < alpha
}

/// Returns whether the upper bound of the rate `k / n` is below `threshold`: the evidence that the true rate
/// is.
pub fn is_below(k: u64, n: u64, threshold: f64, alpha: f64) -> bool {
    float(k) < threshold * float(n) && lower_tail(k, n, threshold) < alpha
}

/// Returns the lower bound of the rate `k / n`, from 0 to 1. With the probability 1 − `alpha`, the true rate is
/// not below it.
pub fn lower_bound(k: u64, n: u64, alpha: f64) -> f64 {
    let k = k.min(n);
    if k == 0 {
        return 0.0;
    }
    search(0.0, float(k) / float(n), |rate| upper_tail(k, n, rate) < alpha)
}

/// Returns the upper bound of the rate `k / n`, from 0 to 1. With the probability 1 − `alpha`, the true rate is
/// not above it.
pub fn upper_bound(k: u64, n: u64, alpha: f64) -> f64 {
    if k >= n {
        return 1.0;
    }
    search(1.0, float(k) / float(n), |rate| lower_tail(k, n, rate) < alpha)
}

/// Returns the rate nearest to `to` at which `is_improbable`, by bisection. It is at `from` and not at `to`.
fn search(mut from: f64, mut to: f64, is_improbable: impl Fn(f64) -> bool) -> f64 {
    for _ in 0..STEPS {
        let middle = f64::midpoint(from, to);
        if is_improbable(middle) { from = middle } else { to = middle }
    }
    from
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// From `scipy.special.betaincinv(k, n - k + 1, alpha)` and `betaincinv(k + 1, n - k, 1 - alpha)`.
    const SCIPY: &[(u64, u64, f64, f64)] = &[
        (3, 500, 2.999631339844e-04, 2.756512112531e-02),
        (1, 5, 1.000200060021e-04, 8.978457064588e-01),
        (5, 40, 1.651929813677e-02, 3.724743753440e-01),
        (82, 501, 1.136500096547e-01, 2.240126966242e-01),
        (1, 1_000_000, 5.001250415572e-10, 9.998632510311e-06),
        (15, 200, 2.761160389503e-02, 1.554577366205e-01),
        (990, 1_000, 9.749365668584e-01, 9.972924244008e-01),
        (4_600, 200_000, 2.191254061046e-02, 2.412359644373e-02),
        (57_600, 2_880_000, 1.972963025107e-02, 2.027288928530e-02),
        (30, 10_000_000, 1.517024821970e-06, 5.264466987665e-06),
        (2_500_000, 5_000_000, 4.992641162899e-01, 5.007358837101e-01),
    ];

    #[test]
    fn bounds_equal_those_of_scipy() {
        for &(k, n, lower, upper) in SCIPY {
            let close = |ours: f64, theirs: f64| (ours / theirs - 1.0).abs() < 1e-8;
            let (low, high) = (lower_bound(k, n, ALPHA), upper_bound(k, n, ALPHA));
            assert!(close(low, lower), "{k} of {n}: {low:e}, not {lower:e}");
            assert!(close(high, upper), "{k} of {n}: {high:e}, not {upper:e}");
        }
    }

    #[test]
    fn at_the_ends_bounds_are_0_and_1() {
        assert_eq!((lower_bound(0, 0, ALPHA), upper_bound(0, 0, ALPHA)), (0.0, 1.0));
        assert_eq!((lower_bound(0, 9, ALPHA), upper_bound(9, 9, ALPHA)), (0.0, 1.0));
        assert!((upper_bound(0, 10, ALPHA) - (1.0 - ALPHA.powf(0.1))).abs() < 1e-12);
        assert!((lower_bound(10, 10, ALPHA) - ALPHA.powf(0.1)).abs() < 1e-12);
        // Late events can make the numerator greater than the denominator.
        assert_eq!(lower_bound(12, 10, ALPHA), lower_bound(10, 10, ALPHA));
    }

    #[test]
    fn one_bounce_of_five_is_no_evidence() {
        assert!(!is_above(1, 5, 0.02, ALPHA) && !is_above(5, 40, 0.05, ALPHA));
        assert!(is_above(82, 501, 0.1, ALPHA) && !is_above(82, 501, 0.12, ALPHA));
        assert!(is_below(0, 467, 0.1, ALPHA) && !is_below(0, 5, 0.1, ALPHA));
        assert!(!is_above(0, 0, 0.0, ALPHA) && !is_below(0, 0, 1.0, ALPHA));
    }

    /// The inverse function of the crate does not end for these counts.
    #[test]
    fn bounds_of_millions_are_found() {
        let lower = lower_bound(1_500_000, 3_000_000, ALPHA);
        assert!((lower - 0.499_049_941).abs() < 1e-8, "{lower}");
    }

    proptest! {
        #[test]
        fn the_tests_agree_with_the_bounds(
            n in 0..5000_u64,
            share in 0.0..1.0_f64,
            threshold in 0.0..1.0_f64,
            alpha in 1e-6..0.5_f64,
        ) {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
            let k = (float(n) * share) as u64;
            let (lower, upper) = (lower_bound(k, n, alpha), upper_bound(k, n, alpha));
            if (lower - threshold).abs() > 1e-9 && (upper - threshold).abs() > 1e-9 {
                prop_assert_eq!(is_above(k, n, threshold, alpha), lower > threshold);
                prop_assert_eq!(is_below(k, n, threshold, alpha), upper < threshold);
            }
        }
    }
}
