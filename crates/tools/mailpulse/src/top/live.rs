//! What the topics show: events per second, rates and open incidents. The memory is bounded, whatever they contain.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::{Duration, Instant};

use alerting::{Incident, IncidentId, IncidentState};
use event::Kind;
use jiff::Timestamp;
use kafka::OwnedRecord;
use kafka::tail::{Next, Start, Tail};
use record::names;
use window::{Scope, ScopeRate, Width};

use crate::installation::Installation;

/// The seconds over which events are counted.
pub(super) const WINDOW: usize = 10;
/// How far back rates are read. Windows of a day are published every five minutes.
const RATES_SINCE: i64 = 15 * 60 * 1000;
/// The greatest number of sources.
const MAX_SOURCES: usize = 1_000;
/// The greatest number of open incidents.
const MAX_INCIDENTS: usize = 5_000;
/// The greatest number of records that are read in a row from one topic.
const MAX_IN_A_ROW: usize = 100_000;

/// The number of events of each kind.
pub(super) type KindCounts = [u64; Kind::ALL.len()];

/// Readers of the topics, and what they have read.
pub(super) struct Live {
    events: Tail,
    rates: Tail,
    incidents: Tail,
    pub(super) state: State,
}

/// What is shown.
#[derive(Debug, Default)]
pub(super) struct State {
    /// The last seconds, the newest one at the back.
    seconds: VecDeque<Second>,
    /// When the newest event was received: UTC microseconds.
    pub(super) newest: Option<i64>,
    /// By source and width.
    pub(super) rates: BTreeMap<(String, usize), ScopeRate>,
    pub(super) incidents: HashMap<IncidentId, Incident>,
    /// Why Kafka does not answer.
    pub(super) away: Option<String>,
}

#[derive(Debug)]
struct Second {
    begin: Instant,
    by_source: BTreeMap<String, KindCounts>,
}

impl Live {
    /// # Errors
    /// If a topic is missing or Kafka cannot be reached.
    pub(super) fn open(installation: &Installation, now: Timestamp) -> Result<Self, kafka::Error> {
        let topics = &installation.topics;
        let open = |topic: &str, start| Tail::open(&installation.connection, "top", topic, start);
        let millis = now.as_millisecond();
        let window = i64::try_from(WINDOW).unwrap_or_default() * 1000;
        Ok(Self {
            events: open(&topics.events, Start::At(millis - window))?,
            rates: open(&topics.rates, Start::At(millis - RATES_SINCE))?,
            incidents: open(&topics.incidents, Start::Beginning)?,
            state: State::default(),
        })
    }

    /// Returns whether everything that was there at the beginning was read.
    pub(super) fn has_caught_up(&self) -> bool {
        [&self.events, &self.rates, &self.incidents].iter().all(|tail| tail.has_caught_up())
    }

    /// Reads what is there, and waits at most about `timeout` for more.
    ///
    /// # Errors
    /// [`kafka::Error::Kafka`] for errors from which only a new client recovers.
    pub(super) fn read(&mut self, timeout: Duration) -> Result<(), kafka::Error> {
        let Self { events, rates, incidents, state } = self;
        read(events, timeout, |record| state.add_event(record, Instant::now()))
            .and_then(|away| {
                state.away = away;
                read(rates, Duration::ZERO, |record| state.add_rate(record))
            })
            .and_then(|_| read(incidents, Duration::ZERO, |record| state.add_incident(record)))
            .map(drop)
    }
}

/// Returns why Kafka does not answer, if it does not.
fn read(
    tail: &mut Tail,
    timeout: Duration,
    mut receive: impl FnMut(&OwnedRecord),
) -> Result<Option<String>, kafka::Error> {
    for number in 0..MAX_IN_A_ROW {
        match tail.next(if number == 0 { timeout } else { Duration::ZERO })? {
            Next::Record(record) => receive(&record),
            Next::Nothing => break,
            Next::Away(reason) => return Ok(Some(reason)),
        }
    }
    Ok(None)
}

impl State {
    /// Counts a record of `mail.events` that was read at a time.
    pub(super) fn add_event(&mut self, record: &OwnedRecord, at: Instant) {
        let header = |name| record.header(name).and_then(|bytes| std::str::from_utf8(bytes).ok());
        let is_redriven = record.redriven_for().is_some();
        let Some(kind) = header(names::KIND).and_then(|name| name.parse::<Kind>().ok()) else {
            return; // a time record
        };
        if is_redriven {
            return;
        }
        let received_at = header(names::RECEIVED_AT).and_then(|text| text.parse().ok());
        self.newest = self.newest.max(received_at);
        let source = format!(
            "{}/{}",
            header(names::PROVIDER).unwrap_or("?"),
            header(names::SOURCE).unwrap_or("?")
        );
        let is_new = self.seconds.back().is_none_or(|it| at - it.begin >= Duration::from_secs(1));
        if is_new {
            self.seconds.push_back(Second { begin: at, by_source: BTreeMap::new() });
            self.drop_old(at);
        }
        if let Some(second) = self.seconds.back_mut() {
            let is_known = second.by_source.contains_key(&source);
            let source = if is_known || second.by_source.len() < MAX_SOURCES {
                source
            } else {
                "others".to_owned()
            };
            let counts = second.by_source.entry(source).or_default();
            if let Some(count) = counts.get_mut(kind as usize) {
                *count += 1;
            }
        }
    }

    fn drop_old(&mut self, now: Instant) {
        let window = Duration::from_secs(WINDOW as u64);
        while self.seconds.front().is_some_and(|it| now - it.begin > window) {
            self.seconds.pop_front();
        }
    }

    /// Returns the events of the last seconds by source.
    pub(super) fn by_source(&self, now: Instant) -> BTreeMap<&str, KindCounts> {
        let window = Duration::from_secs(WINDOW as u64);
        let mut sums: BTreeMap<&str, KindCounts> = BTreeMap::new();
        for second in self.seconds.iter().filter(|it| now - it.begin <= window) {
            for (source, counts) in &second.by_source {
                let sum = sums.entry(source).or_default();
                sum.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
            }
        }
        sums
    }

    /// Takes over a record of `mail.rates` if it is about a source.
    pub(super) fn add_rate(&mut self, record: &OwnedRecord) {
        let rate = record.value.as_deref().map(serde_json::from_slice::<ScopeRate>);
        let Some(Ok(rate)) = rate else { return };
        let Scope::Source { provider, source } = &rate.scope else { return };
        let Some(width) = Width::ALL.iter().position(|width| *width == rate.window.width) else {
            return;
        };
        let key = (format!("{provider}/{source}"), width);
        let newest = |it: &ScopeRate| (it.window.end, it.window.revision);
        let is_full = self.rates.len() >= MAX_SOURCES * Width::ALL.len();
        match self.rates.get(&key) {
            Some(known) if newest(known) >= newest(&rate) => {}
            None if is_full => {}
            _ => drop(self.rates.insert(key, rate)),
        }
    }

    /// Takes over a record of `mail.incidents`.
    pub(super) fn add_incident(&mut self, record: &OwnedRecord) {
        let Some(value) = record.value.as_deref() else {
            let id = std::str::from_utf8(&record.key).map(str::to_owned).map(IncidentId::try_from);
            if let Ok(Ok(id)) = id {
                self.incidents.remove(&id);
            }
            return;
        };
        let Ok(incident) = serde_json::from_slice::<Incident>(value) else { return };
        let known = self.incidents.get(&incident.id);
        if known.is_some_and(|known| known.seq >= incident.seq) {
            return;
        }
        if incident.state == IncidentState::Resolved {
            self.incidents.remove(&incident.id);
        } else if known.is_some() || self.incidents.len() < MAX_INCIDENTS {
            self.incidents.insert(incident.id, incident);
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use record::Offset;
    use window::{Counts, WindowResult};

    use super::*;

    pub(in super::super) fn event(source: &str, kind: &str, received_at: i64) -> OwnedRecord {
        let headers = [
            (names::PROVIDER, "sendgrid".to_owned()),
            (names::SOURCE, source.to_owned()),
            (names::KIND, kind.to_owned()),
            (names::RECEIVED_AT, received_at.to_string()),
        ];
        let headers = headers.map(|(name, value)| (name.to_owned(), value.into_bytes())).into();
        record(b"ada@example.com", Some(b"{}".to_vec()), headers)
    }

    fn record(key: &[u8], value: Option<Vec<u8>>, headers: Vec<(String, Vec<u8>)>) -> OwnedRecord {
        let (topic, key) = ("t".to_owned(), key.to_vec());
        OwnedRecord { topic, partition: 0, offset: Offset(0), key, value, headers }
    }

    #[test]
    fn events_are_counted_over_the_last_seconds() {
        let (mut state, begin) = (State::default(), Instant::now());
        let after = |seconds| begin + Duration::from_secs(seconds);
        state.add_event(&event("acme", "opened", 5), begin);
        state.add_event(&event("acme", "opened", 7), after(9));
        state.add_event(&event("shop", "bounced", 6), after(9));
        state.add_event(&event("shop", "no kind", 100), after(9));
        let mut redriven = event("shop", "bounced", 100);
        redriven.headers.push((names::REDRIVEN.to_owned(), b"archive".to_vec()));
        state.add_event(&redriven, after(9));
        assert_eq!(state.newest, Some(7));
        let counts = state.by_source(after(9));
        assert_eq!(counts["sendgrid/acme"][Kind::Opened as usize], 2);
        assert_eq!(counts["sendgrid/shop"].iter().sum::<u64>(), 1);
        let counts = state.by_source(after(15));
        assert_eq!(counts["sendgrid/acme"][Kind::Opened as usize], 1, "the first one is too old");
        assert!(state.by_source(after(30)).is_empty());
    }

    #[test]
    fn sources_are_bounded() {
        let (mut state, now) = (State::default(), Instant::now());
        for number in 0..MAX_SOURCES + 10 {
            state.add_event(&event(&format!("s{number}"), "opened", 0), now);
        }
        let counts = state.by_source(now);
        assert_eq!(counts.len(), MAX_SOURCES + 1);
        assert_eq!(counts["others"].iter().sum::<u64>(), 10);
    }

    #[test]
    fn the_newest_window_of_a_source_is_kept() {
        let mut state = State::default();
        let mut add = |end: i64, revision, delivered: i64| {
            let scope = Scope::Source { provider: event::Provider::Ses, source: "news".into() };
            let counts = Counts::of([(event::Counter::Delivered, delivered)]);
            let window = WindowResult::new(Width::M5, end, counts, revision);
            let value = serde_json::to_vec(&ScopeRate { scope, window }).unwrap();
            state.add_rate(&record(b"source/ses/news", Some(value), Vec::new()));
        };
        add(20_000_000, 0, 5);
        add(30_000_000, 1, 7);
        add(30_000_000, 0, 6);
        add(10_000_000, 9, 4);
        let [rate] = &state.rates.values().collect::<Vec<_>>()[..] else { panic!() };
        assert_eq!(rate.window.rates.sent, 7);
    }
}
