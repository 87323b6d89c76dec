//! The body of a batch: `{"type":"mail.events","timestamp":…,"forward":…,"data":[event, …]}`.
//!
//! `timestamp` is when the newest of the events was received, in the format of RFC 3339. Events are as in
//! `mail.events` (`schemas/event.schema.json`), without those of erased recipients.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use event::{Event, ReceivedAt, Text};
use jiff::Timestamp;
use privacy::{Eraser, ErasureKey};
use serde::{Deserialize, Serialize};

/// What a receiver gets of the recipients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RecipientForm {
    /// The address.
    #[default]
    Full,
    /// The beginning of the local part and the domain: `ada…@example.com`.
    Masked,
    /// Nothing.
    None,
}

/// How bodies are written.
#[derive(Debug, Clone)]
pub struct BodyWriter {
    forward: String,
    form: RecipientForm,
    /// The key of the pseudonyms that take the place of addresses in texts, other than `full`. It is a
    /// random one, so that nobody can find out whose pseudonyms they are.
    key: ErasureKey,
}

/// The fields in front of the events.
#[derive(Serialize)]
struct Head<'a> {
    r#type: &'static str,
    timestamp: Timestamp,
    forward: &'a str,
}

impl BodyWriter {
    /// Writes bodies of the forward of this name.
    ///
    /// # Errors
    /// Never, because the key is long enough.
    pub fn new(forward: &str, form: RecipientForm) -> Result<Self, privacy::KeyTooShort> {
        let key = ErasureKey::new(&rand::random::<[u8; 32]>())?;
        Ok(Self { forward: forward.to_owned(), form, key })
    }

    /// Returns the body for values of `mail.events`, and the number of events in it. `None` if all
    /// recipients were erased.
    pub fn write<'v>(
        &self,
        values: impl Iterator<Item = &'v [u8]>,
        newest: ReceivedAt,
        eraser: &Eraser,
    ) -> Option<(Bytes, usize)> {
        let head = Head {
            r#type: "mail.events",
            timestamp: Timestamp::from_microsecond(newest.micros()).unwrap_or_default(),
            forward: &self.forward,
        };
        // Texts and times can always be serialized.
        let mut body = serde_json::to_vec(&head).unwrap_or_default();
        body.pop();
        body.extend_from_slice(b",\"data\":[");
        let mut count = 0;
        for event in values.filter_map(|value| self.event(value, eraser)) {
            if count > 0 {
                body.push(b',');
            }
            body.extend_from_slice(&event);
            count += 1;
        }
        body.extend_from_slice(b"]}");
        (count > 0).then(|| (body.into(), count))
    }

    /// Returns an event as the receiver gets it. `None` if its recipient was erased.
    fn event<'v>(&self, value: &'v [u8], eraser: &Eraser) -> Option<Cow<'v, [u8]>> {
        if eraser.fingerprint().is_none() && self.form == RecipientForm::Full {
            return Some(Cow::Borrowed(value));
        }
        // The value was read before.
        let event: Event<'_> = serde_json::from_slice(value).ok()?;
        let is_erased = event.recipient.as_deref().is_some_and(|recipient| {
            // `enrich` has put the pseudonym in its place if it knew of the erasure.
            eraser.pseudonym(recipient).is_some() || eraser.digest_of_pseudonym(recipient).is_some()
        });
        if is_erased {
            return None;
        }
        if self.form == RecipientForm::Full {
            return eraser.erase_event(value).ok();
        }
        eraser.with_erased(&event, |event| self.without_recipient(event)).map(Cow::Owned)
    }

    /// Returns the event without the address and without what else identifies the person.
    fn without_recipient(&self, event: &Event<'_>) -> Option<Vec<u8>> {
        // An event that names no recipient may still have the address in `raw`, so it loses the same fields.
        let stated = event.recipient.as_deref();
        let recipient = stated.unwrap_or(NO_RECIPIENT);
        let named = Event { recipient: Some(Text::from(recipient.to_owned())), ..event.clone() };
        let digests = [self.key.digest(recipient)].into_iter().collect();
        let eraser = Eraser::new(self.key.clone(), Arc::new(digests));
        let recipient = match self.form {
            RecipientForm::None => None,
            RecipientForm::Full | RecipientForm::Masked => {
                stated.map(|recipient| Text::from(masked(recipient)))
            }
        };
        let write = |event: &Event<'_>| {
            serde_json::to_vec(&Event { recipient: recipient.clone(), ..event.clone() }).ok()
        };
        eraser.with_erased(&named, write)
    }
}

/// Stands for the recipient of an event that names none. The domain belongs to nobody (RFC 2606).
const NO_RECIPIENT: &str = "nobody@example.invalid";

/// Returns an address with at most three characters of its local part, and never all of them.
fn masked(address: &str) -> String {
    let (local_part, domain) = address.rsplit_once('@').unwrap_or((address, ""));
    let shown = local_part.chars().count().saturating_sub(1).min(3);
    let begin: String = local_part.chars().take(shown).collect();
    format!("{begin}…@{domain}")
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn event(recipient: &str) -> String {
        format!(
            r#"{{"event_id":"000102030405060708090a0b0c0d0e0f","kind":"clicked","provider":"ses","source":"acme","occurred_at":1,"received_at":2,"recipient":"{recipient}","recipient_domain":"example.com","campaign":"spring","ip":"192.0.2.1","url":"https://example.com/?to={recipient}","provider_event":"Click","request_id":"r","labels":{{"name":"Lovelace"}},"raw":{{"to":"{recipient}"}}}}"#
        )
    }

    fn write(form: RecipientForm, events: &[String], eraser: &Eraser) -> Option<Value> {
        let writer = BodyWriter::new("crm", form).unwrap();
        let newest = ReceivedAt(1_795_255_200_000_000);
        let (body, count) = writer.write(events.iter().map(String::as_bytes), newest, eraser)?;
        let body: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(body["data"].as_array().unwrap().len(), count);
        Some(body)
    }

    fn eraser(addresses: &[&str]) -> Eraser {
        let key = ErasureKey::new(b"a key of the tests alone").unwrap();
        let erased = addresses.iter().map(|address| key.digest(address)).collect();
        Eraser::new(key, Arc::new(erased))
    }

    #[test]
    fn full_events_are_passed_on_as_they_are() {
        let events = [event("ada@example.com"), event("bob@example.com")];
        let body = write(RecipientForm::Full, &events, &Eraser::default()).unwrap();
        assert_eq!(body["type"], "mail.events");
        assert_eq!(body["timestamp"], "2026-11-21T10:00:00Z");
        assert_eq!(body["forward"], "crm");
        for (sent, event) in body["data"].as_array().unwrap().iter().zip(&events) {
            assert_eq!(*sent, serde_json::from_str::<Value>(event).unwrap());
        }
    }

    #[test]
    fn without_the_address_nothing_identifies_the_person() {
        let events = [event("ada.lovelace@example.com")];
        for (form, shown) in
            [(RecipientForm::Masked, Some("ada…@example.com")), (RecipientForm::None, None)]
        {
            let body = write(form, &events, &Eraser::default()).unwrap();
            let sent = &body["data"][0];
            assert_eq!(sent["recipient"].as_str(), shown);
            assert_eq!((&sent["campaign"], &sent["kind"]), (&"spring".into(), &"clicked".into()));
            let text = body.to_string();
            for hidden in ["lovelace", "Lovelace", "192.0.2.1"] {
                assert!(!text.contains(hidden), "{hidden} {text}");
            }
        }
    }

    #[test]
    fn an_event_without_a_recipient_loses_the_same_fields() {
        let stated = r#","recipient":"ada.lovelace@example.com","recipient_domain":"example.com""#;
        let unnamed = event("ada.lovelace@example.com").replace(stated, "");
        assert!(unnamed.contains("lovelace"), "in raw: {unnamed}");
        for form in [RecipientForm::Masked, RecipientForm::None] {
            let body = write(form, std::slice::from_ref(&unnamed), &Eraser::default()).unwrap();
            let sent = &body["data"][0];
            assert_eq!((&sent["recipient"], &sent["campaign"]), (&Value::Null, &"spring".into()));
            let text = body.to_string();
            for hidden in ["lovelace", "Lovelace", "192.0.2.1"] {
                assert!(!text.contains(hidden), "{hidden} {text}");
            }
        }
    }

    #[test]
    fn events_of_erased_recipients_are_left_out() {
        let eraser = eraser(&["ada@example.com"]);
        let pseudonym = eraser.pseudonym("ada@example.com").unwrap();
        let erased = [event("ada@example.com"), event(&pseudonym)];
        for form in [RecipientForm::Full, RecipientForm::Masked, RecipientForm::None] {
            assert!(write(form, &erased, &eraser).is_none());
            let other = event("bob@example.com").replace("spring", "for ada@example.com");
            let some = [erased[0].clone(), other];
            let body = write(form, &some, &eraser).unwrap();
            assert_eq!(body["data"].as_array().unwrap().len(), 1);
            assert!(!body.to_string().contains("ada@example.com"), "{body}");
        }
    }

    #[test]
    fn a_mask_never_shows_the_whole_local_part() {
        for (address, shown) in [
            ("ada.lovelace@example.com", "ada…@example.com"),
            ("ada@example.com", "ad…@example.com"),
            ("a@example.com", "…@example.com"),
            ("@example.com", "…@example.com"),
            ("\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}@example.com", "\u{e9}\u{e9}\u{e9}…@example.com"),
        ] {
            assert_eq!(masked(address), shown);
        }
    }
}
