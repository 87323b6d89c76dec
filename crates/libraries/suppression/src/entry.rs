//! What `mail.suppressions` contains.
//!
//! A record is about one list, recipient, reason and scope, and has one author: the events, an operator who adds, or an
//! operator who lifts. Authors never write each other's records, so nobody has to wait for anybody, and reasons never
//! merge. Whether an entry suppresses follows from the times of its records; see [`crate::standing`].

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use event::EventId;
use serde::{Deserialize, Deserializer, Serialize};

use crate::RecipientDigest;

/// The longest name of a list or scope, in bytes. Longer ones are cut.
pub const MAX_NAME_BYTES: usize = 200;

/// How long a lift is kept, in seconds: 30 days. A client of the delta feed that is slower starts again.
pub const KEEP_LIFTS: i64 = 30 * 86_400;

macro_rules! codes {
    ($(#[$doc:meta])* $type:ident { $($(#[$item:meta])* $variant:ident => $code:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum $type { $($(#[$item])* #[serde(rename = $code)] $variant),+ }

        impl $type {
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The stable name in keys, JSON and queries.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $code),+ }
            }

            /// Reads a name.
            pub fn from_name(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|it| it.as_str() == name)
            }
        }
    };
}

codes!(
    /// Why a recipient must not be mailed.
    Reason {
        /// A hard bounce on the recipient's side. Only an operator lifts it.
        HardBounce => "hard_bounce",
        /// The recipient reported mail as spam. Only an operator lifts it.
        Complaint => "complaint",
        /// The recipient no longer wants this mail.
        Unsubscribe => "unsubscribe",
        /// Several soft bounces in a row.
        SoftBounces => "soft_bounces",
        /// An operator decided so.
        Manual => "manual",
    }
);

codes!(
    /// Who wrote a record.
    Author {
        /// The service, because of an event.
        Event => "event",
        /// An operator, or an import.
        Operator => "operator",
        /// An operator who ended the entry.
        Lift => "lift",
    }
);

codes!(
    /// What mail is for.
    Purpose {
        /// Newsletters and advertising.
        Marketing => "marketing",
        /// Receipts, passwords and everything else that a person has asked for.
        Transactional => "transactional",
    }
);

codes!(
    /// What a record says.
    State {
        /// Do not mail.
        Suppressed => "suppressed",
        /// The entry has ended.
        Lifted => "lifted",
    }
);

/// The key of a record: `list|digest|reason|scope|author`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EntryKey<'a> {
    pub list: Cow<'a, str>,
    pub recipient: RecipientDigest,
    pub reason: Reason,
    /// The provider's group or stream of an unsubscription; empty for everything else.
    pub scope: Cow<'a, str>,
    pub author: Author,
}

/// The key of a record has another form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the key is not list|recipient|reason|scope|author")]
pub struct InvalidKey;

impl fmt::Display for EntryKey<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { list, recipient, reason, scope, author } = self;
        let (list, scope) = (escape(list), escape(scope));
        write!(f, "{list}|{recipient}|{}|{scope}|{}", reason.as_str(), author.as_str())
    }
}

impl<'a> EntryKey<'a> {
    /// Reads a key. Borrows from it unless a name has an escape.
    ///
    /// # Errors
    /// If it has another form.
    pub fn parse(key: &'a str) -> Result<Self, InvalidKey> {
        let mut parts = key.split('|');
        let mut next = || parts.next().ok_or(InvalidKey);
        let (list, recipient, reason, scope, author) =
            (next()?, next()?, next()?, next()?, next()?);
        if parts.next().is_some() {
            return Err(InvalidKey);
        }
        Ok(Self {
            list: unescape(list)?,
            recipient: RecipientDigest::from_str(recipient).map_err(|_| InvalidKey)?,
            reason: Reason::from_name(reason).ok_or(InvalidKey)?,
            scope: unescape(scope)?,
            author: Author::from_name(author).ok_or(InvalidKey)?,
        })
    }

    /// Returns a copy that owns its names.
    pub fn into_owned(self) -> EntryKey<'static> {
        let Self { list, recipient, reason, scope, author } = self;
        let (list, scope) = (Cow::Owned(list.into_owned()), Cow::Owned(scope.into_owned()));
        EntryKey { list, recipient, reason, scope, author }
    }
}

/// Returns a name for a list or scope: at most [`MAX_NAME_BYTES`] and without control characters.
pub fn name(text: &str) -> Cow<'_, str> {
    let cut = event::limits::cut(text, MAX_NAME_BYTES);
    if cut.chars().any(char::is_control) {
        Cow::Owned(cut.chars().filter(|c| !c.is_control()).collect())
    } else {
        Cow::Borrowed(cut)
    }
}

fn escape(name: &str) -> Cow<'_, str> {
    if name.contains(['|', '%']) {
        Cow::Owned(name.replace('%', "%25").replace('|', "%7C"))
    } else {
        Cow::Borrowed(name)
    }
}

fn unescape(name: &str) -> Result<Cow<'_, str>, InvalidKey> {
    if name.contains('%') {
        let unescaped = name.replace("%7C", "|").replace("%25", "%");
        // Another spelling of the same name would be another key.
        if escape(&unescaped) == name { Ok(Cow::Owned(unescaped)) } else { Err(InvalidKey) }
    } else {
        Ok(Cow::Borrowed(name))
    }
}

/// The value of a record. It names no person: the key has a digest, and [`crate::wording`] removes addresses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntryValue {
    pub list: String,
    /// The digest of the recipient, 32 hexadecimal digits.
    pub recipient: String,
    pub reason: Reason,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub scope: String,
    pub author: Author,
    pub state: State,
    /// The mail that the entry stops. Absent: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub purpose: Option<Purpose>,
    /// When the newest evidence happened, or the entry was added or lifted. UTC microseconds.
    pub since: i64,
    /// When the entry ends by itself, UTC microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<i64>,
    /// Whether the entry waits for the end of an incident.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub provisional: bool,
    #[serde(flatten)]
    pub evidence: Evidence,
}

/// Why a record was written, for people.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// The event that decided it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mailbox_provider: Option<String>,
    /// The enhanced status code (RFC 3463).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    /// The answer of the receiving server, without addresses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wording: Option<String>,
    /// Who added or lifted it, and why; or why the service lifted it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub who: Option<String>,
    /// The incident during which the entry began: one about the hard bounces of this mailbox provider. A provisional
    /// entry waits for its end. The entry keeps the id afterwards, also with later evidence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incident: Option<String>,
}

impl EntryValue {
    /// Returns a value for a key, without evidence.
    pub fn new(key: &EntryKey<'_>, state: State, since: i64) -> Self {
        Self {
            list: key.list.to_string(),
            recipient: key.recipient.to_string(),
            reason: key.reason,
            scope: key.scope.to_string(),
            author: key.author,
            state,
            purpose: None,
            since,
            expires_at: None,
            provisional: false,
            evidence: Evidence::default(),
        }
    }
}

/// The parts of an [`EntryValue`] that answers depend on. Reading a whole topic needs nothing else.
#[derive(Debug, Clone, Copy, Deserialize)]
pub struct EntryFacts {
    pub state: State,
    #[serde(default)]
    pub purpose: Option<Purpose>,
    pub since: i64,
    #[serde(default)]
    pub expires_at: Option<i64>,
    #[serde(default)]
    pub provisional: bool,
    /// The id of the incident during which the entry began. `None` also if it is no id.
    #[serde(default, deserialize_with = "incident_id")]
    pub incident: Option<EventId>,
}

impl From<&EntryValue> for EntryFacts {
    fn from(value: &EntryValue) -> Self {
        let EntryValue { state, purpose, since, expires_at, provisional, .. } = *value;
        let incident = value.evidence.incident.as_deref().and_then(|id| id.parse().ok());
        Self { state, purpose, since, expires_at, provisional, incident }
    }
}

/// Reads the id of an incident. Something else must not hide that the entry suppresses.
fn incident_id<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<EventId>, D::Error> {
    let value = serde_json::Value::deserialize(deserializer)?;
    Ok(value.as_str().and_then(|id| id.parse().ok()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_round_trip_whatever_the_names_contain() {
        for (list, scope) in
            [("sendgrid/acme", ""), ("tenant/a|b", "x%7Cy"), ("global", "100 %|"), ("ü", "%25")]
        {
            let key = EntryKey {
                list: list.into(),
                recipient: RecipientDigest([9; 16]),
                reason: Reason::Unsubscribe,
                scope: scope.into(),
                author: Author::Lift,
            };
            let text = key.to_string();
            assert_eq!(text.matches('|').count(), 4, "{text}");
            assert_eq!(EntryKey::parse(&text), Ok(key.clone()));
        }
        let digest = RecipientDigest([9; 16]);
        for text in [
            String::new(),
            format!("a|{digest}|hard_bounce|"),
            format!("a|{digest}|hard_bounce||event|"),
            format!("a|{digest}|bored||event"),
            "a|09|hard_bounce||event".to_owned(),
            format!("%41|{digest}|hard_bounce||event"),
        ] {
            assert_eq!(EntryKey::parse(&text), Err(InvalidKey), "{text}");
        }
    }

    #[test]
    fn names_are_bounded_and_printable() {
        assert_eq!(name("weekly\n\u{7}"), "weekly");
        assert_eq!(name(&"ü".repeat(150)).len(), MAX_NAME_BYTES);
        assert_eq!(name("news"), "news");
    }

    #[test]
    fn a_value_has_only_what_is_known_and_its_facts_are_read_from_it() {
        let key = EntryKey {
            list: "ses/news".into(),
            recipient: RecipientDigest([1; 16]),
            reason: Reason::HardBounce,
            scope: "".into(),
            author: Author::Event,
        };
        let value = EntryValue::new(&key, State::Suppressed, 5_000_000);
        let json = serde_json::to_string(&value).unwrap();
        assert_eq!(
            json,
            r#"{"list":"ses/news","recipient":"01010101010101010101010101010101","reason":"hard_bounce","author":"event","state":"suppressed","since":5000000}"#
        );
        assert_eq!(serde_json::from_str::<EntryValue>(&json).unwrap(), value);
        let facts: EntryFacts = serde_json::from_str(&json).unwrap();
        assert_eq!((facts.state, facts.since, facts.purpose), (State::Suppressed, 5_000_000, None));
        assert_eq!(facts.incident, None);
    }

    #[test]
    fn the_id_of_an_incident_is_a_fact_and_anything_else_hides_no_entry() {
        for (incident, expected) in [
            (format!("{:?}", "0a".repeat(16)), Some(EventId([10; 16]))),
            ("\"a\"".to_owned(), None),
            ("7".to_owned(), None),
            ("null".to_owned(), None),
        ] {
            let json = format!(r#"{{"state":"suppressed","since":1,"incident":{incident}}}"#);
            let facts: EntryFacts = serde_json::from_str(&json).unwrap();
            assert_eq!(facts.incident, expected, "{json}");
        }
    }
}
