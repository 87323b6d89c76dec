/// A number from 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct Probability(f64);

#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[error("{0} is not a probability")]
pub struct ImpossibleProbability(f64);

impl Probability {
    pub const ZERO: Self = Self(0.0);
    pub const ONE: Self = Self(1.0);

    /// # Errors
    /// If the value is not from 0 to 1.
    pub fn new(value: f64) -> Result<Self, ImpossibleProbability> {
        if (0.0..=1.0).contains(&value) {
            Ok(Self(value))
        } else {
            Err(ImpossibleProbability(value))
        }
    }

    /// For results of formulas that are probabilities except for rounding.
    pub(crate) const fn rounded(value: f64) -> Self {
        Self(value.clamp(0.0, 1.0))
    }

    pub const fn get(self) -> f64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_numbers_from_0_to_1_are_probabilities() {
        for value in [0.0, 0.5, 1.0] {
            assert_eq!(Probability::new(value).unwrap().get(), value);
        }
        for value in [-0.1, 1.000_1, f64::NAN, f64::INFINITY] {
            assert!(Probability::new(value).is_err(), "{value}");
        }
    }
}
