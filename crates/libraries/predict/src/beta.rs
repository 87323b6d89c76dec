use statrs::function::beta::{checked_beta_reg, ln_beta};

/// A beta distribution of probabilities: how much recipients differ.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Beta {
    a: f64,
    b: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[error("no beta distribution has the shapes {a} and {b}: both must be positive and finite")]
pub struct ImpossibleShape {
    a: f64,
    b: f64,
}

impl Beta {
    pub(crate) const UNIFORM: Self = Self { a: 1.0, b: 1.0 };

    /// # Errors
    /// If a shape is not positive and finite.
    pub fn new(a: f64, b: f64) -> Result<Self, ImpossibleShape> {
        let is_possible = |shape: f64| shape > 0.0 && shape.is_finite();
        if is_possible(a) && is_possible(b) {
            Ok(Self { a, b })
        } else {
            Err(ImpossibleShape { a, b })
        }
    }

    /// Returns the distribution with this mean, from 0 to 1, and this sum of both shapes.
    pub(crate) fn with_mean(mean: f64, concentration: f64) -> Option<Self> {
        Self::new(mean * concentration, (1.0 - mean) * concentration).ok()
    }

    pub const fn a(self) -> f64 {
        self.a
    }

    pub const fn b(self) -> f64 {
        self.b
    }

    pub fn mean(self) -> f64 {
        self.a / (self.a + self.b)
    }

    /// Returns the distribution of the probability after `yes` and `no` have been observed.
    pub(crate) fn after(self, yes: u32, no: u32) -> Self {
        Self { a: self.a + f64::from(yes), b: self.b + f64::from(no) }
    }

    /// Returns P(logit of X ≤ logit).
    fn cdf_of_logit(self, logit: f64) -> f64 {
        let regularized = |a, b, x| checked_beta_reg(a, b, x).unwrap_or(f64::NAN);
        // Near 1 a probability has no digits left for its distance from 1.
        if logit < 0.0 {
            regularized(self.a, self.b, 1.0 / (1.0 + (-logit).exp()))
        } else {
            1.0 - regularized(self.b, self.a, 1.0 / (1.0 + logit.exp()))
        }
    }

    /// Returns the probability below which X is with the probability `share`, from 0 to 1, with an error below 1e-9.
    ///
    /// The search halves an interval of logits, because a quantile of a distribution with a small shape can be far closer
    /// to 0 than numbers with an absolute error can tell.
    pub(crate) fn quantile(self, share: f64) -> f64 {
        /// The logits of probabilities that differ from 0 and 1 by 1e-17.
        const FARTHEST: f64 = 39.0;
        const STEPS: u32 = 40;
        let (mut low, mut high) = (-FARTHEST, FARTHEST);
        for _ in 0..STEPS {
            let middle = f64::midpoint(low, high);
            if self.cdf_of_logit(middle) < share {
                low = middle;
            } else {
                high = middle;
            }
        }
        1.0 / (1.0 + (-f64::midpoint(low, high)).exp())
    }

    /// Returns P(X > Y) of a probability X that is distributed like this and an independent Y like `other`.
    ///
    /// The integral of f_X F_Y has singularities at 0 and 1 if a shape is below 1. Over the logit of X it has none and
    /// decays exponentially on both sides, so that the trapezoidal rule converges exponentially (Trefethen and
    /// Weideman, SIAM Review 56, 2014). A test bounds the error by 1e-7.
    pub(crate) fn beats(self, other: Self) -> f64 {
        /// Beyond e to the power of this, the density is left out.
        const DECAY: f64 = 25.0;
        let width = |beta: Self| (1.0 / beta.a + 1.0 / beta.b).sqrt();
        // Narrower than both distributions, and than the strip in which the integrand is analytic.
        let step = (0.4 * width(self).min(width(other))).min(0.4);
        let scale = ln_beta(self.a, self.b);
        // The density of the logit, which is greatest at ln(a / b).
        let ln_density = |logit: f64| {
            let (ln_x, ln_rest) = (-(-logit).exp().ln_1p(), -logit.exp().ln_1p());
            self.a * ln_x + self.b * ln_rest - scale
        };
        let top = (self.a / self.b).ln();
        let least = ln_density(top) - DECAY;
        let mut sum = 0.0;
        let mut mass = 0.0;
        for direction in [-step, step] {
            let first = if direction < 0.0 { 0 } else { 1 };
            for index in first.. {
                let logit = top + direction * f64::from(index);
                let ln_density = ln_density(logit);
                if ln_density < least || !ln_density.is_finite() {
                    break;
                }
                let density = ln_density.exp();
                mass += density;
                sum += density * other.cdf_of_logit(logit);
            }
        }
        // The mass is 1 / step except for the error of the rule; dividing by it cancels the error of both sums.
        sum / mass
    }
}

/// ln Γ(a + k) − ln Γ(a) for every k up to a limit, as sums of logarithms.
///
/// For large shapes, both values of ln Γ are so large that their difference has no exact digits. A table is also faster,
/// because a likelihood needs many of these values.
#[derive(Debug)]
pub(crate) struct Rising(Vec<f64>);

impl Rising {
    pub(crate) fn new(a: f64, most: u32) -> Self {
        let mut sum = 0.0;
        let mut values = Vec::with_capacity(most as usize + 1);
        values.push(0.0);
        for k in 0..most {
            sum += (a + f64::from(k)).ln();
            values.push(sum);
        }
        Self(values)
    }

    fn at(&self, k: u32) -> f64 {
        self.0[k as usize]
    }
}

/// ln B(a + yes, b + no) − ln B(a, b): the log probability that a recipient of this distribution does something in
/// `yes` given ones of `yes + no` cases.
#[derive(Debug)]
pub(crate) struct LnBetaRatio {
    a: Rising,
    b: Rising,
    sum: Rising,
}

impl LnBetaRatio {
    /// `most` is the greatest value of `yes + no`.
    pub(crate) fn new(beta: Beta, most: u32) -> Self {
        Self {
            a: Rising::new(beta.a, most),
            b: Rising::new(beta.b, most),
            sum: Rising::new(beta.a + beta.b, most),
        }
    }

    pub(crate) fn at(&self, yes: u32, no: u32) -> f64 {
        self.a.at(yes) + self.b.at(no) - self.sum.at(yes + no)
    }
}

/// Returns ln Σ exp(terms) without overflow, also if all exponentials would be 0.
pub(crate) fn ln_sum_exp(terms: &[f64]) -> f64 {
    let greatest = terms.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if greatest == f64::NEG_INFINITY {
        return greatest;
    }
    greatest + terms.iter().map(|term| (term - greatest).exp()).sum::<f64>().ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn beta(a: f64, b: f64) -> Beta {
        Beta::new(a, b).unwrap()
    }

    #[test]
    fn only_positive_and_finite_shapes_make_a_distribution() {
        for (a, b) in [(0.0, 1.0), (1.0, -1.0), (f64::NAN, 1.0), (1.0, f64::INFINITY)] {
            assert!(Beta::new(a, b).is_err(), "{a} {b}");
        }
    }

    #[test]
    fn the_ratio_of_beta_functions_is_that_of_statrs_and_keeps_its_digits() {
        for (a, b) in [(0.3, 4.0), (1.2, 0.75), (20.0, 3.0)] {
            let ratio = LnBetaRatio::new(beta(a, b), 40);
            for (yes, no) in [(0, 0), (1, 0), (0, 7), (12, 28)] {
                let expected = ln_beta(a + f64::from(yes), b + f64::from(no)) - ln_beta(a, b);
                assert!((ratio.at(yes, no) - expected).abs() < 1e-10, "{a} {b} {yes} {no}");
            }
        }
        // With shapes this large, everyone has the same probability of 1/4.
        let ratio = LnBetaRatio::new(beta(1e12, 3e12), 10);
        let expected = 4.0 * 0.25_f64.ln() + 6.0 * 0.75_f64.ln();
        assert!((ratio.at(4, 6) - expected).abs() < 1e-9);
    }

    #[test]
    fn sums_of_tiny_numbers_do_not_vanish() {
        assert!((ln_sum_exp(&[-2000.0, -2000.0]) - (-2000.0 + 2_f64.ln())).abs() < 1e-12);
        assert_eq!(ln_sum_exp(&[f64::NEG_INFINITY, -3.0]), -3.0);
        assert_eq!(ln_sum_exp(&[]), f64::NEG_INFINITY);
    }

    #[test]
    fn quantiles_are_those_of_the_closed_forms_and_of_the_distribution() {
        for share in [0.1, 0.5, 0.9] {
            for shape in [0.02, 0.5, 1.0, 7.0, 300.0] {
                // P(X ≤ x) is 1 − (1 − x)^b if the first shape is 1, and x^a if the second is.
                let found = beta(1.0, shape).quantile(share);
                let expected = -((-share).ln_1p() / shape).exp_m1();
                assert!((found - expected).abs() < 1e-9, "1 {shape} {share}: {found} {expected}");
                let found = beta(shape, 1.0).quantile(share);
                let expected = share.powf(1.0 / shape);
                assert!((found - expected).abs() < 1e-9, "{shape} 1 {share}: {found} {expected}");
            }
            for (a, b) in [(0.3, 2.0), (4.0, 17.5), (90.0, 1000.0)] {
                let found = beta(a, b).quantile(share);
                let below = checked_beta_reg(a, b, found).unwrap();
                assert!((below - share).abs() < 1e-7, "{a} {b} {share}: {below}");
            }
        }
    }

    /// P(X > Y) where the first shape of X is a whole number and c and d are the shapes of Y, as a finite sum (Evan
    /// Miller, "Formulas for Bayesian A/B Testing", 2015).
    fn beats_exactly(whole: u32, b: f64, c: f64, d: f64) -> f64 {
        (0..whole)
            .map(|i| {
                let i = f64::from(i);
                (ln_beta(i + c, b + d) - (b + i).ln() - ln_beta(1.0 + i, b) - ln_beta(c, d)).exp()
            })
            .sum::<f64>()
    }

    #[test]
    fn the_probability_to_beat_is_that_of_the_finite_sum() {
        let mut worst: f64 = 0.0;
        for whole in [1, 2, 7, 60, 800] {
            for b in [0.05, 0.4, 1.0, 3.7, 45.0, 2000.0] {
                for (c, d) in [(0.04, 0.3), (0.5, 0.5), (1.0, 9.0), (12.0, 40.0), (300.0, 900.0)] {
                    let found = beta(f64::from(whole), b).beats(beta(c, d));
                    let expected = beats_exactly(whole, b, c, d);
                    worst = worst.max((found - expected).abs());
                }
            }
        }
        assert!(worst < 1e-7, "{worst}");
    }

    #[test]
    fn one_of_two_beats_the_other() {
        for (a, b) in [(0.03, 0.2), (0.7, 3.2), (4.4, 17.9), (100.5, 1000.25)] {
            for (c, d) in [(0.05, 0.1), (1.1, 2.2), (31.7, 99.0)] {
                let (x, y) = (beta(a, b), beta(c, d));
                let sum = x.beats(y) + y.beats(x);
                assert!((sum - 1.0).abs() < 1e-7, "{a} {b} {c} {d}: {sum}");
            }
            assert!((beta(a, b).beats(beta(a, b)) - 0.5).abs() < 1e-7, "{a} {b}");
        }
    }
}
