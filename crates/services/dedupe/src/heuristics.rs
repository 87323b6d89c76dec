//! Machines that only their timing gives away. They are told here because here is what is known of
//! the other events of a message at a recipient.
//!
//! A verdict is what was known when the event came by: one that has passed is never changed. Of a
//! scanner's clicks the first ones pass as a person's and the rest do not.

use std::time::Duration;

use event::{Automation, AutomationReason, Kind};
use record::EnrichedHeaders;
use state::Engagement;

/// An engagement so long before its delivery at most is taken for one at it: the clocks of a
/// provider's own servers differ. Earlier ones belong to another attempt.
const BEFORE: i64 = 60_000_000;

/// Within moments of the delivery: few people are as fast.
const IMMEDIATE: f32 = 0.8;
/// The same, of a click where no open went before: fewer still.
const IMMEDIATE_UNSEEN: f32 = 0.9;
/// So many different links of one message so fast.
const LINK_BURST: f32 = 0.9;

/// What is suspicious, as the operator has set it.
#[derive(Debug, Clone, Copy)]
pub struct Heuristics {
    /// An engagement less than this after the delivery is; microseconds, 0 for never.
    immediate: i64,
    /// So many different links …
    burst_links: u32,
    /// … within this are; microseconds, 0 for never.
    burst_within: i64,
}

impl Heuristics {
    /// A duration of zero turns its heuristic off.
    pub fn new(immediate: Duration, burst_links: u32, burst_within: Duration) -> Self {
        let micros = |duration: Duration| i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
        Self { immediate: micros(immediate), burst_links, burst_within: micros(burst_within) }
    }

    /// Whether deliveries have to be remembered.
    pub const fn need_deliveries(&self) -> bool {
        self.immediate > 0
    }

    /// Judges an open or click that nothing else has called a machine's, and notes in `engagement`
    /// what the next verdict needs.
    pub fn judge(
        &self,
        engagement: &mut Engagement,
        event: &EnrichedHeaders,
    ) -> Option<Automation> {
        let burst = self.is_burst(engagement, event);
        if event.machine {
            return None;
        }
        if burst {
            let (reason, confidence) = (AutomationReason::LinkBurst, LINK_BURST);
            return Some(Automation { reason, confidence });
        }
        let since = engagement.since_delivery(event.occurred_at)?;
        (-BEFORE..self.immediate).contains(&since).then(|| {
            let seen = event.kind == Kind::Opened || engagement.has(Kind::Opened, false);
            let confidence = if seen { IMMEDIATE } else { IMMEDIATE_UNSEEN };
            Automation { reason: AutomationReason::Immediate, confidence }
        })
    }

    fn is_burst(&self, engagement: &mut Engagement, event: &EnrichedHeaders) -> bool {
        let Some(link) = event.link.filter(|_| self.burst_within > 0) else { return false };
        let links = engagement.followed(link, event.occurred_at, self.burst_within);
        links >= self.burst_links.max(2) // one link is no burst, whatever the operator says
    }
}

#[cfg(test)]
mod tests {
    use event::{EventId, OccurredAt};

    use super::*;

    const SECOND: i64 = 1_000_000;

    fn event(kind: Kind, second: i64, link: Option<u32>) -> EnrichedHeaders {
        EnrichedHeaders {
            event_id: EventId([1; 16]),
            kind,
            occurred_at: OccurredAt(second * SECOND),
            engagement_id: Some(EventId([2; 16])),
            machine: false,
            link,
        }
    }

    fn usual() -> Heuristics {
        Heuristics::new(Duration::from_secs(2), 3, Duration::from_secs(10))
    }

    fn delivered(second: i64) -> Engagement {
        let mut engagement = Engagement::UNKNOWN;
        engagement.delivered(OccurredAt(second * SECOND));
        engagement
    }

    #[test]
    fn nobody_opens_in_the_second_of_the_delivery() {
        let judge = |engagement: &mut Engagement, kind, second| {
            usual().judge(engagement, &event(kind, second, None)).map(|a| a.confidence)
        };
        for (second, confidence) in
            [(100, Some(0.8)), (101, Some(0.8)), (102, None), (41, Some(0.8)), (39, None)]
        {
            assert_eq!(judge(&mut delivered(100), Kind::Opened, second), confidence, "{second}");
        }
        assert_eq!(judge(&mut delivered(100), Kind::Clicked, 101), Some(0.9), "without an open");
        let mut opened = delivered(100);
        opened.engaged(Kind::Opened, false, state::Hour(0));
        assert_eq!(judge(&mut opened, Kind::Clicked, 101), Some(0.8));
        assert_eq!(judge(&mut Engagement::UNKNOWN.clone(), Kind::Opened, 100), None, "not known");
    }

    #[test]
    fn nobody_follows_three_links_in_ten_seconds() {
        let mut engagement = delivered(0);
        let mut judge = |link, second| {
            usual().judge(&mut engagement, &event(Kind::Clicked, second, Some(link)))
        };
        let reasons = [(1, 100), (2, 101), (2, 102), (3, 103), (4, 104), (5, 150)]
            .map(|(link, second)| judge(link, second).map(|automation| automation.reason));
        let burst = Some(AutomationReason::LinkBurst);
        assert_eq!(reasons, [None, None, None, burst, burst, None]);
    }

    #[test]
    fn what_is_known_to_be_a_machine_is_not_judged_and_still_counts_as_a_neighbour() {
        let mut engagement = delivered(0);
        for link in [1, 2] {
            let known = EnrichedHeaders { machine: true, ..event(Kind::Clicked, 100, Some(link)) };
            assert_eq!(usual().judge(&mut engagement, &known), None);
        }
        let third = event(Kind::Clicked, 101, Some(3));
        assert!(usual().judge(&mut engagement, &third).is_some());
    }

    #[test]
    fn zero_turns_them_off() {
        let off = Heuristics::new(Duration::ZERO, 3, Duration::ZERO);
        assert!(!off.need_deliveries());
        let mut engagement = delivered(100);
        for link in 1..9 {
            let click = event(Kind::Clicked, 100, Some(link));
            assert_eq!(off.judge(&mut engagement, &click), None);
        }
    }
}
