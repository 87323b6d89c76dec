//! The records of `mail.alerts`, as the incidents stage reads them.
//!
//! | key | value |
//! |---|---|
//! | the key of a scope | an [`Alert`] |
//! | `clock` | a [`ClockRecord`] of monitor-rate |
//! | `action` | an [`Action`] of a person |

use std::collections::BTreeMap;

use alerting::{Action, Alert};
use event::Provider;
use record::Reason;
use serde::{Deserialize, Serialize};

/// The time of a shard of monitor-rate: all alerts up to it are before this record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ClockRecord {
    /// The partition of `mail.panes` that the shard owns.
    pub(crate) shard: u32,
    /// The time, UTC microseconds.
    pub(crate) now: i64,
    /// The number of sources of the shard that have had an event within 24 hours, by provider.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) sources: BTreeMap<Provider, u32>,
}

impl ClockRecord {
    /// The key of these records.
    pub(crate) const KEY: &[u8] = b"clock";
}

/// A record of `mail.alerts`.
#[derive(Debug, PartialEq)]
pub(crate) enum Input {
    Alert(Box<Alert>),
    Clock(ClockRecord),
    Action(Action),
}

/// A record of `mail.alerts` that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("the value is not {expected}: {error}")]
pub(crate) struct InvalidInput {
    expected: &'static str,
    error: serde_json::Error,
}

impl InvalidInput {
    /// Returns the reason of the dead letter.
    pub(crate) fn reason(&self) -> Reason {
        Reason::of_json(&self.error)
    }
}

impl Input {
    /// Reads a record.
    pub(crate) fn read(key: &[u8], value: &[u8]) -> Result<Self, InvalidInput> {
        let expecting = |expected| move |error| InvalidInput { expected, error };
        if key == ClockRecord::KEY {
            return serde_json::from_slice(value).map(Self::Clock).map_err(expecting("a time"));
        }
        if key == Action::KEY {
            return serde_json::from_slice(value).map(Self::Action).map_err(expecting("an action"));
        }
        let alert = serde_json::from_slice(value).map_err(expecting("an alert"))?;
        Ok(Self::Alert(Box::new(alert)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_record_is_read() {
        let read = |key: &str, value: &str| Input::read(key.as_bytes(), value.as_bytes());
        let clock = ClockRecord { shard: 2, now: 7, sources: BTreeMap::new() };
        let json = r#"{"shard":2,"now":7}"#;
        assert_eq!(serde_json::to_string(&clock).unwrap(), json);
        assert_eq!(read("clock", json).unwrap(), Input::Clock(clock));
        let sources = [(Provider::Ses, 3)].into();
        let with_sources = ClockRecord { shard: 2, now: 7, sources };
        let json = serde_json::to_string(&with_sources).unwrap();
        assert_eq!(json, r#"{"shard":2,"now":7,"sources":{"ses":3}}"#);
        assert_eq!(read("clock", &json).unwrap(), Input::Clock(with_sources));
        let id = "00112233445566778899aabbccddeeff";
        let close = format!(r#"{{"action":"close","incident":"{id}","by":"ada"}}"#);
        assert!(matches!(read("action", &close), Ok(Input::Action(Action::Close { .. }))));
        for (key, value, reason) in [
            ("clock", "{}", Reason::WrongShape),
            ("clock", "", Reason::NotJson),
            ("action", r#"{"action":"shout"}"#, Reason::WrongShape),
            ("source/ses/acme", "{", Reason::NotJson),
            ("source/ses/acme", "[]", Reason::WrongShape),
        ] {
            assert_eq!(read(key, value).unwrap_err().reason(), reason, "{key} {value}");
        }
    }

    /// `mail.alerts` contains alerts of the first release after an upgrade.
    #[test]
    fn an_alert_of_the_first_release_is_read() {
        let json = r#"{"episode_id":"00112233445566778899aabbccddeeff","rule":"bounce_rate","scope":"source","provider":"ses","source":"acme","severity":"critical","state":"firing","metric":"bounce","width":"5m","value":0.2,"threshold":0.1,"numerator":40,"volume":200,"started_at":5,"at":6,"runbook":"docs/runbooks.md#bounce-rate","summary":"source/ses/acme: bounce rate 20 % in 5m (40 of 200 sent), over 10 %"}"#;
        let Input::Alert(alert) = Input::read(b"source/ses/acme", json.as_bytes()).unwrap() else {
            panic!("it is an alert");
        };
        assert_eq!((alert.seq, alert.numerator, alert.volume), (0, 40, 200));
    }
}
