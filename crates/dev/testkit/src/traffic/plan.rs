use event::Provider;

use crate::clock::{MINUTE, SECOND};
use crate::rates::STEP_MICROS;
use crate::{Credentials, SOURCES};

/// How long after the last real event the closing ones follow: longer than the widest window of
/// the demo's rules (60 minutes), so every window that held real events has closed.
pub(crate) const CLOSING_GAP_MICROS: i64 = 70 * MINUTE;
/// Closing events, each at a recipient of its own, so that every partition sees some.
pub(crate) const CLOSING_EVENTS: usize = 240;
/// A message's last event follows its sending within this time; see `journey.rs`.
pub(crate) const LONGEST_JOURNEY_MICROS: i64 = 5 * MINUTE;

/// What [`crate::Traffic`] should contain. Start from [`Plan::demo`] or [`Plan::small`] and change
/// what matters.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Whose keys sign the requests.
    pub credentials: Credentials,
    /// The Unix second that signatures are dated with: the caller's now. Providers' tolerances
    /// are counted from it (300 s for generic sources, hours for the others).
    pub signed_at_unix: i64,
    /// The event time of the first message, UTC microseconds since the Unix epoch.
    pub start_micros: i64,
    /// The span of event time over which messages are sent, in microseconds.
    pub duration_micros: i64,
    /// Messages per source, evenly spread (those of [`Plan::burst`] come on top).
    pub messages_per_source: usize,
    /// For how long a source sends that is not the burst's, in microseconds, at the pace of one that
    /// sends all the time. They begin one after the other; the last ends with the plan. `None`: all
    /// the time.
    pub turn_micros: Option<i64>,
    /// The sources that send.
    pub sources: Vec<(Provider, String)>,
    /// One source's bad quarter of an hour: the only thing in the traffic worth an alert.
    pub burst: Option<Burst>,
    /// Share of requests posted a second time, 2 seconds to 3 minutes of event time later.
    pub duplicate_share: f64,
    /// Share of opened messages whose first open is posted before their delivery.
    pub reorder_share: f64,
    /// Share of delivered messages that a machine opens, at providers that say so (elsewhere only
    /// the user agent would tell).
    pub machine_open_share: f64,
    /// Authentic requests that cannot be read, by provider: one dead letter each.
    pub malformed: Vec<(Provider, usize)>,
    /// Requests signed with keys nobody has configured: refused, all of them.
    pub bad_signatures: usize,
    /// Whether to end with [`Traffic`](crate::Traffic)'s closing events, 70 minutes later.
    pub closing: bool,
}

/// A source mails a bad list: many messages at once, many of them to addresses that do not exist.
#[derive(Debug, Clone)]
pub struct Burst {
    /// The source (one of [`Plan::sources`]).
    pub source: (Provider, String),
    /// When it begins, in microseconds after [`Plan::start_micros`].
    pub after_micros: i64,
    /// How long it lasts, in microseconds.
    pub duration_micros: i64,
    /// Messages in it, on top of the source's steady ones.
    pub messages: usize,
    /// Share of them that bounce hard, 0 to 1.
    pub bounce_share: f64,
    /// The same source's healthy messages in a second burst that begins 62 minutes after the
    /// first ended and lasts 15: enough volume in the short windows to see that it is well again.
    pub recovery_messages: usize,
}

/// When a source sends its messages, and how many.
pub(crate) struct Turn {
    /// Microseconds after [`Plan::start_micros`].
    pub(crate) after_micros: i64,
    pub(crate) duration_micros: i64,
    pub(crate) messages: usize,
}

impl Plan {
    /// The demo: one source at each provider. SendGrid's `acme` sends 850 messages in 170 minutes and
    /// mails a bad list from minute 60 to 66; the others send 300 in an hour, enough for a rule to
    /// judge them by. `now_unix` is the caller's clock; every event lies before it, since an event
    /// from the future would not move the pipeline's event time.
    pub fn demo(credentials: &Credentials, now_unix: i64) -> Self {
        let plan = Self {
            duration_micros: 170 * MINUTE,
            messages_per_source: 850,
            turn_micros: Some(60 * MINUTE),
            sources: named(&SOURCES[..Provider::ALL.len()]),
            burst: Some(Burst::acme()),
            malformed: Provider::ALL.map(|provider| (provider, 1)).to_vec(),
            bad_signatures: Provider::ALL.len(),
            ..Self::small(credentials, now_unix)
        };
        plan.ending_at(now_unix)
    }

    /// A few hundred events for integration tests: five sources, 30 messages each in 10 minutes,
    /// everything healthy, nothing malformed or forged; closing events follow.
    pub fn small(credentials: &Credentials, now_unix: i64) -> Self {
        let plan = Self {
            credentials: credentials.clone(),
            signed_at_unix: now_unix,
            start_micros: 0,
            duration_micros: 10 * MINUTE,
            messages_per_source: 30,
            turn_micros: None,
            sources: named(&SOURCES[..5]),
            burst: None,
            duplicate_share: 0.05,
            reorder_share: 0.05,
            machine_open_share: 0.1,
            malformed: Vec::new(),
            bad_signatures: 0,
            closing: true,
        };
        plan.ending_at(now_unix)
    }

    /// The same plan, moved so that all of its events lie in the last hours before `now_unix`. It
    /// begins where windows slide, so which of them an event falls into depends on nothing but the
    /// seed: around a threshold, a second more or less would make one episode two.
    #[must_use]
    pub fn ending_at(self, now_unix: i64) -> Self {
        let latest = now_unix * SECOND - self.span_micros();
        Self { start_micros: latest.div_euclid(STEP_MICROS) * STEP_MICROS, ..self }
    }

    /// Whether it is the `index`th source that mails the bad list.
    pub(crate) fn has_burst(&self, index: usize) -> bool {
        self.burst.as_ref().is_some_and(|burst| burst.source == self.sources[index])
    }

    /// When the `index`th source sends, and how much, without the messages of a burst.
    pub(crate) fn turn(&self, index: usize) -> Turn {
        let (whole, messages) = (self.duration_micros, self.messages_per_source);
        match self.turn_micros {
            Some(duration_micros) if duration_micros < whole && !self.has_burst(index) => {
                let last = self.sources.len().max(2) - 1;
                Turn {
                    after_micros: (whole - duration_micros) * index as i64 / last as i64,
                    duration_micros,
                    messages: (messages as i64 * duration_micros / whole) as usize,
                }
            }
            _ => Turn { after_micros: 0, duration_micros: whole, messages },
        }
    }

    /// Event time from the first event to the last, closing ones included; an upper bound.
    pub fn span_micros(&self) -> i64 {
        let closing = if self.closing { CLOSING_GAP_MICROS + MINUTE } else { 0 };
        self.duration_micros + LONGEST_JOURNEY_MICROS + closing
    }
}

impl Burst {
    /// The demo's: 300 messages in 6 minutes, half of them to addresses that do not exist, which
    /// is a quarter of what the source sends in that hour.
    pub fn acme() -> Self {
        let (provider, name) = SOURCES[0];
        Self {
            source: (provider, name.to_owned()),
            after_micros: 60 * MINUTE,
            duration_micros: 6 * MINUTE,
            messages: 300,
            bounce_share: 0.5,
            recovery_messages: 150,
        }
    }
}

fn named(sources: &[(Provider, &str)]) -> Vec<(Provider, String)> {
    sources.iter().map(|&(provider, name)| (provider, name.to_owned())).collect()
}
