//! Recognises machines by the timing of their opens and clicks. This happens in dedupe because its
//! state contains the other events of the same message and recipient.
//!
//! Each event is judged by the events before it, and never again when it was passed on. The first
//! clicks of a scanner therefore count as a person's.

use std::time::Duration;

use event::{Automation, AutomationReason, Kind};
use record::EnrichedHeaders;
use state::MessageMemory;

/// How much earlier than the delivery an open or click may be to count as immediate, in
/// microseconds. The clocks of a provider's servers differ. Still earlier ones belong to another
/// delivery attempt.
const CLOCK_SKEW: i64 = 60_000_000;

/// The confidence for an open or click right after the delivery. Few people are that fast.
const IMMEDIATE: f32 = 0.8;
/// The confidence for a click right after the delivery without an open before it.
const IMMEDIATE_WITHOUT_OPEN: f32 = 0.9;
/// The confidence for a click that is part of a burst.
const LINK_BURST: f32 = 0.9;

/// The configured limits.
#[derive(Debug, Clone, Copy)]
pub struct Heuristics {
    /// An open or click less than this after the delivery is a machine's; microseconds, 0 for
    /// never.
    immediate: i64,
    /// This many different links within `burst_within` are a burst.
    burst_links: u32,
    /// The duration of a burst; microseconds, 0 for never.
    burst_within: i64,
}

impl Heuristics {
    /// A duration of zero turns its heuristic off.
    pub fn new(immediate: Duration, burst_links: u32, burst_within: Duration) -> Self {
        let micros = |duration: Duration| i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
        Self { immediate: micros(immediate), burst_links, burst_within: micros(burst_within) }
    }

    /// Returns why an open or click is a machine's; `None` if it is not, or if enrich has already
    /// marked it. Updates `memory` with the link that was followed.
    pub fn judge(&self, memory: &mut MessageMemory, event: &EnrichedHeaders) -> Option<Automation> {
        // Links of marked events count towards a burst too, so this comes first.
        let is_burst = self.is_burst(memory, event);
        if event.machine {
            return None;
        }
        if is_burst {
            let (reason, confidence) = (AutomationReason::LinkBurst, LINK_BURST);
            return Some(Automation { reason, confidence });
        }
        let since = memory.since_delivery(event.occurred_at).filter(|_| self.immediate > 0)?;
        (-CLOCK_SKEW..self.immediate).contains(&since).then(|| {
            let is_opened = event.kind == Kind::Opened || memory.has(Kind::Opened, false);
            let confidence = if is_opened { IMMEDIATE } else { IMMEDIATE_WITHOUT_OPEN };
            Automation { reason: AutomationReason::Immediate, confidence }
        })
    }

    fn is_burst(&self, memory: &mut MessageMemory, event: &EnrichedHeaders) -> bool {
        let Some(link) = event.link.filter(|_| self.burst_within > 0) else { return false };
        let links = memory.record_link(link, event.occurred_at, self.burst_within);
        links >= self.burst_links.max(2) // a single link is never a burst, whatever the setting
    }
}

#[cfg(test)]
mod tests {
    use event::{CounterSet, DimensionDigests, EventId, OccurredAt, ReceivedAt};
    use state::Observation;

    use super::*;

    const SECOND: i64 = 1_000_000;

    fn event(kind: Kind, second: i64, link: Option<u32>) -> EnrichedHeaders {
        EnrichedHeaders {
            event_id: EventId([1; 16]),
            kind,
            occurred_at: OccurredAt(second * SECOND),
            received_at: ReceivedAt(second * SECOND),
            is_undated: false,
            engagement_id: Some(EventId([2; 16])),
            sent_at: None,
            would_count: None,
            digests: DimensionDigests::default(),
            authentic: true,
            machine: false,
            link,
        }
    }

    fn defaults() -> Heuristics {
        Heuristics::new(Duration::from_secs(2), 3, Duration::from_secs(10))
    }

    fn observe(memory: &mut MessageMemory, kind: Kind, second: i64, counters: &str) {
        memory.observe(&Observation {
            kind,
            machine: false,
            counted_at: OccurredAt(second * SECOND),
            sent_at: None,
            would_count: CounterSet::from_names(counters).unwrap(),
            digests: DimensionDigests::default(),
            may_be_duplicate: false,
        });
    }

    fn delivered(second: i64) -> MessageMemory {
        let mut memory = MessageMemory::UNKNOWN;
        observe(&mut memory, Kind::Delivered, second, "delivered");
        memory
    }

    #[test]
    fn an_open_or_click_right_after_the_delivery_is_a_machines() {
        let judge = |memory: &mut MessageMemory, kind, second| {
            defaults().judge(memory, &event(kind, second, None)).map(|a| a.confidence)
        };
        for (second, confidence) in
            [(100, Some(0.8)), (101, Some(0.8)), (102, None), (41, Some(0.8)), (39, None)]
        {
            assert_eq!(judge(&mut delivered(100), Kind::Opened, second), confidence, "{second}");
        }
        assert_eq!(judge(&mut delivered(100), Kind::Clicked, 101), Some(0.9), "without an open");
        let mut opened = delivered(100);
        observe(&mut opened, Kind::Opened, 100, "opened,engaged");
        assert_eq!(judge(&mut opened, Kind::Clicked, 101), Some(0.8));
        assert_eq!(
            judge(&mut MessageMemory::UNKNOWN.clone(), Kind::Opened, 100),
            None,
            "the delivery is not known"
        );
    }

    #[test]
    fn three_links_in_ten_seconds_are_a_burst() {
        let mut memory = delivered(0);
        let mut judge =
            |link, second| defaults().judge(&mut memory, &event(Kind::Clicked, second, Some(link)));
        let reasons = [(1, 100), (2, 101), (2, 102), (3, 103), (4, 104), (5, 150)]
            .map(|(link, second)| judge(link, second).map(|automation| automation.reason));
        let burst = Some(AutomationReason::LinkBurst);
        assert_eq!(reasons, [None, None, None, burst, burst, None]);
    }

    #[test]
    fn clicks_that_enrich_has_marked_are_not_judged_but_count_towards_a_burst() {
        let mut memory = delivered(0);
        for link in [1, 2] {
            let known = EnrichedHeaders { machine: true, ..event(Kind::Clicked, 100, Some(link)) };
            assert_eq!(defaults().judge(&mut memory, &known), None);
        }
        let third = event(Kind::Clicked, 101, Some(3));
        assert!(defaults().judge(&mut memory, &third).is_some());
    }

    #[test]
    fn a_duration_of_zero_turns_a_heuristic_off() {
        let off = Heuristics::new(Duration::ZERO, 3, Duration::ZERO);
        let mut memory = delivered(100);
        for link in 1..9 {
            let click = event(Kind::Clicked, 100, Some(link));
            assert_eq!(off.judge(&mut memory, &click), None);
        }
        for second in [40, 99, 100] {
            assert_eq!(off.judge(&mut memory, &event(Kind::Opened, second, None)), None);
        }
    }
}
