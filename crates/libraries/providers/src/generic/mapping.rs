//! Where the events of a sender with a form of its own are, and what its words mean.

use std::collections::{BTreeMap, HashMap};

use event::{Kind, Permanence};

use crate::Pointer;

/// The greatest number of steps of a JSON pointer, and of entries in `kinds`. No sender needs as
/// many.
const MAX_STEPS: usize = 32;
const MAX_KINDS: usize = 1_000;

/// The checked mapping of one source; see `docs/sources.md`. The same mapping and the same bytes
/// always give the same events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mapping {
    /// From the body to the list of events, or to the only event.
    pub(super) events: Pointer,
    pub(super) fields: Fields,
    pub(super) kinds: HashMap<String, Meant>,
}

/// What a sender's name of an event means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Meant {
    pub(super) kind: Kind,
    /// `None` if the event itself says it, or its status code.
    pub(super) permanence: Option<Permanence>,
}

/// A setting that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct BadSetting {
    /// Such as `fields.recipient`.
    pub(super) key: String,
    /// What to write instead.
    pub(super) fix: String,
}

macro_rules! fields {
    ($($(#[$doc:meta])* $field:ident: $default:literal),+ $(,)?) => {
        /// The paths from an event to its fields.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub(super) struct Fields { $($(#[$doc])* pub(super) $field: Pointer),+ }

        impl Fields {
            /// The names in `fields`.
            pub(super) const NAMES: &[&str] = &[$(stringify!($field)),+];

            /// Reads `fields`. What is not given is where our own form has it.
            fn read(given: &BTreeMap<String, String>) -> Result<Self, BadSetting> {
                let fix = || format!(
                    "is not a field; use one of `{}`", Self::NAMES.join("`, `"));
                if let Some(name) = given.keys().find(|name| !Self::NAMES.contains(&name.as_str())) {
                    return Err(BadSetting { key: format!("fields.{name}"), fix: fix() });
                }
                let path = |name: &str, default: &str| {
                    let text = given.get(name).map_or(default, String::as_str);
                    pointer(&format!("fields.{name}"), text)
                };
                Ok(Self { $($field: path(stringify!($field), $default)?),+ })
            }
        }
    };
}

fields! {
    /// The sender's name of the event.
    event: "/event",
    /// The address, or an array of addresses.
    recipient: "/recipient",
    /// In unix seconds, unix milliseconds, or RFC 3339.
    timestamp: "/timestamp",
    /// The sender's id of the event.
    id: "/id",
    message_id: "/message_id",
    campaign: "/campaign",
    stream: "/stream",
    /// A text or an array of texts.
    tags: "/tags",
    url: "/url",
    ip: "/ip",
    user_agent: "/user_agent",
    /// True if a machine opened or clicked.
    machine: "/machine",
    /// The answer of the receiving server, or the sender's explanation.
    reason: "/bounce/diagnostic",
    /// The enhanced status code.
    status: "/bounce/status",
    /// `hard`, `soft` or `undetermined`, or a word such as `permanent` or `temporary`.
    permanence: "/bounce/permanence",
    /// The sender's address, alone or as in the header `From`.
    sender: "/sender",
    /// When the message was sent, in the forms of `timestamp`.
    sent_at: "/sent_at",
    sending_ip: "/sending_ip",
    /// The name or address of the receiving server.
    server: "/delivery/server",
    /// Its answer to a delivery.
    response: "/delivery/response",
    /// True if the connection to it was encrypted.
    tls: "/delivery/tls",
    /// The duration of the delivery in milliseconds.
    millis: "/delivery/millis",
}

impl Mapping {
    /// Checks the settings `events`, `fields` and `kinds`. Returns `None` if there are none: the
    /// source posts our own form.
    pub(super) fn new(
        events: Option<&str>,
        fields: &BTreeMap<String, String>,
        kinds: &BTreeMap<String, String>,
    ) -> Result<Option<Self>, BadSetting> {
        if events.is_none() && fields.is_empty() && kinds.is_empty() {
            return Ok(None);
        }
        if kinds.len() > MAX_KINDS {
            let fix = format!("has more than {MAX_KINDS} entries; name only the events you use");
            return Err(BadSetting { key: "kinds".to_owned(), fix });
        }
        let read = |(word, meaning): (&String, &String)| match meant(meaning) {
            Some(meant) => Ok((word.clone(), meant)),
            None => Err(BadSetting {
                key: format!("kinds.\"{word}\""),
                fix: format!(
                    "is `{meaning}`; write one of {}, and after `bounced`, `deferred` or `dropped` \
                     also ` hard` or ` soft`",
                    Kind::ALL.map(Kind::as_str).join(", ")
                ),
            }),
        };
        Ok(Some(Self {
            events: pointer("events", events.unwrap_or_default())?,
            fields: Fields::read(fields)?,
            kinds: kinds.iter().map(read).collect::<Result<_, _>>()?,
        }))
    }

    /// Returns what a sender's name of an event means. Our own names mean themselves unless the
    /// mapping says otherwise.
    pub(super) fn meant(&self, event: Option<&str>) -> Meant {
        let name = event.unwrap_or_default();
        let ours = || Meant { kind: super::kind(event), permanence: None };
        self.kinds.get(name).copied().unwrap_or_else(ours)
    }
}

/// Reads the pointer in the setting `key`. The empty pointer is the whole document.
pub(super) fn pointer(key: &str, text: &str) -> Result<Pointer, BadSetting> {
    if text.is_empty() {
        return Ok(Pointer::whole());
    }
    if text.split('/').count() > MAX_STEPS {
        let fix = format!("has more than {MAX_STEPS} steps; name the field by a shorter path");
        return Err(BadSetting { key: key.to_owned(), fix });
    }
    Pointer::try_from(text.to_owned()).map_err(|_| BadSetting {
        key: key.to_owned(),
        fix: format!("is `{text}`, which is not a JSON pointer; write one such as /data/email"),
    })
}

/// Reads `bounced`, or `bounced hard`.
fn meant(text: &str) -> Option<Meant> {
    let (kind, permanence) = text.split_once(' ').unwrap_or((text, ""));
    let kind: Kind = kind.parse().ok()?;
    let is_refused = matches!(kind, Kind::Bounced | Kind::Deferred | Kind::Dropped);
    let permanence = match permanence {
        "" => None,
        name if is_refused => Some(*Permanence::ALL.iter().find(|it| it.as_str() == name)?),
        _ => return None,
    };
    Some(Meant { kind, permanence })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn a_mistake_names_its_key_and_the_fix() {
        let none = table(&[]);
        let error = |events, fields: &[(&str, &str)], kinds: &[(&str, &str)]| {
            let error = Mapping::new(events, &table(fields), &table(kinds)).unwrap_err();
            format!("{}: {}", error.key, error.fix)
        };
        assert!(error(Some("data"), &[], &[]).starts_with("events: is `data`"));
        assert!(
            error(None, &[("email", "/email")], &[]).starts_with("fields.email: is not a field")
        );
        assert!(
            error(None, &[("recipient", "email")], &[]).starts_with("fields.recipient: is `email`")
        );
        let kind = error(None, &[], &[("mail.sent", "sent")]);
        assert!(kind.starts_with("kinds.\"mail.sent\": is `sent`") && kind.contains("accepted,"));
        for wrong in ["opened hard", "bounced never", "Bounced", ""] {
            let result = Mapping::new(None, &none, &table(&[("x", wrong)]));
            assert!(result.is_err(), "{wrong:?}");
        }
        assert!(error(Some(&"/a".repeat(40)), &[], &[]).contains("steps"));
        assert_eq!(Mapping::new(None, &none, &none), Ok(None), "our own form needs no mapping");
    }

    #[test]
    fn words_mean_what_the_mapping_says_or_themselves() {
        let kinds = table(&[("mail.bounce", "bounced hard"), ("opened", "other")]);
        let mapping = Mapping::new(None, &table(&[]), &kinds).unwrap().unwrap();
        let meant = |word| mapping.meant(Some(word));
        let hard = Meant { kind: Kind::Bounced, permanence: Some(Permanence::Hard) };
        assert_eq!(meant("mail.bounce"), hard);
        assert_eq!(meant("opened").kind, Kind::Other);
        assert_eq!(meant("clicked").kind, Kind::Clicked);
        assert_eq!(meant("mail.open").kind, Kind::Other);
    }
}
