use proptest::prelude::*;

use super::*;

/// Changes one byte of the body or of a signed header. The last header is the signature.
fn changed(sent: &Sent, place: prop::sample::Index, difference: u8) -> Sent {
    let mut changed = sent.clone();
    let signed = changed.headers.len() - 1;
    let in_header = changed.headers[..signed].iter().map(|(_, value)| value.len()).sum::<usize>();
    match place.index(in_header + changed.body.len()).checked_sub(in_header) {
        Some(offset) => changed.body[offset] ^= difference,
        None => {
            let mut offset = place.index(in_header + changed.body.len());
            for (_, value) in &mut changed.headers[..signed] {
                if let Some(byte) = value.get_mut(offset) {
                    *byte ^= difference;
                    break;
                }
                offset -= value.len();
            }
        }
    }
    changed
}

proptest! {
    #[test]
    fn no_signed_byte_can_be_changed(place: prop::sample::Index, difference in 1..=255_u8) {
        let cases = [
            (authenticator(Provider::SendGrid, &[&ECDSA[0].public], json!({})),
                sendgrid(&ECDSA[0], NOW)),
            (authenticator(Provider::Generic, &["key"], json!({})), generic("key", NOW)),
            (authenticator(Provider::Resend, &[WHSEC], json!({})),
                standard_webhooks(SVIX, NOW)),
            (authenticator(Provider::StandardWebhooks, &[WHSEC], json!({})),
                standard_webhooks(SPECIFIED, NOW)),
            (authenticator(Provider::MailerSend, &["key"], json!({})), mailersend("key")),
            (authenticator(Provider::Postal, &[POSTAL_KEY], json!({})),
                postal(&[POSTAL_SHA256])),
            (authenticator(Provider::Postal, &[POSTAL_KEY], json!({})),
                postal(&[POSTAL_SHA1])),
        ];
        for (authenticator, sent) in cases {
            prop_assert_eq!(sent.verify(&authenticator, NOW), Ok(()));
            prop_assert!(changed(&sent, place, difference).verify(&authenticator, NOW).is_err());
        }
    }

    /// Mailgun signs the timestamp and the token. Any other change results in other content.
    #[test]
    fn a_changed_event_is_other_content(place: prop::sample::Index, difference in 1..=255_u8) {
        let source = authenticator(Provider::Mailgun, &["key"], json!({}));
        for sent in [mailgun(&mailgun_signature("key", NOW)), schemes::mailgun_form("key", NOW)] {
            let once = |sent: &Sent| sent.verified(&source, NOW).ok().and_then(|good| good.single_use);
            let first = once(&sent).unwrap();
            let mut other = sent.clone();
            other.body[place.index(sent.body.len())] ^= difference;
            if let Some(second) = once(&other) {
                prop_assert_eq!(first.token, second.token);
                let same = schemes::same_event(&sent.body, &other.body);
                prop_assert_eq!(first.content == second.content, same);
            }
        }
    }

    #[test]
    fn no_signed_byte_of_a_form_can_be_changed(place: prop::sample::Index, difference in 1..=255_u8) {
        let options = json!({ "public_url": URL });
        let authenticator = authenticator(Provider::Mandrill, &["key"], options);
        let sent = mandrill("key", "[{\"event\":\"send\",\"msg\":{\"subject\":\"a+b é\"}}]");
        prop_assert_eq!(sent.verify(&authenticator, NOW), Ok(()));
        let mut other = sent.clone();
        let offset = place.index(other.body.len());
        other.body[offset] ^= difference;
        // `%5b` and `%5B` are the same byte. Mandrill's signature does not separate names from
        // values, so `a&first` has the same signed text as `a=first`.
        let signed_text = |body: &[u8]| {
            let mut fields: Vec<_> = crate::form::fields(body).collect();
            fields.sort();
            fields.iter().flat_map(|(name, value)| [&**name, &**value]).collect::<Vec<_>>().concat()
        };
        let is_same = signed_text(&sent.body) == signed_text(&other.body);
        prop_assert_eq!(other.verify(&authenticator, NOW).is_ok(), is_same);
    }

    #[test]
    fn no_covered_field_of_an_envelope_can_be_changed(
        field in prop::sample::select(&["Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type", "Signature"]),
        place: prop::sample::Index,
        inserted in "[a-zA-Z0-9]",
    ) {
        let sent = sns(|envelope| {
            let text = envelope[field].as_str().unwrap();
            let offset = place.index(text.len());
            let other = format!("{}{inserted}{}", &text[..offset], &text[offset..]);
            envelope[field] = other.into();
        });
        let is_rejected = sent.verify(&ses(json!({})), NOW).is_err();
        prop_assert!(is_rejected);
    }
}
