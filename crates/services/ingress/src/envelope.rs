//! What is known of a request beside its body: the headers of its records, and of its entry in the
//! spool.

use event::{Provider, ReceivedAt};
use record::names;
use serde::{Deserialize, Serialize};
use kafka::PreparedHeaders;

/// Who posted, under which source, when, in which request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Envelope {
    pub(crate) provider: Provider,
    pub(crate) source: String,
    pub(crate) received_at: ReceivedAt,
    pub(crate) request_id: String,
}

impl Envelope {
    /// The headers that all records of the request share.
    pub(crate) fn headers(&self) -> PreparedHeaders {
        self.headers_and(&[])
    }

    /// Those and some of one record.
    pub(crate) fn headers_and(&self, further: &[(&str, &[u8])]) -> PreparedHeaders {
        let received_at = self.received_at.micros().to_string();
        let own: [(&str, &[u8]); 4] = [
            (names::PROVIDER, self.provider.as_str().as_bytes()),
            (names::SOURCE, self.source.as_bytes()),
            (names::RECEIVED_AT, received_at.as_bytes()),
            (names::REQUEST_ID, self.request_id.as_bytes()),
        ];
        PreparedHeaders::new(&[&own, further].concat())
    }

    /// The spool's entry of a request: the length of the envelope (4 bytes little-endian), the
    /// envelope as JSON, the body as it was received.
    pub(crate) fn seal(&self, body: &[u8]) -> Result<Vec<u8>, serde_json::Error> {
        let mut entry = vec![0; 4];
        serde_json::to_writer(&mut entry, self)?;
        let length = u32::try_from(entry.len() - 4).unwrap_or(u32::MAX);
        entry[..4].copy_from_slice(&length.to_le_bytes());
        entry.extend_from_slice(body);
        Ok(entry)
    }

    /// Reads an entry; `None` when it is of a form this version does not know.
    pub(crate) fn open(entry: &[u8]) -> Option<(Self, &[u8])> {
        let (length, rest) = entry.split_first_chunk::<4>()?;
        let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
        let (envelope, body) = rest.split_at_checked(length)?;
        Some((serde_json::from_slice(envelope).ok()?, body))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_gives_back_what_was_sealed() {
        let envelope = Envelope {
            provider: Provider::Mailgun,
            source: "shop".into(),
            received_at: ReceivedAt(1_795_255_200_123_456),
            request_id: "r1".into(),
        };
        for body in [&b"\x00 not { json \xff"[..], b""] {
            let entry = envelope.seal(body).unwrap();
            assert_eq!(Envelope::open(&entry), Some((envelope.clone(), body)));
        }
        for cut in 0..10 {
            assert_eq!(Envelope::open(&envelope.seal(b"").unwrap()[..cut]), None);
        }
    }
}
