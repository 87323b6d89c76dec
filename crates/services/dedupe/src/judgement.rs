//! What an event is and counts for, given the events before it.

use event::{
    Automation, Counter, CounterSet, DimensionDigests, Event, EventId, Kind, OccurredAt, ReceivedAt,
};
use record::{Corrections, EnrichedHeaders, FirstSeen};
use state::{Effect, Hour, MessageMemory, Observation, Partition, Seen, StateError};

use crate::heuristics::Heuristics;

/// What dedupe adds to an event that it passes on.
#[derive(Debug, Default, PartialEq)]
pub struct Findings {
    /// The how-manieth of its kind the event is. `None` if it names no message, or if nothing is
    /// remembered about it.
    pub seen: Option<u16>,
    /// When the message was sent.
    pub sent: Option<OccurredAt>,
    /// Whether the event is a bounce after the delivery.
    pub is_late: bool,
    /// What the event counts for.
    pub counts: CounterSet,
    /// What it changes in the counts of earlier events.
    pub corrections: Option<Corrections>,
    /// What the event is the first of. Only opens and clicks with an engagement id have this.
    pub first: Option<FirstSeen>,
    /// Whether the event may be a duplicate. `archive` then looks for it in its table.
    pub is_unjudged: bool,
    /// Why the event is attributed to a machine. `None` if it is not, or if enrich has already
    /// attributed it.
    pub automation: Option<Automation>,
}

/// Judges an event that is not a duplicate, and stores it in the memory of its message.
///
/// Of an event beyond the horizon of ids (`unjudged`), the memory tells whether it can be a duplicate: if
/// the message is not remembered although its memory would be kept longer, no event of it was
/// seen. If the event is older than that too, it counts for nothing, because it may have
/// counted already.
pub fn judge(
    partition: &mut Partition,
    heuristics: &Heuristics,
    event: &EnrichedHeaders,
    value: &[u8],
    seen: Seen,
) -> Result<Findings, StateError> {
    let is_unjudged = seen == Seen::BeyondHorizon;
    let legacy = Legacy::read(event, value);
    let event = &legacy.complete(event);
    let is_counted = event.authentic || event.would_count.is_some();
    let Some(message) = event.engagement_id.filter(|_| is_counted) else {
        let counts = event.would_count.filter(|_| is_counted && !is_unjudged).unwrap_or_default();
        let first = (event.engagement_id.is_some() || is_unjudged) && event.kind.is_engagement();
        let first = first.then(FirstSeen::default);
        let sent = is_counted.then(|| send_time(event)).flatten();
        return Ok(Findings { sent, counts, first, is_unjudged, ..Findings::default() });
    };
    let mut memory = partition.memory(&message)?;
    let is_known = memory != MessageMemory::UNKNOWN;
    if is_unjudged && !is_known && !partition.remembers(Hour::of(event.occurred_at)) {
        let first = event.kind.is_engagement().then(FirstSeen::default);
        return Ok(Findings { sent: event.sent_at, first, is_unjudged, ..Findings::default() });
    }
    let findings = observe(&mut memory, heuristics, event, is_unjudged && is_known);
    partition.set_memory(&message, memory);
    Ok(Findings { is_unjudged, ..findings })
}

/// Judges an open or click by its timing, and adds the event to the memory of its message.
fn observe(
    memory: &mut MessageMemory,
    heuristics: &Heuristics,
    event: &EnrichedHeaders,
    may_be_duplicate: bool,
) -> Findings {
    let is_engagement = event.kind.is_engagement();
    let automation = is_engagement.then(|| heuristics.judge(memory, event)).flatten();
    let Effect { seen, first, is_late, sent, counts, corrections } = memory.observe(&Observation {
        kind: event.kind,
        machine: event.machine || automation.is_some(),
        counted_at: event.occurred_at.not_after(event.received_at),
        sent_at: event.sent_at,
        would_count: would_count(event, automation),
        digests: event.digests,
        may_be_duplicate,
    });
    Findings {
        seen: Some(seen),
        sent,
        is_late,
        counts,
        corrections,
        first: is_engagement.then_some(first),
        is_unjudged: false,
        automation,
    }
}

/// Returns what the event counts for if it is the first, after the timing has been judged.
fn would_count(event: &EnrichedHeaders, automation: Option<Automation>) -> CounterSet {
    match (automation, event.kind) {
        (Some(_), Kind::Opened) => CounterSet::EMPTY.with(Counter::MachineOpened),
        (Some(_), Kind::Clicked) => CounterSet::EMPTY.with(Counter::MachineClicked),
        _ => event.would_count.unwrap_or_default(),
    }
}

/// Returns the send time of an event that names no message.
fn send_time(event: &EnrichedHeaders) -> Option<OccurredAt> {
    use Kind::{Bounced, Deferred, Delivered, Dropped};
    let is_about_sending = matches!(event.kind, Deferred | Delivered | Bounced | Dropped);
    let own = is_about_sending.then(|| event.occurred_at.not_after(event.received_at));
    event.sent_at.or(own)
}

/// What an event of an earlier release of `enrich` has in its value only.
struct Legacy(Option<FromValue>);

struct FromValue {
    received_at: ReceivedAt,
    engagement_id: Option<EventId>,
    sent_at: Option<OccurredAt>,
    would_count: CounterSet,
    digests: DimensionDigests,
}

impl Legacy {
    /// Reads the value if the headers lack something. A value that cannot be read counts for nothing.
    fn read(event: &EnrichedHeaders, value: &[u8]) -> Self {
        if event.would_count.is_some() || !event.authentic {
            return Self(None);
        }
        let event: Option<Event<'_>> = serde_json::from_slice(value).ok();
        Self(event.map(|event| FromValue {
            received_at: event.received_at,
            engagement_id: event.engagement_id(),
            sent_at: event.sent_at,
            would_count: event.would_count(false),
            digests: DimensionDigests::of(&event),
        }))
    }

    fn complete(&self, event: &EnrichedHeaders) -> EnrichedHeaders {
        let Some(value) = &self.0 else { return *event };
        EnrichedHeaders {
            received_at: value.received_at,
            engagement_id: event.engagement_id.or(value.engagement_id),
            sent_at: event.sent_at.or(value.sent_at),
            would_count: Some(value.would_count),
            digests: value.digests,
            ..*event
        }
    }
}

#[cfg(test)]
mod tests {
    use event::ReceivedAt;

    use super::*;

    fn event(kind: Kind) -> EnrichedHeaders {
        EnrichedHeaders {
            event_id: EventId([1; 16]),
            kind,
            occurred_at: OccurredAt(9_000_000),
            received_at: ReceivedAt(8_000_000),
            is_undated: false,
            engagement_id: Some(EventId([2; 16])),
            sent_at: None,
            would_count: None,
            digests: DimensionDigests::default(),
            authentic: true,
            machine: false,
            link: None,
        }
    }

    const VALUE: &[u8] = br#"{"event_id":"000102030405060708090a0b0c0d0e0f","kind":"bounced","provider":"ses","source":"acme","occurred_at":9000000,"received_at":8000000,"message_id":"m1","campaign":"spring","bounce":{"permanence":"hard","class":"invalid_recipient","side":"recipient"},"provider_event":"Bounce","request_id":"r","sent_at":5000000,"raw":{}}"#;

    #[test]
    fn an_event_of_an_earlier_release_is_completed_from_its_value() {
        let bounce = EnrichedHeaders { engagement_id: None, ..event(Kind::Bounced) };
        let complete = Legacy::read(&bounce, VALUE).complete(&bounce);
        let parsed: Event<'_> = serde_json::from_slice(VALUE).unwrap();
        assert_eq!(complete.would_count, CounterSet::from_names("bounced_hard"));
        assert_eq!(complete.engagement_id, parsed.engagement_id());
        assert_eq!(complete.sent_at, Some(OccurredAt(5_000_000)));
        assert_eq!(complete.digests, DimensionDigests::of(&parsed));
        assert_ne!(complete.digests, DimensionDigests::default());

        let unreadable = Legacy::read(&bounce, b"no JSON").complete(&bounce);
        assert_eq!(unreadable, bounce);
        let current = EnrichedHeaders { would_count: Some(CounterSet::EMPTY), ..bounce };
        assert_eq!(Legacy::read(&current, VALUE).complete(&current), current);
        let unauthentic = EnrichedHeaders { authentic: false, ..bounce };
        assert_eq!(Legacy::read(&unauthentic, VALUE).complete(&unauthentic), unauthentic);
    }

    #[test]
    fn a_machine_that_the_timing_reveals_counts_as_one() {
        let names = |kind, automation| {
            let counters = CounterSet::from_names("opened,engaged");
            let event = EnrichedHeaders { would_count: counters, ..event(kind) };
            would_count(&event, automation).to_string()
        };
        let automation = Automation { reason: event::AutomationReason::Immediate, confidence: 0.5 };
        assert_eq!(names(Kind::Opened, None), "opened,engaged");
        assert_eq!(names(Kind::Opened, Some(automation)), "machine_opened");
        assert_eq!(names(Kind::Clicked, Some(automation)), "machine_clicked");
    }

    #[test]
    fn an_event_counts_when_it_was_received_if_that_is_earlier() {
        let mut memory = MessageMemory::UNKNOWN;
        let off = Heuristics::new(Default::default(), 0, Default::default());
        let counters = CounterSet::from_names("delivered");
        let event = EnrichedHeaders { would_count: counters, ..event(Kind::Delivered) };
        let findings = observe(&mut memory, &off, &event, false);
        assert_eq!(findings.sent, Some(OccurredAt(8_000_000)));
        assert_eq!(send_time(&event), Some(OccurredAt(8_000_000)));
        let accepted = EnrichedHeaders { kind: Kind::Accepted, ..event };
        assert_eq!(send_time(&accepted), None);
    }
}
