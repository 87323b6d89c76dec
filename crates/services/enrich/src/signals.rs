//! Recognises what the answer of a receiving server says about the sender.

use std::collections::BTreeMap;

use aho_corasick::AhoCorasick;
use event::{Event, Kind, Text};
use serde::Deserialize;

use crate::OpenError;

const DATA: &str = include_str!("../data/signals.toml");
/// The name of the data file in error messages.
const NAME: &str = "signals.toml";

/// The part of an answer that is read, in bytes. The reason comes first.
const MAX_BYTES: usize = 2_048;

/// The phrases of all signals.
pub(crate) struct Signals {
    /// In alphabetical order.
    names: Vec<String>,
    phrases: AhoCorasick,
    /// The index in `names` of each phrase.
    name_of: Vec<usize>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Signal {
    phrases: Vec<String>,
}

impl Signals {
    /// Reads the built-in data.
    pub(crate) fn load() -> Result<Self, OpenError> {
        let table: BTreeMap<String, Signal> =
            toml::from_str(DATA).map_err(|error| OpenError::built_in(NAME, error))?;
        let (mut names, mut phrases, mut name_of) = (Vec::new(), Vec::new(), Vec::new());
        for (name, signal) in table {
            name_of.resize(name_of.len() + signal.phrases.len(), names.len());
            names.push(name);
            phrases.extend(signal.phrases);
        }
        let phrases = AhoCorasick::builder().ascii_case_insensitive(true).build(phrases);
        let phrases = phrases.map_err(|error| OpenError::built_in(NAME, error))?;
        Ok(Self { names, phrases, name_of })
    }

    /// Adds the signals of a refusal. A message that was dropped reached no server, and what its
    /// provider says is about the recipient.
    pub(crate) fn add<'e>(&'e self, event: &mut Event<'e>) {
        if !matches!(event.kind, Kind::Deferred | Kind::Bounced) {
            return;
        }
        let Some(answer) = event.bounce.as_ref().and_then(|bounce| bounce.diagnostic.as_deref())
        else {
            return;
        };
        event.signals = self.found_in(answer).map(Text::from).collect();
    }

    /// Returns the names of the signals in an answer, in alphabetical order.
    fn found_in(&self, answer: &str) -> impl Iterator<Item = &str> {
        let text = &answer[..answer.floor_char_boundary(MAX_BYTES)];
        let mut found = 0_u32;
        for phrase in self.phrases.find_overlapping_iter(text) {
            if is_whole(text.as_bytes(), phrase.start(), phrase.end()) {
                found |= 1 << self.name_of[phrase.pattern().as_usize()];
            }
        }
        let names = self.names.iter().enumerate();
        names.filter(move |(index, _)| found & 1 << index != 0).map(|(_, name)| name.as_str())
    }
}

/// True if the match is no part of a longer word. A status code is no part of an IP address either.
fn is_whole(text: &[u8], start: usize, end: usize) -> bool {
    let is_number = |at: Option<&u8>| at.is_some_and(u8::is_ascii_digit);
    let is_code = is_number(text.get(start));
    let before = start.checked_sub(1).and_then(|before| text.get(before));
    let starts =
        !before.is_some_and(|byte| byte.is_ascii_alphanumeric() || is_code && *byte == b'.');
    let goes_on = text.get(end).is_some_and(u8::is_ascii_alphanumeric);
    let is_address = is_code && text.get(end) == Some(&b'.') && is_number(text.get(end + 1));
    starts && !goes_on && !is_address
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The signals that [`Event::would_count`] knows: all others count as throttled.
    const NAMES: [&str; 6] =
        ["auth", "gmail_unusual_rate", "listed", "yahoo_ts03", "yahoo_tss04", "yahoo_tss05"];

    fn found(answer: &str) -> String {
        let signals = Signals::load().unwrap();
        assert_eq!(signals.names, NAMES);
        let found: Vec<_> = signals.found_in(answer).collect();
        found.join(" ")
    }

    #[test]
    fn answers_of_mailbox_providers_have_their_signals() {
        for (answer, signals) in [
            (
                "421-4.7.28 Gmail has detected an unusual rate of unsolicited mail originating\n\
                 421-4.7.28 from your IP address [192.0.2.7].",
                "gmail_unusual_rate",
            ),
            (
                "421 4.7.0 [TSS04] Messages from 192.0.2.7 temporarily deferred due to unexpected \
                 volume or user complaints",
                "yahoo_tss04",
            ),
            ("smtp;421 4.7.0 [TSS05] Messages temporarily deferred", "yahoo_tss05"),
            (
                "421 4.7.1 [TS03] All messages from 192.0.2.7 will be permanently deferred",
                "yahoo_ts03",
            ),
            (
                "550 5.7.1 Service unavailable; client [192.0.2.7] blocked using zen.spamhaus.org",
                "listed",
            ),
            (
                "550 5.7.1 Unfortunately, messages from [192.0.2.7] weren't sent. Part of their \
                 network is on our block list (S3150).",
                "listed",
            ),
            (
                "550-5.7.26 This mail has been blocked because the sender is unauthenticated.",
                "auth",
            ),
            (
                "550 5.7.515 Access denied, sending domain SHOP.EXAMPLE doesn't meet the required \
                 authentication level.",
                "auth",
            ),
            (
                "550 5.7.1 Rejected by the DMARC policy; 192.0.2.7 is on our blocklist",
                "auth listed",
            ),
        ] {
            assert_eq!(found(answer), signals, "{answer}");
        }
    }

    #[test]
    fn parts_of_words_and_addresses_are_no_signals() {
        for answer in [
            "550 5.1.1 user unknown",
            "550 ada@shop.example... User unknown; not listed in Domino Directory",
            "550 5.1.1 no mailbox for cats03@shop.example",
            "550 5.1.1 <verbl@shop.example> unknown",
            "451 4.7.1 greylisted, connect from 5.7.26.1 again",
            "451 4.7.1 greylisted, connect from 192.5.7.26 again",
            "550 5.7.261 no",
            "",
        ] {
            assert_eq!(found(answer), "", "{answer}");
        }
    }

    #[test]
    fn the_schema_of_events_has_the_same_signals() {
        let schema = include_str!("../../../../schemas/event.schema.json");
        let schema: serde_json::Value = serde_json::from_str(schema).unwrap();
        let names = &schema["properties"]["signals"]["items"]["enum"];
        assert_eq!(*names, serde_json::json!(NAMES));
    }

    #[test]
    fn every_phrase_can_be_found() {
        let table: BTreeMap<String, Signal> = toml::from_str(DATA).unwrap();
        for (name, signal) in table {
            for phrase in &signal.phrases {
                assert_eq!(*phrase, phrase.to_ascii_lowercase());
                let answer = format!("550 {} (192.0.2.7)", phrase.to_uppercase());
                assert!(found(&answer).split(' ').any(|found| found == name), "{phrase}");
            }
        }
    }
}
