//! Samples of recipients. Models are fitted to a sample, and predictions are scored on one, so that the time and the memory
//! of a run do not grow with the number of recipients. A sample is always the same recipients.

/// About this many recipients are in a sample. `cargo xtask predict` shows how good predictions are that were fitted to
/// this number.
pub(super) const RECIPIENTS: u64 = 100_000;

/// One of how many recipients is in a sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sample(u64);

impl Sample {
    /// Returns the sample that has about [`RECIPIENTS`] of this number of recipients.
    pub(super) fn of(recipients: u64) -> Self {
        Self(recipients.div_ceil(RECIPIENTS).max(1))
    }

    /// Returns the condition that a recipient is in the sample.
    pub(super) fn condition(self) -> String {
        format!("cityHash64(recipient) % {} = 0", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_sources_are_read_as_a_whole() {
        for (recipients, one_of) in [(0, 1), (1, 1), (100_000, 1), (100_001, 2), (1_000_000, 10)] {
            assert_eq!(Sample::of(recipients), Sample(one_of), "{recipients}");
        }
    }
}
