use event::{EventId, Kind, OccurredAt};
use kafka::Record;
use record::names;

/// What finds an event in the table `events`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct EventKey {
    /// As in the column: 32 hexadecimal digits.
    pub(crate) event_id: String,
    pub(crate) source: String,
    pub(crate) kind: Kind,
    pub(crate) occurred_at: OccurredAt,
}

impl EventKey {
    /// Reads the headers of an event that dedupe could not judge, because it is older than dedupe
    /// remembers. Returns `None` for any other record.
    pub(crate) fn of_unjudged(record: &Record<'_>) -> Option<Self> {
        record.header(names::UNJUDGED)?;
        let text = |name| std::str::from_utf8(record.header(name)?).ok();
        Some(Self {
            event_id: EventId::from_bytes(record.header(names::EVENT_ID)?)?.to_string(),
            source: text(names::SOURCE)?.to_owned(),
            kind: text(names::KIND)?.parse().ok()?,
            occurred_at: OccurredAt(text(names::OCCURRED_AT)?.parse().ok()?),
        })
    }
}
