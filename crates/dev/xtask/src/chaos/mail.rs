//! Mail without end, in event time, and what of it the ingress has taken.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use event::{EventId, Kind, Permanence, Provider};
use testkit::{Burst, Credentials, Fact, Plan, SOURCES, Traffic, shape};

/// The sources of the lanes.
const MAILGUN: (Provider, &str) = SOURCES[1];
const POSTMARK: (Provider, &str) = SOURCES[2];
const GENERIC: (Provider, &str) = SOURCES[5];
const _: () = assert!(matches!(
    (MAILGUN.0, POSTMARK.0, GENERIC.0),
    (Provider::Mailgun, Provider::Postmark, Provider::Generic)
));

pub(crate) const SECOND: i64 = 1_000_000;
pub(crate) const MINUTE: i64 = 60 * SECOND;

/// Event time goes by so many times as fast as ours: an hour's window in a minute.
pub(crate) const COMPRESSION: i64 = 60;

/// Event time that is drawn at once.
const WAVE_MICROS: i64 = 20 * MINUTE;
/// Of each source in a wave: about 100 requests a second in all.
const MESSAGES_PER_WAVE: usize = 90;
/// Every so many waves one source mails a bad list: the one so many places after the last that did.
/// All have their turn in the end, and within three there is one, Mailjet's, that does not report
/// what it took for sending.
const BURST_EVERY: u64 = 3;
const BURST_STRIDE: u64 = 5;
/// Closing events, each at a recipient of its own, so that every partition sees some.
const CLOSING_EVENTS: u32 = 240;
const CLOSING_BATCH: usize = 20;
/// How long after everything else, and after what may be out of order, the closing events lie: more
/// than the widest window, so that all that went before is in windows that are over.
pub(crate) const CLOSING_GAP: i64 = 70 * MINUTE;

/// Requests to post, in the order of event time: wave after wave of [`Traffic`].
pub(crate) struct Mail {
    seed: u64,
    credentials: Credentials,
    start: i64,
    waves: u64,
    ready: std::vec::IntoIter<(i64, Arc<[Fact]>)>,
}

impl Mail {
    /// Mail whose first event happens at `start`, microseconds.
    pub(crate) fn new(seed: u64, credentials: &Credentials, start: i64) -> Self {
        let credentials = credentials.clone();
        Self { seed, credentials, start, waves: 0, ready: Vec::new().into_iter() }
    }

    fn draw_wave(&mut self) {
        let wave = self.waves;
        self.waves += 1;
        let sources: Vec<(Provider, String)> =
            SOURCES.iter().map(|&(provider, name)| (provider, name.to_owned())).collect();
        let burst = (wave % BURST_EVERY == 1).then(|| Burst {
            source: sources[(wave / BURST_EVERY * BURST_STRIDE) as usize % sources.len()].clone(),
            after_micros: 5 * MINUTE,
            messages: 250,
            recovery_messages: 0,
            ..Burst::acme()
        });
        let plan = Plan {
            start_micros: self.start + wave.cast_signed() * WAVE_MICROS,
            duration_micros: WAVE_MICROS,
            messages_per_source: MESSAGES_PER_WAVE,
            sources,
            burst,
            closing: false,
            ..Plan::small(&self.credentials, 0)
        };
        let traffic = Traffic::new(self.seed.wrapping_add(wave), plan);
        self.ready = traffic.batches().collect::<Vec<_>>().into_iter();
    }
}

impl Iterator for Mail {
    /// When to post it, in event time, and the facts of one request.
    type Item = (i64, Arc<[Fact]>);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(batch) = self.ready.next() {
                return Some(batch);
            }
            self.draw_wave();
        }
    }
}

/// Accepted messages and nothing else, all of the same moment, so much later than the rest that
/// every window with anything in it is over.
pub(crate) fn closing(at: i64) -> Vec<Arc<[Fact]>> {
    let (provider, source) = GENERIC;
    let facts: Vec<Fact> = (0..CLOSING_EVENTS)
        .map(|n| Fact {
            recipient: format!("closing-{n:03}@example.net"),
            message_id: shape::message_id(provider, 1 << 121 | u128::from(n)),
            campaign: "closing".to_owned(),
            occurred_at_micros: at,
            ..Fact::new(provider, source, Kind::Accepted, "", n)
        })
        .collect();
    facts.chunks(CLOSING_BATCH).map(Arc::from).collect()
}

/// How far event time has come: what was posted last.
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

/// One recipient whose events are posted strictly one after the other, the next only when the one
/// before was answered 2xx: they must come out in this order.
#[derive(Debug, Clone)]
pub(crate) struct Lane {
    number: u32,
    provider: Provider,
    source: &'static str,
    kind: Kind,
}

impl Lane {
    /// Several, by different providers and of different kinds: each has a raw topic of its own.
    pub(crate) fn all() -> [Self; 4] {
        let lane = |number, (provider, source), kind| Self { number, provider, source, kind };
        [
            lane(0, GENERIC, Kind::Delivered),
            lane(1, MAILGUN, Kind::Delivered),
            lane(2, GENERIC, Kind::Clicked),
            lane(3, POSTMARK, Kind::Unsubscribed),
        ]
    }

    /// The address nobody else mails to.
    pub(crate) fn recipient(&self) -> String {
        format!("lane-{}@example.org", self.number)
    }

    /// Its `n`th event, at a moment of event time.
    pub(crate) fn fact(&self, n: u32, at: i64) -> Fact {
        let step = Fact::resolution_micros(self.provider);
        let number = 1 << 120 | u128::from(self.number) << 64 | u128::from(n);
        Fact {
            message_id: shape::message_id(self.provider, number),
            campaign: "in-order".to_owned(),
            occurred_at_micros: at.div_euclid(step) * step,
            ..Fact::new(self.provider, self.source, self.kind, &self.recipient(), n)
        }
    }
}

/// What was answered, and so what must be found.
#[derive(Debug, Default)]
pub(crate) struct Taken {
    /// Every event that was taken, by what its row must say ([`row_of`]).
    pub(crate) events: HashMap<Box<str>, EventId>,
    /// Unreadable requests that were taken, by their number.
    pub(crate) garbage: BTreeSet<u64>,
    /// The message ids of each lane, by recipient, in the order of posting.
    pub(crate) lanes: BTreeMap<String, Vec<String>>,
    /// Requests answered 2xx.
    pub(crate) requests: u64,
    /// Events in them, repeats included, by the receipts.
    pub(crate) accepted: u64,
    /// Receipts that name another number of events than was posted.
    pub(crate) wrong_receipts: u64,
    /// Forged requests that were refused for their signature.
    pub(crate) refused: u64,
    /// Forged requests that were not.
    pub(crate) forged_taken: u64,
    /// Answers, or the lack of one, that made us post again.
    pub(crate) posted_again: u64,
    /// Requests given up on.
    pub(crate) never_taken: Vec<String>,
}

impl Taken {
    /// An event was taken, perhaps not for the first time.
    pub(crate) fn event(&mut self, fact: &Fact) {
        self.events.insert(row_of(fact).into(), fact.id());
    }
}

/// What the row of an event must say: every column that is a function of the fact.
/// [`super::prove`] asks ClickHouse for the same text.
pub(crate) fn row_of(fact: &Fact) -> String {
    let Fact { provider, source, kind, recipient, message_id, .. } = fact;
    let campaign = fact.told_campaign().unwrap_or_default();
    let permanence = match fact.kind {
        Kind::Bounced => fact.permanence.unwrap_or(Permanence::Hard).as_str(),
        _ => "",
    };
    let by = if fact.machine { "machine" } else { "person" };
    let at = fact.occurred_at_micros;
    format!("{provider}/{source} {kind} {recipient} {message_id} {campaign} {at} {permanence} {by}")
}

/// Our time for an event-time distance.
pub(crate) fn real(micros: i64) -> Duration {
    Duration::from_micros(u64::try_from(micros / COMPRESSION).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mail_goes_on_over_the_waves_nearly_in_order_and_every_fact_has_a_row_of_its_own() {
        let start = 1_795_255_200 * SECOND;
        let mail = Mail::new(3, &Credentials::new(""), start);
        let (mut clock, mut rows, mut ids) = (start, BTreeSet::new(), BTreeSet::new());
        let mut bounces = 0;
        for (at, facts) in mail.take_while(|(at, _)| *at < start + 3 * WAVE_MICROS) {
            assert!(clock - at < 6 * MINUTE, "waves overlap by a journey at most");
            clock = clock.max(at);
            for fact in facts.iter() {
                assert!(fact.occurred_at_micros <= at);
                assert_eq!(rows.insert(row_of(fact)), ids.insert(fact.id()), "{fact:?}");
                bounces += u32::from(fact.is_hard_bounce());
            }
        }
        assert!(ids.len() > 8_000, "{}", ids.len());
        assert!(bounces > 120, "a bad list was mailed: {bounces}");
    }

    #[test]
    fn lanes_and_closing_events_are_told_apart_too() {
        let lanes = Lane::all();
        let lanes =
            lanes.iter().flat_map(|lane| (0..3).map(|n| lane.fact(n, 7 * SECOND + 123_456)));
        let closing = closing(SECOND).into_iter().flat_map(|facts| facts.to_vec());
        let rows: BTreeSet<String> = lanes.chain(closing).map(|fact| row_of(&fact)).collect();
        assert_eq!(rows.len(), 12 + CLOSING_EVENTS as usize);
    }
}
