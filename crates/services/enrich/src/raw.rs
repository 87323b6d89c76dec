//! A record of `mail.raw.*`, without the Kafka around it.

use event::Provider;
use providers::{Envelope, ParseError};
use record::{HeaderError, RawHeaders, Reason};

/// One event at one recipient as the ingress publishes it.
#[derive(Debug, Clone, Copy)]
pub struct RawRecord<'a> {
    /// Who posted it.
    pub provider: Provider,
    /// What the ingress knows of it beside its bytes.
    pub envelope: Envelope<'a>,
    /// The provider's own bytes.
    pub value: &'a [u8],
}

/// Why a record is not an event. What it says is the `detail` of the dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// A header that every raw record has is missing, or is not in its form.
    #[error(transparent)]
    Headers(#[from] HeaderError),
    /// The key is no recipient.
    #[error("the key is not text")]
    Key,
    /// The bytes are no event of their provider's.
    #[error(transparent)]
    Value(#[from] ParseError),
}

impl<'a> RawRecord<'a> {
    /// Reads a record's headers, by name, and its key.
    ///
    /// # Errors
    /// When the ingress would not have written them so.
    pub fn read(
        headers: &impl Fn(&str) -> Option<&'a [u8]>,
        key: &'a [u8],
        value: &'a [u8],
    ) -> Result<Self, Unreadable> {
        let headers = RawHeaders::read(headers)?;
        let recipient = std::str::from_utf8(key).map_err(|_| Unreadable::Key)?;
        let envelope = Envelope {
            source: headers.source,
            recipient,
            received_at: headers.received_at,
            request_id: headers.request_id,
        };
        Ok(Self { provider: headers.provider, envelope, value })
    }
}

impl Unreadable {
    /// The code of the dead letter.
    pub const fn reason(&self) -> Reason {
        match self {
            Self::Headers(_) | Self::Key => Reason::BadHeaders,
            Self::Value(ParseError::NotUtf8) => Reason::NotUtf8,
            Self::Value(ParseError::NotJson { .. }) => Reason::NotJson,
            Self::Value(ParseError::WrongShape(_)) => Reason::WrongShape,
            Self::Value(ParseError::MissingTime) => Reason::MissingTime,
            Self::Value(ParseError::UnreadableTime) => Reason::UnreadableTime,
            Self::Value(ParseError::TimeOutOfRange) => Reason::TimeOutOfRange,
        }
    }
}

#[cfg(test)]
mod tests {
    use record::names;

    use super::*;

    const HEADERS: [(&str, &[u8]); 4] = [
        (names::PROVIDER, b"postmark"),
        (names::SOURCE, b"receipts"),
        (names::RECEIVED_AT, b"1800000000000000"),
        (names::REQUEST_ID, b"r1"),
    ];

    fn read<'a>(headers: &[(&str, &'a [u8])], key: &'a [u8]) -> Result<RawRecord<'a>, Unreadable> {
        let header = |name: &str| headers.iter().find(|header| header.0 == name).map(|it| it.1);
        RawRecord::read(&header, key, b"{}")
    }

    #[test]
    fn a_record_is_what_the_ingress_said_of_it() {
        let record = read(&HEADERS, b"ada@example.com").unwrap();
        let Envelope { source, recipient, received_at, request_id } = record.envelope;
        assert_eq!((record.provider, record.value), (Provider::Postmark, &b"{}"[..]));
        assert_eq!((source, recipient, request_id), ("receipts", "ada@example.com", "r1"));
        assert_eq!(received_at.micros(), 1_800_000_000_000_000);
    }

    #[test]
    fn a_missing_header_and_a_key_that_is_no_text_are_told() {
        for missing in 0..HEADERS.len() {
            let mut headers = HEADERS.to_vec();
            let (name, _) = headers.remove(missing);
            let why = read(&headers, b"").unwrap_err();
            assert_eq!(why.reason(), Reason::BadHeaders);
            assert_eq!(why.to_string(), format!("header `{name}` is missing or malformed"));
        }
        let why = read(&HEADERS, b"ada@\xff").unwrap_err();
        assert_eq!((why.reason(), &*why.to_string()), (Reason::BadHeaders, "the key is not text"));
    }
}
