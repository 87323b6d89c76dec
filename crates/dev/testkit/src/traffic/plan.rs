use event::Provider;

use crate::rates::STEP_MICROS;
use crate::time_formats::{MINUTE, SECOND};
use crate::{Credentials, PROVIDERS, SOURCES};

/// Time between the last ordinary event and the closing events. It is longer than the widest window
/// of the demo's rules (60 minutes), so every window with ordinary events closes.
pub(crate) const CLOSING_GAP_MICROS: i64 = 70 * MINUTE;
/// Each closing event has another recipient, so that every partition receives some.
pub(crate) const CLOSING_EVENTS: usize = 240;
/// Upper bound for the time from sending a message to its last event; see `source_events.rs`.
pub(crate) const LONGEST_LIFE_MICROS: i64 = 5 * MINUTE;

/// What [`crate::Traffic`] contains. Start from [`Plan::demo`] or [`Plan::small`] and change
/// fields.
#[derive(Debug, Clone)]
pub struct Plan {
    pub credentials: Credentials,
    /// The time of the signatures in Unix seconds. Requests must be posted within the tolerance of
    /// their source (300 s for generic sources, hours for the others).
    pub signed_at_unix: i64,
    /// Event time of the first message, UTC microseconds since the Unix epoch.
    pub start_micros: i64,
    /// Event time from the first to the last sending, in microseconds.
    pub duration_micros: i64,
    /// Evenly distributed; the messages of [`Plan::burst`] come in addition.
    pub messages_per_source: usize,
    /// How long each source sends, in microseconds, at the rate of a source that sends for the
    /// whole duration. The sources start one after the other, and the last one ends with the plan.
    /// The source of the burst sends for the whole duration, and with `None` every source does.
    pub sending_period_micros: Option<i64>,
    pub sources: Vec<(Provider, String)>,
    /// The only part of the traffic that causes an alert.
    pub burst: Option<Burst>,
    /// Share of requests that are posted again, 2 seconds to 3 minutes of event time later.
    pub duplicate_share: f64,
    /// Share of opened messages whose first open is posted before their delivery.
    pub reorder_share: f64,
    /// Share of delivered messages that a machine opens, at providers with a flag for it.
    pub machine_open_share: f64,
    /// Number of authentic requests with a malformed body, by provider. Each becomes a dead letter.
    pub malformed: Vec<(Provider, usize)>,
    /// Number of requests signed with keys that are not configured. All of them are rejected.
    pub bad_signatures: usize,
    /// Whether closing events follow 70 minutes later, which close all windows.
    pub closing: bool,
}

/// A source sends many messages in a short time, many of them to addresses that do not exist.
#[derive(Debug, Clone)]
pub struct Burst {
    /// One of [`Plan::sources`].
    pub source: (Provider, String),
    /// Start, in microseconds after [`Plan::start_micros`].
    pub after_micros: i64,
    pub duration_micros: i64,
    /// In addition to the source's other messages.
    pub messages: usize,
    /// Share of these messages that bounce hard, 0 to 1.
    pub bounce_share: f64,
    /// Number of messages without bounces in a second burst of the same source, which begins 62
    /// minutes after the first one and lasts 15 minutes. Without them, the short windows would have
    /// too few messages to resolve the alert.
    pub recovery_messages: usize,
}

/// When a source sends messages, and how many.
pub(crate) struct SendingPeriod {
    /// Microseconds after [`Plan::start_micros`].
    pub(crate) after_micros: i64,
    pub(crate) duration_micros: i64,
    pub(crate) messages: usize,
}

impl Plan {
    /// Returns the demo's plan: one source for each provider. SendGrid's `acme` sends 850 messages
    /// in 170 minutes, with a burst from minute 60 to 66. The others send 300 in an hour, which is
    /// enough for the rules. All events are before `now_unix`, because an event in the future would
    /// not advance the pipeline's event time.
    pub fn demo(credentials: &Credentials, now_unix: i64) -> Self {
        let plan = Self {
            duration_micros: 170 * MINUTE,
            messages_per_source: 850,
            sending_period_micros: Some(60 * MINUTE),
            sources: with_owned_names(&SOURCES[..PROVIDERS.len()]),
            burst: Some(Burst::acme()),
            malformed: PROVIDERS.map(|provider| (provider, 1)).to_vec(),
            bad_signatures: PROVIDERS.len(),
            ..Self::small(credentials, now_unix)
        };
        plan.ending_at(now_unix)
    }

    /// Returns a plan for integration tests with a few hundred events: five sources with 30
    /// messages each in 10 minutes and closing events, without a burst, malformed or forged
    /// requests.
    pub fn small(credentials: &Credentials, now_unix: i64) -> Self {
        let plan = Self {
            credentials: credentials.clone(),
            signed_at_unix: now_unix,
            start_micros: 0,
            duration_micros: 10 * MINUTE,
            messages_per_source: 30,
            sending_period_micros: None,
            sources: with_owned_names(&SOURCES[..5]),
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

    /// Moves the plan so that its last event is shortly before `now_unix`. The start is a multiple
    /// of the step of windows, so the seed alone determines which windows contain an event.
    /// Otherwise one second more or less could change a rate near the threshold, and the number of
    /// alerts.
    #[must_use]
    pub fn ending_at(self, now_unix: i64) -> Self {
        let latest = now_unix * SECOND - self.span_micros();
        Self { start_micros: latest.div_euclid(STEP_MICROS) * STEP_MICROS, ..self }
    }

    /// Whether the source with this index has the burst.
    pub(crate) fn has_burst(&self, index: usize) -> bool {
        self.burst.as_ref().is_some_and(|burst| burst.source == self.sources[index])
    }

    /// Returns when the source with this index sends, and how much, without the burst.
    pub(crate) fn sending_period(&self, index: usize) -> SendingPeriod {
        let (whole, messages) = (self.duration_micros, self.messages_per_source);
        match self.sending_period_micros {
            Some(duration_micros) if duration_micros < whole && !self.has_burst(index) => {
                let last = self.sources.len().max(2) - 1;
                SendingPeriod {
                    after_micros: (whole - duration_micros) * index as i64 / last as i64,
                    duration_micros,
                    messages: (messages as i64 * duration_micros / whole) as usize,
                }
            }
            _ => SendingPeriod { after_micros: 0, duration_micros: whole, messages },
        }
    }

    /// Returns an upper bound for the event time from the first event to the last, in microseconds.
    pub fn span_micros(&self) -> i64 {
        let closing = if self.closing { CLOSING_GAP_MICROS + MINUTE } else { 0 };
        self.duration_micros + LONGEST_LIFE_MICROS + closing
    }
}

impl Burst {
    /// Returns the demo's burst: 300 messages in 6 minutes. Half of them bounce, which is a quarter
    /// of what the source sends in that hour.
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

fn with_owned_names(sources: &[(Provider, &str)]) -> Vec<(Provider, String)> {
    sources.iter().map(|&(provider, name)| (provider, name.to_owned())).collect()
}
