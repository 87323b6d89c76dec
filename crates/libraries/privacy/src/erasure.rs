//! Removes what an event says about erased recipients.
//!
//! A recipient is erased by a tombstone: the HMAC-SHA256 of the address, so that nobody can read from the
//! tombstones who was erased. An event of an erased recipient gets a pseudonym in place of the address and loses
//! what else identifies a person. An event of somebody else that names the address, such as that of a message to
//! several recipients, gets the pseudonym in its texts.
//!
//! What sums are made of stays: times, kind, source, domain, campaign, message and event ids.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, LazyLock};

use event::{Event, Geo, Text, recipient_key};
use serde_json::value::RawValue;

use crate::{DIGEST_CHARS, KeyTooShort, Pseudonymizer, Replacement, Rewriter};

/// What `raw` of an erased recipient's event becomes.
static NO_RAW: LazyLock<Box<RawValue>> = LazyLock::new(|| raw_value("{}".to_owned()));

/// The HMAC-SHA256 of an address in lower case.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest(pub [u8; 32]);

/// The text is not a digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a digest has 64 hexadecimal digits")]
pub struct InvalidDigest;

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = InvalidDigest;

    fn from_str(text: &str) -> Result<Self, InvalidDigest> {
        let mut digest = [0; 32];
        hex::decode_to_slice(text, &mut digest).map_err(|_| InvalidDigest)?;
        Ok(Self(digest))
    }
}

/// The key of the digests and pseudonyms of erased recipients.
#[derive(Debug, Clone)]
pub struct ErasureKey(Pseudonymizer);

impl ErasureKey {
    /// Creates a key.
    ///
    /// # Errors
    /// Returns an error if the key is shorter than [`crate::MIN_KEY_BYTES`].
    pub fn new(key: &[u8]) -> Result<Self, KeyTooShort> {
        Pseudonymizer::new(key).map(Self)
    }

    /// Returns the digest of an address in any spelling.
    pub fn digest(&self, address: &str) -> Digest {
        Digest(self.0.mac(recipient_key(address).as_bytes()))
    }

    /// Returns what takes the place of an address when it is erased: the first half of its digest, and the domain.
    /// Returns `None` if `address` is not an address.
    pub fn pseudonym(&self, address: &str) -> Option<String> {
        self.0.pseudonym(address)
    }

    /// Returns a name of the key by which a different key is noticed. It tells nothing about the key.
    pub fn id(&self) -> String {
        let mut id = hex::encode(self.0.mac(b"the name of this erasure key"));
        id.truncate(16);
        id
    }
}

/// The digests of erased recipients.
#[derive(Debug, Clone, Default)]
pub struct ErasedSet {
    digests: HashSet<Digest>,
    /// The first halves, which pseudonyms are made of.
    halves: HashSet<[u8; 16]>,
    fingerprint: u64,
}

impl ErasedSet {
    /// Adds a recipient.
    pub fn insert(&mut self, digest: Digest) {
        if self.digests.insert(digest) {
            self.halves.extend(digest.0.first_chunk::<16>());
            let [a, b, c, d, e, f, g, h, ..] = digest.0;
            self.fingerprint ^= u64::from_be_bytes([a, b, c, d, e, f, g, h]);
        }
    }

    /// Returns the number of recipients.
    pub fn len(&self) -> usize {
        self.digests.len()
    }

    /// Returns whether nobody is erased.
    pub fn is_empty(&self) -> bool {
        self.digests.is_empty()
    }

    fn contains(&self, digest: &Digest) -> bool {
        self.digests.contains(digest)
    }
}

impl FromIterator<Digest> for ErasedSet {
    fn from_iter<T: IntoIterator<Item = Digest>>(digests: T) -> Self {
        let mut set = Self::default();
        digests.into_iter().for_each(|digest| set.insert(digest));
        set
    }
}

/// Removes what events say about a set of erased recipients.
#[derive(Debug, Clone, Default)]
pub struct Eraser {
    key: Option<ErasureKey>,
    erased: Arc<ErasedSet>,
}

impl Eraser {
    /// Creates an eraser of these recipients.
    pub fn new(key: ErasureKey, erased: Arc<ErasedSet>) -> Self {
        Self { key: Some(key), erased }
    }

    /// Returns eight bytes that stand for the set of erased recipients: the beginnings of all digests, combined by XOR.
    /// The order in which the recipients were added does not matter. The digests are as good as random, so another set
    /// has other bytes. `None` if nobody is erased.
    pub fn fingerprint(&self) -> Option<[u8; 8]> {
        self.active().map(|_| self.erased.fingerprint.to_be_bytes())
    }

    /// Returns the key, if anybody is erased.
    fn active(&self) -> Option<&ErasureKey> {
        self.key.as_ref().filter(|_| !self.erased.is_empty())
    }

    /// Returns the pseudonym of an address in any spelling, or `None` if it is not erased.
    pub fn pseudonym(&self, address: &str) -> Option<String> {
        let key = self.active()?;
        self.erased.contains(&key.digest(address)).then(|| key.pseudonym(address)).flatten()
    }

    /// Returns the first half of the digest of an erased recipient, whose pseudonym this is. `None` if it is the
    /// pseudonym of nobody who was erased.
    pub fn digest_of_pseudonym(&self, pseudonym: &str) -> Option<[u8; 16]> {
        self.active()?;
        let (local_part, _) = pseudonym.rsplit_once('@')?;
        let mut half = [0; DIGEST_CHARS / 2];
        hex::decode_to_slice(local_part, &mut half).ok()?;
        self.erased.halves.contains(&half).then_some(half)
    }

    /// Returns a body, in any format, with the erased addresses replaced. Borrows if it names none.
    pub fn erase_body<'b>(&self, body: &'b [u8]) -> Cow<'b, [u8]> {
        match self.active() {
            Some(key) => Rewriter::only(&key.0, &self.erased).rewrite_body(body),
            None => Cow::Borrowed(body),
        }
    }

    /// Returns the JSON of an event without what it says about erased recipients. Borrows it, and does not parse it
    /// while nobody is erased, if it says nothing about them.
    ///
    /// # Errors
    /// Returns an error if somebody is erased and the JSON is not an event.
    pub fn erase_event<'j>(&self, json: &'j [u8]) -> serde_json::Result<Cow<'j, [u8]>> {
        if self.active().is_none() {
            return Ok(Cow::Borrowed(json));
        }
        let event: Event<'_> = serde_json::from_slice(json)?;
        let erased = self.erased(&event, |event, is_changed| {
            is_changed.then(|| serde_json::to_vec(event)).transpose()
        })?;
        Ok(erased.map_or(Cow::Borrowed(json), Cow::Owned))
    }

    /// Passes the event without what it says about erased recipients to `use_event`. Times, kind, source,
    /// campaign, domain, message id and event id stay as they are.
    pub fn with_erased<T>(&self, event: &Event<'_>, use_event: impl FnOnce(&Event<'_>) -> T) -> T {
        self.erased(event, |event, _| use_event(event))
    }

    /// Passes the event to `use_event` as [`Self::with_erased`] does, and whether it differs from `event`.
    fn erased<T>(&self, event: &Event<'_>, use_event: impl FnOnce(&Event<'_>, bool) -> T) -> T {
        let Some(key) = self.active() else { return use_event(event, false) };
        let rewriter = Rewriter::only(&key.0, &self.erased);
        let mut erased = event.clone();
        let has_erased_text = erase_texts(&rewriter, &mut erased);
        if let Some(pseudonym) = event.recipient.as_deref().and_then(|it| self.pseudonym(it)) {
            erase_person(&mut erased, pseudonym);
            return use_event(&Event { raw: &NO_RAW, ..erased }, true);
        }
        match rewriter.rewrite_value(event.raw.get()) {
            Cow::Borrowed(_) => use_event(&erased, has_erased_text),
            Cow::Owned(raw) => use_event(&Event { raw: &raw_value(raw), ..erased }, true),
        }
    }
}

/// Returns JSON as a value. What is no JSON, which does not happen, becomes an empty object: it is removed.
fn raw_value(json: String) -> Box<RawValue> {
    RawValue::from_string(json).unwrap_or_else(|_| NO_RAW.clone())
}

/// Replaces erased addresses in the texts that can contain one. Returns whether there was any.
fn erase_texts(rewriter: &Rewriter<'_>, event: &mut Event<'_>) -> bool {
    let mut found = false;
    let mut erase = |text: &mut Text<'_>| {
        if let Cow::Owned(erased) = rewriter.rewrite_value(text.as_str()) {
            *text = Text::from(erased);
            found = true;
        }
    };
    event.message_id.iter_mut().for_each(&mut erase);
    event.campaign.iter_mut().for_each(&mut erase);
    event.provider_event_id.iter_mut().for_each(&mut erase);
    event.user_agent.iter_mut().for_each(&mut erase);
    event.url.iter_mut().for_each(&mut erase);
    event.sender.iter_mut().for_each(&mut erase);
    event.tags.iter_mut().for_each(&mut erase);
    event.labels.values_mut().for_each(&mut erase);
    event.bounce.iter_mut().filter_map(|it| it.diagnostic.as_mut()).for_each(&mut erase);
    event.delivery.iter_mut().filter_map(|it| it.response.as_mut()).for_each(&mut erase);
    found
}

/// Removes what identifies the recipient of the event.
fn erase_person(event: &mut Event<'_>, pseudonym: String) {
    let local_part = event.recipient.as_deref().and_then(|it| it.rsplit_once('@'));
    let local_part = local_part.map(|(local_part, _)| local_part.to_lowercase());
    // An envelope sender may contain the recipient, bounce+ada=example.com@mail.acme.example, and an answer the local
    // part alone: 550 ada... User unknown.
    let is_free = |text: &Text<'_>| {
        local_part.as_ref().is_none_or(|it| !text.to_lowercase().contains(it.as_str()))
    };
    event.sender = event.sender.take().filter(is_free);
    if let Some(bounce) = &mut event.bounce {
        bounce.diagnostic = bounce.diagnostic.take().filter(is_free);
    }
    if let Some(delivery) = &mut event.delivery {
        delivery.response = delivery.response.take().filter(is_free);
    }
    event.recipient = Some(Text::from(pseudonym));
    event.ip = None;
    event.user_agent = None;
    event.labels.clear();
    if let Some(url) = &mut event.url {
        let end = url.find(['?', '#']).unwrap_or(url.len());
        *url = Text::from(url[..end].to_owned());
    }
    event.geo = event.geo.take().map(|geo| Geo { country: geo.country, ..Geo::default() });
}

/// Returns the replacement for the local part of an address, if it is one of `digests`.
///
/// What looks like a local part may begin with other text: in `orcpt=ada@example.com` and `'ada@example.com'`, the
/// address is what follows a character that is rare in addresses.
pub(crate) fn replacement(
    pseudonymizer: &Pseudonymizer,
    digests: &ErasedSet,
    address: &[u8],
) -> Option<Replacement> {
    let at = address.iter().rposition(|&byte| byte == b'@')?;
    let after_rare = address[..at]
        .iter()
        .enumerate()
        .filter(|(_, byte)| b"!#$%&'*/=?^`{|}~".contains(byte))
        .map(|(position, _)| position + 1);
    std::iter::once(0).chain(after_rare.take(MAX_BEGINNINGS)).find_map(|kept| {
        let mac = pseudonymizer.mac(&address[kept..]);
        digests.contains(&Digest(mac)).then(|| {
            let mut text = hex::encode(mac);
            text.truncate(DIGEST_CHARS);
            Replacement { kept, text: Cow::Owned(text) }
        })
    })
}

/// The greatest number of positions in a local part at which an address is looked for, besides its beginning.
const MAX_BEGINNINGS: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn eraser(addresses: &[&str]) -> Eraser {
        let key = ErasureKey::new(b"a key of the tests alone").unwrap();
        let erased = addresses.iter().map(|address| key.digest(address)).collect();
        Eraser::new(key, Arc::new(erased))
    }

    const CLICKED: &str = r#"{"event_id":"000102030405060708090a0b0c0d0e0f","kind":"clicked","provider":"ses","source":"acme","occurred_at":1,"received_at":2,"recipient":"ada@example.com","recipient_domain":"example.com","message_id":"m","campaign":"spring","tags":["for ada@example.com"],"user_agent":"u","ip":"192.0.2.1","url":"https://example.com/u/ada%40example.com?email=ada@example.com","provider_event":"Click","request_id":"r","sender":"bounce+ada=example.com@acme.example","geo":{"country":"NL","city":"Amsterdam"},"labels":{"name":"Ada"},"raw":{"to":["ADA@example.com","bob@example.com"]}}"#;

    fn erased(eraser: &Eraser, event: &str) -> String {
        let event: Event<'_> = serde_json::from_str(event).unwrap();
        eraser.with_erased(&event, |event| serde_json::to_string(event).unwrap())
    }

    #[test]
    fn an_event_of_an_erased_recipient_keeps_only_what_sums_are_made_of() {
        let eraser = eraser(&["Ada@Example.com"]);
        let pseudonym = eraser.pseudonym("ada@example.com").unwrap();
        let json = erased(&eraser, CLICKED);
        let local_part = pseudonym.split_once('@').unwrap().0;
        let expected = format!(
            r#"{{"event_id":"000102030405060708090a0b0c0d0e0f","kind":"clicked","provider":"ses","source":"acme","occurred_at":1,"received_at":2,"recipient":"{pseudonym}","recipient_domain":"example.com","message_id":"m","campaign":"spring","tags":["for {pseudonym}"],"url":"https://example.com/u/{local_part}%40example.com","provider_event":"Click","request_id":"r","geo":{{"country":"NL"}},"raw":{{}}}}"#
        );
        assert_eq!(json, expected);
    }

    #[test]
    fn an_event_of_another_recipient_loses_only_the_erased_address() {
        let eraser = eraser(&["bob@example.com"]);
        let pseudonym = eraser.pseudonym("bob@example.com").unwrap();
        let expected = CLICKED.replace("bob@example.com", &pseudonym);
        assert_eq!(erased(&eraser, CLICKED), expected);
        assert_eq!(erased(&self::eraser(&["eve@example.com"]), CLICKED), CLICKED);
        assert_eq!(erased(&Eraser::default(), CLICKED), CLICKED);
    }

    #[test]
    fn the_json_of_an_event_changes_only_if_it_names_an_erased_recipient() {
        let as_text = |json: &str, erased: &[&str]| {
            let eraser = eraser(erased);
            let json = eraser.erase_event(json.as_bytes()).unwrap().into_owned();
            String::from_utf8(json).unwrap()
        };
        // A field of a later release, which this one would drop if it wrote the event again.
        let newer = CLICKED.replacen('{', r#"{"later":1,"#, 1);
        assert_eq!(as_text(&newer, &["eve@example.com"]), newer);
        for recipients in [&["ada@example.com"], &["bob@example.com"]] {
            assert_eq!(as_text(CLICKED, recipients), erased(&eraser(recipients), CLICKED));
        }
        let agent =
            CLICKED.replace(r#""user_agent":"u""#, r#""user_agent":"u of bob@example.com""#);
        let agent = agent.replace(r#","bob@example.com"]"#, "]");
        assert!(!as_text(&agent, &["bob@example.com"]).contains("bob@"));
        assert!(eraser(&["eve@example.com"]).erase_event(b"no event").is_err());
        assert!(Eraser::default().erase_event(b"no event").is_ok(), "nothing is parsed");
    }

    #[test]
    fn an_answer_with_the_local_part_alone_is_removed() {
        let bounced = CLICKED.replacen(
            '{',
            r#"{"bounce":{"permanence":"hard","class":"invalid_recipient","side":"recipient","diagnostic":"550 5.1.1 Ada... User unknown"},"#,
            1,
        );
        let of_ada = erased(&eraser(&["ada@example.com"]), &bounced);
        assert!(!of_ada.contains("User unknown"), "{of_ada}");
        let of_eve = erased(&eraser(&["eve@example.com"]), &bounced);
        assert!(of_eve.contains("Ada... User unknown"), "{of_eve}");
    }

    #[test]
    fn an_erased_address_is_no_message_id() {
        let eraser = eraser(&["ada@example.com"]);
        for body in [
            r#"{"message_id":"ada@example.com","smtp-id":"<m@mx.example.com>"}"#,
            "Message-Id=ada%40example.com&x=m%40mx.example.com",
        ] {
            let found = String::from_utf8(eraser.erase_body(body.as_bytes()).into_owned()).unwrap();
            assert!(!found.contains("ada") && found.contains("mx.example.com"), "{found}");
        }
    }

    #[test]
    fn an_address_is_found_behind_other_text_and_in_every_encoding() {
        let eraser = eraser(&["ada@example.com"]);
        let pseudonym = eraser.pseudonym("ada@example.com").unwrap();
        let local_part = pseudonym.split_once('@').unwrap().0;
        for text in [
            "ada@example.com",
            "orcpt=ADA@example.com",
            "'ada@example.com'",
            "a/b=ada@example.com.",
            r#"{"x":"\u0061da\u0040example.com"}"#,
            "e=ada%40example.com&x=1",
            "https://x.test/?to=https%3A%2F%2Fy.test%2F%3Fe%3Dada%2540example.com",
        ] {
            let found = eraser.erase_body(text.as_bytes()).into_owned();
            let found = String::from_utf8(found).unwrap();
            assert!(found.contains(local_part) && !found.to_lowercase().contains("ada"), "{found}");
        }
        for text in ["lada@example.com", "x+ada@example.com", "ada@example.com.evil.test", "ada"] {
            assert_eq!(eraser.erase_body(text.as_bytes()), text.as_bytes(), "{text}");
        }
    }

    #[test]
    fn a_fingerprint_depends_on_who_is_erased_and_not_on_the_order() {
        let of = |addresses: &[&str]| eraser(addresses).fingerprint();
        assert_eq!(of(&["a@x.test", "b@x.test", "a@x.test"]), of(&["b@x.test", "a@x.test"]));
        let all = [of(&[]), of(&["a@x.test"]), of(&["b@x.test"]), of(&["a@x.test", "b@x.test"])];
        assert_eq!(all.iter().collect::<HashSet<_>>().len(), all.len());
        assert_eq!(of(&[]), None);
    }

    #[test]
    fn digests_round_trip_and_depend_on_the_key() {
        let key = ErasureKey::new(b"a key of the tests alone").unwrap();
        let other = ErasureKey::new(b"another key of the tests").unwrap();
        let digest = key.digest(" <Ada@Example.com> ");
        assert_eq!(digest.to_string().parse(), Ok(digest));
        assert_eq!(key.digest("ada@example.com"), digest);
        assert_ne!(other.digest("ada@example.com"), digest);
        assert_ne!(other.id(), key.id());
        assert_eq!("ab".parse::<Digest>(), Err(InvalidDigest));
    }
}
