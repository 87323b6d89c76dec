//! An endless stream of mail in event time, and the answers of the ingress.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use event::{EventId, Kind, Permanence, Provider};
use testkit::{Burst, Credentials, MailEvent, Plan, SOURCES, Traffic, payloads};

use super::pace::Pace;

/// The sources of the ordered recipients.
const MAILGUN: (Provider, &str) = SOURCES[1];
const POSTMARK: (Provider, &str) = SOURCES[2];
const GENERIC: (Provider, &str) = SOURCES[5];
const _: () = assert!(matches!(
    (MAILGUN.0, POSTMARK.0, GENERIC.0),
    (Provider::Mailgun, Provider::Postmark, Provider::Generic)
));

pub(crate) const SECOND: i64 = 1_000_000;
pub(crate) const MINUTE: i64 = 60 * SECOND;

/// The seconds of real time that one wave of generated mail takes.
const WAVE_SECONDS: i64 = 20;
/// Messages of each source in a wave. All sources together post about 100 requests per second.
const MESSAGES_PER_WAVE: usize = 90;
/// In one wave of `BURST_EVERY`, one source mails a bad list. The next time, it is the source that is
/// `BURST_STRIDE` places later in the list, so that all sources do it in the end. Within three bursts
/// there is one of Mailjet, which sends no accepted events.
const BURST_EVERY: u64 = 3;
const BURST_STRIDE: u64 = 5;
/// When the bad list begins in its wave, and how long it takes, in seconds of real time.
const BURST_AFTER_SECONDS: i64 = 5;
const BURST_SECONDS: i64 = 6;
/// The number of closing events. Each has its own recipient, so that every partition receives some.
const CLOSING_EVENTS: u32 = 240;
const CLOSING_BATCH: usize = 20;
/// The event time between the last event (plus the allowed disorder) and the closing events. It is
/// longer than the widest window, so that all windows with earlier events are complete.
pub(crate) const CLOSING_GAP: i64 = 70 * MINUTE;

/// Requests to post in the order of event time: waves of [`Traffic`].
pub(crate) struct Mail {
    seed: u64,
    credentials: Credentials,
    start: i64,
    pace: Pace,
    waves: u64,
    /// By the event time at which to post them, and a number. The events of a message last for minutes, so
    /// requests of several waves can be between each other.
    ready: BTreeMap<(i64, u64), Arc<[MailEvent]>>,
    generated: u64,
}

impl Mail {
    /// Creates mail whose first event happens at `start`, in microseconds.
    pub(crate) fn new(seed: u64, credentials: &Credentials, start: i64, pace: Pace) -> Self {
        let credentials = credentials.clone();
        Self { seed, credentials, start, pace, waves: 0, ready: BTreeMap::new(), generated: 0 }
    }

    /// Returns the event time at which the wave begins that is generated next.
    fn next_wave(&self) -> i64 {
        self.start + self.waves.cast_signed() * self.pace.event_time(WAVE_SECONDS)
    }

    fn generate_wave(&mut self) {
        let (wave, start_micros) = (self.waves, self.next_wave());
        self.waves += 1;
        let sources: Vec<(Provider, String)> =
            SOURCES.iter().map(|&(provider, name)| (provider, name.to_owned())).collect();
        let burst = (wave % BURST_EVERY == 1).then(|| Burst {
            source: sources[(wave / BURST_EVERY * BURST_STRIDE) as usize % sources.len()].clone(),
            after_micros: self.pace.event_time(BURST_AFTER_SECONDS),
            duration_micros: self.pace.event_time(BURST_SECONDS),
            messages: 250,
            recovery_messages: 0,
            ..Burst::acme()
        });
        let plan = Plan {
            start_micros,
            duration_micros: self.pace.event_time(WAVE_SECONDS),
            messages_per_source: MESSAGES_PER_WAVE,
            sources,
            burst,
            closing: false,
            ..Plan::small(&self.credentials, 0)
        };
        let traffic = Traffic::new(self.seed.wrapping_add(wave), plan);
        for (at, events) in traffic.genuine_requests() {
            self.ready.insert((at, self.generated), events);
            self.generated += 1;
        }
    }
}

impl Iterator for Mail {
    /// The event time at which to post a request, and its events.
    type Item = (i64, Arc<[MailEvent]>);

    fn next(&mut self) -> Option<Self::Item> {
        while self.ready.first_key_value().is_none_or(|((at, _), _)| *at >= self.next_wave()) {
            self.generate_wave();
        }
        self.ready.pop_first().map(|((at, _), events)| (at, events))
    }
}

/// Returns requests with accepted messages, all at the same moment. They are so late that every window
/// with earlier events is complete.
pub(crate) fn closing(at: i64) -> Vec<Arc<[MailEvent]>> {
    let (provider, source) = GENERIC;
    let events: Vec<MailEvent> = (0..CLOSING_EVENTS)
        .map(|n| MailEvent {
            recipient: format!("closing-{n:03}@example.net"),
            message_id: payloads::message_id(provider, 1 << 121 | u128::from(n)),
            campaign: "closing".to_owned(),
            occurred_at_micros: at,
            ..MailEvent::new(provider, source, Kind::Accepted, "", n)
        })
        .collect();
    events.chunks(CLOSING_BATCH).map(Arc::from).collect()
}

/// The event time of the last posted request.
pub(crate) struct EventClock(AtomicI64);

impl EventClock {
    pub(crate) fn at(micros: i64) -> Self {
        Self(AtomicI64::new(micros))
    }

    pub(crate) fn advance(&self, micros: i64) {
        self.0.fetch_max(micros, Ordering::Relaxed);
    }

    /// Microseconds.
    pub(crate) fn now(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A recipient whose events are posted one after the other, each after the answer to the previous one.
/// They must be archived in this order.
#[derive(Debug, Clone)]
pub(crate) struct OrderedRecipient {
    number: u32,
    provider: Provider,
    source: &'static str,
    kind: Kind,
}

impl OrderedRecipient {
    /// Returns recipients of different providers and kinds, so that they have different raw topics.
    pub(crate) fn all() -> [Self; 4] {
        let recipient = |number, (provider, source), kind| Self { number, provider, source, kind };
        [
            recipient(0, GENERIC, Kind::Delivered),
            recipient(1, MAILGUN, Kind::Delivered),
            recipient(2, GENERIC, Kind::Clicked),
            recipient(3, POSTMARK, Kind::Unsubscribed),
        ]
    }

    /// Returns the address, which no other mail uses.
    pub(crate) fn address(&self) -> String {
        format!("ordered-{}@example.org", self.number)
    }

    /// Returns the `n`th event, at a moment of event time.
    pub(crate) fn event(&self, n: u32, at: i64) -> MailEvent {
        let step = MailEvent::resolution_micros(self.provider);
        let number = 1 << 120 | u128::from(self.number) << 64 | u128::from(n);
        MailEvent {
            message_id: payloads::message_id(self.provider, number),
            campaign: "in-order".to_owned(),
            occurred_at_micros: at.div_euclid(step) * step,
            ..MailEvent::new(self.provider, self.source, self.kind, &self.address(), n)
        }
    }
}

/// The answers of the ingress, from which the expected rows follow.
#[derive(Debug, Default)]
pub(crate) struct Answers {
    /// Every accepted event, by the expected text of its row ([`row_of`]).
    pub(crate) events: HashMap<Box<str>, EventId>,
    /// The numbers of accepted unreadable requests.
    pub(crate) garbage: BTreeSet<u64>,
    /// The message ids of each ordered recipient, by address, in the order of posting.
    pub(crate) ordered: BTreeMap<String, Vec<String>>,
    /// Requests answered 2xx.
    pub(crate) requests: u64,
    /// Events in these requests with duplicates, according to the answers.
    pub(crate) accepted: u64,
    /// Answers with a wrong number of events.
    pub(crate) wrong_counts: u64,
    /// Forged requests that were rejected.
    pub(crate) forged_rejected: u64,
    /// Forged requests that were accepted.
    pub(crate) forged_accepted: u64,
    /// Attempts without a final answer, after which the request was posted again.
    pub(crate) repeated: u64,
    /// Those of them with genuine mail.
    pub(crate) refused: u64,
    /// Requests without a final answer at the end.
    pub(crate) abandoned: Vec<String>,
}

impl Answers {
    /// Records an accepted event, which may be a duplicate.
    pub(crate) fn add_event(&mut self, event: &MailEvent) {
        self.events.insert(row_of(event).into(), event.id());
    }
}

/// Returns the expected text of an event's row: every column that follows from the event.
/// [`super::prove`] reads the same text from ClickHouse.
pub(crate) fn row_of(event: &MailEvent) -> String {
    let MailEvent { provider, source, kind, recipient, message_id, .. } = event;
    let campaign = event.reported_campaign().unwrap_or_default();
    let permanence = match event.kind {
        Kind::Bounced => event.permanence.unwrap_or(Permanence::Hard).as_str(),
        _ => "",
    };
    let by = if event.machine { "machine" } else { "person" };
    let at = event.occurred_at_micros;
    format!("{provider}/{source} {kind} {recipient} {message_id} {campaign} {at} {permanence} {by}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mail_is_in_order_over_all_waves_and_every_fact_has_its_own_row() {
        for pace in [Pace::Live, Pace::Compressed] {
            let start = 1_795_255_200 * SECOND;
            let mail = Mail::new(3, &Credentials::new(""), start, pace);
            let (mut clock, mut rows, mut ids) = (start, BTreeSet::new(), BTreeSet::new());
            let mut bounces = 0;
            let until = start + 3 * pace.event_time(WAVE_SECONDS);
            for (at, events) in mail.take_while(|(at, _)| *at < until) {
                assert!(clock <= at, "a request of an earlier wave comes after one of a later");
                clock = at;
                for event in events.iter() {
                    assert!(event.occurred_at_micros <= at);
                    assert_eq!(rows.insert(row_of(event)), ids.insert(event.id()), "{event:?}");
                    bounces += u32::from(event.is_hard_bounce());
                }
            }
            assert!(ids.len() > 6_000, "{pace:?}: {}", ids.len());
            assert!(bounces > 120, "{pace:?}: no source mailed a bad list: {bounces} bounces");
        }
    }

    #[test]
    fn rows_of_ordered_recipients_and_closing_events_are_unique() {
        let recipients = OrderedRecipient::all();
        let ordered = recipients
            .iter()
            .flat_map(|recipient| (0..3).map(|n| recipient.event(n, 7 * SECOND + 123_456)));
        let closing = closing(SECOND).into_iter().flat_map(|events| events.to_vec());
        let rows: BTreeSet<String> = ordered.chain(closing).map(|event| row_of(&event)).collect();
        assert_eq!(rows.len(), 12 + CLOSING_EVENTS as usize);
    }
}
