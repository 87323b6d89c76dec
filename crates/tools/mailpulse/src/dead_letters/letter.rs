//! One letter.

use event::Provider;
use jiff::Timestamp;
use record::{DeadLetter, Reason, Stage, names};
use kafka::OwnedRecord;
use kafka::letters::Entry;

use crate::args::Filters;
use crate::letter_id::LetterId;

/// A record of `mail.dead-letters`.
#[derive(Debug)]
pub(crate) struct Letter<'a> {
    /// Where it lies.
    pub(crate) id: LetterId,
    /// The original record's key.
    pub(crate) key: &'a [u8],
    /// The original record's value.
    pub(crate) value: &'a [u8],
    /// All headers: the original record's, and behind them those of its death.
    pub(crate) headers: Vec<(&'a str, &'a [u8])>,
    /// What was said of it when it died.
    pub(crate) death: DeadLetter<'a>,
}

impl<'a> Letter<'a> {
    /// Of a record that is being read.
    pub(crate) fn read(entry: &Entry<'a>) -> Self {
        let record = &entry.record;
        let id = LetterId { partition: record.partition(), offset: record.offset() };
        let value = record.value().unwrap_or_default();
        Self::new(id, record.key(), value, record.headers().collect())
    }

    /// Of a record that was kept.
    pub(crate) fn of(record: &'a OwnedRecord) -> Self {
        let id = LetterId { partition: record.partition, offset: record.offset };
        let headers = record.headers.iter().map(|(name, value)| (name.as_str(), &value[..]));
        Self::new(id, &record.key, record.value.as_deref().unwrap_or_default(), headers.collect())
    }

    fn new(
        id: LetterId,
        key: &'a [u8],
        value: &'a [u8],
        headers: Vec<(&'a str, &'a [u8])>,
    ) -> Self {
        let death = DeadLetter::read(&headers);
        Self { id, key, value, headers, death }
    }

    /// Whether it is no letter, but says that one was redriven.
    pub(crate) fn is_marker(&self) -> bool {
        self.reason() == Some(Reason::Redriven)
    }

    /// Why it was given up on; `None` for a code of a later release.
    pub(crate) fn reason(&self) -> Option<Reason> {
        Reason::from_code(self.death.reason)
    }

    /// Who gave up on it; `None` for a stage of a later release.
    pub(crate) fn stage(&self) -> Option<Stage> {
        Stage::from_code(self.death.stage)
    }

    /// Who posted it, as the original record says; `None` also for events of rates and alerts.
    pub(crate) fn provider(&self) -> Option<Provider> {
        self.header(names::PROVIDER).parse().ok()
    }

    /// The first header of that name as text; empty when there is none.
    pub(crate) fn header(&self, name: &str) -> &'a str {
        let value = self.headers.iter().find(|(key, _)| *key == name);
        value.and_then(|(_, value)| std::str::from_utf8(value).ok()).unwrap_or_default()
    }
}

/// When a letter was written.
pub(crate) fn written_at(entry: &Entry<'_>) -> Timestamp {
    Timestamp::from_millisecond(entry.written_at).unwrap_or_default()
}

impl Filters {
    /// Whether the letter is asked for.
    pub(crate) fn let_pass(&self, letter: &Letter<'_>, written_at: Timestamp) -> bool {
        fn is_any<T: PartialEq>(wanted: &[T], found: Option<T>) -> bool {
            wanted.is_empty() || found.is_some_and(|found| wanted.contains(&found))
        }
        is_any(&self.reasons, letter.reason())
            && is_any(&self.stages, letter.stage())
            && is_any(&self.providers, letter.provider())
            && is_any(&self.sources, Some(letter.header(names::SOURCE).to_owned()))
            && self.since.is_none_or(|since| written_at >= since)
            && self.until.is_none_or(|until| written_at < until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_filter_given_has_to_let_a_letter_pass() {
        let letter = Letter::new(
            LetterId { partition: 0, offset: 0 },
            b"",
            b"",
            vec![
                (names::PROVIDER, b"postmark"),
                (names::SOURCE, b"receipts"),
                (names::REASON, b"not_json"),
                (names::STAGE, b"enrich"),
            ],
        );
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let noon = at("2026-11-21T12:00:00Z");
        let passes = |filters: &Filters| filters.let_pass(&letter, noon);
        let fitting = Filters {
            reasons: vec![Reason::WrongShape, Reason::NotJson],
            providers: vec![Provider::Postmark],
            sources: vec!["receipts".to_owned()],
            stages: vec![Stage::Enrich],
            since: Some(noon),
            until: Some(at("2026-11-21T12:00:01Z")),
        };
        assert!(passes(&fitting));
        assert!(passes(&Filters::default()));
        for spoilt in [
            Filters { reasons: vec![Reason::WrongShape], ..fitting.clone() },
            Filters { providers: vec![Provider::Ses], ..fitting.clone() },
            Filters { sources: vec!["acme".to_owned()], ..fitting.clone() },
            Filters { stages: vec![Stage::Ingress], ..fitting.clone() },
            Filters { since: Some(at("2026-11-21T12:00:01Z")), ..fitting.clone() },
            Filters { until: Some(noon), ..fitting.clone() },
        ] {
            assert!(!passes(&spoilt), "{spoilt:?}");
        }
    }
}
