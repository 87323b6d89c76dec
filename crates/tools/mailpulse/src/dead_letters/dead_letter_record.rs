use event::Provider;
use jiff::Timestamp;
use kafka::OwnedRecord;
use kafka::dead_letters::Entry;
use record::{DeadLetterHeaders, Reason, Stage, names};

use crate::args::Filters;
use crate::dead_letter_id::DeadLetterId;

/// A record of `mail.dead-letters`: a dead letter or a marker.
#[derive(Debug)]
pub(crate) struct DeadLetterRecord<'a> {
    pub(crate) id: DeadLetterId,
    /// The key of the original record.
    pub(crate) key: &'a [u8],
    /// The value of the original record.
    pub(crate) value: &'a [u8],
    /// The headers of the original record, followed by those that the stage added.
    pub(crate) headers: Vec<(&'a str, &'a [u8])>,
    /// The headers that the stage added.
    pub(crate) added: DeadLetterHeaders<'a>,
}

impl<'a> DeadLetterRecord<'a> {
    pub(crate) fn from_entry(entry: &Entry<'a>) -> Self {
        let record = &entry.record;
        let id = DeadLetterId { partition: record.partition(), offset: record.offset().0 };
        let value = record.value().unwrap_or_default();
        Self::new(id, record.key(), value, record.headers().collect())
    }

    pub(crate) fn from_owned(record: &'a OwnedRecord) -> Self {
        let id = DeadLetterId { partition: record.partition, offset: record.offset.0 };
        let headers = record.headers.iter().map(|(name, value)| (name.as_str(), &value[..]));
        Self::new(id, &record.key, record.value.as_deref().unwrap_or_default(), headers.collect())
    }

    fn new(
        id: DeadLetterId,
        key: &'a [u8],
        value: &'a [u8],
        headers: Vec<(&'a str, &'a [u8])>,
    ) -> Self {
        let added = DeadLetterHeaders::read(&headers);
        Self { id, key, value, headers, added }
    }

    /// Whether it is a marker: another dead letter was redriven.
    pub(crate) fn is_marker(&self) -> bool {
        self.reason() == Some(Reason::Redriven)
    }

    /// Returns `None` for a code that this release does not know.
    pub(crate) fn reason(&self) -> Option<Reason> {
        Reason::from_code(self.added.reason)
    }

    /// Returns `None` for a stage that this release does not know.
    pub(crate) fn stage(&self) -> Option<Stage> {
        Stage::from_code(self.added.stage)
    }

    /// Returns the provider in the headers of the original record. Rates and alerts have none.
    pub(crate) fn provider(&self) -> Option<Provider> {
        self.header(names::PROVIDER).parse().ok()
    }

    /// Returns the first header with this name as text, or an empty text.
    pub(crate) fn header(&self, name: &str) -> &'a str {
        let value = self.headers.iter().find(|(key, _)| *key == name);
        value.and_then(|(_, value)| std::str::from_utf8(value).ok()).unwrap_or_default()
    }
}

pub(crate) fn written_at(entry: &Entry<'_>) -> Timestamp {
    Timestamp::from_millisecond(entry.written_at).unwrap_or_default()
}

impl Filters {
    /// Whether a dead letter matches every given filter.
    pub(crate) fn matches(
        &self,
        dead_letter: &DeadLetterRecord<'_>,
        written_at: Timestamp,
    ) -> bool {
        fn is_any_of<T: PartialEq>(wanted: &[T], found: Option<T>) -> bool {
            wanted.is_empty() || found.is_some_and(|found| wanted.contains(&found))
        }
        is_any_of(&self.reasons, dead_letter.reason())
            && is_any_of(&self.stages, dead_letter.stage())
            && is_any_of(&self.providers, dead_letter.provider())
            && is_any_of(&self.sources, Some(dead_letter.header(names::SOURCE).to_owned()))
            && self.since.is_none_or(|since| written_at >= since)
            && self.until.is_none_or(|until| written_at < until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dead_letter_must_match_every_given_filter() {
        let dead_letter = DeadLetterRecord::new(
            DeadLetterId { partition: 0, offset: 0 },
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
        let matches = |filters: &Filters| filters.matches(&dead_letter, noon);
        let matching = Filters {
            reasons: vec![Reason::WrongShape, Reason::NotJson],
            providers: vec![Provider::Postmark],
            sources: vec!["receipts".to_owned()],
            stages: vec![Stage::Enrich],
            since: Some(noon),
            until: Some(at("2026-11-21T12:00:01Z")),
        };
        assert!(matches(&matching));
        assert!(matches(&Filters::default()));
        for other in [
            Filters { reasons: vec![Reason::WrongShape], ..matching.clone() },
            Filters { providers: vec![Provider::Ses], ..matching.clone() },
            Filters { sources: vec!["acme".to_owned()], ..matching.clone() },
            Filters { stages: vec![Stage::Ingress], ..matching.clone() },
            Filters { since: Some(at("2026-11-21T12:00:01Z")), ..matching.clone() },
            Filters { until: Some(noon), ..matching.clone() },
        ] {
            assert!(!matches(&other), "{other:?}");
        }
    }
}
