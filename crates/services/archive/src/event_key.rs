use event::{Kind, OccurredAt};
use kafka::Record;
use record::{EnrichedHeaders, names, text_header};

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
        let header = |name: &str| record.header(name);
        let EnrichedHeaders { event_id, kind, occurred_at, .. } =
            EnrichedHeaders::read(&header).ok()?;
        let source = text_header(&header, names::SOURCE).ok()?.to_owned();
        Some(Self { event_id: event_id.to_string(), source, kind, occurred_at })
    }
}
