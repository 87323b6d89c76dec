use serde::{Deserialize, Serialize};

/// When the provider says the event happened: microseconds since the Unix epoch, UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct OccurredAt(pub i64);

/// When the ingress had read the request: microseconds since the Unix epoch, UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ReceivedAt(pub i64);

impl OccurredAt {
    /// Microseconds since the Unix epoch.
    pub const fn micros(self) -> i64 {
        self.0
    }

    /// The moment that may move an event-time clock: never later than the moment of receipt, so
    /// that one event from the future cannot make every other one late.
    pub fn not_after(self, received_at: ReceivedAt) -> Self {
        Self(self.0.min(received_at.0))
    }
}

impl ReceivedAt {
    /// Microseconds since the Unix epoch.
    pub const fn micros(self) -> i64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_future_cannot_move_the_clock() {
        assert_eq!(OccurredAt(9).not_after(ReceivedAt(5)), OccurredAt(5));
        assert_eq!(OccurredAt(3).not_after(ReceivedAt(5)), OccurredAt(3));
    }
}
