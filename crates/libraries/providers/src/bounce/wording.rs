//! Classifies the wording of a server's answer, because many servers use one status code for
//! everything. The tables are in [`super::phrases`].
//!
//! The first row with a phrase that occurs decides. "Does not exist" is said of recipients and of
//! senders alike, so the noun before such a phrase decides whom it is about: what is said about the
//! sender is never held against the recipient.

use std::net::IpAddr;
use std::sync::LazyLock;

use aho_corasick::{AhoCorasick, MatchKind};
use event::{BounceClass, BounceSide};

use super::phrases::{RECIPIENT, ROWS, Row, SENDER};

/// The part of an answer that is read, in bytes. The reason comes first; what follows is a trace of
/// the connection or the returned message.
pub(super) const MAX_BYTES: usize = 2_048;

/// The longest distance in bytes from the start of a noun to the phrase that is said about it.
const REACH: usize = 48;

/// What an answer says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reading {
    pub(super) class: BounceClass,
    /// True if the phrase is said about the sender.
    pub(super) names_the_sender: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Party {
    Sender,
    Recipient,
}

/// Finds all phrases in one pass over the text.
struct Matcher {
    phrases: AhoCorasick,
    /// The index in [`ROWS`] of each phrase.
    rows: Vec<usize>,
    nouns: AhoCorasick,
}

static MATCHER: LazyLock<Option<Matcher>> = LazyLock::new(Matcher::new);

impl Matcher {
    /// Returns `None` only if the tables are larger than an automaton can be; a test excludes it.
    fn new() -> Option<Self> {
        let phrases = ROWS.iter().flat_map(|row| row.phrases);
        let rows = ROWS.iter().enumerate().flat_map(|(index, row)| vec![index; row.phrases.len()]);
        let nouns = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostLongest)
            .build(SENDER.iter().chain(RECIPIENT));
        Some(Self {
            phrases: AhoCorasick::new(phrases).ok()?,
            rows: rows.collect(),
            nouns: nouns.ok()?,
        })
    }

    fn read(&self, words: &str) -> Option<Reading> {
        let nouns: Vec<(usize, Party)> = self
            .nouns
            .find_iter(words)
            .map(|noun| {
                let is_sender = noun.pattern().as_usize() < SENDER.len();
                (noun.start(), if is_sender { Party::Sender } else { Party::Recipient })
            })
            .collect();
        let mut best: Option<(usize, Reading)> = None;
        for found in self.phrases.find_overlapping_iter(words) {
            let index = self.rows[found.pattern().as_usize()];
            if best.as_ref().is_some_and(|(earlier, _)| *earlier <= index) {
                continue;
            }
            let party = party(&nouns, found.start(), found.end());
            if let Some(reading) = reading(&ROWS[index], party) {
                best = Some((index, reading));
            }
        }
        best.map(|(_, reading)| reading)
    }
}

/// Returns whom the last noun before the end of a phrase means, if it is within reach.
fn party(nouns: &[(usize, Party)], start: usize, end: usize) -> Option<Party> {
    let (noun, party) = nouns[..nouns.partition_point(|(noun, _)| *noun < end)].last()?;
    (noun + REACH >= start).then_some(*party)
}

/// Returns what a phrase means after a noun; `None` if it is too vague alone.
fn reading(row: &Row, party: Option<Party>) -> Option<Reading> {
    let is_about_a_mailbox = matches!(
        row.class,
        BounceClass::InvalidRecipient
            | BounceClass::InvalidDomain
            | BounceClass::MailboxDisabled
            | BounceClass::MailboxFull
    );
    if row.needs_noun && party.is_none() {
        return None;
    }
    let names_the_sender = party == Some(Party::Sender);
    let class =
        if names_the_sender && is_about_a_mailbox { BounceClass::Policy } else { row.class };
    Some(Reading { class, names_the_sender })
}

/// Reads the beginning of an answer.
pub(super) fn read(diagnostic: &str) -> Option<Reading> {
    MATCHER.as_ref()?.read(&words(diagnostic))
}

/// Returns the text that phrases are looked for in: in lower case, without accents, with single
/// spaces, and without addresses. The name of the mailbox `no-spam` does not mean that the message
/// is spam.
fn words(diagnostic: &str) -> String {
    let text = &diagnostic[..diagnostic.floor_char_boundary(MAX_BYTES)];
    let mut words = String::with_capacity(text.len() + 2);
    words.push(' ');
    for word in text.split_ascii_whitespace().filter_map(without_address) {
        words.extend(word.chars().flat_map(char::to_lowercase).map(without_accent));
        words.push(' ');
    }
    words
}

/// Returns what a word says besides an address: `:blocked)` of `(ada@example.com:blocked)`.
fn without_address(word: &str) -> Option<&str> {
    let Some((_, domain)) = word.rsplit_once('@') else {
        let bare = word.trim_matches(|c: char| !c.is_ascii_alphanumeric());
        // A number is not parsed; addresses have dots or colons inside.
        let is_address = bare.contains(['.', ':']) && bare.parse::<IpAddr>().is_ok();
        return (!is_address).then_some(word);
    };
    let rest = domain.trim_start_matches(|c: char| c.is_alphanumeric() || matches!(c, '.' | '-'));
    rest.contains(|c: char| c.is_alphabetic()).then_some(rest)
}

/// Replaces the accented letters of the languages in the tables, and the typographic apostrophe.
const fn without_accent(letter: char) -> char {
    match letter {
        'à' | 'á' | 'â' | 'ã' | 'ä' | 'å' | 'ą' => 'a',
        'ç' | 'ć' | 'č' => 'c',
        'è' | 'é' | 'ê' | 'ë' | 'ę' | 'ě' => 'e',
        'ì' | 'í' | 'î' | 'ï' => 'i',
        'ł' => 'l',
        'ñ' | 'ń' => 'n',
        'ò' | 'ó' | 'ô' | 'õ' | 'ö' | 'ø' => 'o',
        'ś' | 'š' => 's',
        'ù' | 'ú' | 'û' | 'ü' | 'ů' => 'u',
        'ý' => 'y',
        'ź' | 'ż' | 'ž' => 'z',
        '\u{2019}' => '\'',
        other => other,
    }
}

impl Reading {
    /// True if the answer outweighs even a status code that has the same meaning on all servers.
    /// Some servers answer `5.1.1` to a sender that they do not know, to a full mailbox, and to too
    /// many messages.
    pub(super) fn contradicts(self, certain: BounceClass) -> bool {
        let is_precise = matches!(self.class, BounceClass::MailboxFull | BounceClass::RateLimited);
        certain.side() == BounceSide::Recipient && (self.names_the_sender || is_precise)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn class(diagnostic: &str) -> Option<BounceClass> {
        read(diagnostic).map(|reading| reading.class)
    }

    #[test]
    fn every_phrase_is_written_as_texts_are_read_and_means_its_row() {
        let mut all: Vec<&str> = Vec::new();
        for row in ROWS {
            for phrase in row.phrases {
                let text: String =
                    phrase.chars().flat_map(char::to_lowercase).map(without_accent).collect();
                assert_eq!(**phrase, text);
                let context = if row.needs_noun { "user" } else { "550" };
                let answer = format!("{context} {phrase}");
                assert_eq!(class(&answer), Some(row.class), "an earlier row matches {phrase:?}");
                all.push(phrase);
            }
        }
        let count = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), count, "a phrase occurs twice");
    }

    #[test]
    fn the_noun_before_a_phrase_decides_whom_it_is_about() {
        use BounceClass::{InvalidDomain, InvalidRecipient, MailboxDisabled, Policy};
        for (answer, expected) in [
            ("550 Domain of sender address ada@shop.example does not exist", Policy),
            ("550 MAIL FROM <ada@shop.example>: does not exist", Policy),
            ("550 Your domain does not exist", Policy),
            ("550 Absender existiert nicht", Policy),
            ("550 the expéditeur n'existe pas", Policy),
            ("550 helo shop.example: unknown host", Policy),
            ("550 sender account has been disabled", Policy),
            ("550 the recipient's domain does not exist", InvalidDomain),
            ("550 sender ok; recipient ada@example.com does not exist", InvalidRecipient),
            ("550 user ada (ada@example.com) was not found", InvalidRecipient),
            ("550 Empfänger ada@example.com existiert nicht", InvalidRecipient),
            ("550 recipient account has been disabled", MailboxDisabled),
            // Too far away to be said about the sender.
            (
                "550 The sender's message was not delivered to this place, as the address does not exist",
                InvalidRecipient,
            ),
        ] {
            assert_eq!(class(answer), Some(expected), "{answer}");
        }
        assert_eq!(class("550 unknown"), None, "nobody is named");
    }

    #[test]
    fn addresses_are_ignored() {
        let unknown = Some(BounceClass::InvalidRecipient);
        assert_eq!(class("550 <no-spam@example.com>: user unknown"), unknown);
        assert_eq!(class("550 user <ada@example.com> [192.0.2.7] unknown"), unknown);
        assert_eq!(class("550 <no-spam@example.com>"), None);
        assert_eq!(class("550 (ada@example.com:blocked)"), Some(BounceClass::Policy));
        assert_eq!(class("554 [2001:db8::1]: 250 OK"), None);
    }

    #[test]
    fn only_the_beginning_is_read() {
        let padded = |length: usize| format!("{}user unknown", "é".repeat(length / 2));
        assert!(class(&padded(MAX_BYTES - 100)).is_some());
        assert_eq!(class(&padded(MAX_BYTES - 7)), None);
        let worst = "spam".repeat(1 << 20);
        assert!(words(&worst).len() <= MAX_BYTES + 2);
    }

    proptest! {
        #[test]
        fn any_text_is_read(text in any::<String>(), repeated in 0..300usize) {
            let _ = read(&text);
            let _ = read(&text.repeat(repeated));
        }
    }
}
