use serde::{Deserialize, Serialize};

/// When the event happened according to the provider, in microseconds since the Unix epoch (UTC).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct OccurredAt(pub i64);

/// When the ingress had read the request, in microseconds since the Unix epoch (UTC).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ReceivedAt(pub i64);

impl OccurredAt {
    pub const fn micros(self) -> i64 {
        self.0
    }

    /// Returns this time, or the time of receipt if that is earlier. Watermarks advance by it, so
    /// that one event dated in the future cannot make all others late.
    pub fn not_after(self, received_at: ReceivedAt) -> Self {
        Self(self.0.min(received_at.0))
    }
}

impl ReceivedAt {
    pub const fn micros(self) -> i64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_future_cannot_move_the_watermark() {
        assert_eq!(OccurredAt(9).not_after(ReceivedAt(5)), OccurredAt(5));
        assert_eq!(OccurredAt(3).not_after(ReceivedAt(5)), OccurredAt(3));
    }
}
