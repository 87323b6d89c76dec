//! What a recipient does with the mail of a source: the counts and the score of the table `recipients`.

use serde::{Deserialize, Serialize};

/// What an event adds to the counts of its recipient at its source. A correction of an earlier event can be negative.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct EngagementDelta {
    /// Messages that were delivered.
    pub received: i32,
    /// Messages that a person opened.
    pub opened: i32,
    /// Messages in which a person clicked.
    pub clicked: i32,
    /// Messages that bounced, also after the delivery.
    pub bounces: i32,
}

impl EngagementDelta {
    /// Adds one message, or with -1 takes one back, by the name of a counter of `mail.events`. Other counters are not part
    /// of the score.
    pub fn add(&mut self, counter: &str, messages: i32) {
        let count = match counter {
            "delivered" => &mut self.received,
            "opened" => &mut self.opened,
            "clicked" => &mut self.clicked,
            "bounced_hard"
            | "bounced_soft"
            | "bounced_block"
            | "bounced_undetermined"
            | "late_bounces" => &mut self.bounces,
            _ => return,
        };
        *count = count.saturating_add(messages);
    }

    pub(crate) fn is_zero(self) -> bool {
        self == Self::default()
    }
}

/// The counts of a recipient at a source. In JSON an array, because there are many.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(from = "(u32, u32, u32, u32, i64)", into = "(u32, u32, u32, u32, i64)")]
pub(crate) struct Engagement {
    received: u32,
    opened: u32,
    clicked: u32,
    bounces: u32,
    /// The latest receipt of an event that counted. UTC microseconds.
    pub(crate) at: i64,
}

impl From<(u32, u32, u32, u32, i64)> for Engagement {
    fn from((received, opened, clicked, bounces, at): (u32, u32, u32, u32, i64)) -> Self {
        Self { received, opened, clicked, bounces, at }
    }
}

impl From<Engagement> for (u32, u32, u32, u32, i64) {
    fn from(of: Engagement) -> Self {
        (of.received, of.opened, of.clicked, of.bounces, of.at)
    }
}

impl Engagement {
    /// Adds what an event that was received at `at` counts for. What was counted before the state began can be corrected,
    /// so no count goes below 0.
    pub(crate) fn count(&mut self, delta: EngagementDelta, at: i64) {
        self.received = self.received.saturating_add_signed(delta.received);
        self.opened = self.opened.saturating_add_signed(delta.opened);
        self.clicked = self.clicked.saturating_add_signed(delta.clicked);
        self.bounces = self.bounces.saturating_add_signed(delta.bounces);
        self.at = self.at.max(at);
    }

    /// Returns the score from 0 to 1, or `None` if nothing was delivered.
    pub(crate) fn score(self) -> Option<f64> {
        let received = f64::from(self.received);
        let share = |part: u32| (f64::from(part) / received).min(1.0);
        let lost = (0.1 * f64::from(self.bounces)).min(0.5);
        let score = 0.6f64.mul_add(share(self.opened), 0.4 * share(self.clicked)) - lost;
        // 0.1 of three bounces is a little more than 0.3 in binary.
        (self.received > 0).then(|| (score.max(0.0) * 1e9).round() / 1e9)
    }
}
