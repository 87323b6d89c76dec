use event::Text;
use serde::Deserialize;
use suppression::EntryKey;

use super::rates::text;
use super::{Coordinates, RowError};
use crate::native::{Bools, LowCardinality, NullableMicros, Strings, U16, U64, columns};

/// The state of a row whose record is a tombstone.
const FORGOTTEN: &str = "forgotten";

columns! {
    /// The rows of the table `suppressions`.
    Suppressions {
        list: LowCardinality,
        recipient: Strings,
        reason: LowCardinality,
        scope: LowCardinality,
        author: LowCardinality,
        state: LowCardinality,
        purpose: LowCardinality,
        since: NullableMicros,
        expires_at: NullableMicros,
        provisional: Bools,
        event_id: Strings,
        provider: LowCardinality,
        mailbox_provider: LowCardinality,
        status: LowCardinality,
        wording: Strings,
        incident: Strings,
        written_at: NullableMicros,
        kafka_partition: U16,
        kafka_offset: U64,
    }
}

/// The value of `mail.suppressions`. Unlike the value of the library `suppression`, it has only what becomes a column,
/// and does not depend on the values of enumerations that a later release may have. `who` and `note` become none: people
/// write them, so they can name anybody.
#[derive(Deserialize)]
struct Entry<'a> {
    #[serde(borrow)]
    list: Text<'a>,
    #[serde(borrow)]
    recipient: Text<'a>,
    #[serde(borrow)]
    reason: Text<'a>,
    #[serde(borrow, default)]
    scope: Option<Text<'a>>,
    #[serde(borrow)]
    author: Text<'a>,
    #[serde(borrow)]
    state: Text<'a>,
    #[serde(borrow, default)]
    purpose: Option<Text<'a>>,
    since: i64,
    #[serde(default)]
    expires_at: Option<i64>,
    #[serde(default)]
    provisional: bool,
    #[serde(borrow, default)]
    event_id: Option<Text<'a>>,
    #[serde(borrow, default)]
    provider: Option<Text<'a>>,
    #[serde(borrow, default)]
    mailbox_provider: Option<Text<'a>>,
    #[serde(borrow, default)]
    status: Option<Text<'a>>,
    #[serde(borrow, default)]
    wording: Option<Text<'a>>,
    #[serde(borrow, default)]
    incident: Option<Text<'a>>,
}

impl Suppressions {
    /// Adds a record of `mail.suppressions`. `written_at` is the time of the record, in UTC microseconds (`None`: not
    /// known). A record without a value is a tombstone; its key tells of what.
    ///
    /// # Errors
    /// Fails if the value does not have the shape that docs/suppression.md describes, or a tombstone has another key.
    pub fn push(
        &mut self,
        at: Coordinates,
        written_at: Option<i64>,
        key: &[u8],
        value: Option<&[u8]>,
    ) -> Result<(), RowError> {
        match value {
            Some(value) => self.push_entry(&serde_json::from_slice(value)?),
            None => self.push_tombstone(&key_of(key)?),
        }
        self.written_at.push(written_at);
        self.kafka_partition.push(at.partition);
        self.kafka_offset.push(at.offset);
        self.rows += 1;
        Ok(())
    }

    fn push_entry(&mut self, entry: &Entry<'_>) {
        self.list.push(&entry.list);
        self.recipient.push(entry.recipient.as_bytes());
        self.reason.push(&entry.reason);
        self.scope.push(text(&entry.scope));
        self.author.push(&entry.author);
        self.state.push(&entry.state);
        self.purpose.push(text(&entry.purpose));
        self.since.push(Some(entry.since));
        self.expires_at.push(entry.expires_at);
        self.provisional.push(entry.provisional);
        self.event_id.push(text(&entry.event_id).as_bytes());
        self.provider.push(text(&entry.provider));
        self.mailbox_provider.push(text(&entry.mailbox_provider));
        self.status.push(text(&entry.status));
        self.wording.push(text(&entry.wording).as_bytes());
        self.incident.push(text(&entry.incident).as_bytes());
    }

    fn push_tombstone(&mut self, key: &EntryKey<'_>) {
        self.list.push(&key.list);
        self.recipient.push(key.recipient.to_string().as_bytes());
        self.reason.push(key.reason.as_str());
        self.scope.push(&key.scope);
        self.author.push(key.author.as_str());
        self.state.push(FORGOTTEN);
        self.since.push(None);
        self.expires_at.push(None);
        self.provisional.push(false);
        for texts in
            [&mut self.purpose, &mut self.provider, &mut self.mailbox_provider, &mut self.status]
        {
            texts.push("");
        }
        for texts in [&mut self.event_id, &mut self.wording, &mut self.incident] {
            texts.push(b"");
        }
    }
}

fn key_of(key: &[u8]) -> Result<EntryKey<'_>, RowError> {
    let key = std::str::from_utf8(key).ok().and_then(|key| EntryKey::parse(key).ok());
    key.ok_or_else(|| RowError {
        reason: record::Reason::WrongShape,
        detail: suppression::entry::InvalidKey.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use record::Reason;

    use super::*;

    const AT: Coordinates = Coordinates { partition: 1, offset: 5 };
    const BOUNCED: &str = r#"{"list":"ses/news","recipient":"000102030405060708090a0b0c0d0e0f","reason":"hard_bounce","author":"event","state":"suppressed","since":7}"#;
    const KEY: &str = "ses/news|000102030405060708090a0b0c0d0e0f|hard_bounce||event";

    #[test]
    fn fields_and_names_of_a_later_release_are_accepted() {
        let mut rows = Suppressions::default();
        rows.push(AT, None, KEY.as_bytes(), Some(BOUNCED.as_bytes())).unwrap();
        let later = BOUNCED
            .replace("hard_bounce", "bored")
            .replace(r#""since":7"#, r#""since":7,"weight":1"#);
        rows.push(AT, Some(8), b"", Some(later.as_bytes())).unwrap();
        rows.push(AT, Some(9), KEY.as_bytes(), None).unwrap();
        assert_eq!(rows.finish().rows, 3);
    }

    #[test]
    fn a_malformed_record_is_rejected_with_its_reason_and_adds_no_row() {
        let mut rows = Suppressions::default();
        let mut reason = |key: &str, value: Option<&str>| {
            rows.push(AT, None, key.as_bytes(), value.map(str::as_bytes)).unwrap_err().reason
        };
        assert_eq!(reason(KEY, Some("")), Reason::NotJson);
        assert_eq!(reason(KEY, Some(&BOUNCED[..40])), Reason::NotJson);
        assert_eq!(reason(KEY, Some("{}")), Reason::WrongShape);
        assert_eq!(reason(KEY, Some(&BOUNCED.replace("since", "when"))), Reason::WrongShape);
        assert_eq!(reason("ses/news|00", None), Reason::WrongShape, "a tombstone of nothing");
        assert_eq!(rows.finish().rows, 0);
    }
}
