//! A record of `mail.raw.*`, independent of Kafka.

use event::Provider;
use providers::{Envelope, ParseError};
use record::{HeaderError, RawHeaders, Reason, names};

/// A raw event for one recipient, as the ingress publishes it.
#[derive(Debug, Clone, Copy)]
pub struct RawRecord<'a> {
    /// The provider that posted the event.
    pub provider: Provider,
    /// The source, recipient, time of receipt and request id.
    pub envelope: Envelope<'a>,
    /// The raw event: the provider's bytes.
    pub value: &'a [u8],
    /// True if the body was split with the mapping of its source.
    pub is_mapped: bool,
    /// False if the request failed verification and only the shadow mode of its source admitted it.
    pub is_authentic: bool,
}

/// The reason why a record cannot be parsed. Its text becomes the `detail` of the dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// A required header is missing or malformed.
    #[error(transparent)]
    Headers(#[from] HeaderError),
    /// The key is not a recipient.
    #[error("the record key is not UTF-8")]
    Key,
    /// The value is not an event of the provider.
    #[error(transparent)]
    Value(#[from] ParseError),
}

impl<'a> RawRecord<'a> {
    /// Reads the headers and the key of a record.
    ///
    /// # Errors
    /// Fails if a header is missing or malformed, or if the key is not UTF-8.
    pub fn read(
        headers: &impl Fn(&str) -> Option<&'a [u8]>,
        key: &'a [u8],
        value: &'a [u8],
    ) -> Result<Self, Unreadable> {
        let is_mapped = headers(names::MAPPED).is_some();
        let headers = RawHeaders::read(headers)?;
        let recipient = std::str::from_utf8(key).map_err(|_| Unreadable::Key)?;
        let envelope = Envelope {
            source: headers.source,
            recipient,
            received_at: headers.received_at,
            request_id: headers.request_id,
        };
        let is_authentic = headers.authentic;
        Ok(Self { provider: headers.provider, envelope, value, is_mapped, is_authentic })
    }
}

impl Unreadable {
    /// Returns the reason for the dead letter.
    pub const fn reason(&self) -> Reason {
        match self {
            Self::Headers(_) | Self::Key => Reason::BadHeaders,
            Self::Value(ParseError::NotUtf8) => Reason::NotUtf8,
            Self::Value(ParseError::NotJson { .. }) => Reason::NotJson,
            Self::Value(ParseError::WrongShape(_)) => Reason::WrongShape,
            Self::Value(ParseError::MissingTime) => Reason::MissingTime,
            Self::Value(ParseError::UnreadableTime) => Reason::UnreadableTime,
            Self::Value(ParseError::TimeOutOfRange) => Reason::TimeOutOfRange,
            Self::Value(ParseError::NoMapping) => Reason::NoMapping,
        }
    }
}

#[cfg(test)]
mod tests {
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
    fn headers_and_key_are_read() {
        let record = read(&HEADERS, b"ada@example.com").unwrap();
        let Envelope { source, recipient, received_at, request_id } = record.envelope;
        assert_eq!((record.provider, record.value), (Provider::Postmark, &b"{}"[..]));
        assert_eq!((source, recipient, request_id), ("receipts", "ada@example.com", "r1"));
        assert_eq!(received_at.micros(), 1_800_000_000_000_000);
    }

    #[test]
    fn the_ingress_marks_records_that_need_a_mapping() {
        assert!(!read(&HEADERS, b"").unwrap().is_mapped);
        let mapped = [&HEADERS[..], &[(names::MAPPED, b"")]].concat();
        assert!(read(&mapped, b"").unwrap().is_mapped);
        assert_eq!(Unreadable::Value(ParseError::NoMapping).reason(), Reason::NoMapping);
    }

    #[test]
    fn the_ingress_marks_records_that_only_shadow_mode_admitted() {
        assert!(read(&HEADERS, b"").unwrap().is_authentic);
        let unauthentic = [&HEADERS[..], &[(names::UNAUTHENTIC, b"")]].concat();
        assert!(!read(&unauthentic, b"").unwrap().is_authentic);
    }

    #[test]
    fn a_missing_header_and_a_binary_key_are_rejected() {
        for missing in 0..HEADERS.len() {
            let mut headers = HEADERS.to_vec();
            let (name, _) = headers.remove(missing);
            let why = read(&headers, b"").unwrap_err();
            assert_eq!(why.reason(), Reason::BadHeaders);
            assert_eq!(why.to_string(), format!("header `{name}` is missing or malformed"));
        }
        let why = read(&HEADERS, b"ada@\xff").unwrap_err();
        assert_eq!(
            (why.reason(), &*why.to_string()),
            (Reason::BadHeaders, "the record key is not UTF-8")
        );
    }
}
